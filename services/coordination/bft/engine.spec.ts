import { describe, expect, test } from "vitest";
import { Prng } from "#kernel/prng.ts";
import { simCrypto } from "../../../test/simulator/crypto.ts";
import { type Copy, FEDERATION, replicasOf, START, World } from "../../../test/simulator/twins/world.ts";
import { bftFrameBytes, readBftFrame } from "../codec/engines/bft-frames.ts";
import { hubOf, type Membership, type ReplicaId } from "../log/engine.ts";
import { BFT_BOUNDS, type BftFrame, GENESIS, NIL, NO_ROUND, type Proposal, STEP, type Vote } from "./frames.ts";
import { hexOf } from "./hex.ts";
import { BFT_LIMITS } from "./options.ts";
import { proposalBytes, voteBytes } from "./proof/signed.ts";
import { batchBytes } from "./record.ts";

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const textsOf = (copy: Copy): string[] => [...copy.committed.values()].flatMap(({ payloads }) => payloads.map(text));
const all = (world: World, what: string): boolean => world.copies.every((copy) => textsOf(copy).includes(what));
const nameOf = (i: number): ReplicaId => replicasOf(i + 1)[i] as ReplicaId;

function voteOf(i: number, change: Partial<Vote>): Vote {
  const base = { height: 1, round: 0, step: STEP.PREVOTE, value: NIL, relies: NO_ROUND, voter: i, ...change };
  return { ...base, signature: simCrypto(hubOf(nameOf(i))).sign(voteBytes(FEDERATION, nameOf(i), base)) };
}

/** A proposal of the hub `i` with this batch, as frames of its own. */
function proposalOf(i: number, round: number, bytes: Uint8Array, validRound = NO_ROUND): Extract<BftFrame, { kind: "proposal" }> {
  const crypto = simCrypto(hubOf(nameOf(i)));
  const base = { height: 1, round, value: hexOf(crypto.hash(bytes)), size: bytes.length, validRound };
  const proposal: Proposal = { ...base, signature: crypto.sign(proposalBytes(FEDERATION, nameOf(i), base)) };
  return { kind: "proposal", proposal, bytes };
}

const batchOf = (change: Partial<Parameters<typeof batchBytes>[0]> = {}): Uint8Array =>
  batchBytes({ height: 1, time: START + 1, previous: GENESIS, payloads: [], markers: [], membership: undefined, ...change });

/** What hub 0 prevotes when hub 1, the proposer of height 1, proposes this. */
function prevoteFor(frame: BftFrame, options: Partial<ConstructorParameters<typeof World>[0]> = {}): string | undefined {
  const world = new World({ n: 4, record: true, delay: () => undefined, ...options });
  world.copy(1).up = false;
  world.run(1);
  world.deliver(nameOf(1), world.copy(0), frame);
  const votes = world.copy(0).sent.flatMap(({ frame: sent }) => (sent.kind === "votes" ? sent.votes : []));
  return votes.find(({ step, voter }) => step === STEP.PREVOTE && voter === 0)?.value;
}

