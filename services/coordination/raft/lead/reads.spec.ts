import { describe, expect, test } from "vitest";
import { RaftCluster, type RaftNode } from "../../../../test/support/raft-cluster.ts";
import type { RaftFrame } from "../frames.ts";

const THREE = ["a/1", "b/1", "c/1"];

const readable = (node: RaftNode): number[] => node.answers.flatMap((answer) => (answer.kind === "readable" ? [answer.call] : []));

function led(tuning = {}): { readonly cluster: RaftCluster; readonly leader: RaftNode; readonly others: readonly string[] } {
  const cluster = new RaftCluster(THREE, { tuning });
  const leader = cluster.elect();
  cluster.pass(100);
  return { cluster, leader, others: THREE.filter((id) => id !== leader.id) };
}

const answer = (probe: number, term = 1): RaftFrame => ({
  type: "append_answer",
  term,
  ok: true,
  index: 1,
  hintIndex: 0,
  hintTerm: 0,
  probe,
});

/** probeOf is the number of the newest probe that a leader sent. */
function probeOf(sent: readonly RaftFrame[]): number {
  return Math.max(...sent.map((frame) => (frame.type === "append" ? frame.probe : 0)));
}

describe("a linearizable read", () => {
  test("RQ2 is confirmed by answers to what was sent after it, and by nothing older, however often it comes", () => {
    const { cluster, leader, others } = led();
    const sent: RaftFrame[] = [];
    cluster.lose = ({ frame }) => sent.push(frame) > 0;
    leader.step({ kind: "read", call: 1 });
    const first = probeOf(sent);
    leader.step({ kind: "read", call: 2 });
    for (const from of [...others, ...others])
      for (let probe = 0; probe < first; probe++) leader.step({ kind: "frame", from, frame: answer(probe) });
    expect(readable(leader)).toEqual([]);
    leader.step({ kind: "frame", from: others[0] as string, frame: answer(first) });
    expect(readable(leader)).toEqual([1]);
    // The second one came after the first probe was sent: it needs one of its own.
    leader.step({ kind: "frame", from: others[1] as string, frame: answer(first) });
    expect(readable(leader)).toEqual([1]);
    expect(probeOf(sent)).toBe(first + 1);
    leader.step({ kind: "frame", from: others[1] as string, frame: answer(first + 1) });
    expect(readable(leader)).toEqual([1, 2]);
  });

  test("RQ2 zoo 17: with five voters two answers confirm it, one does not", () => {
    const cluster = new RaftCluster([...THREE, "d/1", "e/1"]);
    const leader = cluster.elect();
    cluster.pass(100);
    const sent: RaftFrame[] = [];
    cluster.lose = ({ frame }) => sent.push(frame) > 0;
    leader.step({ kind: "read", call: 1 });
    const [one, two] = [...cluster.nodes.keys()].filter((id) => id !== leader.id) as [string, string];
    for (let i = 0; i < 3; i++) leader.step({ kind: "frame", from: one, frame: answer(probeOf(sent)) });
    expect(readable(leader)).toEqual([]);
    leader.step({ kind: "frame", from: two, frame: answer(probeOf(sent)) });
    expect(readable(leader)).toEqual([1]);
  });

  test("RQ2 is not confirmed by answers of learners", () => {
    const { cluster, leader } = led();
    cluster.add("d/1");
    leader.step({ kind: "reconfigure", call: 1, voters: THREE, learners: ["d/1"] });
    cluster.pass(200);
    const sent: RaftFrame[] = [];
    cluster.lose = ({ frame }) => sent.push(frame) > 0;
    leader.step({ kind: "read", call: 2 });
    leader.step({ kind: "frame", from: "d/1", frame: answer(probeOf(sent)) });
    expect(readable(leader)).toEqual([]);
  });

  test("RQ1 zoo 7: waits for an entry of the leader's own term", () => {
    const cluster = new RaftCluster(THREE);
    let appends = false;
    cluster.lose = ({ frame }) => !appends && frame.type === "append_answer";
    cluster.until(() => cluster.leader !== undefined);
    const leader = cluster.leader as RaftNode;
    leader.step({ kind: "read", call: 1 });
    cluster.pass(50);
    expect(readable(leader)).toEqual([]);
    appends = true;
    cluster.pass(100);
    expect(readable(leader)).toEqual([1]);
  });

  test("is refused when the lead is lost, and at once by who does not lead", () => {
    const { cluster, leader, others } = led();
    cluster.cut.add(leader.id);
    leader.step({ kind: "read", call: 1 });
    cluster.pass(400);
    expect(leader.answers.findLast(({ kind }) => kind === "refused")).toMatchObject({ call: 1, failure: { reason: "NO_QUORUM" } });
    const follower = cluster.node(others[0] as string);
    cluster.elect();
    cluster.pass(100);
    const other = follower.engine.status(cluster.now).role === "leader" ? cluster.node(others[1] as string) : follower;
    other.step({ kind: "read", call: 2 });
    const { leader: now } = other.engine.status(cluster.now);
    expect(other.answers.at(-1)).toMatchObject({ call: 2, failure: { reason: "NOT_LEADER", facts: { leader: now } } });
  });

  test("is refused when too many wait", () => {
    const { cluster, leader } = led({ reads: 2 });
    cluster.lose = () => true;
    for (let call = 1; call <= 3; call++) leader.step({ kind: "read", call });
    expect(leader.answers.at(-1)).toMatchObject({ call: 3, failure: { reason: "OVERLOADED" } });
  });

  test("needs nobody where there is one voter", () => {
    const cluster = new RaftCluster(["a/1"]);
    const leader = cluster.elect();
    leader.step({ kind: "read", call: 1 });
    expect(readable(leader)).toEqual([1]);
  });
});

