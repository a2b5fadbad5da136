import { describe, expect, test } from "vitest";
import { RaftCluster, type RaftNode } from "../../../../test/support/raft-cluster.ts";

const THREE = ["a/1", "b/1", "c/1"];

const outcome = (node: RaftNode, call: number): unknown => node.answers.findLast((answer) => "call" in answer && answer.call === call);

function led(): { readonly cluster: RaftCluster; readonly leader: RaftNode; readonly other: RaftNode } {
  const cluster = new RaftCluster(THREE);
  const leader = cluster.elect();
  cluster.pass(100);
  return { cluster, leader, other: cluster.node(THREE.find((id) => id !== leader.id) as string) };
}

describe("a transfer", () => {
  test("RW1 makes another voter lead within a few messages, and nothing that was accepted is lost", () => {
    const { cluster, leader, other } = led();
    for (let i = 0; i < 50; i++) cluster.propose(leader, `p${i}`);
    leader.step({ kind: "transfer", call: 900, to: other.id });
    cluster.pass(20);
    expect(outcome(leader, 900)).toMatchObject({ kind: "done" });
    expect(other.engine.status(cluster.now)).toMatchObject({ role: "leader", term: 2 });
    cluster.pass(100);
    for (const node of cluster.nodes.values()) expect(node.applied).toHaveLength(50);
  });

  test("RW1 zoo 19: a target that lacks something is not told to lead before it has everything; nothing is proposed meanwhile", () => {
    const { cluster, leader, other } = led();
    const told: number[] = [];
    cluster.lose = ({ frame, to }) => {
      if (frame.type === "transfer_now") told.push(cluster.mono);
      return frame.type === "append" && to === other.id;
    };
    cluster.propose(leader, "one");
    leader.step({ kind: "transfer", call: 900, to: other.id });
    const call = cluster.propose(leader, "two");
    expect(outcome(leader, call)).toMatchObject({ failure: { reason: "OVERLOADED" } });
    leader.step({ kind: "reconfigure", call: 901, voters: THREE, learners: ["d/1"] });
    expect(outcome(leader, 901)).toMatchObject({ failure: { reason: "OVERLOADED" } });
    cluster.pass(200);
    expect(told).toEqual([]);
    cluster.lose = () => false;
    cluster.pass(150);
    expect(outcome(leader, 900)).toMatchObject({ kind: "done" });
    expect(other.applied).toEqual(["one"]);
  });

  test("RW1 zoo 19: only to a voter that is heard and has caught up, and one at a time", () => {
    const { cluster, leader, other } = led();
    const transfer = (call: number, to: string): unknown => {
      leader.step({ kind: "transfer", call, to });
      return outcome(leader, call);
    };
    expect(transfer(1, "x/1")).toMatchObject({ failure: { reason: "INVALID_FIELD" } });
    leader.step({ kind: "reconfigure", call: 2, voters: THREE, learners: ["d/1"] });
    cluster.pass(50);
    expect(transfer(3, "d/1")).toMatchObject({ failure: { reason: "INVALID_FIELD" } });
    expect(transfer(4, leader.id)).toMatchObject({ kind: "done" });
    cluster.cut.add(other.id);
    cluster.pass(400);
    expect(transfer(5, other.id)).toMatchObject({ failure: { reason: "PEER_UNREACHABLE" } });
    cluster.cut.clear();
    cluster.pass(500);
    cluster.lose = () => true;
    transfer(6, other.id);
    expect(transfer(7, other.id)).toMatchObject({ failure: { reason: "OVERLOADED" } });
  });

  test("RW2 is over when its time is, and the leader goes on", () => {
    const { cluster, leader, other } = led();
    cluster.lose = ({ frame }) => frame.type === "transfer_now";
    leader.step({ kind: "transfer", call: 900, to: other.id });
    cluster.pass(599);
    expect(outcome(leader, 900)).toBeUndefined();
    cluster.pass(2);
    expect(outcome(leader, 900)).toMatchObject({ kind: "refused", failure: { reason: "OUTCOME_UNKNOWN" } });
    cluster.propose(leader, "one");
    cluster.pass(50);
    expect(leader.applied).toEqual(["one"]);
  });

  test("RW2 is lost when another one leads", () => {
    const { cluster, leader, other } = led();
    const third = THREE.find((id) => id !== leader.id && id !== other.id) as string;
    cluster.lose = () => true;
    leader.step({ kind: "transfer", call: 900, to: other.id });
    const frame = { type: "append", term: 5, prevIndex: 0, prevTerm: 0, entries: [], commit: 0, probe: 1, ageMs: 0, lease: false } as const;
    leader.step({ kind: "frame", from: third, frame });
    expect(outcome(leader, 900)).toMatchObject({ kind: "refused", failure: { reason: "OUTCOME_UNKNOWN" } });
  });

  test("RL2 a word to lead that comes late, from another one, or of another term is nothing", () => {
    const { cluster, leader, other } = led();
    const third = THREE.find((id) => id !== leader.id && id !== other.id) as string;
    for (const [from, term] of [
      [third, 1],
      [leader.id, 0],
      [leader.id, 2],
      ["x/1", 1],
    ] as const)
      other.step({ kind: "frame", from, frame: { type: "transfer_now", term } });
    leader.step({ kind: "frame", from: third, frame: { type: "transfer_now", term: 1 } });
    expect(other.observed.filter((what) => what === "transfer_late")).toHaveLength(4);
    expect([leader, other].map((node) => node.engine.status(cluster.now).term)).toEqual([1, 1]);
  });
});
