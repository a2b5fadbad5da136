import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { StoreOp } from "#kernel/core.ts";
import type { Blob, Store } from "#runtime/store/port.ts";

/** StoreFactory makes the stores under test. */
export interface StoreFactory {
  readonly name: string;
  /** fresh makes an empty store. */
  fresh(): Store;
  /** reopen closes a store and opens what it left behind. */
  reopen(store: Store): Store;
  /** dispose cleans up after a test. */
  dispose(): void;
}

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
const append = (log: string, seq: number, ...values: number[]): StoreOp => ({ op: "append", log, seq, bytes: bytes(...values) });
const put = (space: string, key: string, ...values: number[]): StoreOp => ({ op: "put", space, key, bytes: bytes(...values) });

/** dump shows all that the port can see of the given logs and spaces. */
function dump(store: Store, logs: readonly string[], spaces: readonly string[]): object {
  const blobs = (log: string): [number, number[]][] => [...store.read(log, 0)].map((b) => [b.seq, [...b.bytes]]);
  const entries = (space: string): [string, number[]][] => [...store.space(space)].map((e) => [e.key, [...e.bytes]]);
  return { names: store.logs(), logs: logs.map(blobs), spaces: spaces.map(entries) };
}

/** storeCompliance is the definition of the store port: every implementation passes it. */
export function storeCompliance(factory: StoreFactory): void {
  describe(`store port: ${factory.name}`, () => {
    let store: Store;
    beforeEach(() => {
      store = factory.fresh();
    });
    afterEach(() => {
      store.close();
      factory.dispose();
    });
    const ok = async (...ops: StoreOp[]): Promise<void> => expect(await store.commit(ops)).toEqual({ ok: true });
    const seqs = (blobs: Iterable<Blob>): number[] => [...blobs].map((b) => b.seq);

    test("an empty store has nothing", () => {
      expect(dump(store, ["a"], ["s"])).toEqual({ names: [], logs: [[]], spaces: [[]] });
      expect(store.get("s", "k")).toBeUndefined();
    });

    test("ST1 a batch is applied in order", async () => {
      await ok(
        append("a", 1, 1),
        append("a", 2, 2),
        { op: "trim", log: "a", below: 2 },
        append("a", 1, 9),
        put("s", "k", 1),
        put("s", "k", 2),
      );
      expect(dump(store, ["a"], ["s"])).toEqual({
        names: ["a"],
        logs: [
          [
            [1, [9]],
            [2, [2]],
          ],
        ],
        spaces: [[["k", [2]]]],
      });
      await ok({ op: "drop", log: "a" }, append("a", 7, 7), { op: "clear", space: "s" }, put("s", "z", 3), {
        op: "delete",
        space: "s",
        key: "z",
      });
      expect(dump(store, ["a"], ["s"])).toEqual({ names: ["a"], logs: [[[7, [7]]]], spaces: [[]] });
    });

    test("ST1 ST2 appending to a taken position fails the whole batch and leaves nothing behind", async () => {
      await ok(append("a", 1, 1), put("s", "k", 1));
      const before = dump(store, ["a", "new"], ["s"]);
      const outcome = await store.commit([
        append("new", 1, 5),
        put("s", "k", 2),
        { op: "drop", log: "a" },
        append("a", 3, 3),
        append("a", 3, 4),
      ]);
      expect(outcome).toMatchObject({ ok: false, reason: "conflict" });
      expect(dump(store, ["a", "new"], ["s"])).toEqual(before);
      await ok(append("new", 1, 6), append("a", 2, 2));
      expect(seqs(store.read("a", 0))).toEqual([1, 2]);
    });

    test("ST3 what was answered ok is there after reopening", async () => {
      await ok(append("a", 2 ** 40 - 1, 1), append("b", 0), put("s", "", 7), put("s", "käse/🧀", 8));
      store = factory.reopen(store);
      expect(dump(store, ["a", "b"], ["s"])).toEqual({
        names: ["a", "b"],
        logs: [[[2 ** 40 - 1, [1]]], [[0, []]]],
        spaces: [
          [
            ["", [7]],
            ["käse/🧀", [8]],
          ],
        ],
      });
    });

    test("ST4 reading starts anywhere, in order, over many blobs", async () => {
      const many = Array.from({ length: 500 }, (_, i) => append("a", i * 3, i & 255));
      await ok(...many, append("b", 5, 1));
      expect(seqs(store.read("a", 0))).toEqual(many.map((_, i) => i * 3));
      expect(seqs(store.read("a", 1_490))).toEqual([1_491, 1_494, 1_497]);
      expect(seqs(store.read("a", 1_500))).toEqual([]);
    });

    test("ST4 a commit in the middle of a read does not disturb it", async () => {
      await ok(
        ...Array.from({ length: 300 }, (_, i) => append("a", i)),
        ...Array.from({ length: 300 }, (_, i) => put("s", String(i).padStart(4, "0"))),
      );
      const seen: number[] = [];
      for (const blob of store.read("a", 0)) {
        seen.push(blob.seq);
        if (blob.seq === 100) await ok(append("b", 1), put("t", "x"));
      }
      expect(seen).toEqual(Array.from({ length: 300 }, (_, i) => i));
      expect([...store.space("s")].length).toBe(300);
    });

    test("logs and spaces are separate, empty logs have no name, keys are in byte order", async () => {
      await ok(append("x", 1), append("y", 1), put("s", "b"), put("s", "a"), put("s", "é"), put("s", "Z"), put("t", "a"));
      await ok({ op: "trim", log: "x", below: 2 });
      expect(store.logs()).toEqual(["y"]);
      expect([...store.space("s")].map((e) => e.key)).toEqual(["Z", "a", "b", "é"]);
      await ok({ op: "clear", space: "s" });
      expect([...store.space("t")].map((e) => e.key)).toEqual(["a"]);
    });

    test("removing what is not there is fine, and an empty batch too", async () => {
      await ok(
        { op: "trim", log: "no", below: 9 },
        { op: "cut", log: "no", from: 0 },
        { op: "drop", log: "no" },
        { op: "delete", space: "no", key: "k" },
        { op: "clear", space: "no" },
      );
      await ok();
    });

    test("ST1 the end of a log is cut off, and written anew in the same batch; what is before it and other logs stay", async () => {
      await ok(append("x", 1), append("x", 2), append("x", 3), append("y", 3));
      await ok({ op: "cut", log: "x", from: 2 }, append("x", 2), append("x", 4));
      expect([...store.read("x", 0)].map(({ seq }) => seq)).toEqual([1, 2, 4]);
      expect([...store.read("y", 0)].map(({ seq }) => seq)).toEqual([3]);
    });

    test("large blobs come back byte for byte", async () => {
      const big = new Uint8Array(300_000).map((_, i) => (i * 31) & 255);
      await ok({ op: "append", log: "a", seq: 1, bytes: big }, { op: "put", space: "s", key: "k", bytes: big.subarray(5, 70_000) });
      expect(Buffer.compare([...store.read("a", 1)][0]?.bytes ?? bytes(), big)).toBe(0);
      expect(Buffer.compare(store.get("s", "k") ?? bytes(), big.subarray(5, 70_000))).toBe(0);
    });
  });
}

