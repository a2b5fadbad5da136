import { describe, expect, test } from "vitest";
import { CoordinationHubs } from "../../../test/support/coordination-hubs.ts";
import { frameFromProto, frameToProto } from "../codec/session.ts";
import { LOG_MAX } from "../members/messages.ts";
import type { FederationStatus, Request } from "../messages.ts";

const found = (federationId: string, ...founders: string[]): Request => ({
  kind: "found",
  federationId,
  name: "",
  engine: "raft",
  admission: "ballot",
  founders,
});
const join = (federationId: string, via = ""): Request => ({ kind: "join", federationId, via });

/** world is hubs with sessions, of which `a` has founded a federation alone. */
function world(): CoordinationHubs {
  const hubs = new CoordinationHubs("a", "b", "c");
  hubs.advance(10);
  hubs.ask("a", "standing", found("street"));
  hubs.until(() => statusOf(hubs, "a").canDecide);
  return hubs;
}

const statusOf = (hubs: CoordinationHubs, id: string): FederationStatus => hubs.status(id);

describe("CO8 JC1 a request to be let in, through a hub that", () => {
  test("has another federation: ends at once with a sentence that names it", () => {
    const hubs = world();
    const before = hubs.now.mono;
    const refusal = "NOT_FEDERATED: a refused: it does not belong to federation stret, but to street; did you mean street?";
    expect(() => hubs.ask("c", "standing", join("stret", "a"))).toThrow(refusal);
    expect(hubs.now.mono - before).toBeLessThan(100);
    expect(statusOf(hubs, "c")).toMatchObject({ standing: "none", federationId: "" });
    expect(hubs.ask("c", "standing", join("street", "a")).standing).toBe("joining");
    expect(statusOf(hubs, "c").problem).toBe(
      "the members of street have to let this hub in: foedus federation admit c at one of them, or give it up with foedus federation leave street",
    );
  });

  test("has none, or founds another one: ends as well", () => {
    const hubs = world();
    const none = "NOT_FEDERATED: b refused: it belongs to no federation; name a member of street (--via)";
    expect(() => hubs.ask("c", "standing", join("street", "b"))).toThrow(none);
    hubs.ask("b", "standing", found("road", "a", "c"));
    hubs.advance(10);
    const founds = "b refused: it does not belong to federation raod, but is on its way into road; did you mean road?";
    expect(() => hubs.ask("c", "standing", join("raod", "b"))).toThrow(founds);
    expect(() => hubs.ask("c", "standing", join("raod"))).toThrow("did you mean road? Else name a member to join through (--via)");
  });

  test("is about to become a member: goes on, says whom it waits for, and is asked anew when that one is a member", () => {
    const hubs = new CoordinationHubs("a", "b", "c");
    hubs.advance(10);
    hubs.ask("a", "standing", found("street", "b"));
    hubs.advance(10);
    expect(statusOf(hubs, "a").problem).toContain("waits until b has joined: foedus federation join street there, or give it up with");
    const before = hubs.now.mono;
    expect(hubs.ask("c", "standing", join("street", "a")).standing).toBe("joining");
    expect(hubs.now.mono - before).toBeGreaterThanOrEqual(5_000);
    expect(statusOf(hubs, "c").problem).toContain("this hub has asked a to be let into street, and waits for its answer");
    hubs.ask("b", "standing", join("street"));
    hubs.until(() => statusOf(hubs, "a").joins.includes("c"));
    hubs.until(() => statusOf(hubs, "c").problem.includes("foedus federation admit c"));
  });

  test("goes away: the request outlives that, and the status says that it waits for the session", () => {
    const hubs = world();
    hubs.forge("a", (frame) => (frame.kind === "join_answer" ? [] : frame));
    const call = hubs.call("c", join("street", "a"));
    hubs.advance(10);
    hubs.cut("c");
    expect(hubs.wait("c", call)).toMatchObject({ kind: "standing", standing: "joining" });
    expect(statusOf(hubs, "c").problem).toContain("waits for a session with a, to ask it to be let into street: see to the link");
    hubs.ask("c", "done", { kind: "leave", federationId: "street", force: false });
    expect(statusOf(hubs, "c").problem).toContain("belongs to no federation");
  });
});

/** lies has a hub say that others have had a replica with a number that is nearly the last one. */
const lies = (hubs: CoordinationHubs, id: string, incarnation: number): void =>
  hubs.forge(id, (frame) => (frame.kind === "join_answer" ? { ...frame, incarnation } : frame));

