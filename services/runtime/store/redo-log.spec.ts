import { copyFileSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { StoreOp } from "#kernel/core.ts";
import { RedoLog } from "./redo-log.ts";
import { openSqliteStore, type SqliteStore } from "./sqlite.ts";

const HEAD = 4_096;
const append = (seq: number, size = 1): StoreOp => ({ op: "append", log: "n", seq, bytes: new Uint8Array(size).fill(seq) });

const anyOp: fc.Arbitrary<StoreOp> = fc.oneof(
  fc.record({ op: fc.constant("append" as const), log: fc.string(), seq: fc.nat(2 ** 40 - 1), bytes: fc.uint8Array({ maxLength: 300 }) }),
  fc.record({ op: fc.constant("trim" as const), log: fc.string(), below: fc.nat(2 ** 40) }),
  fc.record({ op: fc.constant("drop" as const), log: fc.string() }),
  fc.record({ op: fc.constant("put" as const), space: fc.string(), key: fc.string({ unit: "binary" }), bytes: fc.uint8Array() }),
  fc.record({ op: fc.constant("delete" as const), space: fc.string(), key: fc.string({ unit: "grapheme" }) }),
  fc.record({ op: fc.constant("clear" as const), space: fc.string() }),
);

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "foedus-redo-"));
  path = join(folder, "x-redo");
});
afterEach(() => rmSync(folder, { recursive: true }));

/** plain makes bytes comparable. */
const plain = (batches: Iterable<readonly StoreOp[]>): unknown =>
  [...batches].map((ops) => ops.map((op) => ("bytes" in op ? { ...op, bytes: [...op.bytes] } : { ...op })));

function replayed(next: number, file = path): unknown {
  const log = new RedoLog(file, "me", next);
  try {
    return plain(log.replay());
  } finally {
    log.close();
  }
}

describe("redo log", () => {
  test("R1 R2 what was appended is played back, in order, from the number that is asked for", () => {
    fc.assert(
      fc.property(fc.array(fc.array(anyOp, { minLength: 1, maxLength: 5 }), { maxLength: 20 }), (batches) => {
        rmSync(path, { force: true });
        const log = new RedoLog(path, "me", 7);
        for (const ops of batches) {
          expect(log.fits(ops)).toBe(true);
          log.append(ops);
        }
        expect(log.next).toBe(7 + batches.length);
        log.close();
        expect(replayed(7)).toEqual(plain(batches));
      }),
      { numRuns: 30 },
    );
  });

  test("R3 a torn record, cut or changed at any byte, ends the replay after the ones before it", () => {
    const log = new RedoLog(path, "me", 1, 8_192);
    log.append([append(1, 40)]);
    const start =
      readFileSync(path)
        .subarray(HEAD)
        .findLastIndex((byte) => byte !== 0) +
      1 +
      HEAD;
    log.append([append(2, 30), { op: "put", space: "s", key: "k", bytes: Uint8Array.of(1, 2, 3) }]);
    log.close();
    const whole = readFileSync(path);
    const end = whole.findLastIndex((byte) => byte !== 0) + 1;
    const torn = join(folder, "torn");
    for (let at = start; at < end; at++) {
      writeFileSync(torn, Buffer.concat([whole.subarray(0, at), Buffer.alloc(whole.length - at)]));
      expect([at, replayed(1, torn)]).toEqual([at, plain([[append(1, 40)]])]);
      const changed = Buffer.from(whole);
      changed.writeUInt8(changed.readUInt8(at) ^ 0x10, at);
      writeFileSync(torn, changed);
      expect([at, replayed(1, torn)]).toEqual([at, plain([[append(1, 40)]])]);
    }
  });

  test("R2 after a restart what is left of the time before is not played back", () => {
    const log = new RedoLog(path, "me", 1);
    for (let seq = 1; seq <= 5; seq++) log.append([append(seq)]);
    log.restart();
    log.append([append(6)]);
    log.close();
    expect(replayed(6)).toEqual(plain([[append(6)]]));
    // The store is synced, and the first record after that was not written yet.
    expect(replayed(7)).toEqual([]);
  });

  test("what was taken back is not played back", () => {
    const log = new RedoLog(path, "me", 1);
    log.append([append(1)]);
    log.append([append(2)]);
    log.undo();
    log.close();
    expect(replayed(1)).toEqual(plain([[append(1)]]));
  });

  test("a batch larger than the room does not fit, and the room comes back with a restart", () => {
    const log = new RedoLog(path, "me", 1, 1_000);
    expect(log.fits([append(1, 2_000)])).toBe(false);
    log.append([append(1, 700)]);
    expect(log.fits([append(2, 700)])).toBe(false);
    log.restart();
    expect(log.fits([append(2, 700)])).toBe(true);
    log.close();
  });

  test.each([
    ["another store", () => new RedoLog(path, "you", 1), "belongs to another store"],
    ["a time after the store's", () => [...new RedoLog(path, "me", 0).replay()], "is newer than the store beside it"],
  ])("a file of %s is refused with what to do", (_name, open, message) => {
    const log = new RedoLog(path, "me", 1);
    log.append([append(1)]);
    log.close();
    expect(open).toThrow(message);
    expect(open).toThrow("put back both from the same backup");
  });

  test("a damaged file and one of newer software are refused with what to do", () => {
    new RedoLog(path, "me", 1).close();
    const file = openSync(path, "r+");
    writeSync(file, Uint8Array.of(9), 0, 1, 8);
    expect(() => new RedoLog(path, "me", 1)).toThrow("was written by newer software");
    writeSync(file, Uint8Array.of(0), 0, 1, 0);
    expect(() => new RedoLog(path, "me", 1)).toThrow("is damaged or not a file of this software");
  });
});

