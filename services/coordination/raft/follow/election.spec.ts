import { describe, expect, test } from "vitest";
import { RaftCluster, type RaftNode } from "../../../../test/support/raft-cluster.ts";
import type { EngineEffect } from "../../log/engine.ts";
import type { RaftFrame, VoteRequest } from "../frames.ts";

const THREE = ["a/1", "b/1", "c/1"];

const ask = (term: number, over: Partial<VoteRequest> = {}): VoteRequest => ({
  type: "vote_request",
  term,
  pre: false,
  lastIndex: 0,
  lastTerm: 0,
  transfer: false,
  ...over,
});

const granted = (out: readonly EngineEffect<RaftFrame>[]): unknown =>
  out.flatMap((effect) => (effect.kind === "send" && effect.frame.type === "vote_answer" ? [effect.frame.granted] : []))[0];

const writes = (out: readonly EngineEffect<RaftFrame>[]): boolean[] =>
  out.flatMap((effect) => (effect.kind === "persist" ? [effect.hard === true] : []));

/** A replica that has not heard of a leader for long. */
function waiting(): { readonly cluster: RaftCluster; readonly node: RaftNode } {
  const cluster = new RaftCluster(THREE);
  cluster.lose = () => true;
  cluster.mono = 1;
  const node = cluster.node("b/1");
  node.tick();
  cluster.mono = 299 + 1;
  return { cluster, node };
}

describe("a vote", () => {
  test("RA1 zoo 1: is written before it is said, and once a term, also over a restart", () => {
    const { cluster, node } = waiting();
    cluster.mono += 10;
    node.slowDisk = true;
    const out = node.step({ kind: "frame", from: "a/1", frame: ask(3) });
    expect(granted(out)).toBe(true);
    expect(writes(out).every((hard) => hard)).toBe(true);
    const last = out.findLastIndex(({ kind }) => kind === "persist");
    const send = out.findIndex((effect) => effect.kind === "send");
    expect(last).toBeLessThan(send);
    expect(out[send]).toMatchObject({ early: false });
    node.flush();
    expect(granted(node.step({ kind: "frame", from: "c/1", frame: ask(3) }))).toBe(false);
    expect(granted(node.step({ kind: "frame", from: "a/1", frame: ask(3) }))).toBe(true);
    node.flush();
    node.crash();
    node.tick();
    node.flush();
    cluster.mono += 310;
    expect(granted(node.step({ kind: "frame", from: "c/1", frame: ask(3) }))).toBe(false);
    expect(granted(node.step({ kind: "frame", from: "a/1", frame: ask(3) }))).toBe(true);
  });

  test("RA1 zoo 2: is not free again when a candidate or leader steps down in its term", () => {
    const { cluster, node } = waiting();
    cluster.mono += 400;
    node.tick();
    const yes = { type: "vote_answer", term: 1, granted: true, commitIndex: 0, commitTerm: 0 } as const;
    node.step({ kind: "frame", from: "a/1", frame: { ...yes, pre: true } });
    expect(node.engine.describe()).toMatch("candidate term=1 vote=b/1");
    node.step({ kind: "frame", from: "a/1", frame: { ...yes, pre: false } });
    expect(node.engine.status(cluster.now).role).toBe("leader");
    cluster.mono += 301;
    node.tick();
    expect(node.engine.describe()).toMatch("follower term=1 vote=b/1");
    cluster.mono += 301;
    expect(granted(node.step({ kind: "frame", from: "c/1", frame: ask(1, { lastIndex: 9, lastTerm: 1 }) }))).toBe(false);
  });

  test("goes only to a log that has all that may be decided", () => {
    const cluster = new RaftCluster(THREE);
    const leader = cluster.elect();
    cluster.propose(leader, "one");
    cluster.pass(100);
    const node = cluster.node(THREE.find((id) => id !== leader.id) as string);
    cluster.mono += 1_000;
    const of = (lastIndex: number, lastTerm: number, term: number): unknown =>
      granted(node.step({ kind: "frame", from: leader.id, frame: ask(term, { lastIndex, lastTerm }) }));
    expect([of(1, 1, 2), of(9, 0, 3), of(2, 1, 4), of(1, 2, 5)]).toEqual([false, false, true, true]);
  });
});

