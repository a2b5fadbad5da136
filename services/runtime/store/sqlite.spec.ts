import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { StoreOp } from "#kernel/core.ts";
import { FoedusError } from "#kernel/error.ts";
import { storeInUse } from "./open.ts";
import { openSqliteStore } from "./sqlite.ts";

const append = (seq: number, size = 1): StoreOp => ({ op: "append", log: "n", seq, bytes: new Uint8Array(size).fill(7) });

/** A process that commits in a loop and says what was answered; `mode` "hold" only opens the store. */
const CHILD = `
  import { openSqliteStore } from "#runtime/store/sqlite.ts";
  const [path, durability, mode] = process.argv.slice(1);
  const store = openSqliteStore({ path, durability, reserveBytes: 0 });
  process.stdout.write("open\\n");
  if (mode === "hold") setInterval(() => {}, 1000);
  else {
    let seq = 0;
    const loop = () => {
      const ops = [];
      for (let i = 0; i < 5; i++) ops.push({ op: "append", log: "n", seq: seq++, bytes: new Uint8Array(2000).fill(seq) });
      if (!store.commit(ops).ok) process.exit(3);
      process.stdout.write(seq - 1 + "\\n");
      setImmediate(loop);
    };
    loop();
  }
`;

function child(path: string, durability: string, mode: string) {
  return spawn(process.execPath, ["--input-type=module-typescript", "-e", CHILD, path, durability, mode], {
    stdio: ["ignore", "pipe", "inherit"],
  });
}