describe("store under loss of power", () => {
  const files = ["x.sqlite", "x.sqlite-wal"];
  const open = (dir: string): SqliteStore =>
    openSqliteStore({ path: join(dir, "x.sqlite"), durability: "full", reserveBytes: 0, redoBytes: 6_000 });
  const dump = (store: SqliteStore): unknown => [
    store.logs().map((log) => [log, [...store.read(log, 0)].map(({ seq, bytes }) => [seq, [...bytes]])]),
    [...store.space("s")].map(({ key, bytes }) => [key, [...bytes]]),
  ];
  const op: fc.Arbitrary<StoreOp> = fc.oneof(
    fc.record({
      op: fc.constant("append" as const),
      log: fc.constantFrom("a", "b"),
      seq: fc.nat(40),
      bytes: fc.uint8Array({ maxLength: 900 }),
    }),
    fc.record({ op: fc.constant("trim" as const), log: fc.constantFrom("a", "b"), below: fc.nat(40) }),
    fc.record({ op: fc.constant("drop" as const), log: fc.constantFrom("a", "b") }),
    fc.record({
      op: fc.constant("put" as const),
      space: fc.constant("s"),
      key: fc.constantFrom("k", "l"),
      bytes: fc.uint8Array({ maxLength: 900 }),
    }),
    fc.record({ op: fc.constant("delete" as const), space: fc.constant("s"), key: fc.constantFrom("k", "l") }),
    fc.record({ op: fc.constant("clear" as const), space: fc.constant("s") }),
  );

  /** keep copies what SQLite has written so far, and answers up to which batch it is synced. */
  function keep(from: string, to: string): string {
    for (const file of files) if (existsSync(join(from, file))) copyFileSync(join(from, file), join(to, file));
    const db = new DatabaseSync(join(to, "x.sqlite"));
    const redo = String(db.prepare("SELECT value FROM meta WHERE name = 'redo'").get()?.["value"]);
    db.close();
    return redo;
  }

  // SQLite may keep any state since its last sync; the redo log keeps all that was answered.
  test("S1 S3 whatever SQLite lost since its last sync, all that was answered is there", () => {
    let lossy = 0;
    fc.assert(
      fc.property(
        fc.array(fc.array(op, { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 25 }),
        fc.nat(24),
        (batches, lostFrom) => {
          const [here, there] = [mkdtempSync(join(folder, "here-")), mkdtempSync(join(folder, "there-"))];
          const store = open(here);
          let synced = keep(here, there);
          for (const [i, batch] of batches.entries()) {
            store.commit(batch);
            const probe = mkdtempSync(join(folder, "probe-"));
            const now = keep(here, probe);
            // From the chosen batch on nothing but a sync reaches the disk.
            if (now !== synced || i < lostFrom) synced = keep(here, there);
            else lossy++;
            rmSync(probe, { recursive: true });
          }
          copyFileSync(join(here, "x.sqlite-redo"), join(there, "x.sqlite-redo"));
          const after = open(there);
          expect(dump(after)).toEqual(dump(store));
          expect(after.commit([append(9_999)])).toEqual({ ok: true });
          after.close();
          store.close();
          // And a clean stop leaves nothing to play back.
          const again = open(there);
          expect(again.lastStop).toBe("clean");
          expect([...again.read("n", 0)].map(({ seq }) => seq)).toEqual([9_999]);
          again.close();
        },
      ),
      { numRuns: 25 },
    );
    expect(lossy).toBeGreaterThan(20);
  });

  test("without its redo log a store that was not stopped cleanly is refused; one that was starts a new one", () => {
    const store = open(folder);
    store.commit([append(1)]);
    const copy = mkdtempSync(join(folder, "copy-"));
    keep(folder, copy);
    expect(() => open(copy)).toThrow("is missing, and the last stop was not clean");
    store.close();
    rmSync(join(folder, "x.sqlite-redo"));
    const again = open(folder);
    expect(again.commit([append(2)])).toEqual({ ok: true });
    again.close();
  });

  test("a store that changes to process durability takes everything with it, and comes back", () => {
    const full = open(folder);
    full.commit([append(1)]);
    const copy = mkdtempSync(join(folder, "copy-"));
    keep(folder, copy);
    copyFileSync(join(folder, "x.sqlite-redo"), join(copy, "x.sqlite-redo"));
    full.close();
    const lazy = openSqliteStore({ path: join(copy, "x.sqlite"), durability: "process", reserveBytes: 0 });
    expect([...lazy.read("n", 0)].map(({ seq }) => seq)).toEqual([1]);
    expect(existsSync(join(copy, "x.sqlite-redo"))).toBe(false);
    lazy.close();
    const back = open(copy);
    expect(back.commit([append(2)])).toEqual({ ok: true });
    expect([...back.read("n", 0)].map(({ seq }) => seq)).toEqual([1, 2]);
    back.close();
  });
});
