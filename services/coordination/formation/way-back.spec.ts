import { describe, expect, test } from "vitest";
import { MemoryStore } from "../../../test/fakes/memory-store.ts";
import { CoordinationHubs } from "../../../test/support/coordination-hubs.ts";
import { COPIED } from "../bft/height/consensus.ts";
import type { FederationStatus, Frame, Request } from "../messages.ts";
import { type Begun, storedFederation } from "./record.ts";

const DOUBT = "its witness says so";
const text = (value: Uint8Array | undefined): string | undefined => (value === undefined ? undefined : new TextDecoder().decode(value));
const join = (via = ""): Request => ({ kind: "join", federationId: "street", via });
const rejoin = (trust = false): Request => ({ kind: "rejoin", federationId: "street", trust });
const put = (key: string): Request => ({
  kind: "change",
  command: { book: "values", command: { kind: "put", key, value: new TextEncoder().encode(key), conditional: false, expect: 0 } },
});

const founded = (ids: readonly string[], engine: "raft" | "bft" = "raft") => new CoordinationHubs(...ids).found(ids, { engine });

const status = (hubs: CoordinationHubs, id: string): FederationStatus => hubs.status(id);
const memberOf = (hubs: CoordinationHubs, at: string, id: string) => status(hubs, at).members.find(({ hubId }) => hubId === id);
const isVoterAgain = (hubs: CoordinationHubs, id: string, ...before: readonly string[]): boolean => {
  const member = memberOf(hubs, id, id);
  return member !== undefined && !before.includes(member.replica) && member.voter && status(hubs, id).canDecide;
};

function read(hubs: CoordinationHubs, id: string, key: string): string | undefined {
  const { answer } = hubs.ask(id, "queried", { kind: "query", query: { kind: "value", key }, local: false });
  return answer.kind === "value" ? text(answer.value?.value) : undefined;
}

/** Frames of a replica of a hub, from now on. */
function framesOf(hubs: CoordinationHubs, replica: string): Frame[] {
  const frames: Frame[] = [];
  hubs.watch((_from, _to, frame) => {
    if (frame.kind === "log" && frame.frame.kind === "engine" && frame.frame.from === replica) frames.push(frame);
  });
  return frames;
}

/** Three hubs; `back` has the store of one of them from before ten writes that only it and the leader have acknowledged. */
function fallen() {
  const ids = ["a", "b", "c"];
  const hubs = founded(ids);
  const { leader } = status(hubs, "a");
  const [fell = "", third = ""] = ids.filter((id) => id !== leader);
  hubs.ask(leader, "changed", put("early"));
  const back = hubs.backup(fell);
  hubs.cut(third);
  for (let i = 0; i < 10; i++) hubs.ask(leader, "changed", put(`late/${i}`));
  return { hubs, leader, fell, third, back };
}

const hasAll = (hubs: CoordinationHubs, id: string): void => {
  for (let i = 0; i < 10; i++) expect(read(hubs, id, `late/${i}`)).toBe(`late/${i}`);
};