describe("RL1 a question before a vote", () => {
  test("changes nothing at who is asked: neither term, nor vote, nor contact, nor disk", () => {
    const { cluster, node } = waiting();
    cluster.mono += 10;
    const before = [node.engine.describe(), node.engine.deadline()];
    for (let i = 0; i < 3; i++) {
      const out = node.step({ kind: "frame", from: "a/1", frame: ask(1, { pre: true }) });
      expect([granted(out), writes(out)]).toEqual([true, []]);
    }
    expect(granted(node.step({ kind: "frame", from: "c/1", frame: ask(7, { pre: true }) }))).toBe(true);
    expect([node.engine.describe(), node.engine.deadline()]).toEqual(before);
  });

  test("zoo 11: an answer to it that is late, double, a stranger's or a learner's elects nobody", () => {
    const { cluster, node } = waiting();
    const yes = { type: "vote_answer", term: 1, pre: true, granted: true, commitIndex: 0, commitTerm: 0 } as const;
    node.step({ kind: "frame", from: "a/1", frame: yes });
    expect(node.engine.status(cluster.now).role).toBe("follower");
    cluster.mono += 400;
    node.tick();
    node.step({ kind: "frame", from: "x/1", frame: yes });
    node.step({ kind: "frame", from: "a/1", frame: { ...yes, term: 2 } });
    expect(node.engine.status(cluster.now)).toMatchObject({ role: "candidate", term: 0 });
    node.step({ kind: "frame", from: "a/1", frame: yes });
    expect(node.engine.status(cluster.now)).toMatchObject({ role: "candidate", term: 1 });
    // A promise is no vote.
    node.step({ kind: "frame", from: "c/1", frame: { ...yes, term: 2 } });
    expect(node.engine.status(cluster.now)).toMatchObject({ role: "candidate", term: 1 });
  });
});

describe("RL2 who hears a leader", () => {
  test("zoo 12: gives no vote and enters no term, unless the leader wants it so", () => {
    const cluster = new RaftCluster(THREE);
    const leader = cluster.elect();
    cluster.pass(100);
    const [one, two] = THREE.filter((id) => id !== leader.id) as [string, string];
    const node = cluster.node(one);
    const good = { lastIndex: 9, lastTerm: 1 };
    for (const pre of [true, false]) node.step({ kind: "frame", from: two, frame: ask(9, { ...good, pre }) });
    expect(node.engine.status(cluster.now)).toMatchObject({ term: 1, leader: leader.id });
    leader.step({ kind: "frame", from: two, frame: ask(9, good) });
    expect(leader.engine.status(cluster.now)).toMatchObject({ role: "leader", term: 1 });
    // The leader itself does not lead any more when it asks.
    expect(granted(node.step({ kind: "frame", from: leader.id, frame: ask(2, { ...good, pre: true }) }))).toBe(true);
    expect(granted(node.step({ kind: "frame", from: two, frame: ask(2, { ...good, transfer: true }) }))).toBe(true);
  });
});

describe("zoo 25: replicas that reach only some of the others", () => {
  test.each([
    ["a chain", (from: string, to: string): boolean => !(from === "a/1" && to === "c/1") && !(from === "c/1" && to === "a/1")],
    ["one that is not heard", (from: string): boolean => from !== "c/1"],
    ["one that hears nothing", (_from: string, to: string): boolean => to !== "c/1"],
  ])("%s: somebody leads, and terms stay few", (_what, reaches) => {
    for (let seed = 0; seed < 5; seed++) {
      const cluster = new RaftCluster(THREE);
      cluster.restarts = seed;
      cluster.lose = ({ from, to }) => !reaches(from, to);
      cluster.pass(3_000);
      const leader = cluster.elect();
      const { term } = leader.engine.status(cluster.now);
      cluster.propose(leader, "one");
      cluster.pass(5_000);
      expect(leader.applied).toEqual(["one"]);
      expect((cluster.leader as RaftNode).engine.status(cluster.now).term - term).toBeLessThan(3);
    }
  });

  test("five in a ring of which one reaches all: it leads in the end", () => {
    const cluster = new RaftCluster([...THREE, "d/1", "e/1"]);
    cluster.lose = ({ from, to }) => from !== "c/1" && to !== "c/1";
    const leader = cluster.elect();
    cluster.propose(leader, "one");
    cluster.pass(500);
    expect(leader.id).toBe("c/1");
    for (const node of cluster.nodes.values()) expect(node.applied).toEqual(["one"]);
  });
});
