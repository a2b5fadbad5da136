import { describe, expect, test } from "vitest";
import { type Copy, replicasOf, stateOf, World } from "../../../test/simulator/twins/world.ts";
import type { Membership, ReplicaId } from "../log/engine.ts";
import { BFT_BOUNDS, type BftFrame } from "./frames.ts";
import { problemOf } from "./members.ts";
import { Parts, partsOf } from "./parts.ts";

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const textsOf = (copy: Copy): string[] => [...copy.committed.values()].flatMap(({ payloads }) => payloads.map(text));
const nameOf = (i: number): ReplicaId => replicasOf(i + 1)[i] as ReplicaId;

/** Decides `count` payloads, one after the other. */
function decide(world: World, count: number, prefix = "p"): void {
  for (let i = 0; i < count; i++) {
    const by = world.copies.find(({ up, replica }) => up && world.membership.voters.includes(replica)) as Copy;
    const before = by.height;
    world.propose(by, `${prefix}${i}`);
    expect(world.run(world.now + 3_000, () => by.height > before)).toBe(true);
  }
}

describe("catching up", () => {
  test("a hub that was away gets what was decided with its certificates, many heights a second", () => {
    const world = new World({ n: 4 });
    const late = world.copy(3);
    late.up = false;
    decide(world, 120);
    world.restart(late);
    const since = world.now;
    expect(world.run(since + 1_000, () => late.height === world.copy(0).height)).toBe(true);
    expect(textsOf(late)).toEqual(textsOf(world.copy(0)));
    // And votes again.
    world.copy(2).up = false;
    decide(world, 1, "again");
  });

  test("a hub in an earlier round comes to the others by what they send it", () => {
    const world = new World({
      n: 4,
      delay: (_from, to, frame, { now }) => (now < 400 && (frame.kind === "proposal" || to.replica === nameOf(3)) ? undefined : 1),
    });
    world.propose(world.copy(3), "one");
    world.propose(world.copy(0), "one");
    world.run(399);
    const rounds = world.copies.map((copy) => copy.engine.status(world.clock()).term);
    expect(rounds[0]).toBeGreaterThan(rounds[3] as number);
    expect(world.run(1_500, () => world.copies.every((copy) => textsOf(copy).includes("one")))).toBe(true);
  });

  test("a learner gets all and decides nothing", () => {
    const world = new World({ n: 4, learners: ["learner/1"], record: true });
    const learner = world.copies.find(({ replica }) => replica === "learner/1") as Copy;
    decide(world, 6);
    expect(world.run(world.now + 500, () => learner.height === 6)).toBe(true);
    expect(learner.engine.status(world.clock()).role).toBe("learner");
    expect(
      learner.sent
        .filter(({ frame }) => frame.kind === "votes" || frame.kind === "proposal")
        .flatMap(({ frame }) => (frame.kind === "votes" ? frame.votes.filter(({ voter }) => voter > 3) : [])),
    ).toEqual([]);
    // What a learner proposes goes to those who decide.
    world.propose(learner, "from a learner");
    expect(world.run(world.now + 1_000, () => textsOf(world.copy(0)).includes("from a learner"))).toBe(true);
  });

  test("BC4 heights that are gone come as a snapshot that the voters have signed, in chunks, to one that was never there", () => {
    const joiner = "joiner/1";
    const world = new World({ n: 4, learners: [joiner], limits: { snapshotEvery: 10, keepHeights: 3 } });
    const copy = world.copies.find(({ replica }) => replica === joiner) as Copy;
    copy.up = false;
    // So that the state has several chunks.
    for (const other of world.copies) other.state = new Uint8Array(450_000).fill(65);
    decide(world, 25);
    world.run(world.now + 300);
    expect(world.copy(0).engine.describe()).toMatch(/^decided 25 .* from 18 snapshot 20/);
    copy.state = new Uint8Array(0);
    world.restart(copy);
    expect(world.run(world.now + 3_000, () => copy.height === 25)).toBe(true);
    expect(copy.committed.has(20)).toBe(false);
    expect(text(copy.state).endsWith("20:p19")).toBe(true);
    expect(copy.state.length).toBeGreaterThan(2 * BFT_BOUNDS.partBytes);
    // After a restart it stands on the snapshot.
    copy.state = new Uint8Array(0);
    world.restart(copy);
    world.run(world.now + 10);
    expect(text(copy.state).endsWith("20:p19")).toBe(true);
    decide(world, 1, "more");
    expect(world.run(world.now + 1_000, () => textsOf(copy).includes("more0"))).toBe(true);
  });

  test("BC4 a state that comes when more has been decided counts for the height that it was asked for", () => {
    const world = new World({ n: 4, limits: { snapshotEvery: 5, keepHeights: 1 }, captureMs: 200 });
    decide(world, 9);
    world.run(world.now + 500);
    expect(world.copy(0).engine.describe()).toMatch(/^decided 9 .* from 5 snapshot 5/);
  });

  test("BC4 no snapshot is kept, and nothing forgotten, while the states differ", () => {
    const world = new World({ n: 4, limits: { snapshotEvery: 5, keepHeights: 1 } });
    for (const [i, copy] of world.copies.entries()) copy.state = new Uint8Array([i % 2]);
    decide(world, 12);
    world.run(world.now + 300);
    expect(world.copy(0).engine.describe()).toMatch(/^decided 12 .* from 1 snapshot none/);
    expect(stateOf(world.copy(0))).not.toEqual(stateOf(world.copy(1)));
  });

  test("BC4 chunks that are not what was signed are thrown away", () => {
    const joiner = "joiner/1";
    const wire = (frame: BftFrame): BftFrame => (frame.kind === "chunk" ? { ...frame, bytes: frame.bytes.map((byte) => byte ^ 1) } : frame);
    const world = new World({ n: 4, learners: [joiner], limits: { snapshotEvery: 10, keepHeights: 1 }, wire });
    const copy = world.copies.find(({ replica }) => replica === joiner) as Copy;
    copy.up = false;
    decide(world, 12);
    world.run(world.now + 300);
    world.restart(copy);
    world.run(world.now + 1_500);
    expect(copy.height).toBe(0);
    expect(copy.seen.get("bad_chunk")).toBeGreaterThan(0);
  });

  test("BC4 who offers a snapshot first, again and again, and brings another one, keeps nobody from getting it", () => {
    const joiner = "joiner/1";
    const liar = nameOf(0);
    const wire = (frame: BftFrame, from: Copy): BftFrame =>
      frame.kind === "chunk" && from.replica === liar ? { ...frame, bytes: frame.bytes.map((byte) => byte ^ 1) } : frame;
    const world = new World({
      n: 4,
      learners: [joiner],
      limits: { snapshotEvery: 10, keepHeights: 1 },
      wire,
      record: true,
      delay: (from) => (from.replica === liar ? 1 : 5),
    });
    const copy = world.copies.find(({ replica }) => replica === joiner) as Copy;
    copy.up = false;
    decide(world, 12);
    world.run(world.now + 300);
    world.restart(copy);
    const offer = (): void => {
      const said = world.copy(0).sent.find(({ frame }) => frame.kind === "snapshot");
      if (said !== undefined) world.deliver(liar, copy, said.frame);
      world.at(world.now + 1, offer);
    };
    offer();
    expect(world.run(world.now + 5_000, () => copy.height === 12)).toBe(true);
  });
});

