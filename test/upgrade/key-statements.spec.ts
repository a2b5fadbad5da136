// What the version before makes of the statements that prove a feed key: its own code judges statements of the present one.

import { execFileSync, spawnSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { loadFeedKey, makeKeyStatement, verifyKeyStatement } from "../../services/registry-sync/shell/key.ts";
import { ROOT } from "../support/federation.ts";
import { foreignPki, hasOpenssl, type KeyKind } from "../testca/foreign.ts";
import { BASELINE } from "./previous.ts";

const known = spawnSync("git", ["-C", ROOT, "cat-file", "-e", `${BASELINE.commit}^{commit}`]).status === 0;
if (!known) console.warn("the version before is not in this checkout's history: what it takes is not looked at");
mkdirSync(join(ROOT, ".tools"), { recursive: true });
// Below the checkout, so that its packages are found.
const sources = mkdtempSync(join(ROOT, ".tools/key-statements-"));
const folder = mkdtempSync(join(tmpdir(), "foedus-statements-"));
afterAll(() => {
  for (const dir of [sources, folder]) rmSync(dir, { recursive: true });
});

const SERVICES = ["hub", "discovery", "registry-sync", "command-forwarding", "telemetry"];
const KINDS: readonly KeyKind[] = ["rsa", "p256", "ed25519"];

/** JUDGE reads statements from its input and says of each what that version's code makes of it. */
const JUDGE = `
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { verifyKeyStatement } from "./services/registry-sync/key.ts";
const said = JSON.parse(readFileSync(0, "utf8")).map(({ statement, ca, nowWall }) =>
  verifyKeyStatement(Buffer.from(statement, "base64"), { hubId: "gamma", bundle: [new X509Certificate(ca)], revoked: [], nowWall }));
process.stdout.write(JSON.stringify(said));
`;

interface Made {
  readonly kind: KeyKind;
  readonly service: string;
  readonly statement: Buffer;
  readonly ca: string;
}

function make(kind: KeyKind): Made[] {
  const dir = join(folder, kind);
  foreignPki(dir, "gamma", { ca: "p256", leaf: kind, services: SERVICES });
  const read = (file: string): string => readFileSync(join(dir, file), "utf8");
  const held = loadFeedKey(join(folder, "feed-key.json"));
  return SERVICES.map((service) => {
    const credential = { cert: read(`service-${service}.pem`), key: read(`service-${service}.key`) };
    return { kind, service, statement: makeKeyStatement("gamma", held, credential), ca: read("ca.pem") };
  });
}

/** byPrevious is what the version before says of statements. */
function byPrevious(made: readonly Made[]): { readonly serial?: number; readonly reason?: string }[] {
  const paths = ["package.json", "services", "proto/gen"];
  const archive = execFileSync("git", ["-C", ROOT, "archive", "--format=tar", BASELINE.commit, ...paths], { maxBuffer: 64 * 1024 * 1024 });
  execFileSync("tar", ["-x", "-C", sources], { input: archive });
  writeFileSync(join(sources, "judge.ts"), JUDGE);
  const nowWall = systemClock.wall();
  const input = JSON.stringify(made.map(({ statement, ca }) => ({ statement: statement.toString("base64"), ca, nowWall })));
  return JSON.parse(execFileSync(process.execPath, ["judge.ts"], { cwd: sources, input, encoding: "utf8" })) as object[];
}

describe.skipIf(!known || !hasOpenssl)("key statements of this version", () => {
  test("PROTOCOL K4 the version before takes those that are RSA and signed by hub or registry-sync, this one all", () => {
    const made = KINDS.flatMap(make);
    const verdicts = byPrevious(made);
    for (const [i, { kind, service, statement, ca }] of made.entries()) {
      const check = { hubId: "gamma", bundle: [new X509Certificate(ca)], revoked: [], nowWall: systemClock.wall() };
      expect(verifyKeyStatement(statement, check), `${kind} ${service} here`).toMatchObject({ serial: 1 });
      const taken = kind === "rsa" && (service === "hub" || service === "registry-sync");
      expect(verdicts[i], `${kind} ${service} there`).toMatchObject(taken ? { serial: 1 } : { reason: "FEED_KEY_INVALID" });
    }
  });
});
