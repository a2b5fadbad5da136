// The short form of `make histories`: one run with real processes, and proof that a broken hub is seen.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ROOT } from "../support/federation.ts";
import { PORCUPINE } from "../support/porcupine.ts";
import { runHistory } from "./run.ts";

const ENTRY = [join(ROOT, "cli/main.ts")];
const BROKEN = ["--import", join(import.meta.dirname, "broken-reads.ts"), ...ENTRY];

describe.skipIf(PORCUPINE.reason !== undefined)("what clients of three hubs see", () => {
  let dir: string;
  const run = (name: string, entry: readonly string[], seconds: number, faults: readonly ("kill" | "pause")[]) =>
    runHistory({ seed: 1, hubs: 3, clients: 6, seconds, faults, entry, dir: join(dir, name), parted: false });

  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), "foedus-histories-"));
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  test("RO1 RO3 is linearizable, although hubs are killed", async () => {
    const { verdict, deeds } = await run("whole", ENTRY, 10, ["kill"]);
    expect(verdict).toMatchObject({ verdict: "linearizable" });
    expect(deeds.filter(({ deed }) => deed.startsWith("kill")).length).toBeGreaterThan(0);
  }, 180_000);

  test("is not when hubs answer reads with what they have: the checker names a key", async () => {
    const { verdict } = await run("broken", BROKEN, 6, ["pause"]);
    expect(verdict).toMatchObject({ verdict: "not" });
    expect(verdict.at_fault?.length).toBeGreaterThan(0);
  }, 180_000);
});