describe("changes of members", () => {
  const five: Membership = { voters: replicasOf(5), outgoing: [], learners: [] };
  const allowed = (wanted: Membership) => ({
    checkMembership: (membership: Membership) => JSON.stringify(membership) === JSON.stringify(wanted),
  });

  test("take effect at the next height, and the new one votes", () => {
    const world = new World({ n: 4, ...allowed(five) });
    world.run(10);
    world.give(world.copy(2), { kind: "reconfigure", call: 9, voters: five.voters, learners: [] });
    expect(world.run(3_000, () => world.copies.every((copy) => copy.engine.status(world.clock()).membership.voters.length === 5))).toBe(
      true,
    );
    expect(world.copy(2).answers).toMatchObject([{ kind: "done", call: 9 }]);
    const newcomer = world.add(nameOf(4));
    expect(world.run(world.now + 2_000, () => newcomer.height >= world.copy(0).height)).toBe(true);
    world.copy(0).up = false;
    world.propose(newcomer, "from the fifth");
    expect(world.run(world.now + 3_000, () => [1, 2, 3, 4].every((i) => textsOf(world.copy(i)).includes("from the fifth")))).toBe(true);
  });

  test("a hub that is removed neither votes nor proposes any more, and asks in vain", () => {
    const four: Membership = { voters: replicasOf(5).slice(1), outgoing: [], learners: [] };
    const world = new World({ n: 5, ...allowed(four) });
    world.run(10);
    world.give(world.copy(1), { kind: "reconfigure", call: 1, voters: four.voters, learners: [] });
    expect(world.run(3_000, () => world.copies.every((copy) => copy.engine.status(world.clock()).membership.voters.length === 4))).toBe(
      true,
    );
    const removed = world.copy(0);
    expect(removed.engine.status(world.clock()).role).toBe("outside");
    world.propose(removed, "too late");
    expect(removed.answers.at(-1)).toMatchObject({ kind: "refused", failure: { reason: "NOT_CONFIGURED" } });
    world.propose(world.copy(1), "without it");
    expect(world.run(world.now + 2_000, () => [1, 2, 3, 4].every((i) => textsOf(world.copy(i)).includes("without it")))).toBe(true);
  });

  test("that the log does not call for, or that are no membership, are refused", () => {
    const world = new World({ n: 4, ...allowed(five) });
    const cases: [Pick<Membership, "voters" | "learners">, string][] = [
      [{ voters: replicasOf(6), learners: [] }, "ACCESS_DENIED"],
      [{ voters: replicasOf(3), learners: [] }, "INVALID_FIELD"],
      [{ voters: replicasOf(31), learners: [] }, "INVALID_FIELD"],
      [{ voters: replicasOf(4).toReversed(), learners: [] }, "INVALID_FIELD"],
      [{ voters: [...replicasOf(4), nameOf(3)], learners: [] }, "INVALID_FIELD"],
      [{ voters: replicasOf(4), learners: ["h00/2"] }, "INVALID_FIELD"],
    ];
    for (const [wanted, reason] of cases) {
      world.give(world.copy(0), { kind: "reconfigure", call: 1, ...wanted });
      expect(world.copy(0).answers.at(-1)).toMatchObject({ kind: "refused", failure: { reason } });
    }
    expect(problemOf({ voters: replicasOf(4), outgoing: [nameOf(1)], learners: [] })).toBeDefined();
    expect(problemOf({ voters: ["a", "b/1", "c/1", "d/1"], outgoing: [], learners: [] })).toBeDefined();
    expect(problemOf({ voters: replicasOf(4), outgoing: [], learners: ["x/1"] })).toBeUndefined();
  });
});

