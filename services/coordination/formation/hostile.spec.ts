import { describe, expect, test } from "vitest";
import { decode, encode } from "#kernel/wire/shape.ts";
import { feedKeyOf } from "../../../test/simulator/crypto.ts";
import { CoordinationHubs } from "../../../test/support/coordination-hubs.ts";
import { CANDIDATE, type Candidate, LOG_MAX, SIGNED_FOUNDING } from "../members/messages.ts";
import { joinBytes } from "../members/statements.ts";
import type { Effect, FederationStatus, Frame, Request } from "../messages.ts";

const found = (...founders: string[]): Request => ({
  kind: "found",
  federationId: "street",
  name: "",
  engine: "raft",
  admission: "founder",
  founders,
});
const join = (via = ""): Request => ({ kind: "join", federationId: "street", via });
const statusOf = (hubs: CoordinationHubs, id: string): FederationStatus => hubs.status(id);

function founded(ids: readonly string[], ...more: readonly string[]): CoordinationHubs {
  return new CoordinationHubs(...more, ...ids).found(ids);
}

/** give gives a frame of a peer to a hub, and what comes of it. */
function give(hubs: CoordinationHubs, id: string, peer: string, frame: Frame): Effect[] {
  const out: Effect[] = [];
  hubs.core(id).step(hubs.now, { kind: "frame", peer, frame }, out);
  return out;
}

/** answersWith has a hub answer requests to join with a larger number of the replica, once. */
function answersWith(hubs: CoordinationHubs, id: string, incarnation: number): void {
  let told = false;
  hubs.forge(id, (frame) => {
    if (frame.kind !== "join_answer" || frame.failure !== undefined || told) return frame;
    told = true;
    return { ...frame, incarnation };
  });
}

describe("a hostile member whom a hub asks to be let in", () => {
  test("CO5 PROTOCOL G3 leaves it numbers for its replicas in other federations", () => {
    const hubs = founded(["m"], "v", "x");
    answersWith(hubs, "m", LOG_MAX);
    expect(() => hubs.ask("v", "standing", join("m"))).toThrow("m wants this hub to go on with replica 281474976710656, which");
    expect(statusOf(hubs, "v").standing).toBe("none");
    // What it says of itself can be read by all.
    const said: unknown[] = [];
    hubs.watch((from, _to, frame) => {
      if (from === "v" && frame.kind === "greeting") said.push(decode(CANDIDATE, encode(CANDIDATE, frame.candidate!)).ok);
    });
    hubs.restart("v");
    expect(said).toEqual([true, true]);
  });

  test("CO5 with the largest number that it takes, it can still come back with other replicas, and found another federation", () => {
    const hubs = founded(["m", "n", "o"], "v", "x");
    answersWith(hubs, "m", LOG_MAX / 2);
    hubs.ask("v", "standing", join("m"));
    hubs.until(() => statusOf(hubs, "m").joins.includes("v"));
    hubs.ask("m", "changed", { kind: "admit", hubId: "v", weight: 1 });
    for (let i = 0; i < 3; i++) {
      hubs.until(() => statusOf(hubs, "v").members.some(({ hubId, voter }) => hubId === "v" && voter) && statusOf(hubs, "v").canDecide);
      hubs.ask("v", "standing", { kind: "rejoin", federationId: "street", trust: false });
      hubs.restart("v");
      hubs.until(() => statusOf(hubs, "v").standing === "member");
    }
    hubs.ask("v", "done", { kind: "leave", federationId: "street", force: true });
    hubs.ask("v", "standing", { ...found("x"), federationId: "road" } as Request);
    hubs.advance(10);
    hubs.ask("x", "standing", { kind: "join", federationId: "road", via: "" });
    hubs.until(() => statusOf(hubs, "x").canDecide && statusOf(hubs, "v").canDecide);
  });
});

