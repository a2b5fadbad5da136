import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { mayServe, type Place, seatOf, type Word } from "./fences.ts";

const PRIMARY: Place = { host: "lab.example", port: 18_800 };
const STANDBY: Place = { host: "lab-2.example", port: 18_800 };
const HUBS = ["a", "b", "c", "d"];

function word(endpoint: Place, fence: number, incarnation = 1): Word {
  return { endpoint, fence, incarnation };
}

function seat(own: Place, words: readonly (readonly [string, Word | undefined])[], more: { standby?: boolean; hubs?: string[] } = {}) {
  return seatOf({ hub: "lab", own, standby: more.standby ?? false, hubs: more.hubs ?? HUBS, words: new Map(words) });
}

describe("who acts for a hub", () => {
  test("LF1 more than half of all that count have to name an installation, those that are silent included", () => {
    const two = [["a", word(PRIMARY, 3)] as const, ["b", word(PRIMARY, 3)] as const];
    expect(seat(PRIMARY, two)).toMatchObject({ kind: "waits", why: expect.stringContaining("c, d did not answer yet") });
    expect(seat(PRIMARY, [...two, ["c", word(PRIMARY, 3)]])).toEqual({ kind: "acts", word: word(PRIMARY, 3) });
    expect(seat(STANDBY, [...two, ["c", word(PRIMARY, 3)]])).toMatchObject({ kind: "superseded", word: word(PRIMARY, 3) });
  });

  test("LF1 the same address with another fence, or another replica, is another word", () => {
    const said = [
      ["a", word(PRIMARY, 3)],
      ["b", word(PRIMARY, 4)],
      ["c", word(PRIMARY, 3, 2)],
      ["d", word(PRIMARY, 3)],
    ] as const;
    expect(seat(PRIMARY, said)).toMatchObject({ kind: "waits", why: expect.stringContaining("they do not agree yet") });
  });

  test("LF1 a hub's own word, one of a hub that does not count, and a hub named twice change nothing", () => {
    const said = [
      ["lab", word(STANDBY, 9)],
      ["stranger", word(STANDBY, 9)],
      ["a", word(STANDBY, 9)],
      ["b", word(STANDBY, 9)],
    ] as const;
    expect(seat(STANDBY, said, { hubs: ["a", "a", "b", "b", "c", "d", "lab"] }).kind).toBe("waits");
    expect(seat(STANDBY, said, { hubs: ["a", "a", "b", "lab"] }).kind).toBe("acts");
  });

  test("LF1 of a hub whose standbys nobody knows the one that is no standby acts, and a standby never", () => {
    const none = HUBS.map((hub) => [hub, undefined] as const);
    expect(seat(PRIMARY, none)).toEqual({ kind: "alone" });
    expect(seat(STANDBY, none, { standby: true })).toMatchObject({
      kind: "waits",
      why: expect.stringContaining("standby set lab-2.example:18800"),
    });
    expect(seat(PRIMARY, none.slice(2)).kind).toBe("waits");
    expect(seat(PRIMARY, [], { hubs: ["lab"] })).toMatchObject({ kind: "waits", why: expect.stringContaining("nobody can tell") });
  });

  test("LF1 an address is the same in capitals; one of IPv6 is shown as it is dialled", () => {
    const said = HUBS.map((hub) => [hub, word({ host: "LAB.example", port: 18_800 }, 1)] as const);
    expect(seat(PRIMARY, said).kind).toBe("acts");
    const six = HUBS.map((hub) => [hub, word({ host: "::1", port: 1 }, 1)] as const);
    expect(seat(PRIMARY, six)).toMatchObject({ why: expect.stringContaining("[::1]:1") });
  });

  test("LF1 whatever fewer than half say, or keep to themselves, never two installations act, and nobody stands down by it", () => {
    const place = fc.constantFrom(PRIMARY, STANDBY, { host: "evil.example", port: 1 });
    const lie = fc.oneof(
      fc.constant("silent" as const),
      fc.constant(undefined),
      fc.record({ endpoint: place, fence: fc.nat(9), incarnation: fc.nat(3) }),
    );
    const facts = fc.integer({ min: 1, max: 9 }).chain((count) =>
      fc.record({
        count: fc.constant(count),
        truth: fc.record({ endpoint: fc.constantFrom(PRIMARY, STANDBY), fence: fc.integer({ min: 1, max: 9 }), incarnation: fc.nat(3) }),
        // What each liar tells the one installation, and the other.
        lies: fc.array(fc.tuple(lie, lie), { maxLength: Math.ceil(count / 2) - 1 }),
      }),
    );
    fc.assert(
      fc.property(facts, ({ count, truth, lies }) => {
        const hubs = Array.from({ length: count }, (_, i) => `hub-${i}`);
        const told = (to: 0 | 1) =>
          new Map(
            hubs.flatMap((hub, i) => {
              const lied = lies[i];
              const said = lied === undefined ? truth : lied[to];
              return said === "silent" ? [] : [[hub, said] as const];
            }),
          );
        const [one, other] = ([PRIMARY, STANDBY] as const).map((own, i) =>
          seatOf({ hub: "lab", own, standby: own === STANDBY, hubs, words: told(i as 0 | 1) }),
        );
        const acts = truth.endpoint === PRIMARY ? one : other;
        const stands = truth.endpoint === PRIMARY ? other : one;
        // The truth is said by more than half, so that the one acts and the other knows that it does not.
        expect(acts).toEqual({ kind: "acts", word: truth });
        expect(stands).toMatchObject({ kind: "superseded", word: truth });
      }),
    );
  });
});

describe("who has the data of a hub", () => {
  test("LF2 nothing, what is older than the replica that went on, and what nobody has heard of is not served", () => {
    expect(mayServe("lab", { incarnation: undefined, returning: undefined }, 1)).toMatchObject({
      ok: false,
      why: expect.stringContaining("no data of lab"),
    });
    expect(mayServe("lab", { incarnation: 1, returning: undefined }, 2)).toMatchObject({
      ok: false,
      why: expect.stringContaining("went on with replica 2"),
    });
    expect(mayServe("lab", { incarnation: 3, returning: undefined }, 2)).toMatchObject({
      ok: false,
      why: expect.stringContaining("waits to hear more"),
    });
    expect(mayServe("lab", { incarnation: 2, returning: undefined }, 2)).toEqual({ ok: true });
  });

  test("LF2 a replica that is about to be replaced is served as long as nobody else's took its place", () => {
    expect(mayServe("lab", { incarnation: 2, returning: 7 }, 2)).toEqual({ ok: true });
    expect(mayServe("lab", { incarnation: 2, returning: 7 }, 7)).toEqual({ ok: true });
    expect(mayServe("lab", { incarnation: 2, returning: 7 }, 5).ok).toBe(false);
  });
});