describe("a hub whose store was put back", () => {
  test("zoo 27 WB1 WB2 CO7 which its witness says: it decides nothing with those that have not what it acknowledged", () => {
    const { hubs, leader, fell, third, back } = fallen();
    hubs.stop(fell);
    hubs.stop(leader);
    hubs.heal();
    const sent = framesOf(hubs, `${fell}/1`);
    hubs.start(fell, back, DOUBT);
    hubs.advance(10_000);
    expect(status(hubs, third).canDecide).toBe(false);
    expect(status(hubs, fell)).toMatchObject({ standing: "returning", federationId: "street" });
    expect(status(hubs, fell).problem).toContain(DOUBT);
    expect(() => hubs.ask(fell, "changed", put("no"))).toThrow("TOO_STALE");
    hubs.start(leader);
    hubs.until(() => isVoterAgain(hubs, fell, `${fell}/1`));
    for (const id of ["a", "b", "c"]) hasAll(hubs, id);
    expect(sent).toEqual([]);
    expect(hubs.events(fell)).toContain("this hub belongs to federation street now, with another replica");
  });

  test("zoo 27 WB1 also after another restart, with a witness that agrees", () => {
    const { hubs, leader, fell, third, back } = fallen();
    hubs.stop(fell);
    hubs.stop(leader);
    hubs.heal();
    hubs.start(fell, back, DOUBT);
    hubs.advance(100);
    hubs.restart(fell);
    hubs.advance(10_000);
    expect(status(hubs, third).canDecide).toBe(false);
    hubs.start(leader);
    hubs.until(() => isVoterAgain(hubs, fell, `${fell}/1`));
    hasAll(hubs, fell);
  });

  test("zoo 27 MM1 which a member remembers: it stops at once and gives no vote", () => {
    const { hubs, fell, third, back } = fallen();
    hubs.stop(fell);
    hubs.heal();
    const sent = framesOf(hubs, `${fell}/1`);
    hubs.start(fell, back);
    hubs.advance(3);
    expect(hubs.events(fell).at(-1)).toMatch(/takes no part .*: this hub acknowledged the log up to \d+ to ., and the store has it up to/);
    hubs.until(() => isVoterAgain(hubs, fell, `${fell}/1`));
    for (const id of [fell, third]) hasAll(hubs, id);
    expect(sent).toEqual([]);
  });

  test("MM2 which a member remembers that was restarted since", () => {
    const { hubs, leader, fell, back } = fallen();
    hubs.advance(6_000);
    hubs.stop(fell);
    hubs.stop(leader);
    hubs.heal();
    hubs.start(leader);
    hubs.start(fell, back);
    hubs.advance(20);
    expect(status(hubs, fell).standing).toBe("returning");
    hubs.until(() => isVoterAgain(hubs, fell, `${fell}/1`));
  });

  test.each([undefined, DOUBT])("BM2 that is older than another replica of it: it comes back with a third one (witness: %s)", (doubt) => {
    const { hubs, fell, back } = fallen();
    hubs.heal();
    hubs.ask(fell, "standing", rejoin());
    hubs.until(() => isVoterAgain(hubs, fell, `${fell}/1`));
    const second = memberOf(hubs, fell, fell)?.replica ?? "";
    hubs.stop(fell);
    hubs.start(fell, back, doubt);
    hubs.until(() => isVoterAgain(hubs, fell, `${fell}/1`, second));
    hasAll(hubs, fell);
  });

  test("S1-29 of a federation that endures lies", () => {
    const ids = ["a", "b", "c", "d"];
    const hubs = founded(ids, "bft");
    const back = hubs.backup("d");
    for (let i = 0; i < 10; i++) hubs.ask("a", "changed", put(`late/${i}`));
    hubs.advance(3_000);
    hubs.stop("d");
    hubs.start("d", back);
    hubs.until(() => status(hubs, "d").standing === "returning", 5_000);
    hubs.until(() => isVoterAgain(hubs, "d", "d/1"), 60_000);
    hasAll(hubs, "d");
  });

  test("WB2 comes back where a member lies that says at once, and to it alone, that it was let in", () => {
    // One is silent for the others, and one away: with seven that does no harm.
    const hubs = founded(["a", "b", "c", "d", "e", "f", "g"], "bft");
    const back = hubs.backup("d");
    for (let i = 0; i < 10; i++) hubs.ask("b", "changed", put(`late/${i}`));
    hubs.stop("d");
    let entry: Extract<Frame, { kind: "founded" }> | undefined;
    hubs.watch((_from, to, frame) => {
      if (frame.kind !== "join_ask" || to !== "a") return;
      const { founding } = storedFederation(back) as Begun;
      entry = { kind: "founded", founding, incarnation: frame.candidate.incarnation, voters: [] };
    });
    hubs.forge("a", (frame, to) => {
      if (frame.kind === "log" || frame.kind === "join_answer") return [];
      return to === "d" && entry !== undefined ? [entry, frame] : frame;
    });
    hubs.start("d", back, DOUBT);
    hubs.until(() => entry !== undefined);
    for (const id of ["b", "c", "e", "f", "g"]) hubs.cut("d", id);
    hubs.advance(3_000);
    expect(status(hubs, "d").problem).toContain(
      "a says that it has been let in, which counts when more of the voters do that it knew (a, b,",
    );
    hubs.heal();
    hubs.until(() => isVoterAgain(hubs, "d", "d/1"), 60_000);
    expect(read(hubs, "d", "late/9")).toBe("late/9");
  });

  test("WB3 with all others: they go on with what they have by their operators' word", () => {
    const hubs = founded(["a", "b", "c"]);
    hubs.ask("a", "changed", put("early"));
    const backs = ["a", "b", "c"].map((id) => [id, hubs.backup(id)] as const);
    hubs.ask("a", "changed", put("lost"));
    for (const [id] of backs) hubs.stop(id);
    for (const [id, store] of backs) hubs.start(id, store, DOUBT);
    hubs.advance(5_000);
    for (const [id] of backs) expect(status(hubs, id).standing).toBe("returning");
    for (const [id] of backs) expect(hubs.ask(id, "standing", rejoin(true)).standing).toBe("member");
    hubs.until(() => backs.every(([id]) => status(hubs, id).canDecide));
    expect(read(hubs, "b", "early")).toBe("early");
  });
});