describe("a read by lease", () => {
  const tuning = { leaseReads: true, electionMs: 300, leaseDrift: 0.1 };

  test("RQ3 is answered while a quorum was asked lately, and ends before anyone may vote", () => {
    const { cluster, leader } = led(tuning);
    cluster.lose = () => true;
    leader.step({ kind: "read", call: 1 });
    expect(readable(leader)).toEqual([1]);
    // The newest probe that was answered is at most one heartbeat old.
    cluster.mono += 271;
    leader.step({ kind: "read", call: 2 });
    expect(readable(leader)).toEqual([1]);
  });

  test("RQ3 counts from when a probe was sent, not from when its answer came", () => {
    const { cluster, leader, others } = led(tuning);
    const sent: RaftFrame[] = [];
    cluster.lose = ({ frame }) => sent.push(frame) > 0;
    cluster.mono += 200;
    leader.tick();
    const probe = probeOf(sent);
    cluster.mono += 75;
    leader.step({ kind: "frame", from: others[0] as string, frame: answer(probe) });
    cluster.mono += 190;
    leader.step({ kind: "read", call: 1 });
    expect(readable(leader)).toEqual([1]);
    cluster.mono += 10;
    leader.step({ kind: "read", call: 2 });
    expect(readable(leader)).toEqual([1]);
  });

  test("RQ3 zoo 9: is none while the clock is not trusted, and for the rest of a term in which another was told to lead", () => {
    const { cluster, leader, others } = led(tuning);
    cluster.lose = () => true;
    leader.step({ kind: "clock", trusted: false });
    leader.step({ kind: "read", call: 1 });
    leader.step({ kind: "clock", trusted: true });
    expect(readable(leader)).toEqual([]);
    leader.step({ kind: "transfer", call: 2, to: others[0] as string });
    leader.step({ kind: "read", call: 3 });
    expect(readable(leader)).toEqual([]);
    cluster.lose = ({ frame }) => frame.type === "transfer_now";
    cluster.pass(1_000);
    expect(leader.engine.status(cluster.now)).toMatchObject({ role: "leader", term: 1 });
    cluster.lose = () => true;
    leader.step({ kind: "read", call: 4 });
    expect(readable(leader)).toEqual([1, 3]);
  });

  test("is none unless it is asked for", () => {
    const { cluster, leader } = led();
    cluster.lose = () => true;
    leader.step({ kind: "read", call: 1 });
    expect(readable(leader)).toEqual([]);
  });

  test("RL2 zoo 9: a replica that has just started votes for nobody while the leader before may hold a lease", () => {
    const { cluster, leader, others } = led(tuning);
    const [one, two] = others as [string, string];
    cluster.lose = () => true;
    const node = cluster.node(one);
    node.crash();
    node.tick();
    const ask = { type: "vote_request", term: 2, pre: false, lastIndex: 9, lastTerm: 1, transfer: false } as const;
    node.step({ kind: "frame", from: two, frame: ask });
    expect([node.engine.status(cluster.now).term, node.observed.at(-1)]).toEqual([1, "vote_leased"]);
    leader.step({ kind: "read", call: 1 });
    expect(readable(leader)).toEqual([1]);
    cluster.mono += 300;
    node.step({ kind: "frame", from: two, frame: ask });
    expect(node.engine.status(cluster.now).term).toBe(2);
  });
});

describe("the age of a local read", () => {
  test("is that of the last word of a quorum, at the leader and at who follows it", () => {
    const { cluster, leader, others } = led();
    const follower = cluster.node(others[0] as string);
    for (const node of [leader, follower]) expect(node.engine.status(cluster.now).ageMs).toBeLessThan(150);
    cluster.lose = () => true;
    cluster.pass(1_000);
    for (const node of [leader, follower]) {
      expect(node.engine.status(cluster.now).ageMs).toBeGreaterThan(1_000);
      expect(node.engine.status(cluster.now).quorum).toBe(false);
    }
  });

  test("zoo 23: is not known after a start until what may have been shown before is known again", () => {
    const { cluster, leader, others } = led({ hintMs: 100_000 });
    const follower = cluster.node(others[0] as string);
    cluster.propose(leader, "one");
    cluster.pass(100);
    expect(follower.applied).toEqual(["one"]);
    cluster.lose = () => true;
    follower.crash();
    follower.tick();
    expect(follower.engine.status(cluster.now)).toMatchObject({ committed: 1, last: 2, ageMs: undefined });
    // A heartbeat from before the decision that was shown already comes late.
    const late = { type: "append", term: 1, prevIndex: 1, prevTerm: 1, entries: [], commit: 1, probe: 1, ageMs: 0, lease: false } as const;
    follower.step({ kind: "frame", from: leader.id, frame: late });
    expect(follower.engine.status(cluster.now)).toMatchObject({ committed: 1, leader: leader.id, ageMs: undefined });
    cluster.lose = () => false;
    cluster.pass(200);
    expect(follower.applied).toEqual(["one"]);
    expect(follower.engine.status(cluster.now).ageMs).toBeLessThan(150);
  });

  test("zoo 23: the hint is stored after a quiet moment, so that a start shows what was decided", () => {
    const { cluster, leader, others } = led({ hintMs: 50 });
    const follower = cluster.node(others[0] as string);
    cluster.propose(leader, "one");
    cluster.pass(200);
    cluster.lose = () => true;
    follower.crash();
    follower.tick();
    expect(follower.applied).toEqual(["one"]);
  });
});