describe("the log", () => {
  test("decides what any hub proposes, in the same order everywhere, with a time that rises", () => {
    const world = new World({ n: 7 });
    for (let i = 0; i < 20; i++) world.at(i * 7, () => world.propose(world.copy(i % 7), `p${i}`));
    expect(world.run(5_000, () => Array.from({ length: 20 }, (_, i) => `p${i}`).every((what) => all(world, what)))).toBe(true);
    const logs = world.copies.map((copy) => JSON.stringify([...copy.committed.values()]));
    expect(new Set(logs).size).toBe(1);
    const times = [...world.copy(0).committed.values()].map(({ time }) => time);
    expect(times.every((time, i) => i === 0 || time > (times[i - 1] as number))).toBe(true);
    expect(textsOf(world.copy(0))).toHaveLength(20);
  });

  test("decides among thirty hubs, nine of them silent, with frames as they are on the wire", () => {
    const wire = (frame: BftFrame): BftFrame | undefined => readBftFrame(bftFrameBytes(frame));
    const world = new World({ n: 30, wire });
    for (let i = 21; i < 30; i++) world.copy(i).up = false;
    for (let i = 0; i < 3; i++) world.propose(world.copy(i), `p${i}`);
    const alive = world.copies.filter(({ up }) => up);
    expect(alive).toHaveLength(21);
    expect(world.run(3_000, () => alive.every((copy) => ["p0", "p1", "p2"].every((what) => textsOf(copy).includes(what))))).toBe(true);
  });

  test("does not mind frames that come twice, late, or in any order", () => {
    for (let seed = 1; seed <= 5; seed++) {
      const prng = new Prng(seed);
      const world: World = new World({
        n: 4,
        delay: (from, to, frame) => {
          if (prng.chance(0.3)) world.at(world.now + prng.below(300), () => world.deliver(from.replica, to, frame));
          return 1 + prng.below(25);
        },
      });
      const wanted = Array.from({ length: 12 }, (_, i) => `p${i}`);
      for (const [i, what] of wanted.entries()) world.at(i * 20, () => world.propose(world.copy(i % 4), what));
      expect(world.run(5_000, () => wanted.every((what) => all(world, what)))).toBe(true);
      expect(textsOf(world.copy(0)).toSorted()).toEqual(wanted.toSorted());
      expect(new Set(world.copies.map((copy) => textsOf(copy).slice(0, 12).join())).size).toBe(1);
      expect(world.copies.flatMap(({ evidence }) => evidence)).toEqual([]);
    }
  });

  test("makes no height and takes no rounds while nobody wants anything", () => {
    const world = new World({ n: 4 });
    world.run(5_000);
    expect(world.copies.map((copy) => [copy.height, copy.engine.status(world.clock()).term])).toEqual([0, 1, 2, 3].map(() => [0, 0]));
  });

  test("makes an empty height when the application needs time to pass", () => {
    const due = START + 500;
    const world: World = new World({ n: 4, due: () => (world?.copy(0) !== undefined && world.copy(0).height > 0 ? undefined : due) });
    world.run(490);
    expect(world.copy(0).height).toBe(0);
    expect(world.run(700, () => world.copies.every((copy) => copy.height === 1))).toBe(true);
    expect(world.copy(0).committed.get(1)).toMatchObject({ payloads: [] });
    expect((world.copy(0).committed.get(1)?.time ?? 0) >= due).toBe(true);
    // The application has taken that height before it is asked again.
    world.run(2_000);
    expect(world.copy(0).height).toBe(1);
  });

  test("decides a payload once, though many hubs are told of it and it is told again", () => {
    const world = new World({ n: 4 });
    world.propose(world.copy(2), "once");
    world.run(500);
    const frame: BftFrame = { kind: "payload", marker: false, bytes: new TextEncoder().encode("once") };
    for (const i of [0, 1, 3]) world.deliver(nameOf(2), world.copy(i), frame);
    world.run(1_500);
    expect(textsOf(world.copy(0))).toEqual(["once"]);
  });

  test("answers who proposed with the position, before it is told, and a read with one that has all that was decided before", () => {
    const world = new World({ n: 4 });
    world.propose(world.copy(0), "one");
    world.run(100);
    world.give(world.copy(3), { kind: "read", call: 77 });
    world.run(200);
    expect(world.copy(0).answers).toMatchObject([{ kind: "accepted", index: 1, term: 0 }]);
    expect(world.copy(3).answers).toMatchObject([{ kind: "readable", call: 77, index: 2 }]);
    expect(world.copy(3).committed.get(2)?.payloads).toEqual([]);
  });

  test("goes on with f hubs silent, and not with f + 1; then it refuses with the reason", () => {
    const world = new World({ n: 4 });
    world.copy(1).up = false;
    world.propose(world.copy(2), "one");
    expect(world.run(2_000, () => [0, 2, 3].every((i) => textsOf(world.copy(i)).includes("one")))).toBe(true);
    world.copy(3).up = false;
    world.propose(world.copy(2), "two");
    world.run(world.now + 2_000);
    expect(textsOf(world.copy(2))).toEqual(["one"]);
    expect(world.copy(2).engine.status(world.clock()).quorum).toBe(false);
    for (const i of [1, 3]) world.give(world.copy(2), { kind: "reachable", replica: nameOf(i), up: false });
    world.propose(world.copy(2), "three");
    expect(world.copy(2).answers.at(-1)).toMatchObject({ kind: "refused", failure: { reason: "PEER_UNREACHABLE" } });
    world.restart(world.copy(3));
    expect(world.run(world.now + 3_000, () => textsOf(world.copy(2)).includes("two"))).toBe(true);
  });

  test("says how old what it shows may be", () => {
    const world = new World({ n: 4 });
    expect(world.copy(0).engine.status(world.clock()).ageMs).toBeUndefined();
    world.run(350);
    expect(world.copy(0).engine.status(world.clock()).ageMs).toBeLessThan(120);
    for (const i of [1, 2]) world.copy(i).up = false;
    world.run(1_350);
    expect(world.copy(0).engine.status(world.clock()).ageMs).toBeGreaterThan(900);
  });

  test("has values of several parts", () => {
    const world = new World({ n: 4, record: true });
    const long = (letter: string): string => letter.repeat(190_000);
    for (const letter of ["a", "b", "c", "d"]) world.propose(world.copy(2), long(letter));
    expect(world.run(3_000, () => ["a", "b", "c", "d"].every((letter) => all(world, long(letter))))).toBe(true);
    const parts = world.copies.flatMap(({ sent }) => sent.flatMap(({ frame }) => (frame.kind === "part" ? [frame.bytes.length] : [])));
    expect(Math.max(...parts)).toBe(BFT_BOUNDS.partBytes);
  });

  test("gets the value from others when its proposer gave it to some hubs only", () => {
    const world = new World({
      n: 4,
      delay: (from, to, frame) =>
        from === world.copy(1) && to === world.copy(3) && (frame.kind === "proposal" || frame.kind === "part") ? undefined : 1,
    });
    world.propose(world.copy(1), "one");
    expect(world.run(1_000, () => all(world, "one"))).toBe(true);
    expect(world.copy(3).committed.get(1)?.term).toBe(0);
  });

  test("refuses what is too long, what the members would not accept, and what one hub has too much of", () => {
    const world = new World({ n: 4, check: (payload) => payload[0] !== 120, limits: { ownWaiting: 2 }, delay: () => undefined });
    const copy = world.copy(0);
    world.propose(copy, "a".repeat(BFT_BOUNDS.payloadBytes + 1));
    world.propose(copy, "x");
    for (const what of ["a", "b", "c"]) world.propose(copy, what);
    const reasons = copy.answers.map((answer) => (answer.kind === "refused" ? answer.failure.reason : answer.kind));
    expect(reasons).toEqual(["MESSAGE_TOO_LARGE", "INVALID_FIELD", "OVERLOADED"]);
    world.give(copy, { kind: "transfer", call: 1, to: nameOf(1) });
    expect(copy.answers.at(-1)).toMatchObject({ kind: "refused" });
  });
});

