import { describe, expect, test } from "vitest";
import { RaftCluster, type RaftNode } from "../../../../test/support/raft-cluster.ts";
import type { EngineEffect } from "../../log/engine.ts";
import type { RaftFrame } from "../frames.ts";

const THREE = ["a/1", "b/1", "c/1"];

const committed = (cluster: RaftCluster, node: RaftNode): number => node.engine.status(cluster.now).committed;
const sends = (out: readonly EngineEffect<RaftFrame>[]): { early: boolean; frame: RaftFrame; to: string }[] =>
  out.filter((effect) => effect.kind === "send");

/** A leader whose frames go nowhere from here on. */
function alone(tuning = {}): { readonly cluster: RaftCluster; readonly leader: RaftNode; readonly others: readonly string[] } {
  const cluster = new RaftCluster(THREE, { tuning });
  const leader = cluster.elect();
  cluster.pass(100);
  cluster.lose = () => true;
  return { cluster, leader, others: THREE.filter((id) => id !== leader.id) };
}

const agreed = (index: number, probe = 0, term = 1): RaftFrame => ({
  type: "append_answer",
  term,
  ok: true,
  index,
  hintIndex: 0,
  hintTerm: 0,
  probe,
});

describe("what is decided", () => {
  test("RX1 a leader counts itself when its own disk is done, not before", () => {
    const { cluster, leader, others } = alone();
    leader.slowDisk = true;
    cluster.propose(leader, "one");
    leader.step({ kind: "frame", from: others[0] as string, frame: agreed(2) });
    expect(committed(cluster, leader)).toBe(1);
    leader.flush();
    expect(committed(cluster, leader)).toBe(2);
  });

  test("RX1 two others decide without the leader's disk", () => {
    const { cluster, leader, others } = alone();
    leader.slowDisk = true;
    cluster.propose(leader, "one");
    for (const from of others) leader.step({ kind: "frame", from, frame: agreed(2) });
    expect(committed(cluster, leader)).toBe(2);
    // What is shown waits for the disk nevertheless: after a crash it is there.
    expect(leader.applied).toEqual([]);
    leader.flush();
    expect(leader.applied).toEqual(["one"]);
  });

  test("RX1 zoo 4: a mark of another term, or of a position that is not there, counts nothing", () => {
    const { cluster, leader, others } = alone();
    leader.slowDisk = true;
    cluster.propose(leader, "one");
    leader.step({ kind: "frame", from: others[0] as string, frame: agreed(2) });
    for (const mark of [
      { term: 0, index: 2 },
      { term: 2, index: 2 },
      { term: 1, index: 3 },
    ])
      leader.step({ kind: "stored", mark });
    expect(committed(cluster, leader)).toBe(1);
    leader.step({ kind: "stored", mark: { term: 1, index: 2 } });
    expect(committed(cluster, leader)).toBe(2);
  });

  test("RX1 zoo 4: what was acknowledged in a term before, and overwritten since, does not count", () => {
    const cluster = new RaftCluster(THREE);
    const first = cluster.elect();
    first.slowDisk = true;
    cluster.cut.add(first.id);
    cluster.propose(first, "lost");
    const second = cluster.elect();
    cluster.propose(second, "kept");
    cluster.pass(50);
    cluster.cut.clear();
    cluster.pass(500);
    // The mark of its own write comes only now, when another's entry stands at that position.
    first.flush();
    cluster.pass(50);
    first.flush();
    cluster.pass(50);
    for (const node of cluster.nodes.values()) expect(node.applied).toEqual(["kept"]);
  });

  test("RX2 what a leader before has written is decided with an entry of the own term, not by counting", () => {
    const { cluster, leader, others } = alone();
    const [from, last] = [others[0] as string, leader.engine.status(cluster.now).last];
    leader.step({ kind: "frame", from, frame: agreed(last) });
    cluster.propose(leader, "old");
    // It loses the lead, and gets it back in term 3 with the entry of term 1 still open.
    leader.step({ kind: "frame", from, frame: { ...agreed(0, 0, 2), ok: false } as RaftFrame });
    cluster.mono += 1_000;
    leader.tick();
    leader.step({ kind: "frame", from, frame: { type: "vote_answer", term: 3, pre: true, granted: true, commitIndex: 0, commitTerm: 0 } });
    leader.step({ kind: "frame", from, frame: { type: "vote_answer", term: 3, pre: false, granted: true, commitIndex: 0, commitTerm: 0 } });
    expect(leader.engine.status(cluster.now)).toMatchObject({ role: "leader", term: 3, last: 3 });
    leader.step({ kind: "frame", from, frame: agreed(2, 0, 3) });
    expect(committed(cluster, leader)).toBe(1);
    leader.step({ kind: "frame", from, frame: agreed(3, 0, 3) });
    expect(committed(cluster, leader)).toBe(3);
  });

  test("an answer for more than there is, or to a question that was never asked, is not believed", () => {
    const { cluster, leader, others } = alone();
    cluster.propose(leader, "one");
    for (const frame of [agreed(9), agreed(2, 999)]) leader.step({ kind: "frame", from: others[0] as string, frame });
    expect(leader.observed.slice(-2)).toEqual(["answer_impossible", "answer_impossible"]);
    expect(committed(cluster, leader)).toBe(1);
  });
});

