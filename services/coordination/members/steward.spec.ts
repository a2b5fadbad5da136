import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { candidateOf, foundingOf } from "../../../test/fakes/federation-books.ts";
import { hubOf, type Membership, type ReplicaId, replicaIdOf } from "../log/engine.ts";
import type { Members } from "./members.ts";
import { type Errand, Steward } from "./steward.ts";

const FEDERATION = new Uint8Array(16).fill(1);
const OTHER = new Uint8Array(16).fill(2);
const NONE = new Uint8Array();

interface Wanted {
  readonly voters: readonly ReplicaId[];
  readonly learners: readonly ReplicaId[];
}

/** Stage is the steward of hub a (replica a/1), what its book of members wants, and what the engine has. */
class Stage {
  membership: Membership = { voters: ["a/1", "b/1", "c/1"], outgoing: [], learners: [] };
  wanted: Wanted = this.membership;
  /** The lowest incarnation that no hub had, as far as this one knows. */
  next = 9;
  readonly told: { readonly peer: string; readonly errand: Errand }[] = [];
  readonly steward: Steward;

  constructor() {
    const incarnationOf = (hub: string): number | undefined => {
      const replica = [...this.wanted.voters, ...this.wanted.learners].find((id) => hubOf(id) === hub);
      return replica === undefined ? undefined : Number(replica.slice(hub.length + 1));
    };
    this.steward = new Steward({
      hubId: "a",
      incarnation: 1,
      founding: foundingOf(["a", "b", "c"].map((hub) => candidateOf(hub))),
      federation: FEDERATION,
      members: {
        wanted: () => this.wanted,
        member: (hub: string) => (incarnationOf(hub) === undefined ? undefined : { incarnation: incarnationOf(hub) }),
        nextIncarnation: () => this.next,
        key: (hub: string) => (incarnationOf(hub) === undefined ? undefined : { publicKey: new TextEncoder().encode(`key of ${hub}`) }),
      } as unknown as Members,
      membership: () => this.membership,
      tell: (peer, errand) => void this.told.push({ peer, errand }),
    });
  }

  take(): string[] {
    return this.told.splice(0).map(({ peer, errand }) => `${errand.kind} ${peer}/${errand.incarnation}`);
  }
}

const replica = fc.record({
  hub: fc.constantFrom("a", "b", "c", "d", "e"),
  incarnation: fc.integer({ min: 1, max: 3 }),
  voter: fc.boolean(),
});
/** A set of replicas, one of a hub, of which one votes at least. */
const replicas = fc
  .uniqueArray(replica, { selector: ({ hub }) => hub, minLength: 1, maxLength: 5 })
  .filter((all) => all.some(({ voter }) => voter))
  .map((all): Wanted => {
    const ids = (voter: boolean): ReplicaId[] =>
      all
        .filter((one) => one.voter === voter)
        .map(({ hub, incarnation }) => replicaIdOf(hub, incarnation))
        .sort();
    return { voters: ids(true), learners: ids(false) };
  });

describe("the way to the membership that is wanted", () => {
  test("SW1 ends there in steps that are each safe, from wherever it begins", () => {
    fc.assert(
      fc.property(replicas, replicas, (from, to) => {
        // Somebody stays who votes; without that there is no safe way, and a federation forbids it.
        fc.pre(from.voters.some((id) => to.voters.includes(id)));
        const stage = new Stage();
        stage.membership = { ...from, outgoing: [] };
        stage.wanted = to;
        for (let steps = 0; ; steps++) {
          expect(steps).toBeLessThan(6);
          const next = stage.steward.next(stage);
          if (next === undefined) break;
          const before = [...stage.membership.voters, ...stage.membership.learners];
          const hubs = [...next.voters, ...next.learners].map(hubOf);
          expect(new Set(hubs).size).toBe(hubs.length);
          for (const id of next.voters) expect(before).toContain(id);
          // Also while old and new hold together no hub has two replicas.
          for (const id of [...next.voters, ...next.learners])
            for (const other of before)
              if (hubOf(other) === hubOf(id) && other !== id) expect(to.voters.concat(to.learners)).toContain(other);
          stage.membership = { voters: next.voters, outgoing: [], learners: next.learners };
        }
        expect([...stage.membership.voters].sort()).toEqual(to.voters);
        expect([...stage.membership.learners].sort()).toEqual(to.learners);
      }),
    );
  });

  test("SW1 nothing is begun while a change is under way, or when nobody would vote", () => {
    const stage = new Stage();
    stage.wanted = { voters: ["a/1", "b/1"], learners: [] };
    stage.membership = { ...stage.membership, outgoing: ["a/1", "b/1", "c/1"] };
    expect(stage.steward.next(stage)).toBeUndefined();
    stage.membership = { voters: ["x/1"], outgoing: [], learners: ["y/1"] };
    expect(stage.steward.next(stage)).toBeUndefined();
    stage.membership = { ...stage.wanted, outgoing: [] };
    expect(stage.steward.next(stage)).toBeUndefined();
  });
});

