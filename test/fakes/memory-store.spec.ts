import { expect, test } from "vitest";
import type { StoreOp } from "#kernel/core.ts";
import { MemoryStore } from "./memory-store.ts";

const append = (seq: number): StoreOp => ({ op: "append", log: "n", seq, bytes: new Uint8Array(1) });
const seqs = (store: MemoryStore): number[] => [...store.read("n", 0)].map((b) => b.seq);

test("a crash of the machine drops what was not synced, a crash of the process does not", async () => {
  for (const [what, kept, risk] of [
    ["machine", [1], true],
    ["process", [1, 2], false],
  ] as const) {
    const store = new MemoryStore({ durability: "process" });
    await store.commit([append(1)]);
    store.sync();
    await store.commit([append(2)]);
    const after = store.crash(what);
    expect([seqs(after), after.tailAtRisk]).toEqual([kept, risk]);
  }
});

test("under full durability what was answered survives, and the batch in flight may or may not have happened", async () => {
  for (const [fate, kept] of [
    ["lost", [1]],
    ["applied", [1, 2, 3]],
  ] as const) {
    const held: (() => void)[] = [];
    const store = new MemoryStore({ schedule: (run) => void held.push(run) });
    const first = store.commit([append(1)]);
    held.shift()?.();
    expect(await first).toEqual({ ok: true });
    let answered = false;
    void Promise.resolve(store.commit([append(2), append(3)])).then(() => {
      answered = true;
    });
    const after = store.crash("machine", fate);
    held.shift()?.();
    await Promise.resolve();
    expect([seqs(after), answered, after.tailAtRisk]).toEqual([kept, false, false]);
  }
});

test("a backup is a copy that later writes do not touch", async () => {
  const store = new MemoryStore();
  await store.commit([append(1)]);
  const backup = store.backup();
  await store.commit([append(2)]);
  expect(seqs(backup)).toEqual([1]);
});