describe("parts of a value", () => {
  const value = "a".repeat(64);
  const whole = new Uint8Array(2 * BFT_BOUNDS.partBytes + 7).map((_, i) => i);
  const parts = partsOf(1, value, whole) as Extract<BftFrame, { kind: "part" }>[];

  test("make the whole in any order, each taken once", () => {
    const incoming = new Parts(1e6);
    const [first, second, third] = parts as [(typeof parts)[0], (typeof parts)[0], (typeof parts)[0]];
    expect([incoming.add("a/1", third), incoming.add("a/1", third), incoming.add("a/1", first)]).toEqual([undefined, undefined, undefined]);
    expect(incoming.add("b/1", second)).toBeUndefined();
    expect(incoming.add("a/1", second)).toEqual(whole);
  });

  test("of another size, number or length than there can be are refused", () => {
    const incoming = new Parts(500_000);
    const [first] = parts as [(typeof parts)[0]];
    for (const change of [
      { index: 3 },
      { index: -1 },
      { index: Number.NaN },
      { count: 0 },
      { count: 65 },
      { count: 1e9 },
      { bytes: new Uint8Array(5) },
      { bytes: new Uint8Array(0) },
      { bytes: new Uint8Array(BFT_BOUNDS.partBytes + 1) },
    ])
      expect(incoming.add("a/1", { ...first, ...change })).toBe("bad");
    expect(incoming.add("a/1", { ...first, count: 4 })).toBe("bad");
  });
});