describe("what is sent", () => {
  test("RA2 appends are early, answers and votes are not", () => {
    const { cluster, leader } = alone();
    const out = leader.step({ kind: "propose", call: 1, payload: new Uint8Array(1) });
    expect(sends(out).map(({ early }) => early)).toEqual([true, true]);
    const follower = cluster.node(THREE.find((id) => id !== leader.id) as string);
    const heard = follower.step({ kind: "frame", from: leader.id, frame: sends(out)[0]?.frame as RaftFrame });
    expect(sends(heard).map(({ early, frame }) => [early, frame.type])).toEqual([[false, "append_answer"]]);
    cluster.mono += 1_000;
    expect(sends(follower.tick()).every(({ early }) => !early)).toBe(true);
  });

  test("windows are bounded by messages and by bytes; what waits goes together when there is room", () => {
    const { cluster, leader, others } = alone({ windowMessages: 3, windowBytes: 10_000 });
    const to = others[0] as string;
    const count = (text: string): number => {
      const out = leader.step({ kind: "propose", call: cluster.call(), payload: new TextEncoder().encode(text) });
      return sends(out).filter((sent) => sent.to === to).length;
    };
    expect(["1", "2", "3", "4", "5"].map(count)).toEqual([1, 1, 1, 0, 0]);
    const out = leader.step({ kind: "frame", from: to, frame: agreed(2) });
    const [next] = sends(out).filter((sent) => sent.to === to);
    expect(next?.frame).toMatchObject({ type: "append", prevIndex: 4, entries: [{ index: 5 }, { index: 6 }] });
    leader.step({ kind: "frame", from: to, frame: agreed(6) });
    expect(["x".repeat(6_000), "y".repeat(6_000), "z"].map(count)).toEqual([1, 1, 0]);
  });

  test("zoo 22: appends that are lost are found by a heartbeat, also with a full window", () => {
    const { cluster, leader } = alone({ windowMessages: 2 });
    for (let i = 0; i < 10; i++) cluster.propose(leader, `p${i}`);
    cluster.lose = () => false;
    cluster.pass(300);
    for (const node of cluster.nodes.values()) expect(node.applied).toHaveLength(10);
  });

  test("what is decided is told soon, also when nothing else is sent", () => {
    const cluster = new RaftCluster(THREE, { tuning: { heartbeatMs: 100, noticeMs: 5 } });
    const leader = cluster.elect();
    cluster.pass(20);
    cluster.propose(leader, "one");
    cluster.pass(10);
    for (const node of cluster.nodes.values()) expect(node.applied).toEqual(["one"]);
  });
});

