import { describe, expect, test } from "vitest";
import { simCrypto } from "../../../test/simulator/crypto.ts";
import { type Copy, FEDERATION, replicasOf, START, World } from "../../../test/simulator/twins/world.ts";
import { hubOf, type Membership, type ReplicaId } from "../log/engine.ts";
import { type BftFrame, GENESIS, NIL, NO_ROUND, type Proposal, STEP, type Vote } from "./frames.ts";
import { isAmnesia } from "./height/vote-keeper.ts";
import { hexOf } from "./hex.ts";
import { voteProof } from "./proof/evidence.ts";
import { proposalBytes, voteBytes } from "./proof/signed.ts";
import { batchBytes } from "./record.ts";

const nameOf = (i: number): ReplicaId => replicasOf(i + 1)[i] as ReplicaId;
function voteOf(i: number, change: Partial<Vote>, name = nameOf(i)): Vote {
  const base = { height: 1, round: 0, step: STEP.PREVOTE, value: NIL, relies: NO_ROUND, voter: i, ...change };
  return { ...base, signature: simCrypto(hubOf(name)).sign(voteBytes(FEDERATION, name, base)) };
}
function proposalOf(
  i: number,
  height: number,
  round: number,
  bytes: Uint8Array,
  validRound = NO_ROUND,
): Extract<BftFrame, { kind: "proposal" }> {
  const crypto = simCrypto(hubOf(nameOf(i)));
  const base = { height, round, value: hexOf(crypto.hash(bytes)), size: bytes.length, validRound };
  const proposal: Proposal = { ...base, signature: crypto.sign(proposalBytes(FEDERATION, nameOf(i), base)) };
  return { kind: "proposal", proposal, bytes };
}
const batchOf = (change: Partial<Parameters<typeof batchBytes>[0]> = {}): Uint8Array =>
  batchBytes({ height: 1, time: START + 1, previous: GENESIS, payloads: [], markers: [], membership: undefined, ...change });
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const has = (copy: Copy, what: string): boolean =>
  [...copy.committed.values()].some(({ payloads }) => payloads.some((p) => text(p) === what));

/** A log of which the heights before a snapshot are not kept, and a copy that has said nothing since. */
function cut() {
  const world = new World({ n: 4, record: true, limits: { snapshotEvery: 2, keepHeights: 1 } });
  for (let i = 0; i < 6; i++) {
    world.propose(world.copy(0), `p${i}`);
    world.run(world.now + 200);
  }
  const copy = world.copy(0);
  expect(copy.engine.describe()).toMatch(/snapshot 6/);
  copy.sent.length = 0;
  return { world, copy };
}