/** Batches over few names, so that they meet each other. */
const op: fc.Arbitrary<StoreOp> = fc.oneof(
  fc.record({ op: fc.constant("append" as const), log: fc.constantFrom("a", "b"), seq: fc.nat(6), bytes: fc.uint8Array({ maxLength: 3 }) }),
  fc.record({ op: fc.constant("trim" as const), log: fc.constantFrom("a", "b"), below: fc.nat(7) }),
  fc.record({ op: fc.constant("cut" as const), log: fc.constantFrom("a", "b"), from: fc.nat(7) }),
  fc.record({ op: fc.constant("drop" as const), log: fc.constantFrom("a", "b") }),
  fc.record({
    op: fc.constant("put" as const),
    space: fc.constantFrom("s", "t"),
    key: fc.constantFrom("k", "l"),
    bytes: fc.uint8Array({ maxLength: 3 }),
  }),
  fc.record({ op: fc.constant("delete" as const), space: fc.constantFrom("s", "t"), key: fc.constantFrom("k", "l") }),
  fc.record({ op: fc.constant("clear" as const), space: fc.constantFrom("s", "t") }),
);

/** storesAgree runs the same random batches against two implementations; whatever the port shows must be equal. */
export function storesAgree(a: StoreFactory, b: StoreFactory): void {
  test(`stores agree: ${a.name}, ${b.name}`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(op, { maxLength: 6 }), { maxLength: 12 }), fc.nat(12), async (batches, reopenAt) => {
        let [one, two] = [a.fresh(), b.fresh()];
        for (const [i, batch] of batches.entries()) {
          if (i === reopenAt) [one, two] = [a.reopen(one), b.reopen(two)];
          const [x, y] = [await one.commit(batch), await two.commit(batch)];
          expect(x.ok ? "ok" : x.reason).toBe(y.ok ? "ok" : y.reason);
          expect(dump(one, ["a", "b"], ["s", "t"])).toEqual(dump(two, ["a", "b"], ["s", "t"]));
        }
        one.close();
        two.close();
      }),
      { numRuns: 40 },
    );
    a.dispose();
    b.dispose();
  });
}
