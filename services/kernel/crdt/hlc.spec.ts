import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compareHlc, Hlc, type HlcReading, MAX_LOGICAL, validHlc } from "./hlc.ts";

const SKEW = 60_000;
const reading = fc.record({ wallMs: fc.integer({ min: 0, max: 2 ** 45 }), logical: fc.integer({ min: 0, max: MAX_LOGICAL }) });

describe("hlc", () => {
  test("HL1 readings grow strictly, whatever the wall clock and the peers say", () => {
    const event = fc.oneof(
      fc.record({ tick: fc.integer({ min: 0, max: 2 ** 45 }) }),
      fc.record({ wall: fc.integer({ min: 0, max: 2 ** 45 }), remote: reading }),
    );
    fc.assert(
      fc.property(fc.array(event, { maxLength: 60 }), (events) => {
        const clock = new Hlc(SKEW);
        let last: HlcReading = { wallMs: -1, logical: 0 };
        for (const e of events) {
          if ("tick" in e) {
            const next = clock.tick(e.tick);
            expect(compareHlc(next, last)).toBeGreaterThan(0);
            last = next;
          } else if (clock.receive(e.remote, e.wall)) {
            expect(compareHlc(clock.tick(e.wall), e.remote)).toBeGreaterThan(0);
            last = clock.last;
          }
          expect(validHlc(clock.last)).toBe(true);
        }
      }),
    );
  });

  test("D-9 a far-future reading is refused and changes nothing", () => {
    const clock = new Hlc(SKEW);
    clock.tick(1_000);
    expect(clock.receive({ wallMs: 1_000 + SKEW + 1, logical: 0 }, 1_000)).toBe(false);
    expect(clock.last).toEqual({ wallMs: 1_000, logical: 0 });
    expect(clock.receive({ wallMs: 1_000 + SKEW, logical: 7 }, 1_000)).toBe(true);
    expect(clock.tick(1_001)).toEqual({ wallMs: 1_000 + SKEW, logical: 8 });
  });

  test("malformed readings are refused", () => {
    const clock = new Hlc(SKEW);
    for (const bad of [
      { wallMs: -1, logical: 0 },
      { wallMs: 1.5, logical: 0 },
      { wallMs: 1, logical: MAX_LOGICAL + 1 },
      { wallMs: Number.NaN, logical: 0 },
    ])
      expect(clock.receive(bad, 10)).toBe(false);
  });

  test("a full millisecond spills into the next, and a restart continues after the last reading", () => {
    const clock = new Hlc(SKEW, { wallMs: 5, logical: MAX_LOGICAL });
    expect(clock.tick(5)).toEqual({ wallMs: 6, logical: 0 });
  });
});
