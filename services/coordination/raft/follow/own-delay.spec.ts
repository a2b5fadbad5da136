import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RaftCluster } from "../../../../test/support/raft-cluster.ts";
import { RAFT_TUNING } from "../config.ts";
import { RAFT_PARTS, type RaftParts } from "../engine.ts";
import { Leadership } from "../lead/leadership.ts";
import { Spare } from "../state/spare.ts";
import { Election } from "./election.ts";

const THREE = ["a/1", "b/1", "c/1"];

/** Parts that take the time in which they did not run for the silence of others, as Raft does by itself. */
const NAIVE: RaftParts = {
  ...RAFT_PARTS,
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
};

/** led is three replicas of which one leads, and has been heard. */
function led(parts: RaftParts): { readonly cluster: RaftCluster; readonly leader: string } {
  const cluster = new RaftCluster(THREE, { parts });
  cluster.until(() => cluster.leader !== undefined, 5_000);
  cluster.pass(500);
  return { cluster, leader: (cluster.leader as { id: string }).id };
}

/** deposed counts the leaders that were given up, by themselves or by others, while all did not run for `ms`, `times` times. */
function deposed(parts: RaftParts, pauses: readonly number[]): number {
  const { cluster } = led(parts);
  for (const node of cluster.nodes.values()) node.observed = [];
  for (const ms of pauses) {
    // Nobody on this machine runs; what was sent waits, and is read after the timers that are due.
    cluster.mono += ms;
    for (const node of cluster.nodes.values()) if ((node.engine.deadline() ?? Number.POSITIVE_INFINITY) <= cluster.mono) node.tick();
    cluster.pass(400);
  }
  const seen = [...cluster.nodes.values()].flatMap(({ observed }) => observed);
  return seen.filter((what) => what === "leader_lost" || what === "quorum_lost").length;
}

describe("a replica that did not run", () => {
  test("RL8 RP1 RP2 gives up nobody for it: hubs that are starved together keep their leader, which plain Raft does not", () => {
    const pauses = [150, 350, 650, 1_500, 10_000, 700, 90];
    expect(deposed(RAFT_PARTS, pauses)).toBe(0);
    expect(deposed(NAIVE, pauses)).toBeGreaterThan(3);
  });

  test("RL8 RP1 RP2 however long they are, other than those that end when a follower asked to be called, of which it does not know", () => {
    const pause = fc.oneof(fc.integer({ min: 1, max: 220 }), fc.integer({ min: 640, max: 5_000 }));
    fc.assert(
      fc.property(fc.array(pause, { maxLength: 6 }), (pauses) => {
        expect(deposed(RAFT_PARTS, pauses)).toBe(0);
      }),
      { numRuns: 30 },
    );
  });

  test("RL8 does not vote for others meanwhile, as the word of its leader waits to be read", () => {
    for (const [parts, answers] of [
      [RAFT_PARTS, 0],
      [NAIVE, 1],
    ] as const) {
      const { cluster, leader } = led(parts);
      const [voter, other] = THREE.filter((id) => id !== leader) as [string, string];
      const node = cluster.node(voter);
      node.engine.deadline();
      cluster.mono += 900;
      const { term, last } = node.engine.status(cluster.now);
      const ask = { type: "vote_request", term: term + 1, pre: true, lastIndex: last, lastTerm: term, transfer: false } as const;
      const out = node.step({ kind: "frame", from: other, frame: ask });
      expect(out.filter((effect) => effect.kind === "send" && effect.frame.type === "vote_answer")).toHaveLength(answers);
    }
  });

  test("RP3 RL8 a leader that is dead is replaced in time, also by hubs that are late each time", () => {
    const { cluster, leader } = led(RAFT_PARTS);
    cluster.nodes.delete(leader);
    const from = cluster.mono;
    const alive = [...cluster.nodes.values()];
    const leads = (): boolean => alive.some((node) => node.engine.status(cluster.now).role === "leader");
    while (!leads()) {
      // Each is called 40 ms after it asked to be, for ever.
      cluster.pass(1);
      const due = Math.min(...alive.map((node) => node.engine.deadline() ?? Number.POSITIVE_INFINITY));
      if (due > cluster.mono && due - cluster.mono <= 1) cluster.mono = due + 40;
      if (cluster.mono - from > 20_000) throw new Error("nobody leads");
    }
    // An election takes 300 to 600 ms by itself; what is spared is as much again, for each try.
    expect(cluster.mono - from).toBeLessThan(3_000);
  });
});

test("RP1 who is a quorum by itself waits for nobody: however often it was late, it is called for the next heartbeat, which a learner hears", () => {
  const cluster = new RaftCluster(["a/1"]);
  cluster.until(() => cluster.leader !== undefined, 5_000);
  const [node] = [...cluster.nodes.values()] as [NonNullable<typeof cluster.leader>];
  for (const ms of [150, 1_000, 90, 5_000]) {
    cluster.mono += ms;
    node.tick();
    expect(node.engine.deadline()).toBe(cluster.mono + RAFT_TUNING.heartbeatMs);
  }
});

describe("Spare", () => {
  test("RP3 gives at most so much for one silence, counted from when the replica ran again", () => {
    const spare = new Spare();
    expect(spare.until(300, 10_300, 10_000, 60, 300)).toBe(10_360);
    expect(spare.until(10_360, 10_400, 40, 60, 300)).toBe(10_460);
    for (let at = 10_500; at < 12_000; at += 100) spare.until(at, at, 40, 60, 300);
    expect(spare.until(12_000, 12_050, 50, 60, 300)).toBe(12_050);
    spare.anew();
    expect(spare.until(12_100, 12_150, 50, 60, 300)).toBe(12_210);
    // What is due later than that is put off by the delay alone.
    spare.anew();
    expect(spare.until(13_000, 12_300, 30, 60, 300)).toBe(13_030);
  });
});
