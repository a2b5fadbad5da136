import { mkdtempSync, openSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { fail } from "#kernel/error.ts";
import { operatorError } from "./operator-error.ts";

test("S-18 what the system or SQLite says at a start ends it with a sentence; a bug or a slow module does not", () => {
  const folder = mkdtempSync(join(tmpdir(), "foedus-operator-error-"));
  writeFileSync(join(folder, "garbage"), Buffer.alloc(10_000, 7));
  const thrown = (act: () => unknown): unknown => {
    try {
      return act();
    } catch (error) {
      return error;
    }
  };
  const faults = [
    () => rmSync(folder),
    () => openSync(join(folder, "absent/x"), "wx"),
    () => readFileSync("/proc/self/mem/x"),
    () => rmdirSync(folder),
    () => new DatabaseSync(join(folder, "garbage")).exec("CREATE TABLE t (x)"),
  ].map(thrown);
  for (const fault of faults) {
    const said = operatorError(fault);
    expect(said?.failure.reason).toBe("NOT_CONFIGURED");
    expect(said?.message).toContain((fault as Error).message);
  }
  const own = fail("STORE_UNAVAILABLE", "the store is damaged");
  expect(operatorError(own)).toBe(own);
  for (const other of [new TypeError("bug"), "text", undefined, fail("DEADLINE_EXPIRED", "slow"), { code: "ENOENT", path: "x" }])
    expect(operatorError(other)).toBeUndefined();
  rmSync(folder, { recursive: true });
});
