import { describe, expect, test } from "vitest";
import { Prng } from "#kernel/prng.ts";
import { type Copy, World } from "../../../../test/simulator/twins/world.ts";
import type { BftEngine } from "../engine.ts";
import { type BftFrame, NIL, STEP, type Vote } from "../frames.ts";
import { readJournal } from "./journal.ts";

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

function isDecided(copy: Copy, what: string): boolean {
  return [...copy.committed.values()].some(({ payloads }) => payloads.some((payload) => text(payload) === what));
}

/** All votes that a copy ever sent, by what it may send one of. */
function votesSentBy(copy: Copy, voter: number): Map<string, Set<string>> {
  const sent = new Map<string, Set<string>>();
  for (const { frame } of copy.sent) {
    if (frame.kind !== "votes") continue;
    for (const vote of frame.votes) {
      if (vote.voter !== voter) continue;
      const key = `${vote.height}/${vote.round}/${vote.step}`;
      sent.set(key, (sent.get(key) ?? new Set()).add(`${vote.value} ${vote.relies}`));
    }
  }
  return sent;
}

describe("restarts", () => {
  test("BF1 BF2 BF3 a hub that dies at any of its writes votes once in a step, proposes once in a round, and decides with the others", () => {
    let deaths = 0;
    for (const victim of [1, 2])
      for (let at = 1; at < 40; at++) {
        const world = new World({ n: 4, record: true });
        const copy = world.copy(victim);
        copy.diesAfter = at;
        world.propose(world.copy(1), "one");
        world.run(120);
        world.propose(world.copy(3), "two");
        const done = world.run(3_000, () => world.copies.every((other) => isDecided(other, "one") && isDecided(other, "two")));
        expect(done, `died at ${at}: ${copy.engine.describe()}`).toBe(true);
        if (copy.diesAfter === Number.POSITIVE_INFINITY) deaths++;
        for (const votes of votesSentBy(copy, victim).values()) expect(votes.size).toBe(1);
        expect(world.copies.flatMap(({ evidence }) => evidence)).toEqual([]);
        const values = world.copies.map((other) => other.engine.decision(1)?.certificate.value);
        expect(new Set(values).size).toBe(1);
      }
    expect(deaths).toBeGreaterThan(20);
  });

  test("BF2 all hubs die after they have written their prevotes and before they have sent them: they decide all the same", () => {
    const world = new World({ n: 4, record: true, delay: (_from, _to, _frame, { now }) => (now === 1 ? undefined : 1) });
    world.propose(world.copy(1), "one");
    // The proposer writes value, proposal and vote; the others proposal, value and vote. Nobody hears a prevote of anybody.
    world.run(1);
    for (const copy of world.copies) world.restart(copy);
    const before = world.copies.map((copy) => copy.sent.length);
    const done = world.run(3_000, () => world.copies.every((copy) => isDecided(copy, "one") || copy.height > 0));
    expect(done).toBe(true);
    expect(world.copies.map((copy, i) => copy.sent.length > (before[i] as number))).toEqual([true, true, true, true]);
  });

  test("BF2 what was signed is sent again, with the same signature", () => {
    const world = new World({ n: 4, record: true, delay: () => undefined });
    world.propose(world.copy(1), "one");
    world.run(1);
    const sent = (copy: Copy): (Vote | undefined)[] =>
      copy.sent.flatMap(({ frame }) => (frame.kind === "votes" ? [frame.votes.find(({ step }) => step === STEP.PREVOTE)] : []));
    const copy = world.copy(1);
    const [first] = sent(copy);
    expect(first?.value).not.toBe(NIL);
    copy.sent.length = 0;
    world.restart(copy);
    world.run(2);
    expect(sent(copy)[0]).toEqual(first);
  });

  test("BF3 the value that was proposed before a restart is proposed after it, also if other payloads wait by then", () => {
    const world = new World({ n: 4, record: true, delay: () => undefined });
    const copy = world.copy(1);
    world.propose(copy, "one");
    world.run(1);
    const values = (): Set<string> => new Set(copy.sent.flatMap(({ frame }) => (frame.kind === "proposal" ? [frame.proposal.value] : [])));
    expect(values().size).toBe(1);
    world.restart(copy);
    world.propose(copy, "another");
    world.run(5);
    expect(values().size).toBe(1);
  });

  test("BF1 the replay of a journal leads to the same state, in each round of a height that does not end", () => {
    const seen = new Set<string>();
    for (let seed = 1; seed <= 12; seed++) {
      const prng = new Prng(seed);
      const world = new World({ n: 4, delay: () => (prng.chance(0.45) ? undefined : 1 + prng.below(12)) });
      world.propose(world.copy(2), "one");
      for (let at = 5; at < 400; at += 5) {
        world.run(at);
        for (const copy of world.copies) {
          const again = firstLines(engineOn(world, copy));
          expect(again).toEqual(firstLines(copy.engine));
          seen.add(again[1] as string);
        }
      }
    }
    expect([...seen].filter((line) => /round [2-9]/.test(line) && !line.includes("locked none")).length).toBeGreaterThan(0);
  });

  test("BF1 the lock outlasts a restart, even if the votes that led to it do not", () => {
    const world = new World({ n: 4, delay: (_from, _to, frame) => (isPrecommit(frame) ? undefined : 1) });
    world.propose(world.copy(1), "one");
    world.run(10);
    const copy = world.copy(0);
    expect(copy.engine.describe()).toMatch(/precommit locked [0-9a-f]{8}@0/);
    const journal = copy.disk.logs.get("bft.journal") as Map<number, Uint8Array>;
    for (const [seq, bytes] of journal) {
      const read = readJournal(bytes);
      if (read?.record.kind === "vote" && read.record.vote.voter !== 0) journal.delete(seq);
    }
    expect(engineOn(world, copy).describe()).toMatch(/locked [0-9a-f]{8}@0/);
  });

  test("BF4 what was decided is told again to an application that starts, in order, and once", () => {
    const world = new World({ n: 4 });
    for (let i = 0; i < 5; i++) {
      world.propose(world.copy(i % 4), `p${i}`);
      world.run(world.now + 150);
    }
    const copy = world.copy(2);
    const before = [...copy.committed.values()];
    expect(before.map(({ index }) => index)).toEqual([1, 2, 3, 4, 5]);
    copy.committed.clear();
    world.restart(copy);
    world.run(world.now + 1);
    expect([...copy.committed.values()]).toEqual(before);
    expect(copy.disk.logs.get("bft.journal")).toBeUndefined();
  });

  test("BF6 a replica that meets votes of another copy of itself signs nothing any more, and says why", () => {
    const world = new World({
      n: 4,
      twins: [0],
      onCopy: "stop",
      record: true,
      delay: (from, to) => ((from.which === 1) !== (to.which === 1) && world.now < 200 ? undefined : 1),
    });
    const [copy, other] = [world.copy(0), world.copy(0, 1)];
    other.up = false;
    // So that the certificate needs the vote of this replica.
    world.copy(3).up = false;
    const backup = copy.disk.copy();
    world.propose(world.copy(1), "one");
    world.run(100);
    expect(copy.height).toBe(1);
    // A backup from before the decision comes back.
    copy.up = false;
    for (const [name, log] of backup.logs) other.disk.logs.set(name, log);
    world.restart(other);
    world.propose(other, "two");
    world.run(199);
    world.run(1_000);
    expect(other.seen.get("copy_seen") ?? 0).toBe(1);
    world.propose(other, "three");
    expect(other.answers.at(-1)).toMatchObject({ kind: "refused", failure: { reason: "IDENTITY_MISMATCH" } });
    // Nor does a restart make it sign, as it has no more of the votes that it lacks.
    copy.up = false;
    world.restart(other);
    const { disk } = other;
    world.copy(3).up = true;
    world.propose(world.copy(1), "four");
    world.run(2_000);
    expect(other.height).toBeGreaterThan(1);
    expect(disk.get("bft.copied", other.replica)).toBeDefined();
    const mine = other.sent.flatMap(({ frame }) =>
      frame.kind === "votes" ? frame.votes.filter(({ voter, height }) => voter === 0 && height > 1) : [],
    );
    expect(mine).toEqual([]);
    expect(other.engine.status(world.clock()).role).toBe("outside");
  });
});

function isPrecommit(frame: BftFrame): boolean {
  return frame.kind === "certificate" || (frame.kind === "votes" && frame.votes.some(({ step }) => step === STEP.PRECOMMIT));
}

function engineOn(world: World, copy: Copy): BftEngine {
  const other = world.add(copy.replica, 9, copy.disk.copy());
  world.copies.pop();
  other.up = false;
  return other.engine;
}

/** Until it starts, an engine shows what it has replayed. */
function firstLines(engine: BftEngine): string[] {
  return engine
    .describe()
    .split("\n")
    .slice(0, 2)
    .map((line) => line.replace(/rounds .*/, ""));
}