test("JC1 what a member answered once is no answer to a later call", () => {
  const hubs = world();
  expect(() => hubs.ask("c", "standing", join("stret", "a"))).toThrow("NOT_FEDERATED");
  hubs.ask("b", "standing", found("road", "c"));
  hubs.advance(10);
  // No member is asked now: founders sign.
  expect(hubs.ask("c", "standing", join("road")).standing).toBe("founding");
});

describe("CO5 numbers for replicas", () => {
  test.each([LOG_MAX, LOG_MAX - 1, LOG_MAX / 2 + 1])(
    "are not used up by the word of a hub that is asked to let this one in: %s",
    (number) => {
      const hubs = world();
      lies(hubs, "a", number);
      const spoken: boolean[] = [];
      hubs.watch((from, to, frame) => void spoken.push(frameFromProto(frameToProto(frame), from, to) !== undefined));
      expect(() => hubs.ask("c", "standing", join("street", "a"))).toThrow("a wants this hub to go on with replica");
      expect(statusOf(hubs, "c").standing).toBe("none");
      hubs.restart("c");
      hubs.advance(100);
      hubs.ask("c", "standing", found("road"));
      hubs.restart("c");
      expect(statusOf(hubs, "c").federationId).toBe("road");
      expect(spoken).not.toContain(false);
    },
  );

  test("nor by that of a member that is asked to let it in again", () => {
    const hubs = new CoordinationHubs("a", "b", "c");
    hubs.advance(10);
    hubs.ask("a", "standing", found("street", "b", "c"));
    hubs.advance(10);
    for (const id of ["b", "c"]) hubs.ask(id, "standing", join("street"));
    hubs.until(() => ["a", "b", "c"].every((id) => statusOf(hubs, id).canDecide));
    hubs.forge("a", (frame, to) => {
      if (frame.kind === "founded" && to === "c") return [];
      return frame.kind === "join_answer" ? { ...frame, incarnation: LOG_MAX - 1 } : frame;
    });
    hubs.cut("c", "b");
    const numbers: number[] = [];
    hubs.watch((from, _to, frame) => void (frame.kind === "join_ask" && from === "c" && numbers.push(frame.candidate.incarnation)));
    hubs.ask("c", "standing", { kind: "rejoin", federationId: "street", trust: false });
    hubs.advance(5_000);
    expect(statusOf(hubs, "c").problem).toContain("a wants this hub to go on with replica");
    hubs.heal();
    hubs.until(() => statusOf(hubs, "c").standing === "member");
    expect(numbers.every((number) => number <= LOG_MAX / 2)).toBe(true);
    // And once more.
    hubs.ask("c", "standing", { kind: "rejoin", federationId: "street", trust: false });
    hubs.restart("c");
    hubs.until(() => statusOf(hubs, "c").standing === "member");
  });
});

describe("a hub that asks again to be let in", () => {
  test("SN1 with another replica while its request is on its way into the log: that one takes its place", () => {
    for (const via of ["a", "b"])
      for (const delay of [1, 3, 6, 10, 14]) {
        const hubs = new CoordinationHubs("z", "a", "b", "c").found(["a", "b", "c"]);
        hubs.advance(500);
        hubs.call("z", join("street", via));
        hubs.advance(delay);
        hubs.call("z", { kind: "leave", federationId: "street", force: false });
        hubs.call("z", join("street", via));
        hubs.advance(3_000);
        hubs.until(() => hubs.status("a").joins.includes("z"));
        hubs.ask("a", "changed", { kind: "admit", hubId: "z", weight: 1 });
        hubs.until(() => hubs.status("z").standing === "member", 60_000);
      }
  });

  test("FO6 goes on by itself although a call named a member that is not there", () => {
    const hubs = new CoordinationHubs("z", "a", "b", "c").found(["a", "b", "c"]);
    for (let count = 0; count < 8; count++) {
      hubs.ask("z", "standing", join("street", "a"));
      hubs.ask("z", "done", { kind: "leave", federationId: "street", force: false });
    }
    hubs.until(() => hubs.status("a").joins.includes("z"));
    expect(() => hubs.ask("z", "standing", join("street", "a"))).toThrow("RATE_LIMITED");
    let asks = 0;
    hubs.watch((from, _to, frame) => void (from === "z" && frame.kind === "join_ask" && asks++));
    expect(() => hubs.ask("z", "standing", join("street", "nobody"))).toThrow("PEER_UNREACHABLE");
    hubs.advance(120_000);
    expect(asks).toBeGreaterThan(0);
  });
});
