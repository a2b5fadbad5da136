import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { TokenBucket } from "./token-bucket.ts";

describe("token bucket", () => {
  test("a burst at once, then one by one; the wait that it names is enough and no longer", () => {
    const rate = { perSecond: 4, burst: 3 };
    const bucket = new TokenBucket(rate, 0);
    expect([0, 0, 0, 0].map(() => bucket.take(rate, 0))).toEqual([0, 0, 0, 250]);
    expect(bucket.take(rate, 249)).toBe(1);
    expect(bucket.take(rate, 250)).toBe(0);
    expect([0, 0, 0, 0].map(() => bucket.take(rate, 1e6))).toEqual([0, 0, 0, 250]);
  });

  test("another rate counts from the next token on, and a smaller burst at once", () => {
    const bucket = new TokenBucket({ perSecond: 1, burst: 10 }, 0);
    expect([0, 0, 0].map(() => bucket.take({ perSecond: 2, burst: 2 }, 0))).toEqual([0, 0, 500]);
  });

  test("whoever asks however often gets no more than burst and rate allow", () => {
    fc.assert(
      fc.property(
        fc.record({ perSecond: fc.integer({ min: 1, max: 1_000 }), burst: fc.integer({ min: 1, max: 50 }) }),
        fc.array(fc.integer({ min: 0, max: 500 }), { maxLength: 200 }),
        (rate, pauses) => {
          const bucket = new TokenBucket(rate, 0);
          let now = 0;
          let taken = 0;
          for (const pause of pauses) {
            now += pause;
            if (bucket.take(rate, now) === 0) taken++;
          }
          expect(taken).toBeLessThanOrEqual(rate.burst + (now * rate.perSecond) / 1_000 + 1e-6);
        },
      ),
    );
  });
});