describe("a hub that is met", () => {
  test("SW2 gets the founding entry if it is a member and has not begun, each time, and when it becomes one, with the voters of today", () => {
    const stage = new Stage();
    stage.steward.meet("b", { federation: NONE, incarnation: 0, members: [] });
    stage.steward.meet("b", { federation: NONE, incarnation: 0, members: [] });
    expect(stage.take()).toEqual(["founded b/1", "founded b/1"]);
    stage.steward.meet("c", { federation: FEDERATION, incarnation: 1, members: [] });
    stage.steward.meet("d", { federation: NONE, incarnation: 0, members: [] });
    expect(stage.take()).toEqual([]);
    stage.wanted = { voters: ["a/1", "b/1", "c/1"], learners: ["d/7"] };
    stage.steward.introduce("d");
    const { errand } = stage.told[0]!;
    expect(errand.kind === "founded" && errand.voters.map(({ hubId, incarnation }) => `${hubId}/${incarnation}`)).toEqual([
      "a/1",
      "b/1",
      "c/1",
    ]);
    expect(stage.take()).toEqual(["founded d/7"]);
    stage.steward.meet("d", undefined);
    stage.steward.introduce("d");
    expect(stage.take()).toEqual([]);
  });

  test("SW3 is told that it keeps the log no more once that is so, and only then; one of another federation is left alone", () => {
    const stage = new Stage();
    stage.steward.meet("c", { federation: FEDERATION, incarnation: 1, members: [] });
    stage.steward.meet("z", { federation: OTHER, incarnation: 1, members: [] });
    stage.wanted = { voters: ["a/1", "b/1"], learners: [] };
    stage.steward.dismissAll();
    expect(stage.take()).toEqual([]);
    stage.membership = { voters: ["a/1", "b/1"], outgoing: ["a/1", "b/1", "c/1"], learners: [] };
    stage.steward.dismissAll();
    expect(stage.take()).toEqual([]);
    stage.membership = { voters: ["a/1", "b/1"], outgoing: [], learners: [] };
    stage.steward.dismissAll();
    expect(stage.take()).toEqual(["dismissed c/1"]);
    stage.steward.meet("c", { federation: FEDERATION, incarnation: 1, members: [] });
    expect(stage.take()).toEqual(["dismissed c/1"]);
  });
});

describe("the word that this replica keeps the log no more", () => {
  test("SW3 a replica that was let in at a position that is not known here yet is not told that it is dismissed", () => {
    const stage = new Stage();
    stage.wanted = { voters: ["a/1", "b/1"], learners: [] };
    stage.membership = { ...stage.wanted, outgoing: [] };
    stage.next = 2;
    stage.steward.meet("c", { federation: FEDERATION, incarnation: 2, members: [] });
    expect(stage.take()).toEqual([]);
    stage.next = 3;
    stage.steward.dismissAll();
    expect(stage.take()).toEqual(["dismissed c/2"]);
  });

  test("SW3 counts from any voter if the state says so too", () => {
    const stage = new Stage();
    stage.wanted = { voters: ["b/1", "c/1"], learners: [] };
    expect(stage.steward.isMember).toBe(false);
    expect(stage.steward.dismissed("b", 2, true)).toBe(false);
    expect(stage.steward.dismissed("d", 1, true)).toBe(false);
    expect(stage.steward.dismissed("a", 1, true)).toBe(false);
    expect(stage.steward.dismissed("b", 1, true)).toBe(true);
  });

  test("SW3 counts from a majority of the voters that it knows if its own state says otherwise", () => {
    const stage = new Stage();
    expect(stage.steward.dismissed("b", 1, true)).toBe(false);
    expect(stage.steward.dismissed("b", 1, true)).toBe(false);
    expect(stage.steward.dismissed("c", 1, true)).toBe(true);
  });
});
