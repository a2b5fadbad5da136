// Hubs on a machine that is busy: whoever measures the silence of others by a clock that ran while it did not deposes leaders that are well.
import { expect, test } from "vitest";
import { Election } from "../../../services/coordination/raft/follow/election.ts";
import { Leadership } from "../../../services/coordination/raft/lead/leadership.ts";
import { Clients } from "./clients.ts";
import { Cluster } from "./cluster.ts";
import { drawOptions } from "./options.ts";
import { raftSubject } from "./raft.ts";
import { type Mutant, sabotageOf } from "./zoo/mutant.ts";

/** Takes the time in which it did not run for a silence of the others. */
const NAIVE: Pick<Mutant, "parts"> = {
  parts: {
    Election: class extends Election {
      override woke(): void {
        // It is not asked.
      }
    },
    Leadership: class extends Leadership {
      override woke(): void {
        // It is not asked.
      }
    },
  },
};

const SEEDS = 8;
const ROUNDS = 12;

/** starve stops all hubs of a seed again and again, for less and for more than an election takes; it gives how often another one came to lead. */
async function starve(seed: number, mutant: Pick<Mutant, "parts"> | undefined): Promise<number> {
  const options = { ...drawOptions(raftSubject, seed, 3, new Set()), spares: 0 };
  const sabotage = mutant === undefined ? {} : sabotageOf({ row: "", what: "", seed, by: "", ...mutant });
  const cluster = new Cluster(options, raftSubject, sabotage, false);
  for (const hub of cluster.hubs) hub.start();
  new Clients(cluster).start();
  await cluster.run(3_000);
  const before = cluster.invariants.leaderChanges;
  expect(before).toBeGreaterThan(0);
  for (let round = 0; round < ROUNDS; round++) {
    for (const hub of cluster.hubs) hub.pause();
    await cluster.run(100 + 900 * cluster.prng.unit());
    for (const hub of cluster.hubs) hub.resume();
    await cluster.run(500);
  }
  expect(cluster.invariants.violations).toEqual([]);
  return cluster.invariants.leaderChanges - before;
}

test("RL8 RP1 RP2 hubs that are starved together keep their leader; a replica that does not subtract its own delay is found", async () => {
  const changes = { ours: 0, naive: 0 };
  for (let seed = 1; seed <= SEEDS; seed++) {
    changes.ours += await starve(seed, undefined);
    changes.naive += await starve(seed, NAIVE);
  }
  expect(changes.ours).toBe(0);
  expect(changes.naive).toBeGreaterThan((SEEDS * ROUNDS) / 10);
});
