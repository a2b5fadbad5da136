import { describe, expect, test } from "vitest";
import { candidateOf, FederationBooks, reasonOf } from "../../../test/fakes/federation-books.ts";
import { POLICIES } from "./policies.ts";

const letters = (count: number): string[] => Array.from({ length: count }, (_, i) => String.fromCharCode(97 + i));
const WINDOW = POLICIES.accusation_ms.fallback;
const HOLD = POLICIES.failover_hold_ms.fallback;

function accuse(books: FederationBooks, by: string, hubId: string, life = 0, later = 0): string {
  const outcome = books.member(by, { kind: "accuse", hubId, life }, later);
  return outcome.ok ? (outcome.value.changed ? "ok" : "unchanged") : outcome.failure.reason;
}

/** fail has all other voters accuse a hub. */
function fail(books: FederationBooks, hubId: string): void {
  const { life } = books.members.member(hubId)!;
  for (const voter of books.members.members())
    if (voter.hubId !== hubId && voter.voter && !voter.failed && !books.members.member(hubId)?.failed)
      accuse(books, voter.hubId, hubId, life);
}

function refute(books: FederationBooks, hubId: string): string {
  return reasonOf(books.member(hubId, { kind: "refute", life: books.members.member(hubId)!.life + 1 }));
}

describe("S1-16 accusations", () => {
  test("BM5 more than half of the other voters confirm a failure", () => {
    for (const [count, needed] of [
      [2, 1],
      [3, 2],
      [4, 2],
      [5, 3],
      [7, 4],
      [9, 4],
    ] as const) {
      const books = new FederationBooks(letters(count));
      const accusers = letters(count).slice(0, -1);
      const accused = letters(count).at(-1) as string;
      for (const [i, by] of accusers.slice(0, 7).entries()) {
        if (books.members.member(accused)?.failed) break;
        accuse(books, by, accused);
        expect(books.members.member(accused)?.failed).toBe(i + 1 >= (count === 9 ? 4 : needed));
      }
      expect(books.members.member(accused)?.failed).toBe(true);
    }
  });

  test("BM5 accusations count together within the window of log time only, and may be renewed", () => {
    const books = new FederationBooks(letters(5));
    accuse(books, "a", "e");
    accuse(books, "b", "e");
    accuse(books, "c", "e", 0, WINDOW);
    expect(books.members.member("e")).toMatchObject({ failed: false, accusations: [{ by: "c" }] });
    accuse(books, "a", "e", 0, WINDOW - 1);
    expect(accuse(books, "c", "e")).toBe("ok");
    expect(books.members.member("e")?.failed).toBe(false);
    accuse(books, "b", "e", 0, WINDOW - 1);
    expect(books.members.member("e")?.failed).toBe(true);
    expect(books.members.due()).toBeUndefined();
  });

  test("BM5 an old accusation does not count either where nobody took it out before", () => {
    const books = new FederationBooks(letters(3));
    accuse(books, "a", "c");
    const late = { index: books.index + 1, term: 1, time: books.time + WINDOW };
    books.members.apply(late, "b", { kind: "accuse", hubId: "c", life: 0 });
    expect(books.members.member("c")?.failed).toBe(false);
    books.members.apply({ ...late, time: late.time - 1 }, "b", { kind: "accuse", hubId: "c", life: 0 });
    expect(books.members.member("c")?.failed).toBe(true);
  });

  test("BM5 a higher life ends accusations and failure; an old accusation does not count any more", () => {
    const books = new FederationBooks(letters(4));
    accuse(books, "a", "d");
    expect(refute(books, "d")).toBe("ok");
    expect(books.members.member("d")).toMatchObject({ life: 1, failed: false, accusations: [] });
    expect(accuse(books, "b", "d", 0)).toBe("TOO_STALE");
    expect(accuse(books, "b", "d", 2)).toBe("TOO_STALE");
    expect(reasonOf(books.member("d", { kind: "refute", life: 1 }))).toBe("TOO_STALE");
    fail(books, "d");
    expect(books.members.member("d")?.failed).toBe(true);
    expect(accuse(books, "c", "d", 1)).toBe("unchanged");
    expect(refute(books, "d")).toBe("ok");
    expect(books.members.member("d")?.failed).toBe(false);
    expect(books.wanted()).toBe("a/1 b/1 c/1 d/1");
  });

  test("who may not accuse is told so", () => {
    const books = new FederationBooks(letters(9));
    expect(accuse(books, "h", "a")).toBe("NOT_A_VOTER");
    expect(accuse(books, "a", "a")).toBe("INVALID_FIELD");
    expect(accuse(books, "a", "z")).toBe("PEER_NOT_FOUND");
    expect(accuse(books, "z", "a")).toBe("ACCESS_DENIED");
    fail(books, "b");
    expect(accuse(books, "b", "a")).toBe("ACCESS_DENIED");
    for (const life of [Number.NaN, -1, 0.5, 2 ** 60]) expect(accuse(books, "a", "c", life)).toBe("INVALID_FIELD");
  });

  test("what a hub said that has gone does not count any more", () => {
    const books = new FederationBooks(letters(5));
    accuse(books, "a", "e");
    accuse(books, "b", "e");
    books.member("b", { kind: "leave" });
    expect(books.members.member("e")?.accusations.map(({ by }) => by)).toEqual(["a"]);
    accuse(books, "c", "e");
    expect(books.members.member("e")?.failed).toBe(true);
  });

  test("a ballot of subject ACCUSATION confirms a failure too, unless it was refuted meanwhile", () => {
    const books = new FederationBooks(letters(4));
    books.decide("x", "a", { kind: "confirm_failed", hubId: "d", life: 0 });
    expect(books.members.member("d")?.failed).toBe(true);
    refute(books, "d");
    books.propose("y", "a", { kind: "confirm_failed", hubId: "d", life: 1 });
    refute(books, "d");
    for (const hub of ["a", "b"]) books.vote("y", hub, "APPROVE");
    expect(books.refused).toEqual(["y: TOO_STALE"]);
    expect(books.members.member("d")?.failed).toBe(false);
  });
});

