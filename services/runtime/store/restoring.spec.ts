import { expect, test } from "vitest";
import { FoedusError } from "#kernel/error.ts";
import { fields, flag, readStored, StoredError, text, whole, writeStored } from "#kernel/wire/stored-json.ts";
import { MemoryStore } from "../../../test/fakes/memory-store.ts";
import { restoring, restoringAsync } from "./restoring.ts";

const SHAPE = fields({ n: whole(0, 100), name: text(8), on: flag });
const RECORD = { n: 42, name: "lamp", on: true };

test("A10 no change of a byte of a record goes unseen, and a record of a version before, without a sum, is read", () => {
  const bytes = writeStored(RECORD);
  expect(readStored("meta/x", bytes, SHAPE)).toMatchObject(RECORD);
  expect(readStored("meta/x", new TextEncoder().encode(JSON.stringify(RECORD)), SHAPE)).toEqual(RECORD);
  // A version before keeps the fields that it does not know, and writes no sum.
  const again = { ...(JSON.parse(new TextDecoder().decode(bytes)) as object), on: false };
  expect(readStored("meta/x", new TextEncoder().encode(JSON.stringify(again)), SHAPE)).toEqual({ ...RECORD, on: false });
  for (let at = 0; at < bytes.length; at++)
    for (let by = 1; by < 256; by++) {
      const changed = bytes.slice();
      changed[at] = (bytes[at] as number) ^ by;
      try {
        expect(readStored("meta/x", changed, SHAPE)).toMatchObject(RECORD);
      } catch (error) {
        if (!(error instanceof StoredError)) throw error;
      }
    }
});

test("A10 whatever is wrong with a store is told in one sentence, with the file or service, the record, and what to do", async () => {
  const told = async (error: unknown): Promise<FoedusError> => {
    const read = (): never => {
      throw error;
    };
    const later = restoringAsync("telemetry", new MemoryStore(), async () => read());
    const failed = await later.then(
      () => expect.fail("it was read"),
      (reason: FoedusError) => reason,
    );
    let atOnce: unknown;
    try {
      restoring("telemetry", new MemoryStore(), read);
    } catch (reason) {
      atOnce = reason;
    }
    expect(atOnce).toEqual(failed);
    return failed;
  };
  const one = await told(new StoredError("meta/table/.own", "is not JSON"));
  expect(one.failure).toMatchObject({ reason: "STORE_UNAVAILABLE", facts: { record: "meta/table/.own" } });
  expect(one.message).toBe(
    "the store of telemetry is damaged: record meta/table/.own is not JSON; restore a backup, or move the file away to begin without it",
  );
  const own = new FoedusError({ reason: "UPGRADE_NEEDED", message: "newer" });
  expect(await told(own)).toBe(own);
  // Nobody is told to give up data because a disk does not answer, or because of a mistake in this software.
  const sqlite = (errcode: number, message: string) => Object.assign(new Error(message), { code: "ERR_SQLITE_ERROR", errcode });
  for (const [error, reason, says] of [
    [
      sqlite(11, "database disk image is malformed"),
      "STORE_UNAVAILABLE",
      /is damaged: database disk image is malformed; .*move the file away/,
    ],
    [sqlite(26, "file is not a database"), "STORE_UNAVAILABLE", /is damaged/],
    [sqlite(266, "disk I/O error"), "STORE_UNAVAILABLE", /^cannot read the store of telemetry: disk I\/O error; keep the file/],
    [sqlite(7, "out of memory"), "STORE_UNAVAILABLE", /^cannot read the store of telemetry: out of memory; keep the file/],
    [Object.assign(new Error("EIO: i/o error, read"), { code: "EIO" }), "STORE_UNAVAILABLE", /^cannot read .* keep the file/],
    [new TypeError("x is undefined"), "INTERNAL", /^telemetry failed while it read the store of telemetry: x is undefined; keep the file/],
  ] as const) {
    const failed = await told(error);
    expect([failed.failure.reason, failed.message]).toEqual([reason, expect.stringMatching(says)]);
    expect(failed.cause).toBe(error);
    if (!failed.message.includes("is damaged")) expect(failed.message).not.toContain("move");
  }
});