describe("what a hub prevotes", () => {
  const good = batchOf();

  test("a value that is in order, and nil for any other", () => {
    expect(prevoteFor(proposalOf(1, 0, good))).toBe(proposalOf(1, 0, good).proposal.value);
    const bad: Uint8Array[] = [
      batchOf({ height: 2 }),
      batchOf({ previous: "1".repeat(64) }),
      batchOf({ time: 0 }),
      batchOf({ payloads: [new TextEncoder().encode("bad")] }),
      batchOf({ membership: { voters: replicasOf(5), outgoing: [], learners: [] } }),
      batchOf({ payloads: new Array(5_000).fill(new Uint8Array(1)) }),
      new Uint8Array([1, 2, 3]),
    ];
    for (const bytes of bad) expect(prevoteFor(proposalOf(1, 0, bytes), { check: (payload) => text(payload) !== "bad" })).toBe(NIL);
  });

  test("nil for a time that is too far ahead of its clock, which the others may decide all the same", () => {
    expect(prevoteFor(proposalOf(1, 0, batchOf({ time: START + BFT_LIMITS.aheadMs })))).not.toBe(NIL);
    expect(prevoteFor(proposalOf(1, 0, batchOf({ time: START + BFT_LIMITS.aheadMs + 5 })))).toBe(NIL);
  });

  test("nil for a membership that the log does not call for as far as it knows, which the others may decide all the same", () => {
    const world = new World({ n: 4, delay: () => undefined });
    const frame = proposalOf(1, 0, batchOf({ membership: { voters: replicasOf(5), outgoing: [], learners: [] } }));
    world.deliver(nameOf(1), world.copy(0), frame);
    const precommits = [1, 2, 3].map((i) => voteOf(i, { step: STEP.PRECOMMIT, value: frame.proposal.value }));
    world.deliver(nameOf(1), world.copy(0), { kind: "votes", height: 1, votes: precommits });
    expect(world.copy(0).height).toBe(1);
  });

  test("a value right behind one from the future: clocks that were wrong once do not stop the log", () => {
    const world = new World({ n: 4, record: true, limits: { aheadMs: 1_000 }, delay: () => undefined });
    const copy = world.copy(0);
    const decided = batchOf({ time: START + 60_000 });
    const { proposal } = proposalOf(1, 0, decided);
    const precommits = [1, 2, 3].map((i) => voteOf(i, { step: STEP.PRECOMMIT, value: proposal.value }));
    world.deliver(nameOf(1), copy, { kind: "votes", height: 1, votes: precommits });
    world.deliver(nameOf(1), copy, proposalOf(1, 0, decided));
    expect(copy.height).toBe(1);
    const prevotes = (time: number, round: number): (string | undefined)[] => {
      const bytes = batchBytes({ height: 2, time, previous: proposal.value, payloads: [], markers: [], membership: undefined });
      const crypto = simCrypto(hubOf(nameOf(2 + round)));
      const base = { height: 2, round, value: hexOf(crypto.hash(bytes)), size: bytes.length, validRound: NO_ROUND };
      const signature = crypto.sign(proposalBytes(FEDERATION, nameOf(2 + round), base));
      copy.sent.length = 0;
      world.deliver(nameOf(2), copy, { kind: "proposal", proposal: { ...base, signature }, bytes });
      return copy.sent.flatMap(({ frame }) =>
        frame.kind === "votes" ? frame.votes.map(({ value }) => (value === base.value ? "value" : value)) : [],
      );
    };
    expect(new Set(prevotes(START + 60_001, 0))).toEqual(new Set(["value"]));
    world.deliver(nameOf(1), copy, { kind: "votes", height: 2, votes: [1, 2, 3].flatMap((i) => [voteOf(i, { height: 2, round: 1 })]) });
    expect(new Set(prevotes(START + 60_002, 1))).toEqual(new Set([NIL]));
  });

  test("nothing for a proposal of another one, with another value, or of a size that it has not", () => {
    expect(prevoteFor(proposalOf(2, 0, good))).toBeUndefined();
    expect(prevoteFor({ ...proposalOf(1, 0, good), bytes: batchOf({ time: START + 2 }) })).toBeUndefined();
    const { proposal, bytes } = proposalOf(1, 0, good);
    for (const change of [{ size: 1e9 }, { round: -1 }, { round: Number.NaN }, { height: 0.5 }, { validRound: 0 }, { value: "zz" }])
      expect(prevoteFor({ kind: "proposal", proposal: { ...proposal, ...change }, bytes })).toBeUndefined();
  });

  test("BE2 two proposals of one round name their proposer, and the second counts for nothing", () => {
    const world = new World({ n: 4 });
    world.copy(1).up = false;
    world.run(1);
    const second = proposalOf(1, 0, batchOf({ time: START + 2 }));
    for (const frame of [proposalOf(1, 0, good), second, second]) world.deliver(nameOf(1), world.copy(0), frame);
    expect(world.copy(0).evidence.map(({ against, what }) => `${against} ${what}`)).toEqual([`${nameOf(1)} proposals`]);
  });
});

