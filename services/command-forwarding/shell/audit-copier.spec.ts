import { expect, test } from "vitest";
import { fail } from "#kernel/error.ts";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { memoryLogger } from "../../../test/fakes/memory-logger.ts";
import { MemoryStore } from "../../../test/fakes/memory-store.ts";
import { AUDIT_LOG } from "../audit/audit.ts";
import { BatchWriter, readHead, WAY } from "../audit/batch.ts";
import { NO_VALUE } from "../messages.ts";
import { AuditCopier } from "./audit-copier.ts";

const EPOCH = 7;
const writer = new BatchWriter();

function batch(first: number, count: number): Uint8Array {
  const texts = { caller: "c", hub: "h", node: "n", capability: "s", reason: "", message: "", key: "" };
  const numbers = { outcome: 1, wallMs: 1, durationMs: 1, valueBytes: 0, nameEpoch: EPOCH, suppressed: 0 };
  for (let i = 0; i < count; i++)
    writer.add({ way: WAY.LOCAL, ...texts, ...numbers, value: NO_VALUE, hidden: false, nameNumber: first + i });
  return writer.take(EPOCH, first);
}

/** Rig is a copier with a store and a telemetry that keeps each record once, as the real one does. */
class Rig {
  readonly clock = new ManualClock();
  readonly store = new MemoryStore();
  readonly log = memoryLogger();
  readonly copied: number[] = [];
  /** What telemetry has, by their numbers. */
  readonly kept: number[] = [];
  calls = 0;
  refuse: (batches: readonly Uint8Array[]) => unknown = () => undefined;
  next = 1;
  readonly copier = new AuditCopier(
    {
      store: this.store,
      clock: this.clock,
      log: this.log,
      onCopied: (_epoch, number) => this.copied.push(number),
      sink: {
        copy: async (batches) => {
          this.calls++;
          const refusal = this.refuse(batches);
          if (refusal !== undefined) throw refusal;
          for (const bytes of batches) {
            const { first, count } = readHead(bytes);
            if (first > (this.kept.at(-1) ?? 0)) for (let i = 0; i < count; i++) this.kept.push(first + i);
          }
          return { epoch: EPOCH, number: this.kept.at(-1) ?? 0 };
        },
      },
    },
    1,
  );

  write(count: number): void {
    expect(this.store.commit([{ op: "append", log: AUDIT_LOG, seq: this.next, bytes: batch(this.next, count) }])).toEqual({ ok: true });
    this.next += count;
    this.copier.written(this.next);
  }

  async pass(ms: number): Promise<void> {
    for (let gone = 0; gone < ms; gone += 50) {
      this.clock.advance(50);
      this.clock.turn();
      for (let i = 0; i < 30; i++) await Promise.resolve();
    }
  }
}

const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i + 1);

test("records go in order, some at a time, and an idle hub copies nothing", async () => {
  const rig = new Rig();
  rig.copier.start();
  for (let i = 0; i < 700; i++) rig.write(1 + (i % 3));
  await rig.pass(1_000);
  expect(rig.kept).toEqual(numbers(rig.next - 1));
  expect(rig.copied.at(-1)).toBe(rig.next - 1);
  const { calls } = rig;
  await rig.pass(10_000);
  expect(rig.calls).toBe(calls);
});

test("while telemetry is away it is tried again with growing waits, and then gets everything once", async () => {
  const rig = new Rig();
  rig.refuse = () => fail("PEER_UNREACHABLE", "no connection to the server");
  rig.copier.start();
  for (let i = 0; i < 20; i++) rig.write(2);
  await rig.pass(60_000);
  expect(rig.calls).toBeLessThan(25);
  expect(rig.kept).toEqual([]);
  rig.refuse = () => undefined;
  await rig.pass(10_000);
  expect(rig.kept).toEqual(numbers(40));
});

test("what is noted before it is durable is copied when it is", async () => {
  const rig = new Rig();
  rig.copier.start();
  rig.copier.written(3);
  await rig.pass(1_000);
  expect(rig.kept).toEqual([]);
  rig.write(2);
  await rig.pass(1_000);
  expect(rig.kept).toEqual([1, 2]);
});

test("a part that telemetry refuses for good is left out and told, and the others are copied", async () => {
  const rig = new Rig();
  const bad = (bytes: Uint8Array): boolean => readHead(bytes).first === 5;
  rig.refuse = (batches) => (batches.some(bad) ? fail("INVALID_FIELD", "no batch") : undefined);
  rig.copier.start();
  for (let i = 0; i < 5; i++) rig.write(2);
  await rig.pass(2_000);
  expect(rig.kept).toEqual([1, 2, 3, 4, 7, 8, 9, 10]);
  expect(rig.log.lines.filter(({ level }) => level === "error")).toHaveLength(1);
});
