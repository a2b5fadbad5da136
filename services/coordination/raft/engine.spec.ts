import { describe, expect, test } from "vitest";
import { RaftCluster, type RaftNode } from "../../../test/support/raft-cluster.ts";

const THREE = ["a/1", "b/1", "c/1"];

function answerTo(node: RaftNode, call: number): unknown {
  return node.answers.find((answer) => "call" in answer && answer.call === call);
}

describe("a log of three replicas", () => {
  test("a leader is elected, and what is proposed to it is decided at all of them", () => {
    const cluster = new RaftCluster(THREE);
    const leader = cluster.elect();
    const call = cluster.propose(leader, "one");
    cluster.propose(leader, "two");
    cluster.pass(100);
    for (const node of cluster.nodes.values()) expect(node.applied).toEqual(["one", "two"]);
    expect(answerTo(leader, call)).toMatchObject({ kind: "accepted", index: 2 });
  });

  test("when the leader is cut off another one is elected, and it catches up when it is back", () => {
    const cluster = new RaftCluster(THREE);
    const first = cluster.elect();
    cluster.propose(first, "one");
    cluster.pass(50);
    cluster.cut.add(first.id);
    cluster.propose(first, "lost");
    const second = cluster.elect();
    cluster.propose(second, "two");
    cluster.pass(1_000);
    expect(first.engine.status(cluster.now).role).not.toBe("leader");
    cluster.cut.clear();
    cluster.pass(2_000);
    for (const node of cluster.nodes.values()) expect(node.applied).toEqual(["one", "two"]);
  });

  test("members come and go, by learners and a joint step", () => {
    const cluster = new RaftCluster(THREE);
    const leader = cluster.elect();
    for (let i = 0; i < 20; i++) cluster.propose(leader, `p${i}`);
    cluster.add("d/1");
    const add = cluster.call();
    leader.step({ kind: "reconfigure", call: add, voters: THREE, learners: ["d/1"] });
    cluster.pass(300);
    expect(answerTo(leader, add)).toMatchObject({ kind: "done" });
    expect(cluster.node("d/1").applied).toHaveLength(20);
    const change = cluster.call();
    const others = [...THREE, "d/1"].filter((id) => id !== leader.id);
    leader.step({ kind: "reconfigure", call: change, voters: others, learners: [] });
    cluster.pass(300);
    expect(answerTo(leader, change)).toMatchObject({ kind: "done" });
    expect(leader.engine.status(cluster.now).role).toBe("outside");
    cluster.propose(cluster.elect(), "after");
    cluster.pass(100);
    for (const id of others) expect(cluster.node(id).applied.at(-1)).toBe("after");
  });

  test("a replica that lacks what is no longer in the log gets a snapshot", () => {
    const tuning = { snapshotEntries: 20, keepEntries: 5, partBytes: 64 };
    const cluster = new RaftCluster(THREE, { tuning });
    const leader = cluster.elect();
    const away = THREE.find((id) => id !== leader.id) as string;
    cluster.cut.add(away);
    for (let i = 0; i < 100; i++) {
      cluster.propose(leader, `p${i}`);
      cluster.pass(5);
    }
    cluster.cut.clear();
    cluster.pass(2_000);
    expect(cluster.node(away).answers.some(({ kind }) => kind === "install")).toBe(true);
    for (const node of cluster.nodes.values()) expect(node.applied).toHaveLength(100);
    for (const node of [...cluster.nodes.values()]) node.crash();
    cluster.pass(2_000);
    for (const node of cluster.nodes.values()) expect(node.applied).toHaveLength(100);
  });

  /** The others learn that their sessions with the leader ended; it is time until one of them leads instead, ms. */
  const successorAfter = (tuning: { readonly leaseReads?: boolean }): number => {
    const cluster = new RaftCluster(THREE, { tuning });
    const first = cluster.elect();
    cluster.pass(100);
    cluster.cut.add(first.id);
    const others = [...cluster.nodes.values()].filter(({ id }) => id !== first.id);
    for (const node of others) node.step({ kind: "reachable", replica: first.id, up: false });
    const from = cluster.now.mono;
    while (!others.some(({ engine }) => engine.status(cluster.now).role === "leader")) cluster.pass(1);
    return cluster.now.mono - from;
  };

  test("RL7 replicas whose sessions with the leader end elect another one within a part of the election's time", () => {
    expect(successorAfter({})).toBeLessThan(150);
  });

  test("RL7 who learns of the end of its session later than it is asked is asked again", () => {
    const cluster = new RaftCluster(THREE);
    const first = cluster.elect();
    cluster.pass(100);
    const [early, late] = [...cluster.nodes.values()].filter(({ id }) => id !== first.id) as [RaftNode, RaftNode];
    // Only the early one may lead.
    cluster.cut.add(late.id);
    cluster.propose(first, "more");
    cluster.pass(5);
    cluster.cut.clear();
    cluster.cut.add(first.id);
    early.step({ kind: "reachable", replica: first.id, up: false });
    // It asks within this time, and nobody answers.
    cluster.pass(80);
    late.step({ kind: "reachable", replica: first.id, up: false });
    const from = cluster.now.mono;
    while (![early, late].some(({ engine }) => engine.status(cluster.now).role === "leader")) cluster.pass(1);
    expect(cluster.now.mono - from).toBeLessThan(150);
  });

  test("RL7 with a leader that reads by a lease nobody hurries", () => {
    expect(successorAfter({ leaseReads: true })).toBeGreaterThan(250);
  });

  test("RL7 one replica that loses its session with the leader does not disturb the others", () => {
    const cluster = new RaftCluster(THREE);
    const leader = cluster.elect();
    const { term } = leader.engine.status(cluster.now);
    const one = [...cluster.nodes.values()].find(({ id }) => id !== leader.id) as RaftNode;
    for (let i = 0; i < 20; i++) {
      one.step({ kind: "reachable", replica: leader.id, up: false });
      cluster.pass(100);
    }
    expect(leader.engine.status(cluster.now)).toMatchObject({ role: "leader", term });
  });
});