describe("a hub that gives up its replica", () => {
  test("rejoin takes another one, and leaves it to the others if nobody can let it in", () => {
    const hubs = founded(["a", "b", "c"]);
    hubs.ask("a", "changed", put("k"));
    expect(() => hubs.ask("c", "standing", { kind: "rejoin", federationId: "other", trust: false })).toThrow("NOT_FEDERATED");
    expect(hubs.ask("c", "standing", rejoin()).standing).toBe("returning");
    hubs.until(() => isVoterAgain(hubs, "c", "c/1"));
    expect(read(hubs, "c", "k")).toBe("k");
    hubs.cut("b");
    hubs.ask("b", "standing", rejoin());
    expect(status(hubs, "b").problem).toContain("no member is in contact");
    hubs.ask("b", "done", { kind: "leave", federationId: "street", force: true });
    expect(status(hubs, "b").standing).toBe("none");
  });

  test("a hub that is the only member keeps it", () => {
    const hubs = founded(["a"]);
    expect(() => hubs.ask("a", "standing", rejoin())).toThrow("NO_QUORUM");
  });

  test("a hub without which the other one can decide nothing keeps it, until there is a third", () => {
    const hubs = founded(["a", "b"]);
    expect(() => hubs.ask("b", "standing", rejoin())).toThrow("NO_QUORUM: a and b decide only together");
    expect(status(hubs, "b")).toMatchObject({ standing: "member", canDecide: true });
    const three = founded(["a", "b", "c"]);
    three.ask("b", "standing", rejoin());
    three.until(() => isVoterAgain(three, "b", "b/1"));
  });

  test("BF6 a hub that has seen a vote of its own that it did not cast says what to do, and that helps", () => {
    const hubs = founded(["a", "b", "c", "d"], "bft");
    hubs.stop("d");
    void hubs.stored("d").commit([{ op: "put", space: COPIED, key: "d/1", bytes: new Uint8Array(1) }]);
    hubs.start("d");
    hubs.advance(3_000);
    expect(status(hubs, "d")).toMatchObject({ standing: "member", role: "outside", canDecide: false });
    expect(status(hubs, "d").problem).toMatch(/^this hub signs nothing any more, .*: foedus federation rejoin street$/);
    hubs.ask("d", "standing", rejoin());
    hubs.until(() => isVoterAgain(hubs, "d", "d/1"), 60_000);
    expect(status(hubs, "d").problem).toBe("");
  });

  test("zoo 27 FO2 a hub that lost its store and kept its key joins with another replica, without anybody's word", () => {
    const hubs = founded(["a", "b", "c"]);
    hubs.ask("a", "changed", put("k"));
    hubs.stop("c");
    hubs.start("c", new MemoryStore());
    hubs.advance(1_000);
    expect(status(hubs, "c").standing).toBe("none");
    hubs.ask("c", "standing", join("a"));
    hubs.until(() => memberOf(hubs, "c", "c")?.voter === true && status(hubs, "c").canDecide);
    expect(memberOf(hubs, "c", "c")?.replica).not.toBe("c/1");
    expect(read(hubs, "c", "k")).toBe("k");
  });
});