describe("sqlite store", () => {
  let folder: string;
  let path: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "foedus-sqlite-"));
    path = join(folder, "deep", "test.db");
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const failureOf = (run: () => unknown): FoedusError => {
    try {
      run();
    } catch (error) {
      if (error instanceof FoedusError) return error;
      throw error;
    }
    throw new Error("nothing was thrown");
  };

  test.each(["full", "process"])("ST3 kill -9 loses nothing that was acknowledged (durability %s)", async (durability) => {
    for (let round = 0; round < 3; round++) {
      const file = join(folder, `kill-${round}.db`);
      const writer = child(file, durability, "write");
      let acknowledged = -1;
      for await (const line of createInterface({ input: writer.stdout })) {
        if (line !== "open") acknowledged = Number(line);
        if (acknowledged >= 200 + round * 77) writer.kill("SIGKILL");
      }
      if (writer.exitCode === null && writer.signalCode === null) await once(writer, "exit");
      expect(writer.signalCode).toBe("SIGKILL");
      const store = openSqliteStore({ path: file, durability: durability as "full" });
      expect(store.lastStop).toBe("unclean");
      const blobs = [...store.read("n", 0)];
      expect(blobs.map((b) => b.seq)).toEqual(blobs.map((_, i) => i));
      expect(blobs.length).toBeGreaterThan(acknowledged);
      expect(blobs.length % 5).toBe(0);
      expect(blobs.every((b) => b.bytes.length === 2000)).toBe(true);
      store.close();
    }
  });

  test("a second process on the same file gets a clear error", async () => {
    const holder = child(path, "full", "hold");
    for await (const line of createInterface({ input: holder.stdout })) if (line === "open") break;
    const error = failureOf(() => openSqliteStore({ path, durability: "full", busyTimeoutMs: 10 }));
    expect(error.failure.reason).toBe("STORE_UNAVAILABLE");
    expect(error.message).toContain("another process uses");
    expect([storeInUse(path), storeInUse(`${path}-absent`)]).toEqual([true, false]);
    holder.kill("SIGKILL");
    await once(holder, "exit");
    expect(storeInUse(path)).toBe(false);
    openSqliteStore({ path, durability: "full", busyTimeoutMs: 10 }).close();
  });

  test("a clean stop leaves its mark, and the first start has none", () => {
    const first = openSqliteStore({ path, durability: "full" });
    expect([first.lastStop, first.tailAtRisk]).toEqual(["none", false]);
    first.close();
    first.close();
    const second = openSqliteStore({ path, durability: "full" });
    expect(second.lastStop).toBe("clean");
    second.close();
  });

  test("the tail is at risk after an unclean stop on another boot under durability process only", () => {
    const doctor = (durability: string): void => {
      const db = new DatabaseSync(path);
      db.exec(`UPDATE meta SET value = 'running' WHERE name = 'stop'; UPDATE meta SET value = 'another' WHERE name = 'boot'`);
      db.exec(`UPDATE meta SET value = '${durability}' WHERE name = 'durability'`);
      db.close();
    };
    openSqliteStore({ path, durability: "process" }).close();
    for (const durability of ["process", "full"] as const) {
      doctor(durability);
      const store = openSqliteStore({ path, durability: "process" });
      expect(store.tailAtRisk).toBe(durability === "process");
      store.close();
    }
  });

  test("a tail stays at risk until a commit has dealt with it, however often the start fails before", () => {
    openSqliteStore({ path, durability: "process" }).close();
    const db = new DatabaseSync(path);
    db.exec("UPDATE meta SET value = 'running' WHERE name = 'stop'; UPDATE meta SET value = 'another' WHERE name = 'boot'");
    db.close();
    const open = () => openSqliteStore({ path, durability: "process" });
    for (let round = 0; round < 2; round++) {
      const store = open();
      expect(store.tailAtRisk).toBe(true);
      store.close();
    }
    const store = open();
    expect(store.commit([{ op: "put", space: "s", key: "k", bytes: new Uint8Array(1) }])).toEqual({ ok: true });
    store.close();
    const last = open();
    expect([last.tailAtRisk, last.lastStop]).toEqual([false, "clean"]);
    last.close();
  });

  test("a full file answers full, keeps what it had, reads on, and accepts again when there is room", async () => {
    const store = openSqliteStore({ path, durability: "full", maxBytes: 400_000, reserveBytes: 0 });
    let seq = 0;
    let outcome = await store.commit([append(seq++, 20_000)]);
    for (; outcome.ok; seq += 2) outcome = await store.commit([append(seq, 20_000), append(seq + 1, 20_000)]);
    expect(outcome).toMatchObject({ ok: false, reason: "full" });
    const kept = [...store.read("n", 0)].map((b) => b.seq);
    expect(kept).toEqual(Array.from({ length: seq - 2 }, (_, i) => i));
    expect(store.commit([{ op: "trim", log: "n", below: 8 }])).toEqual({ ok: true });
    expect(store.commit([append(seq, 20_000)])).toEqual({ ok: true });
    store.close();
  });

  test("the reserve is real bytes, and is given back", () => {
    const store = openSqliteStore({ path, durability: "full", reserveBytes: 100_000 });
    expect(statSync(`${path}.reserve`).size).toBe(100_000);
    expect(statSync(`${path}.reserve`).blocks * 512).toBeGreaterThanOrEqual(100_000);
    store.freeReserve();
    expect(existsSync(`${path}.reserve`)).toBe(false);
    store.close();
  });

  test("F-27 files of newer software, of others, and damaged ones are refused with a reason", () => {
    openSqliteStore({ path, durability: "full" }).close();
    const db = new DatabaseSync(path);
    db.exec("PRAGMA user_version = 99");
    db.close();
    expect(failureOf(() => openSqliteStore({ path, durability: "full" })).failure).toMatchObject({ reason: "UPGRADE_NEEDED" });

    const foreign = join(folder, "foreign.db");
    const other = new DatabaseSync(foreign);
    other.exec("CREATE TABLE holiday (photo BLOB)");
    other.close();
    const before = readFileSync(foreign);
    expect(failureOf(() => openSqliteStore({ path: foreign, durability: "full" })).message).toContain("not a file of this software");
    // F-27: not a byte of it, and nothing beside it.
    expect(readFileSync(foreign).equals(before)).toBe(true);
    expect(readdirSync(folder).filter((name) => name.startsWith("foreign.db"))).toEqual(["foreign.db"]);

    const broken = join(folder, "broken.db");
    writeFileSync(broken, Buffer.alloc(10_000, 0x41));
    expect(failureOf(() => openSqliteStore({ path: broken, durability: "full" })).message).toContain("damaged or not a store");

    const inFile = join(broken, "x.db");
    expect(failureOf(() => openSqliteStore({ path: inFile, durability: "full" })).message).toContain("cannot open");
  });

  test("numbers of dropped logs are used again, so that years of new logs stay exact", () => {
    const store = openSqliteStore({ path, durability: "process", reserveBytes: 0 });
    for (let i = 0; i < 9_000; i += 100) {
      const ops: StoreOp[] = [];
      for (let j = i; j < i + 100; j++)
        ops.push({ op: "append", log: `l${j}`, seq: 1, bytes: new Uint8Array(1) }, { op: "drop", log: `l${j - 3}` });
      expect(store.commit(ops)).toEqual({ ok: true });
    }
    expect(store.logs()).toEqual(["l8997", "l8998", "l8999"]);
    expect([...store.read("l8999", 0)].map((b) => b.seq)).toEqual([1]);
    store.close();
  });
});