describe("what is refused", () => {
  const failures = (node: RaftNode): string[] =>
    node.answers.flatMap((answer) => (answer.kind === "refused" ? [answer.failure.reason] : []));

  test("too many entries, or bytes, that wait for a decision", () => {
    const { cluster, leader } = alone({ uncommittedEntries: 3 });
    for (let i = 0; i < 4; i++) cluster.propose(leader, "x");
    expect(failures(leader)).toEqual(["OVERLOADED"]);
    const other = alone({ uncommittedBytes: 500 });
    for (let i = 0; i < 3; i++) other.cluster.propose(other.leader, "x".repeat(300));
    expect(failures(other.leader)).toEqual(["OVERLOADED"]);
    expect(other.leader.answers.findLast(({ kind }) => kind === "refused")).toMatchObject({
      failure: { message: "2 entries of 672 bytes wait for a majority of the voters: try again when they are decided" },
    });
  });

  test("there is room again when they are decided", () => {
    const { cluster, leader } = alone({ uncommittedBytes: 500 });
    for (let i = 0; i < 3; i++) cluster.propose(leader, "x".repeat(300));
    cluster.lose = () => false;
    cluster.pass(200);
    cluster.propose(leader, "y".repeat(300));
    cluster.pass(50);
    expect(leader.applied).toHaveLength(3);
  });

  test("a payload that is too long, and one that the check refuses", () => {
    const cluster = new RaftCluster(THREE, { tuning: { payloadBytes: 4 }, check: (bytes) => (bytes[0] === 0x21 ? "no" : undefined) });
    const leader = cluster.elect();
    for (const text of ["12345", "!"]) cluster.propose(leader, text);
    expect(failures(leader)).toEqual(["MESSAGE_TOO_LARGE", "INVALID_FIELD"]);
    cluster.propose(leader, "1234");
    expect(failures(leader)).toHaveLength(2);
  });

  test("a follower stores no payload that the check refuses, whoever sent it", () => {
    const cluster = new RaftCluster(THREE, { check: (bytes) => (bytes[0] === 0x21 ? "no" : undefined) });
    const node = cluster.node("b/1");
    const entries = [{ index: 1, term: 1, time: 5, payloads: [new TextEncoder().encode("!")] }];
    const frame = { type: "append", term: 1, prevIndex: 0, prevTerm: 0, entries, commit: 1, probe: 1, ageMs: 0, lease: false } as const;
    node.step({ kind: "frame", from: "a/1", frame });
    expect(node.observed).toContain("payload_refused");
    expect(node.engine.status(cluster.now)).toMatchObject({ last: 0, committed: 0, leader: "a/1" });
    expect([...node.store.read("raft", 0)]).toEqual([]);
  });

  test("RX5 log time never goes back, and stands still for a clock that is a little behind it", () => {
    const { cluster, leader } = alone({ clockLagMs: 1_000 });
    cluster.lose = () => false;
    cluster.propose(leader, "one");
    cluster.wallShift = -900;
    cluster.propose(leader, "two");
    cluster.pass(50);
    expect(leader.applied).toEqual(["one", "two"]);
    expect(leader.entries.at(-1)?.time).toBe(leader.entries.at(-2)?.time);
    expect(leader.observed).not.toContain("clock_behind");
  });

  test("RX5 after a leader with a clock that is years ahead all goes on, and log time runs as fast as clocks do", () => {
    const cluster = new RaftCluster(THREE);
    const first = cluster.elect();
    const years = 10 * 365 * 86_400_000;
    cluster.wallShift = years;
    cluster.propose(first, "ahead");
    cluster.pass(200);
    cluster.wallShift = 0;
    cluster.cut.add(first.id);
    const second = cluster.elect();
    for (let i = 0; i < 50; i++) {
      cluster.propose(second, `on ${i}`);
      cluster.pass(40);
    }
    expect(second.applied).toHaveLength(51);
    expect(second.observed.filter((what) => what === "clock_behind")).toHaveLength(1);
    const times = second.entries.filter(({ payloads }) => payloads.length > 0).map(({ time }) => time);
    const spent = (times.at(-1) ?? 0) - (times.at(1) ?? 0);
    expect(spent).toBe(49 * 40);
    expect(second.engine.time(cluster.now) - (times.at(-1) ?? 0)).toBe(40);
  });
});