describe("limits", () => {
  const describeOf = (copy: Copy): string => copy.engine.describe();

  test("VK5 floods of future rounds and heights leave little behind", () => {
    const world = new World({ n: 4, delay: () => undefined });
    const copy = world.copy(0);
    for (let round = 0; round < 2_000; round++)
      world.deliver(nameOf(3), copy, {
        kind: "votes",
        height: 1,
        votes: [voteOf(3, { round }), voteOf(3, { round, step: STEP.PRECOMMIT })],
      });
    for (let height = 2; height < 2_000; height++)
      world.deliver(nameOf(3), copy, { kind: "votes", height, votes: [voteOf(3, { height })] });
    for (let i = 0; i < 2_000; i++)
      world.deliver(nameOf(3), copy, { kind: "votes", height: 2, votes: [voteOf(3, { height: 2, round: i })] });
    expect(describeOf(copy)).toMatch(/height 1 round 0 .* rounds 3 /);
    // Nor on the disk: what is far away is written when it counts.
    expect(copy.disk.logs.get("bft.journal")?.size).toBeLessThan(10);
  });

  test("a hub that tells of ever more payloads fills its own part only", () => {
    const world = new World({ n: 4, limits: { peerWaiting: 10 }, delay: () => undefined });
    const copy = world.copy(0);
    for (let i = 0; i < 100; i++)
      world.deliver(nameOf(3), copy, { kind: "payload", marker: false, bytes: new TextEncoder().encode(`spam ${i}`) });
    world.deliver(nameOf(2), copy, { kind: "payload", marker: false, bytes: new TextEncoder().encode("mine") });
    expect(describeOf(copy)).toContain("waiting 11 ");
  });

  test("rounds take longer and longer, up to a bound: after a long halt the log goes on soon", () => {
    const world = new World({ n: 4, delay: (_from, _to, frame, { now }) => (now < 20_000 && frame.kind === "proposal" ? undefined : 1) });
    world.propose(world.copy(0), "one");
    world.run(20_000);
    const { term } = world.copy(0).engine.status(world.clock());
    expect(term).toBeGreaterThan(20);
    expect(world.run(21_500, () => all(world, "one"))).toBe(true);
  });

  test("nothing that comes over the wire stops a hub", () => {
    const world = new World({ n: 4 });
    const numbers = [Number.NaN, -1, 0.5, 2 ** 53, Number.POSITIVE_INFINITY, 0, 1];
    const id = "a".repeat(64);
    const bytes = new Uint8Array(3);
    const membership: Membership = { voters: ["x"], outgoing: [], learners: ["y", "y"] };
    for (const n of numbers) {
      const frames: BftFrame[] = [
        { kind: "votes", height: n, votes: [{ ...voteOf(3, {}), height: n, voter: n }] },
        { kind: "votes", height: 1, votes: [{ ...voteOf(3, {}), round: n, signature: bytes }] },
        { kind: "votes", height: 1, votes: new Array(1_000).fill(voteOf(3, {})) },
        { kind: "part", height: 1, value: id, index: n, count: n, bytes },
        { kind: "part", height: n, value: "?", index: 0, count: 1, bytes },
        {
          kind: "certificate",
          certificate: { height: n, round: n, step: STEP.PRECOMMIT, value: id, votes: [{ voter: n, relies: n, signature: bytes }] },
        },
        {
          kind: "certificate",
          certificate: {
            height: 1,
            round: n,
            step: STEP.PREVOTE,
            value: id,
            votes: [0, 1, 2].map((voter) => ({ voter, relies: n, signature: bytes })),
          },
        },
        { kind: "status", height: n, round: n, previous: "x" },
        { kind: "status", height: n, round: 0, previous: id },
        { kind: "want", height: n, value: id },
        { kind: "evidence", proof: bytes },
        { kind: "attest", index: n, digest: bytes, signature: bytes },
        { kind: "snapshot", manifest: { index: n, term: n, time: n, previous: id, membership, digest: bytes, size: n }, attestations: [] },
        {
          kind: "snapshot",
          manifest: { index: 9, term: 0, time: 9, previous: id, membership, digest: new Uint8Array(32), size: n },
          attestations: [{ voter: n, signature: bytes }],
        },
        { kind: "fetch", index: n, chunk: n },
        { kind: "chunk", index: n, chunk: n, bytes },
        { kind: "payload", marker: true, bytes },
      ];
      for (const frame of frames) for (const from of [nameOf(3), "stranger/1", nameOf(0)]) world.deliver(from, world.copy(0), frame);
    }
    world.propose(world.copy(0), "one");
    expect(world.run(2_000, () => all(world, "one"))).toBe(true);
    expect(world.copies.flatMap(({ evidence }) => evidence)).toEqual([]);
  });
});
