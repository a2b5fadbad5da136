import { expect, test } from "vitest";
import { Prng } from "#kernel/prng.ts";
import { RaftCluster, type RaftNode } from "../../../test/support/raft-cluster.ts";
import { RAFT_PARTS, type RaftParts } from "./engine.ts";

const FIVE = ["a/1", "b/1", "c/1", "d/1", "e/1"];

/** Chaos drives a cluster by a seed, and looks after each ms whether all that was decided is the same everywhere and stays so. */
class Chaos {
  readonly cluster: RaftCluster;
  readonly #prng: Prng;
  readonly #parts: RaftParts;
  /** What was decided, by position: as text, with its term. */
  readonly #decided = new Map<number, string>();
  readonly #leaders = new Map<number, string>();
  /** What must be readable by a read: the newest decided position when it was asked for. */
  readonly #reads = new Map<number, number>();
  readonly #seen = new Map<RaftNode, { entries: number; answers: number }>();
  readAnswers = 0;
  changes = 0;
  #proposals = 0;

  constructor(seed: number, parts: RaftParts, leaseReads: boolean) {
    this.#prng = new Prng(seed);
    this.#parts = parts;
    const size = 3 + 2 * this.#prng.below(2);
    const tuning = { snapshotEntries: 15, keepEntries: 4, partBytes: 64, promoteLag: 4, windowMessages: 3, leaseReads };
    this.cluster = new RaftCluster(FIVE.slice(0, size), { tuning, parts });
    this.cluster.lose = () => this.#prng.chance(0.05);
    this.cluster.delays = () => {
      const one = (): number => 1 + (this.#prng.chance(0.05) ? this.#prng.below(800) : this.#prng.below(12));
      return this.#prng.chance(0.05) ? [one(), one()] : [one()];
    };
    for (const node of this.cluster.nodes.values()) node.slowDisk = true;
  }

  run(ms: number): void {
    for (let at = 0; at < ms; at++) {
      this.#fault();
      this.#work();
      this.cluster.pass(1);
      for (const node of this.cluster.nodes.values()) if (this.#prng.chance(0.3)) node.flush();
      this.check();
    }
  }

  /** heal ends all faults: what is proposed then is decided everywhere. */
  heal(): void {
    const { cluster } = this;
    cluster.cut.clear();
    cluster.lose = () => false;
    cluster.delays = () => [1];
    for (const node of cluster.nodes.values()) {
      node.slowDisk = false;
      node.flush();
    }
    cluster.pass(3_000);
    this.check();
    const leader = cluster.elect();
    cluster.propose(leader, "last");
    cluster.pass(500);
    this.check();
    const { voters } = leader.engine.status(cluster.now).membership;
    for (const id of voters) expect(cluster.node(id).applied.at(-1), cluster.describe()).toBe("last");
  }

  check(): void {
    for (const node of this.cluster.nodes.values()) {
      const seen = this.#seen.get(node) ?? { entries: 0, answers: 0 };
      if (node.entries.length < seen.entries) seen.entries = 0;
      for (const entry of node.entries.slice(seen.entries)) {
        const text = JSON.stringify([entry.term, entry.time, entry.payloads.map((bytes) => [...bytes]), entry.membership]);
        const before = this.#decided.get(entry.index) ?? text;
        if (before !== text) throw new Error(`${entry.index} was decided as ${before}, and at ${node.id} as ${text}`);
        this.#decided.set(entry.index, text);
      }
      for (const answer of node.answers.slice(seen.answers)) {
        if (answer.kind === "role" && answer.role === "leader") {
          const before = this.#leaders.get(answer.term) ?? node.id;
          if (before !== node.id) throw new Error(`${before} and ${node.id} lead term ${answer.term}`);
          this.#leaders.set(answer.term, node.id);
        }
        if (answer.kind === "readable") {
          this.readAnswers++;
          const least = this.#reads.get(answer.call) ?? 0;
          if (answer.index < least)
            throw new Error(`a read at ${node.id} is answered with ${answer.index}, and ${least} was decided before`);
        }
        if (answer.kind === "done") this.changes++;
      }
      this.#seen.set(node, { entries: node.entries.length, answers: node.answers.length });
    }
  }

  #pick<T>(items: readonly T[]): T {
    return items[this.#prng.below(items.length)] as T;
  }

  #fault(): void {
    const { cluster } = this;
    const nodes = [...cluster.nodes.values()];
    if (this.#prng.chance(0.002)) cluster.cut.add(this.#pick(nodes).id);
    if (this.#prng.chance(0.004)) cluster.cut.clear();
    if (this.#prng.chance(0.002)) {
      const node = this.#pick(nodes);
      node.crash(this.#parts);
      this.#seen.set(node, { entries: 0, answers: node.answers.length });
    }
  }

  #work(): void {
    const { cluster } = this;
    const leaders = [...cluster.nodes.values()].filter((node) => node.engine.status(cluster.now).role === "leader");
    for (const leader of leaders) {
      if (this.#prng.chance(0.1)) cluster.propose(leader, `p${++this.#proposals}`);
      if (this.#prng.chance(0.05)) {
        const call = cluster.call();
        this.#reads.set(call, Math.max(0, ...this.#decided.keys()));
        leader.step({ kind: "read", call });
      }
      if (this.#prng.chance(0.005)) this.#change(leader);
      if (this.#prng.chance(0.003))
        leader.step({ kind: "transfer", call: cluster.call(), to: this.#pick(leader.engine.status(cluster.now).membership.voters) });
    }
  }

  /** A step that is allowed more often than not: a learner comes, becomes a voter, or goes; a voter goes. */
  #change(leader: RaftNode): void {
    const { cluster } = this;
    const { voters, learners } = leader.engine.status(cluster.now).membership;
    const others = FIVE.filter((id) => !voters.includes(id) && !learners.includes(id));
    const call = cluster.call();
    if (learners.length > 0 && this.#prng.chance(0.7)) {
      const id = this.#pick(learners);
      leader.step({ kind: "reconfigure", call, voters: [...voters, id], learners: learners.filter((other) => other !== id) });
    } else if (others.length > 0 && this.#prng.chance(0.6)) {
      const id = this.#pick(others);
      if (!cluster.nodes.has(id)) cluster.add(id, undefined, this.#parts).slowDisk = true;
      leader.step({ kind: "reconfigure", call, voters, learners: [...learners, id] });
    } else if (voters.length > 1) {
      const id = this.#pick(voters);
      leader.step({ kind: "reconfigure", call, voters: voters.filter((other) => other !== id), learners });
    }
  }
}

const SEEDS = Number(process.env["RAFT_SEEDS"] ?? 25);
const FIRST = Number(process.env["RAFT_FIRST"] ?? 1);

test("RA3 RX2 RG1 RQ2 whatever is lost, doubled, late, cut off or crashed, one history is decided, and reads see it", {
  timeout: 600_000,
}, () => {
  let [reads, changes] = [0, 0];
  for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
    const chaos = new Chaos(seed, RAFT_PARTS, seed % 2 === 0);
    try {
      chaos.run(4_000);
      chaos.heal();
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
    reads += chaos.readAnswers;
    changes += chaos.changes;
  }
  expect(reads).toBeGreaterThan(20 * SEEDS);
  expect(changes).toBeGreaterThan(2 * SEEDS);
});
