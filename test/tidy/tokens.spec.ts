import { describe, expect, test } from "vitest";
import { isTest, read, sources, withoutComments } from "./files.ts";

interface Ban {
  readonly token: RegExp;
  readonly instead: string;
  /** Where it belongs. */
  readonly home: (path: string) => boolean;
}

const inCli = (path: string): boolean =>
  path.startsWith("cli/") || path.startsWith("tools/") || path === "certs/dev.ts" || path === "console/build.ts";

/** What the console's page takes from the browser is in one file as well. */
const inBrowser = (path: string): boolean => path === "console/src/browser.ts";

const BANS: readonly Ban[] = [
  {
    token: /\bDate\.now\(|\bnew Date\(\)|\bperformance\.now\(/,
    instead: "take a Clock",
    home: (p) => p === "services/channel/clock.ts" || p === "certs/dev.ts" || inBrowser(p),
  },
  {
    token: /\b(?:setTimeout|setInterval)\(/,
    instead: "use clock.setTimer",
    home: (p) => p === "services/channel/clock.ts" || inBrowser(p),
  },
  { token: /\bMath\.random\(/, instead: "use a Prng or runtime/entropy.ts", home: () => false },
  {
    token: /\brandomBytes\(|\brandomUUID\(|\brandomInt\(/,
    instead: "use channel/entropy.ts",
    home: (p) => p === "services/channel/entropy.ts" || p.startsWith("certs/") || inBrowser(p),
  },
  { token: /\bconsole\.\w+\(/, instead: "use the Logger", home: (p) => inCli(p) },
  {
    token: /\bprocess\.(?!versions|hrtime|threadCpuUsage)/,
    instead: "only the command line and the configuration know the process",
    home: (p) =>
      inCli(p) ||
      p.startsWith("services/runtime/config/") ||
      p.startsWith("services/runtime/metrics/") ||
      // Its last lines are written when the process ends.
      p === "services/runtime/log/sink.ts",
  },
  {
    token: /\bgrpc\.experimental\b|\bupdateSecureContextOptions\b/,
    instead: "use runtime/tls/credentials.ts",
    home: (p) => p === "services/runtime/tls/credentials.ts",
  },
  {
    token: /\b(?:bytes|data|node|payload|text\[\w+\]|text as Uint8Array\)?)\??\.slice\(/,
    instead: "use copyOf of kernel/bytes.ts: the slice of a Buffer is a view",
    home: () => false,
  },
  {
    token: /(?<!= limitedLog\()\boptions\.log\b|\{[^}]*\blog\b[^}]*\} = options\b/,
    instead: "the process hands out one logger, limitedLog(options.log, clock): what others cause costs few lines",
    home: (p) => p !== "services/hub/process.ts",
  },
  {
    token: /\.addEventListener\(\s*["'`]abort\b/,
    instead: "use whenAborted: a signal that has aborted tells nobody any more",
    home: (p) => p === "services/channel/abort.ts",
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
  {
    token: /\bimport \{ z \}/,
    instead: "import * as z: of the object z, all of zod gets into the bundle and costs a hub 10 MB of memory",
    home: () => false,
  },
];

/** Tests may do more, but not everything: no skipping, no randomness without a seed, no type holes. */
const TEST_BANS: readonly Ban[] = [
  {
    token: /\.(?:only|skip|todo)\b|\b(?:only|skip|todo): true\b/,
    instead: "a skipped test is not a test; use skipIf with a reason that is printed",
    home: () => false,
  },
  { token: /\bMath\.random\(/, instead: "use a seeded Prng or fast-check", home: () => false },
  { token: /:\s*any\b|<any>|\bas any\b/, instead: "name the type, or use unknown", home: () => false },
];

/** Letting real time pass, in every spelling: a timer of Node, of the system's clock, and the project's own sleep. */
const SLEEP: Ban = {
  token: /\bsetTimeout\(|\bsystemClock\.setTimer\(|\bsleep\(\s*systemClock\b/,
  instead: "wait for what you wait for, not for time to pass",
  home: () => false,
};

/** The lines of specs that let time pass and wait for nothing by it, by file. */
const PAUSES: Readonly<Record<string, number>> = {
  // Between two looks of its own `until`.
  "services/discovery/module.spec.ts": 1,
  // The system's clock is what it tests.
  "services/runtime/clock.spec.ts": 5,
  // Between two rounds of a load that goes on while Prometheus looks.
  "test/e2e/prometheus.spec.ts": 1,
};

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

  const tests = files.filter((path) => path.endsWith(".spec.ts") && path !== "test/tidy/tokens.spec.ts");

  test("tests do not skip or roll dice", () => {
    expect(tests.length).toBeGreaterThan(40);
    expect(tests.flatMap((path) => violations(path, read(path), TEST_BANS))).toEqual([]);
  });

  test("tests do not sleep; a pause that is no waiting is named with its file", () => {
    const pauses = tests.map((path) => [path, violations(path, read(path), [SLEEP])] as const).filter(([, lines]) => lines.length > 0);
    expect(pauses.filter(([path]) => PAUSES[path] === undefined).flatMap(([, lines]) => lines)).toEqual([]);
    expect(Object.fromEntries(pauses.map(([path, lines]) => [path, lines.length]))).toEqual(PAUSES);
  });

  test("a banned word is found, in code only", () => {
    expect(violations("services/discovery/core.ts", "const t = Date.now();", BANS)).toHaveLength(1);
    expect(violations("services/channel/clock.ts", "const t = Date.now();", BANS)).toHaveLength(0);
    expect(violations("services/discovery/core.ts", "// Date.now() would be wrong\n/* Math.random() */", BANS)).toHaveLength(0);
  });

  test.each([
    "await new Promise((r) => setTimeout(r, 5));",
    "await new Promise<void>((resolve) => setTimeout(resolve, 500));",
    "await new Promise<void>((resolve) => systemClock.setTimer(500, resolve));",
    "await setTimeout(500);",
    "await sleep(systemClock, 150);",
  ])("%s is sleeping", (line) => {
    expect(violations("test/e2e/x.spec.ts", line, [SLEEP])).toHaveLength(1);
  });

  test.each([
    'test.only("x", run);',
    'test.skip.each(rows)("x", run);',
    'test.only.each(rows)("x", run);',
    'test.concurrent.only("x", run);',
    'describe.each(rows).skip("x", run);',
    'test.todo("x");',
    'test("x", { skip: true }, run);',
    "context.skip();",
  ])("%s is skipping", (line) => {
    expect(violations("test/e2e/x.spec.ts", line, TEST_BANS)).toHaveLength(1);
  });

  test.each(['test.skipIf(helm.reason !== undefined)("x", run);', "await sleep(clock, 100);", "clock.setTimer(5, fire);"])(
    "%s is neither",
    (line) => {
      expect(violations("test/e2e/x.spec.ts", line, [...TEST_BANS, SLEEP])).toEqual([]);
    },
  );
});