describe("a stranger", () => {
  const signed = (hubs: CoordinationHubs, candidate: Candidate): Frame => ({
    kind: "join_ask",
    federationId: "street",
    candidate,
    signature: hubs.crypto("z").sign(joinBytes("street", candidate)),
  });
  const own: Candidate = {
    hubId: "z",
    incarnation: 1,
    publicKey: feedKeyOf("z"),
    sealingKey: feedKeyOf("z", 2),
    weight: 1,
    primary: { host: "z", port: 1 },
    standbys: [],
  };

  test("SN2 PROTOCOL G3 that asks to be let in on and on fills no log", () => {
    const hubs = founded(["a", "b", "c"], "z");
    const before = statusOf(hubs, "b").committed;
    for (let i = 1; i <= 500; i++) {
      hubs.say("z", "a", signed(hubs, { ...own, primary: { host: "z", port: i } }));
      hubs.advance(20);
    }
    expect(statusOf(hubs, "b").committed - before).toBeLessThan(20);
    expect(statusOf(hubs, "a").joins).toEqual(["z"]);
    // It is told so, and whoever waits for a while is let in.
    expect(give(hubs, "a", "z", signed(hubs, own))).toMatchObject([
      { kind: "send", peer: "z", frame: { kind: "join_answer", failure: { reason: "RATE_LIMITED" } } },
    ]);
    hubs.advance(11_000);
    hubs.ask("z", "standing", join("a"));
    hubs.ask("a", "changed", { kind: "admit", hubId: "z", weight: 1 });
    hubs.until(() => statusOf(hubs, "z").standing === "member");
  });

  test("SN2 CO8 whose operator asks on and on is before the members all the same, and comes in", () => {
    const hubs = founded(["a", "b", "c"], "z");
    const call = (): string => {
      const answer = hubs.wait("z", hubs.call("z", join("a")));
      return answer.kind === "refused" ? answer.failure.reason : answer.kind;
    };
    const answers = Array.from({ length: 20 }, call);
    expect(new Set(answers)).toEqual(new Set(["standing", "RATE_LIMITED"]));
    expect(statusOf(hubs, "z").standing).toBe("joining");
    hubs.ask("a", "changed", { kind: "admit", hubId: "z", weight: 1 });
    hubs.until(() => statusOf(hubs, "z").standing === "member");
  });

  test("FO6 who is told that it asked too often asks again by itself, and says so", () => {
    const hubs = founded(["a", "b", "c"], "z");
    // Each time with another replica.
    for (let i = 0; i < 8; i++) {
      hubs.ask("z", "standing", join("a"));
      hubs.ask("z", "done", { kind: "leave", federationId: "street", force: false });
    }
    hubs.until(() => statusOf(hubs, "a").joins.includes("z"));
    expect(() => hubs.ask("z", "standing", join("a"))).toThrow("RATE_LIMITED: a refused: it has asked often enough lately");
    expect(statusOf(hubs, "z").problem).toContain("ask again in 10 s. This hub asks again by itself");
    const asks: number[] = [];
    hubs.watch((from, _to, frame) => void (from === "z" && frame.kind === "join_ask" && asks.push(hubs.now.mono)));
    hubs.advance(30_000);
    expect(asks).toHaveLength(1);
    expect(statusOf(hubs, "z").problem).toContain("the members of street have to let this hub in");
    hubs.ask("a", "changed", { kind: "admit", hubId: "z", weight: 1 });
    hubs.until(() => statusOf(hubs, "z").standing === "member");
  });

  test("SN2 nothing comes into the log that its key has not signed", () => {
    const hubs = founded(["a", "b", "c"], "z");
    const out = give(hubs, "a", "z", { ...signed(hubs, own), signature: new Uint8Array(64) } as Frame);
    expect(out).toMatchObject([{ kind: "send", peer: "z", frame: { kind: "join_answer", failure: { reason: "SIGNATURE_INVALID" } } }]);
  });

  test("FO1 that founds a federation with the name of another one is not taken for who founds that one", () => {
    const hubs = new CoordinationHubs("a", "s", "v");
    hubs.advance(10);
    hubs.ask("s", "standing", found("v"));
    hubs.advance(10);
    hubs.ask("a", "standing", found("v"));
    hubs.advance(10);
    expect(() => hubs.ask("v", "standing", join())).toThrow("a and s each found a federation street with this hub");
    hubs.ask("v", "standing", join("a"));
    hubs.until(() => statusOf(hubs, "v").standing === "member");
    expect(statusOf(hubs, "v").members.map(({ hubId }) => hubId)).toEqual(["a", "v"]);
  });

  test("WB3 WB4 that says it belongs to the federation gives a hub that comes back no number, while a member is in contact", () => {
    // It is the first one that the hub meets.
    const hubs = founded(["a", "b", "c"], "0s");
    const founding = decode(SIGNED_FOUNDING, statusOf(hubs, "a").founding);
    if (!founding.ok) throw new Error(founding.problem);
    let federation: Uint8Array = new Uint8Array();
    const asked: number[] = [];
    hubs.watch((from, to, frame) => {
      if (from === "a" && frame.kind === "greeting") ({ federation } = frame);
      if (to !== "0s" || from !== "c" || frame.kind !== "join_ask") return;
      asked.push(frame.candidate.incarnation);
      hubs.say("0s", "c", { kind: "founded", founding: founding.value, incarnation: frame.candidate.incarnation, voters: [] });
    });
    hubs.renew("a", "c");
    hubs.forge("0s", (frame) => (frame.kind === "greeting" ? { ...frame, federation } : frame));
    hubs.renew("0s", "c");
    hubs.advance(10);
    hubs.ask("c", "standing", { kind: "rejoin", federationId: "street", trust: false });
    hubs.advance(10);
    expect(asked).toHaveLength(1);
    expect(statusOf(hubs, "c").standing).toBe("returning");
    hubs.until(() => statusOf(hubs, "c").members.some(({ hubId, voter }) => hubId === "c" && voter) && statusOf(hubs, "c").canDecide);
  });
});
