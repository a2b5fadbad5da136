import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Hlc, MAX_LOGICAL } from "./hlc.ts";
import { compareLww, type Lww, laterLww, lwwProblem } from "./lww.ts";

const SKEW_MS = 60_000;
// Few of each, so that the same reading, writer or value comes often.
const write: fc.Arbitrary<Lww> = fc.record({
  at: fc.record({ wallMs: fc.integer({ min: 0, max: 3 }), logical: fc.integer({ min: 0, max: 1 }) }),
  writer: fc.constantFrom("a", "b"),
  value: fc.option(fc.uint8Array({ max: 1, maxLength: 2 }), { nil: undefined }),
});
const writes = fc.array(write, { minLength: 1, maxLength: 8 });

/** dumb is the register as a list of all writes: the value of the one that is last when they are sorted by what they say as text. */
function dumb(all: readonly Lww[]): string {
  const text = ({ at, writer, value }: Lww): string =>
    `${String(at.wallMs).padStart(20, "0")} ${String(at.logical).padStart(8, "0")} ${writer} ${value === undefined ? "" : `v${Buffer.from(value).toString("hex")}`}`;
  return all.map(text).sort().at(-1)!;
}

describe("a register whose last writer wins", () => {
  test("LW1 S1-8 the last write is the same in whatever order, grouping and number they come, and the one of a sorted list", () => {
    fc.assert(
      fc.property(writes, fc.infiniteStream(fc.nat()), fc.nat(), (all, random, split) => {
        const delivered = [...all, ...all.slice(split % all.length)];
        const shuffled = delivered
          .map((one) => ({ one, key: random.next().value as number }))
          .sort((x, y) => x.key - y.key)
          .map(({ one }) => one);
        const fold = (list: readonly Lww[]) => list.reduce<Lww | undefined>((last, one) => laterLww(last, one), undefined);
        const at = split % (shuffled.length + 1);
        const grouped = laterLww(fold(shuffled.slice(0, at)), fold(shuffled.slice(at)));
        expect(dumb([fold(all)!])).toBe(dumb(all));
        expect(dumb([grouped!])).toBe(dumb(all));
      }),
    );
  });

  test("LW1 the order of writes is total: zero for equal writes only, and the other way round for the others", () => {
    fc.assert(
      fc.property(write, write, (a, b) => {
        expect(Math.sign(compareLww(a, b))).toBe(-Math.sign(compareLww(b, a)) + 0);
        expect(compareLww(a, b) === 0).toBe(dumb([a]) === dumb([b]));
      }),
    );
  });

  test("LW2 a register never goes back", () => {
    fc.assert(
      fc.property(writes, (all) => {
        let register: Lww | undefined;
        for (const one of all) {
          const next = laterLww(register, one)!;
          if (register !== undefined) expect(compareLww(next, register)).toBeGreaterThanOrEqual(0);
          expect(compareLww(next, one)).toBeGreaterThanOrEqual(0);
          register = next;
        }
      }),
    );
  });

  test("LW3 D-9 a write from the far future, or from no time, is told before it wins for ever", () => {
    const of = (wallMs: number, logical = 0): Lww => ({ at: { wallMs, logical }, writer: "a", value: undefined });
    expect(lwwProblem(of(1_000 + SKEW_MS), 1_000, SKEW_MS)).toBeUndefined();
    expect(lwwProblem(of(1_000 + SKEW_MS + 1), 1_000, SKEW_MS)).toBe("TOO_FAR_AHEAD");
    for (const wallMs of [Number.NaN, -1, 0.5, Number.POSITIVE_INFINITY, 2 ** 60])
      expect(lwwProblem(of(wallMs), 1_000, SKEW_MS)).toBe("MALFORMED");
    for (const logical of [Number.NaN, -1, 0.5, MAX_LOGICAL + 1]) expect(lwwProblem(of(1, logical), 1_000, SKEW_MS)).toBe("MALFORMED");
  });

  test("LW4 D-9 an edit made after others were seen wins, also where the wall clock is behind theirs", () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ wallMs: fc.integer({ min: 0, max: SKEW_MS }), logical: fc.integer({ min: 0, max: MAX_LOGICAL }) })),
        (seen) => {
          const clock = new Hlc(SKEW_MS);
          const taken = seen.map((at): Lww => ({ at, writer: "z", value: Uint8Array.of(255) }));
          for (const { at } of taken) expect(clock.receive(at, 0)).toBe(true);
          const mine: Lww = { at: clock.tick(0), writer: "a", value: undefined };
          for (const other of taken) expect(compareLww(mine, other)).toBeGreaterThan(0);
        },
      ),
    );
  });
});
