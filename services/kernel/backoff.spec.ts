import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Backoff, DEFAULT_BACKOFF, Retry } from "./backoff.ts";
import { Prng } from "./prng.ts";

describe("S0-7 backoff", () => {
  test("waits 2, 4, 8, 16, 32, 60, 60 s without jitter", () => {
    const backoff = new Backoff(new Prng(1), { ...DEFAULT_BACKOFF, jitter: 0 });
    expect(backoff.due(0)).toBe(true);
    const waits = Array.from({ length: 7 }, (_, i) => backoff.failed(i));
    expect(waits).toEqual([2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
  });

  test("jitter stays inside [(1 - jitter) d, d] and differs between hubs", () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 40 }), fc.double({ min: 0, max: 1, noNaN: true }), (seed, failures, jitter) => {
        const backoff = new Backoff(new Prng(seed), { ...DEFAULT_BACKOFF, jitter });
        for (let i = 0; i < failures; i++) {
          const full = Math.min(60_000, 2_000 * 2 ** i);
          const wait = backoff.failed(1_000);
          expect(wait).toBeLessThanOrEqual(full);
          expect(wait).toBeGreaterThanOrEqual(full * (1 - jitter) - 1e-6);
          expect(backoff.dueAt).toBe(1_000 + wait);
        }
      }),
    );
    expect(new Backoff(new Prng(1)).failed(0)).not.toBe(new Backoff(new Prng(2)).failed(0));
  });

  test("BO1 only a finished handshake resets it", () => {
    const backoff = new Backoff(new Prng(1), { ...DEFAULT_BACKOFF, jitter: 0 });
    for (let i = 0; i < 5; i++) backoff.failed(0);
    backoff.succeeded();
    expect(backoff.due(0)).toBe(true);
    expect(backoff.failed(0)).toBe(2_000);
  });

  test("BO2 a wake allows one immediate dial and the next failure waits longer still", () => {
    const backoff = new Backoff(new Prng(1), { ...DEFAULT_BACKOFF, jitter: 0 });
    for (let i = 0; i < 4; i++) backoff.failed(0);
    expect(backoff.due(5_000)).toBe(false);
    expect(backoff.wake(5_000)).toBe(true);
    expect(backoff.due(5_000)).toBe(true);
    expect(backoff.failed(5_001)).toBe(32_000);
    expect(backoff.failures).toBe(5);
  });

  test("BO3 a chatty peer cannot turn wakes into a tight loop", () => {
    const backoff = new Backoff(new Prng(1));
    for (let i = 0; i < 10; i++) backoff.failed(0);
    let dials = 0;
    for (let now = 0; now < 10_000; now += 10) {
      backoff.wake(now);
      if (backoff.due(now)) {
        dials++;
        backoff.failed(now);
      }
    }
    expect(dials).toBe(5);
  });
});

describe("F-8 BO4 a retry", () => {
  test("is never tighter than its wait, which grows up to the longest, however often something fails", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(400), { maxLength: 200 }), (steps) => {
        const retry = new Retry({ baseMs: 100, maxMs: 60_000, factor: 2 });
        const tries: number[] = [];
        let mono = 0;
        for (const step of steps) {
          mono += step;
          if (retry.due(mono)) tries.push(mono);
          retry.failed(mono);
        }
        for (let i = 1; i < tries.length; i++)
          expect(tries[i]! - tries[i - 1]!).toBeGreaterThanOrEqual(Math.min(60_000, 100 * 2 ** (i - 1)));
      }),
    );
  });

  test("starts at once after a success or a change", () => {
    const retry = new Retry({ baseMs: 100, maxMs: 60_000, factor: 2 });
    expect([retry.failed(0), retry.failed(50), retry.failed(100), retry.failures]).toEqual([100, 100, 300, 2]);
    retry.reset();
    expect([retry.due(101), retry.failures, retry.failed(101)]).toEqual([true, 0, 201]);
  });
});
