import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AuthorSessions, sessionAfter } from "./author-sessions.ts";

interface Sent {
  readonly author: string;
  readonly session: number;
  readonly first: number;
  readonly count: number;
}

/** carryOut applies batches as the state does, and gives what was carried out, in order. */
function carryOut(sessions: AuthorSessions, batches: readonly Sent[]): string[] {
  const done: string[] = [];
  for (const { author, session, first, count } of batches) {
    const skip = sessions.fresh(author, session, first, count);
    if (skip === undefined) continue;
    // What comes before a batch is not in it.
    expect(skip).toBeGreaterThanOrEqual(0);
    expect(skip).toBeLessThan(count);
    for (let i = skip; i < count; i++) done.push(`${author} ${session} ${first + i}`);
    sessions.advance(author, session, first + count - 1);
  }
  return done;
}

const batch = fc.record({
  author: fc.constantFrom("a", "b"),
  session: fc.integer({ min: 1, max: 3 }),
  first: fc.integer({ min: 1, max: 8 }),
  count: fc.integer({ min: 1, max: 4 }),
});

describe("commands of an author", () => {
  test("AS1 AS2 are carried out at most once, in order, without a gap in a session, and none after a later session", () => {
    fc.assert(
      fc.property(fc.array(batch, { maxLength: 60 }), (batches) => {
        const done = carryOut(new AuthorSessions(), batches);
        expect(new Set(done).size).toBe(done.length);
        for (const author of ["a", "b"]) {
          let [session, last] = [0, 0];
          for (const [who, at, number] of done.map((line) => line.split(" "))) {
            if (who !== author) continue;
            if (Number(at) !== session) {
              expect(Number(at)).toBeGreaterThan(session);
              [session, last] = [Number(at), 0];
            }
            expect(Number(number)).toBe(last + 1);
            last++;
          }
        }
      }),
    );
  });

  test("AS1 what is sent often enough, late, twice and out of order, is carried out whole", () => {
    // Each batch of a session once in its order at least, any of them between.
    const cuts = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(cuts, fc.array(fc.nat(), { maxLength: 60 }), (counts, noise) => {
        let first = 1;
        const own = counts.map((count) => {
          const sent = { author: "a", session: 1, first, count };
          first += count;
          return sent;
        });
        const sent = own.flatMap((one, i) => [...noise.filter((n) => n % own.length === i).map((n) => own[(n * 7) % own.length]!), one]);
        expect(carryOut(new AuthorSessions(), sent)).toEqual(Array.from({ length: first - 1 }, (_, i) => `a 1 ${i + 1}`));
      }),
    );
  });

  test("BK3 a copy goes on as the original does", () => {
    fc.assert(
      fc.property(fc.array(batch, { maxLength: 30 }), fc.array(batch, { maxLength: 30 }), (before, after) => {
        const [original, copy] = [new AuthorSessions(), new AuthorSessions()];
        carryOut(original, before);
        copy.load(original.dump());
        expect(copy.dump()).toEqual(original.dump());
        expect(carryOut(copy, after)).toEqual(carryOut(original, after));
      }),
    );
  });

  test("AS3 a hub that left leaves nothing, and begins anew when it comes back", () => {
    const sessions = new AuthorSessions();
    expect(carryOut(sessions, [{ author: "a", session: 9, first: 1, count: 2 }])).toHaveLength(2);
    sessions.forget("a");
    expect(sessions.dump()).toEqual([]);
    expect(carryOut(sessions, [{ author: "a", session: 1, first: 1, count: 1 }])).toEqual(["a 1 1"]);
  });
});

test("PO2 a new session is larger than all that is known, close to the clock, and never that of another start", () => {
  const count = fc.integer({ min: 0, max: 2 ** 48 });
  fc.assert(
    fc.property(
      count,
      fc.double({ min: 0, max: 2 ** 48, noNaN: true }),
      count,
      fc.integer({ min: 1, max: 511 }),
      (known, wall, start, later) => {
        const session = sessionAfter(known, wall, start);
        expect(Number.isSafeInteger(session)).toBe(true);
        expect(session).toBeGreaterThan(known);
        expect(session).toBeGreaterThanOrEqual(Math.floor(wall));
        expect(session).toBeLessThan(Math.max(known + 1, wall, 1) + 512);
        expect(sessionAfter(known, wall, start + later)).not.toBe(session);
      },
    ),
  );
});