describe("what hostile and unlucky hubs do", () => {
  test("BF5 with f hubs down, who left a round tells who did not the votes of that round, also what it votes no more", () => {
    const world: World = new World({
      n: 4,
      delay: (from, _to, frame, { now }) => {
        if (now >= 60) return 1;
        if (frame.kind === "proposal") return undefined;
        const lost = frame.kind === "votes" && frame.votes.some(({ step, round }) => step === STEP.PRECOMMIT && round === 0);
        return lost && from === world.copy(0) ? undefined : 1;
      },
    });
    world.copy(3).up = false;
    world.propose(world.copy(0), "one");
    const done = world.run(20_000, () => [0, 1, 2].every((i) => has(world.copy(i), "one")));
    expect(done, world.copies.map((c) => c.engine.describe()).join("\n")).toBe(true);
  });

  test("BF2 a replay signs nothing in a round that was left, so that no lock is broken", () => {
    const world = new World({ n: 4, record: true, delay: () => undefined });
    const copy = world.copy(0);
    const first = batchOf();
    const decided = proposalOf(1, 1, 0, first).proposal.value;
    const v = batchOf({ height: 2, time: START + 2, previous: decided });
    const w = batchOf({ height: 2, time: START + 3, previous: decided });
    const [pv, pw] = [proposalOf(2, 2, 0, v), proposalOf(3, 2, 1, w)];
    world.run(1);
    world.deliver(nameOf(2), copy, pv);
    world.deliver(nameOf(2), copy, {
      kind: "votes",
      height: 2,
      votes: [1, 2, 3].map((i) => voteOf(i, { height: 2, value: pv.proposal.value })),
    });
    world.deliver(nameOf(2), copy, { kind: "votes", height: 2, votes: [1, 2].map((i) => voteOf(i, { height: 2, round: 1 })) });
    world.deliver(nameOf(1), copy, proposalOf(1, 1, 0, first));
    world.deliver(nameOf(1), copy, {
      kind: "votes",
      height: 1,
      votes: [1, 2, 3].map((i) => voteOf(i, { step: STEP.PRECOMMIT, value: decided })),
    });
    expect(copy.height).toBe(1);
    world.run(3);
    expect(copy.engine.describe()).toContain("height 2 round 1 propose");
    world.deliver(nameOf(3), copy, pw);
    expect(copy.engine.describe()).toContain("height 2 round 1 prevote");
    const votes = (): Vote[] =>
      copy.sent
        .flatMap(({ frame }) => (frame.kind === "votes" ? frame.votes : []))
        .filter(({ height, voter }) => height === 2 && voter === 0);
    const before = votes();
    expect(before.every(({ round }) => round === 1)).toBe(true);
    world.restart(copy);
    world.run(5);
    const after = votes();
    expect(after.filter(({ round }) => round === 0)).toEqual([]);
    expect(after.some((a) => before.some((b) => isAmnesia(a, b)))).toBe(false);
  });

  test("a change of members that the log calls for no more makes room for another one, and makes no heights", () => {
    const wanted = replicasOf(4);
    let learner = "h10/1";
    const same = (m: Membership): boolean => m.voters.join() === wanted.join() && m.learners.join() === learner;
    const world = new World({ n: 4, checkMembership: same });
    world.give(world.copy(0), { kind: "reconfigure", call: 1, voters: wanted, learners: ["h10/1"] });
    learner = "h11/1";
    for (const copy of world.copies) world.give(copy, { kind: "reconfigure", call: 2, voters: wanted, learners: ["h11/1"] });
    world.run(3_000);
    expect(
      world.copy(0).answers.map((a) => (a.kind === "refused" ? `${a.call} ${a.failure.reason}` : `${"call" in a ? a.call : ""} ${a.kind}`)),
    ).toContain("2 done");
    const height = world.copy(0).height;
    world.run(10_000);
    expect(world.copy(0).height).toBe(height);
  });

  test("VK4 the same vote that relies on one round, and on another, is taken in once each, and fills no journal", () => {
    const world = new World({ n: 4, delay: () => undefined });
    const copy = world.copy(0);
    world.run(1);
    const value = "a".repeat(64);
    const give = (round: number): void => {
      for (const relies of [1, 2])
        world.deliver(nameOf(3), copy, { kind: "votes", height: 1, votes: [voteOf(3, { round, value, relies })] });
    };
    world.deliver(nameOf(1), copy, { kind: "votes", height: 1, votes: [1, 2].map((i) => voteOf(i, { round: 5 })) });
    for (let i = 0; i < 100; i++) give(5);
    expect(copy.disk.logs.get("bft.journal")?.size).toBeLessThan(20);
    for (let i = 0; i < 100; i++) give(50);
    world.deliver(nameOf(1), copy, { kind: "votes", height: 1, votes: [1, 2].map((i) => voteOf(i, { round: 60 })) });
    expect(copy.disk.logs.get("bft.journal")?.size).toBeLessThan(40);
  });

  test("BE2 a hub that signs as replicas that it never had fills no book of evidence", () => {
    const world = new World({ n: 4, delay: () => undefined });
    const copy = world.copy(0);
    world.run(1);
    for (let i = 1; i <= 200; i++) {
      const name = `h03/${i}`;
      const [a, b] = [voteOf(3, {}, name), voteOf(3, { value: "a".repeat(64) }, name)];
      world.deliver(nameOf(3), copy, { kind: "evidence", proof: voteProof(FEDERATION, "equivocation", name, a, b) });
    }
    expect(copy.evidence.length).toBeLessThan(50);
  });

  test("BF5 a hub that is behind gets all votes of its round, also those of voters that vote twice, in as many frames as that takes", () => {
    const world = new World({ n: 30, record: true, delay: () => undefined });
    const copy = world.copy(0);
    world.run(1);
    const voters = Array.from({ length: 29 }, (_, i) => i + 1);
    for (const step of [STEP.PREVOTE, STEP.PRECOMMIT])
      for (const voter of voters) {
        const values = voter > 20 ? [NIL, "a".repeat(64)] : [NIL];
        const votes = values.map((value) => voteOf(voter, { step, value }));
        world.deliver(nameOf(voter), copy, { kind: "votes", height: 1, votes });
      }
    copy.sent.length = 0;
    world.deliver(nameOf(1), copy, { kind: "status", height: 1, round: 0, previous: GENESIS });
    const told = copy.sent.flatMap(({ to, frame }) => (to === nameOf(1) && frame.kind === "votes" ? [frame.votes] : []));
    expect(told.every((votes) => votes.length <= 64)).toBe(true);
    for (const step of [STEP.PREVOTE, STEP.PRECOMMIT])
      expect(new Set(told.flat().flatMap((vote) => (vote.step === step ? [`${vote.voter} ${vote.value}`] : []))).size).toBeGreaterThan(37);
  });

  test("PROTOCOL G4 who is no member gets nothing of the log, whatever numbers it gives itself", () => {
    const { world, copy } = cut();
    for (let i = 1; i <= 100; i++) {
      world.deliver(`z/${i}`, copy, { kind: "status", height: 1, round: 0, previous: GENESIS });
      world.deliver(`z/${i}`, copy, { kind: "status", height: 6, round: 0, previous: GENESIS });
      world.deliver(`h01/${i + 1}`, copy, { kind: "fetch", index: 6, chunk: 0 });
    }
    expect(copy.sent).toEqual([]);
    expect(copy.seen.get("stranger")).toBe(300);
  });

  test("VK5 who asks for value after value gets a few of them in a while, and each frame is answered by no more than that", () => {
    const world = new World({ n: 4, record: true });
    for (let i = 0; i < 40; i++) {
      world.propose(world.copy(0), `p${i}`);
      world.run(world.now + 50);
    }
    const copy = world.copy(0);
    expect(copy.height).toBe(40);
    copy.sent.length = 0;
    for (let times = 0; times < 10; times++)
      for (let height = 1; height <= 40; height++) {
        const { value } = copy.engine.decision(height)!.certificate;
        world.deliver(nameOf(3), copy, { kind: "want", height, value });
      }
    expect(copy.sent.length).toBeGreaterThan(0);
    expect(copy.sent.length).toBeLessThan(10);
  });

  test("F-6 who asks for the same chunk of a snapshot on and on gets it once in a while", () => {
    const { world, copy } = cut();
    for (let i = 0; i < 100; i++) world.deliver(nameOf(3), copy, { kind: "fetch", index: 6, chunk: 0 });
    expect(copy.sent.filter(({ frame }) => frame.kind === "chunk")).toHaveLength(1);
    world.run(world.now + 1_000);
    world.deliver(nameOf(3), copy, { kind: "fetch", index: 6, chunk: 0 });
    expect(copy.sent.filter(({ frame }) => frame.kind === "chunk")).toHaveLength(2);
  });
});
