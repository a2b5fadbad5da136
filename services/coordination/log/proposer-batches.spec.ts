import { expect, test } from "vitest";
import { BATCH_COMMANDS } from "./batch.ts";
import { Proposer } from "./proposer.ts";

const LIMITS = { window: 4, waiting: 8_192, waitingBytes: 1 << 20, resendMs: 1_000 };
const proposer = (): Proposer =>
  new Proposer(LIMITS, 1, (_session, first, commands) => Uint8Array.of(first & 0xff, Math.min(255, commands.length)));
/** add gives so many commands, each of which may go at once, and tells how long the batches were that went. */
const add = (to: Proposer, count: number): number[] =>
  Array.from({ length: count }, (_, i) => {
    expect(to.add(i + 1, Uint8Array.of(0))).toBe(true);
    return to.next(0).map(({ payload }) => payload[1] as number);
  }).flat();
const settle = (to: Proposer, from: number, count: number): void => {
  for (let number = from; number < from + count; number++) to.settle(0, 1, number);
};

test("PO5 one command goes at once, and the more are on their way the more go together", () => {
  const one = proposer();
  expect(add(one, 64)).toEqual([1, 1, 2, 4]);
  settle(one, 1, 1);
  expect(one.next(0).map(({ payload }) => payload[1])).toEqual([56]);
});

test("PO5 none waits for ever: what was too little goes when what was on its way has landed", () => {
  const one = proposer();
  expect(add(one, 3)).toEqual([1, 1]);
  settle(one, 1, 1);
  expect(one.next(0).map(({ payload }) => payload[1])).toEqual([1]);
  settle(one, 2, 2);
  expect(one.waiting).toBe(0);
});

test("PO5 a full batch is enough, however much is on its way", () => {
  const one = proposer();
  for (let i = 0; i < 3 * BATCH_COMMANDS; i++) one.add(0, Uint8Array.of(0));
  expect(one.next(0)).toHaveLength(3);
});