describe("S1-17 failover", () => {
  test("BM6 BM9 roles and endpoint move with a higher fence, and do not come back by themselves", () => {
    const books = new FederationBooks(letters(4));
    const role = books.members.role("leader")!;
    const endpoint = books.members.endpoint("a")!;
    expect([role.hubId, endpoint.endpoint.host]).toEqual(["a", "a.example"]);
    fail(books, "a");
    const moved = books.members.role("leader")!;
    const standby = books.members.endpoint("a")!;
    expect([moved.hubId, standby.endpoint.host]).toEqual(["b", "a-b.example"]);
    expect(moved.fence).toBeGreaterThan(role.fence);
    expect(standby.fence).toBeGreaterThan(endpoint.fence);
    refute(books, "a");
    expect(books.members.role("leader")).toEqual(moved);
    expect(books.members.endpoint("a")).toEqual(standby);
  });

  test("BM6 a role goes to its standbys first, and with who leaves it goes on", () => {
    const books = new FederationBooks(letters(5));
    books.decide("r", "a", { kind: "assign_role", role: "broker", hubId: "e", standbys: ["d", "c"] });
    expect(books.members.role("broker")?.hubId).toBe("e");
    fail(books, "e");
    expect(books.members.role("broker")).toMatchObject({ hubId: "d", standbys: ["c"] });
    books.member("d", { kind: "leave" });
    expect(books.members.role("broker")).toMatchObject({ hubId: "c", standbys: [] });
    expect(reasonOf(books.propose("x", "a", { kind: "assign_role", role: "broker", hubId: "e", standbys: [] }))).toBe("VALUE_OUT_OF_RANGE");
    expect(reasonOf(books.propose("x", "a", { kind: "assign_role", role: "broker", hubId: "a", standbys: ["a"] }))).toBe("INVALID_FIELD");
  });

  test("BM9 fences only rise, whatever happens", () => {
    const books = new FederationBooks(letters(5));
    const fences: number[] = [];
    for (const hub of ["a", "b", "a", "c", "a", "b"]) {
      fail(books, hub);
      fences.push(books.members.role("leader")!.fence);
      refute(books, hub);
      books.instant(HOLD);
    }
    expect(fences).toEqual([...fences].sort((x, y) => x - y));
    const all = books.news.flatMap((item) => ("fence" in item && typeof item.fence === "number" ? [item.fence] : []));
    expect(new Set(all).size).toBe(all.length);
    expect(all).toEqual([...all].sort((x, y) => x - y));
  });

  test("BM6 the endpoint moves once in a while only; further standbys are tried in turn, none twice", () => {
    const standbys = ["s1", "s2"].map((host) => ({ host, port: 1 }));
    const books = new FederationBooks([candidateOf("a", { standbys }), "b", "c"]);
    const host = (): string => books.members.endpoint("a")!.endpoint.host;
    fail(books, "a");
    expect(host()).toBe("s1");
    refute(books, "a");
    fail(books, "a");
    expect(host()).toBe("s1");
    const due = books.members.due() as number;
    books.instant(due - books.time);
    expect(host()).toBe("s2");
    books.instant(100 * HOLD);
    expect(host()).toBe("s2");
    refute(books, "a");
    fail(books, "a");
    expect(host()).toBe("a.example");
  });

  test("PROTOCOL G14 BM6 whom its operator moved is not moved back before it had time to come up; who only names another standby is as before", () => {
    const standbys = [{ host: "s1", port: 1 }];
    const books = new FederationBooks([candidateOf("a", { standbys }), "b", "c"]);
    const primary = { host: "p2", port: 1 };
    const host = (): string => books.members.endpoint("a")!.endpoint.host;
    const set = (more: object) => reasonOf(books.member("a", { kind: "set_endpoints", primary, standbys, ...more }));
    expect(set({})).toBe("ok");
    fail(books, "a");
    expect(host()).toBe("p2");
    books.instant(HOLD);
    expect(host()).toBe("s1");
    books.instant(HOLD);
    refute(books, "a");
    expect(set({ primary: { host: "S1", port: 1 }, standbys: [{ host: "s3", port: 1 }] })).toBe("ok");
    fail(books, "a");
    expect(host()).toBe("s3");
  });

  test("BM7 a hub that flaps gets no role for a time that doubles", () => {
    const books = new FederationBooks(letters(4));
    for (let i = 0; i < 3; i++) {
      fail(books, "b");
      refute(books, "b");
    }
    const first = books.members.member("b")!.dampedUntil - books.time;
    expect(first).toBe(POLICIES.damp_ms.fallback);
    expect(reasonOf(books.propose("r", "a", { kind: "assign_role", role: "broker", hubId: "b", standbys: [] }))).toBe("VALUE_OUT_OF_RANGE");
    books.decide("s", "a", { kind: "assign_role", role: "broker", hubId: "a", standbys: ["b", "d"] });
    fail(books, "a");
    expect(books.members.role("leader")?.hubId).toBe("c");
    expect(books.members.role("broker")).toMatchObject({ hubId: "d", standbys: ["b"] });
    fail(books, "b");
    expect(books.members.member("b")!.dampedUntil - books.time).toBe(2 * first);
    refute(books, "b");
    books.instant(2 * first);
    expect(books.members.member("b")?.dampedUntil).toBe(0);
    fail(books, "c");
    expect(books.members.role("leader")?.hubId).toBe("b");
  });
});
