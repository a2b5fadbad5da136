import { describe, expect, test } from "vitest";
import { isTest, read, sources, withoutComments } from "./files.ts";

interface Ban {
  readonly token: RegExp;
  readonly instead: string;
  /** Where it belongs. */
  readonly home: (path: string) => boolean;
}

const inCli = (path: string): boolean => path.startsWith("cli/") || path.startsWith("tools/") || path === "certs/dev.ts";

const BANS: readonly Ban[] = [
  {
    token: /\bDate\.now\(|\bnew Date\(\)|\bperformance\.now\(/,
    instead: "take a Clock",
    home: (p) => p === "services/runtime/clock.ts" || p === "certs/dev.ts",
  },
  { token: /\b(?:setTimeout|setInterval)\(/, instead: "use clock.setTimer", home: (p) => p === "services/runtime/clock.ts" },
  { token: /\bMath\.random\(/, instead: "use a Prng or runtime/entropy.ts", home: () => false },
  {
    token: /\brandomBytes\(|\brandomUUID\(|\brandomInt\(/,
    instead: "use runtime/entropy.ts",
    home: (p) => p === "services/runtime/entropy.ts" || p.startsWith("certs/"),
  },
  { token: /\bconsole\.\w+\(/, instead: "use the Logger", home: (p) => inCli(p) },
  {
    token: /\bprocess\.(?!versions|hrtime)/,
    instead: "only the command line and the configuration know the process",
    home: (p) => inCli(p) || p.startsWith("services/runtime/config/") || p.startsWith("services/runtime/metrics/"),
  },
  {
    token: /\bgrpc\.experimental\b|\bupdateSecureContextOptions\b/,
    instead: "use runtime/tls/credentials.ts",
    home: (p) => p === "services/runtime/tls/credentials.ts",
  },
  { token: /\.getPeer\(\)/, instead: "an address is not an identity: use the CallContext's caller", home: () => false },
  { token: /\bcreateInsecure\(/, instead: "everything is mutual TLS", home: () => false },
  {
    token: /\bregister\.(?:metrics|clear|registerMetric)\(|\bimport \{[^}]*\bregister\b[^}]*\} from "prom-client"/,
    instead: "use the hub's own Registry",
    home: () => false,
  },
  { token: /:\s*any\b|<any>|\bas any\b/, instead: "name the type, or use unknown", home: () => false },
  { token: /\benum \w+ \{|\bnamespace \w+ \{/, instead: "erasable syntax only: a const object and a union type", home: () => false },
  { token: /@ts-(?:ignore|nocheck)/, instead: "mend the type", home: () => false },
];

/** Tests may do more, but not everything: no sleeping, no randomness without a seed, no type holes. */
const TEST_BANS: readonly Ban[] = [
  {
    token: /\b(?:test|it|describe)\.(?:only|skip|todo)\(/,
    instead: "a skipped test is not a test; use skipIf with a reason that is printed",
    home: () => false,
  },
  { token: /\bMath\.random\(/, instead: "use a seeded Prng or fast-check", home: () => false },
  { token: /:\s*any\b|<any>|\bas any\b/, instead: "name the type, or use unknown", home: () => false },
  {
    token: /await new Promise\((?:\w+|\(\w*\)) => setTimeout\(\w+, *\d{2,}\)\)/,
    instead: "wait for what you wait for, not for time to pass",
    home: () => false,
  },
];

function violations(path: string, text: string, bans: readonly Ban[]): string[] {
  const lines = withoutComments(text).split("\n");
  return lines.flatMap((line, index) =>
    bans.flatMap((ban) =>
      ban.token.test(line) && !ban.home(path) ? [`${path}:${index + 1} ${line.trim().slice(0, 80)}: ${ban.instead}`] : [],
    ),
  );
}

describe("words that belong to one place", () => {
  const files = sources();

  test("what ships uses each impure thing only at its address", () => {
    const shipped = files.filter((path) => !isTest(path));
    expect(shipped.length).toBeGreaterThan(60);
    expect(shipped.flatMap((path) => violations(path, read(path), BANS))).toEqual([]);
  });

  test("tests do not sleep, skip or roll dice", () => {
    const tests = files.filter((path) => path.endsWith(".spec.ts") && path !== "test/tidy/tokens.spec.ts");
    expect(tests.length).toBeGreaterThan(40);
    expect(tests.flatMap((path) => violations(path, read(path), TEST_BANS))).toEqual([]);
  });

  test("a banned word is found, in code only", () => {
    expect(violations("services/discovery/core.ts", "const t = Date.now();", BANS)).toHaveLength(1);
    expect(violations("services/runtime/clock.ts", "const t = Date.now();", BANS)).toHaveLength(0);
    expect(violations("services/discovery/core.ts", "// Date.now() would be wrong\n/* Math.random() */", BANS)).toHaveLength(0);
  });
});
