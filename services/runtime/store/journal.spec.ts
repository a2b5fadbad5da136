import { fdatasync, mkdtempSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { StoreOp } from "#kernel/core.ts";
import { Journal } from "./journal.ts";
import { openSqliteStore } from "./sqlite.ts";

const append = (seq: number): StoreOp => ({ op: "append", log: "n", seq, bytes: new Uint8Array(100).fill(7) });

describe("journal of a store that is synced on the pool", () => {
  let folder: string;
  let path: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "foedus-journal-"));
    path = join(folder, "test.sqlite");
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  /** How many of this process's descriptors lead to the write-ahead log, removed or not. */
  const held = () =>
    readdirSync("/proc/self/fd").filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith(`${path}-wal`);
      } catch {
        return false;
      }
    }).length;

  test("JO1 a commit is answered after its sync, and the event loop goes on meanwhile", async () => {
    const store = openSqliteStore({ path, durability: "full", flush: "pool", reserveBytes: 0 });
    const order: string[] = [];
    const commits = [0, 1, 2].map(async (seq) => {
      const outcome = await store.commit([append(seq)]);
      order.push(outcome.ok ? `commit ${seq}` : outcome.message);
    });
    order.push("all written");
    await Promise.all(commits);
    expect(order[0]).toBe("all written");
    expect(order.slice(1).sort()).toEqual(["commit 0", "commit 1", "commit 2"]);
    expect([...store.read("n", 0)].map((blob) => blob.seq)).toEqual([0, 1, 2]);
    store.close();
  });

  test("JO2 after a sync that failed nothing is durable any more, whatever later syncs say", async () => {
    const store = openSqliteStore({ path, durability: "full", flush: "loop", reserveBytes: 0 });
    let calls = 0;
    const journal = new Journal(`${path}-wal`, (fd, done) => {
      calls++;
      if (calls === 2) setImmediate(done, new Error("EIO: i/o error, fdatasync"));
      else fdatasync(fd, done);
    });
    expect(await journal.sync()).toEqual({ ok: true });
    expect(journal.failure).toBeUndefined();
    const failed = { ok: false, reason: "io", message: "the store cannot sync what it wrote: EIO: i/o error, fdatasync" };
    expect(await journal.sync()).toEqual(failed);
    expect(await journal.sync()).toEqual(failed);
    expect(journal.failure).toEqual(failed);
    journal.close();
    store.close();
  });

  test("JO2 a failure ends what was begun before it was known, too", async () => {
    const store = openSqliteStore({ path, durability: "full", flush: "loop", reserveBytes: 0 });
    const waiting: ((error: Error | null) => void)[] = [];
    const journal = new Journal(`${path}-wal`, (_fd, done) => waiting.push(done));
    const answers = [journal.sync(), journal.sync()];
    waiting[1]?.(new Error("EIO"));
    waiting[0]?.(null);
    expect((await Promise.all(answers)).map((outcome) => outcome.ok)).toEqual([false, false]);
    journal.close();
    store.close();
  });

  test("JO2 a real file that cannot be synced is told as such", async () => {
    const journal = new Journal("/dev/null");
    expect(await journal.sync()).toMatchObject({ ok: false, reason: "io", message: expect.stringMatching(/EINVAL/) });
    journal.close();
  });

  test("a store that is closed while it syncs answers what waits and keeps no descriptor", async () => {
    const store = openSqliteStore({ path, durability: "full", flush: "pool", reserveBytes: 0 });
    const answers = [store.commit([append(0)]), store.commit([append(1)])];
    store.close();
    expect(await Promise.all(answers)).toEqual([{ ok: true }, { ok: true }]);
    await expect.poll(held).toBe(0);
    const again = openSqliteStore({ path, durability: "full", flush: "pool", reserveBytes: 0 });
    expect([...again.read("n", 0)].map((blob) => blob.seq)).toEqual([0, 1]);
    expect(again.lastStop).toBe("clean");
    again.close();
  });

  test("a file that only has to outlive its process is not synced, whatever flush says", () => {
    const store = openSqliteStore({ path, durability: "process", flush: "pool", reserveBytes: 0 });
    expect(store.commit([append(0)])).toEqual({ ok: true });
    store.close();
  });
});
