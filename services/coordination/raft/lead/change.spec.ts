import { describe, expect, test } from "vitest";
import { RaftCluster, type RaftNode } from "../../../../test/support/raft-cluster.ts";
import { RAFT_TUNING } from "../config.ts";
import { changeProblem } from "./change.ts";

const THREE = ["a/1", "b/1", "c/1"];

const outcome = (node: RaftNode, call: number): unknown => node.answers.findLast((answer) => "call" in answer && answer.call === call);

function led(voters = THREE): { readonly cluster: RaftCluster; readonly leader: RaftNode } {
  const cluster = new RaftCluster(voters);
  const leader = cluster.elect();
  cluster.pass(100);
  return { cluster, leader };
}

function change(node: RaftNode, call: number, voters: readonly string[], learners: readonly string[] = []): void {
  node.step({ kind: "reconfigure", call, voters, learners });
}

describe("changes of the membership", () => {
  test("RD1 zoo 13: one is under way at a time, and none begins before the leader has committed an entry of its term", () => {
    const cluster = new RaftCluster(THREE);
    let answers = false;
    cluster.lose = ({ frame }) => !answers && frame.type === "append_answer";
    cluster.until(() => cluster.leader !== undefined);
    const leader = cluster.leader as RaftNode;
    change(leader, 1, ["a/1", "b/1"]);
    expect(outcome(leader, 1)).toMatchObject({ kind: "refused", failure: { reason: "OVERLOADED" } });
    answers = true;
    cluster.pass(100);
    change(leader, 2, THREE, ["d/1"]);
    change(leader, 3, THREE, ["e/1"]);
    expect(outcome(leader, 3)).toMatchObject({ kind: "refused", failure: { reason: "OVERLOADED" } });
    cluster.pass(100);
    expect(outcome(leader, 2)).toMatchObject({ kind: "done" });
  });

  test("RD2 only a learner that has nearly everything becomes a voter", () => {
    const { cluster, leader } = led();
    change(leader, 1, [...THREE, "d/1"]);
    expect(outcome(leader, 1)).toMatchObject({ failure: { reason: "INVALID_FIELD" } });
    change(leader, 2, THREE, ["d/1"]);
    cluster.pass(100);
    change(leader, 3, [...THREE, "d/1"]);
    expect(outcome(leader, 3)).toMatchObject({ failure: { reason: "TOO_STALE" } });
    cluster.add("d/1");
    cluster.pass(300);
    change(leader, 4, [...THREE, "d/1"]);
    cluster.pass(300);
    expect(outcome(leader, 4)).toMatchObject({ kind: "done" });
    expect(cluster.node("d/1").engine.status(cluster.now)).toMatchObject({ role: "follower", membership: { voters: [...THREE, "d/1"] } });
  });

  test("a joint change needs a majority of both lists, and so does all that is decided during it", () => {
    const { cluster, leader } = led(["a/1", "b/1"]);
    const other = leader.id === "a/1" ? "b/1" : "a/1";
    for (const id of ["c/1", "d/1"]) cluster.add(id);
    change(leader, 1, ["a/1", "b/1"], ["c/1", "d/1"]);
    cluster.pass(300);
    // Of the list before the change only the leader is left: nothing is decided, however many of the list after it agree.
    cluster.cut.add(other);
    change(leader, 2, [leader.id, "c/1", "d/1"]);
    cluster.propose(leader, "one");
    cluster.pass(200);
    expect([outcome(leader, 2), leader.applied]).toEqual([undefined, []]);
    cluster.cut.clear();
    cluster.pass(1_500);
    const now = cluster.elect();
    expect(now.applied).toEqual(["one"]);
    expect(now.engine.status(cluster.now).membership).toEqual({ voters: [leader.id, "c/1", "d/1"].sort(), outgoing: [], learners: [] });
  });

  test("RD4 a new leader ends a joint change that it finds", () => {
    const { cluster, leader } = led();
    // The joint entry reaches the others; what would end it does not leave the leader.
    cluster.lose = ({ frame }) => frame.type === "append" && frame.entries.some(({ membership }) => membership?.outgoing.length === 0);
    const others = THREE.filter((id) => id !== leader.id);
    change(leader, 1, others);
    cluster.pass(150);
    expect(leader.engine.status(cluster.now).membership.outgoing).toEqual(THREE);
    cluster.cut.add(leader.id);
    cluster.lose = () => false;
    cluster.pass(2_000);
    const next = cluster.elect();
    cluster.pass(200);
    expect(next.engine.status(cluster.now).membership).toEqual({ voters: others, outgoing: [], learners: [] });
    cluster.cut.clear();
    cluster.pass(500);
    expect(outcome(leader, 1)).toMatchObject({ kind: "refused", failure: { reason: "OUTCOME_UNKNOWN" } });
  });

  test("RD3 none begins after which nothing could be decided", () => {
    const { cluster, leader } = led();
    const [one, two] = THREE.filter((id) => id !== leader.id) as [string, string];
    cluster.cut.add(one);
    cluster.pass(400);
    change(leader, 1, [leader.id, one]);
    expect(outcome(leader, 1)).toMatchObject({ kind: "refused", failure: { reason: "NO_QUORUM" } });
    change(leader, 2, [leader.id, two]);
    cluster.pass(100);
    expect(outcome(leader, 2)).toMatchObject({ kind: "done" });
  });

  test("zoo 20: a leader that leaves does not count itself, and another one leads soon", () => {
    const { cluster, leader } = led();
    const others = THREE.filter((id) => id !== leader.id);
    change(leader, 1, others);
    cluster.pass(100);
    expect(outcome(leader, 1)).toMatchObject({ kind: "done" });
    expect(leader.engine.status(cluster.now).role).toBe("outside");
    expect(cluster.leader?.id).toBe(cluster.leader?.engine.status(cluster.now).leader);
    expect(others).toContain(cluster.leader?.id);
  });

  test("zoo 12: who was removed disturbs nobody, with whatever term it comes back", () => {
    const { cluster, leader } = led();
    const gone = THREE.find((id) => id !== leader.id) as string;
    cluster.cut.add(gone);
    change(
      leader,
      1,
      THREE.filter((id) => id !== gone),
    );
    cluster.pass(3_000);
    cluster.cut.clear();
    cluster.pass(3_000);
    expect(leader.engine.status(cluster.now)).toMatchObject({ role: "leader", term: 1 });
    for (let term = 50; term < 60; term++)
      for (const node of cluster.nodes.values())
        if (node.id !== gone) {
          const ask = { type: "vote_request", term, pre: false, lastIndex: 99, lastTerm: term, transfer: false } as const;
          node.step({ kind: "frame", from: gone, frame: ask });
        }
    expect(leader.engine.status(cluster.now)).toMatchObject({ role: "leader", term: 1 });
  });

  test("a voter becomes a learner, and campaigns no more", () => {
    const { cluster, leader } = led();
    const other = THREE.find((id) => id !== leader.id) as string;
    change(
      leader,
      1,
      THREE.filter((id) => id !== other),
      [other],
    );
    cluster.pass(300);
    expect(cluster.node(other).engine.status(cluster.now).role).toBe("learner");
    cluster.propose(leader, "one");
    cluster.pass(100);
    expect(cluster.node(other).applied).toEqual(["one"]);
    cluster.cut.add(other);
    cluster.pass(3_000);
    expect(cluster.node(other).engine.status(cluster.now)).toMatchObject({ role: "learner", term: 1, leader: undefined });
  });

  test("etcd #10998: learners vote when they are asked", () => {
    const { cluster } = led();
    const learner = cluster.add("d/1");
    cluster.mono += 1_000;
    learner.tick();
    cluster.mono += 1_000;
    const ask = { type: "vote_request", term: 2, pre: false, lastIndex: 5, lastTerm: 1, transfer: false } as const;
    const answers = learner.step({ kind: "frame", from: "x/1", frame: ask });
    expect(answers.at(-2)).toMatchObject({ kind: "send", to: "x/1", frame: { granted: true } });
    // RA1: the same term, another candidate.
    expect(learner.step({ kind: "frame", from: "y/1", frame: ask }).at(-1)).toMatchObject({ kind: "send", frame: { granted: false } });
    learner.crash();
    learner.tick();
    cluster.mono += 1_000;
    expect(learner.step({ kind: "frame", from: "y/1", frame: ask }).at(-1)).toMatchObject({ kind: "send", frame: { granted: false } });
  });
});

test("what cannot follow a membership, and what can", () => {
  const now = { voters: ["a/1", "b/1"], outgoing: [], learners: ["c/2"] };
  const problem = (voters: readonly string[], learners: readonly string[] = []): string | undefined =>
    changeProblem(now, voters, learners, { ...RAFT_TUNING, learners: 3 });
  expect(problem(["a/1", "c/2"], ["b/1", "d/1"])).toBeUndefined();
  expect(problem([])).toMatch("needs a voter");
  expect(problem(["a/1", "b"])).toMatch("<hub id>/<incarnation>");
  expect(problem(["a/1"], ["a/1"])).toMatch("a is in the lists twice");
  expect(problem(["a/1", "b/2"])).toMatch("another replica of b is a member: remove it before b/2 is added");
  expect(problem(["a/1"], ["c/2", "d/1", "e/1", "f/1"])).toMatch("at most 3 learners");
  expect(problem(["a/1", "b/1", "c/2", "d/1", "e/1", "f/1", "g/1", "h/1"])).toMatch("at most 7 voters");
});
