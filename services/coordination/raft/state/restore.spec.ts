import { describe, expect, test } from "vitest";
import type { StoreOp } from "#kernel/core.ts";
import { Prng } from "#kernel/prng.ts";
import { fakeCrypto, fakeKey, RaftCluster, type RaftNode } from "../../../../test/support/raft-cluster.ts";
import type { Committed, Membership } from "../../log/engine.ts";
import type { RaftOptions } from "../config.ts";
import { RaftEngine } from "../engine.ts";
import { readEntry, writeCommit, writeEntry, writeHard } from "./record.ts";
import { restore } from "./restore.ts";

const ONE = ["a/1"];

/** A replica of its own with a snapshot, some entries behind it, and some before it. */
function settled(): RaftNode {
  const cluster = new RaftCluster(ONE, { tuning: { snapshotEntries: 8, keepEntries: 3, partBytes: 16, hintMs: 20 } });
  const leader = cluster.elect();
  for (let i = 0; i < 18; i++) {
    cluster.propose(leader, `p${i}`);
    cluster.pass(5);
  }
  cluster.pass(50);
  return leader;
}

function options(self = "a/1"): RaftOptions {
  return { self, crypto: fakeCrypto(self), prng: new Prng(1), keysOf: (replica) => [fakeKey(replica)] };
}

function rewritten(node: RaftNode, seq: number, change: (entry: Committed) => Committed): StoreOp[] {
  const entries = [...node.store.read("raft", seq)];
  const bytes = entries[0]?.bytes as Uint8Array;
  return [
    { op: "cut", log: "raft", from: seq },
    { op: "append", log: "raft", seq, bytes: writeEntry(change(readEntry("r", bytes))) },
    ...entries.slice(1).map((rest): StoreOp => ({ op: "append", log: "raft", seq: rest.seq, bytes: rest.bytes })),
  ];
}

describe("what is stored", () => {
  test("is what the replica was: log, commit index, membership, snapshot", () => {
    const node = settled();
    const { log, commit, box, members, term, vote, freshFrom } = restore(options(), node.store);
    const { last, committed, membership } = node.engine.status({ mono: 0, wall: 0 });
    expect([log.last, commit, term, vote, members.active, freshFrom]).toEqual([last, committed, 1, "a/1", membership, last]);
    expect([box.index, log.base]).toEqual([16, 13]);
  });

  test("nothing is a beginning: with the founding membership, or with none", () => {
    const { store } = new RaftCluster([]).add("z/1");
    const bootstrap = { voters: ["a/1"], outgoing: [], learners: [] };
    expect(restore(options(), store)).toMatchObject({ empty: true, term: 0, commit: 0 });
    expect(restore({ ...options(), bootstrap }, store).members.active).toEqual(bootstrap);
    expect(() => restore({ ...options(), bootstrap: { ...bootstrap, voters: [] } }, store)).toThrow("it has no voter");
    expect(() => new RaftEngine(options("a"), store)).toThrow("<hub id>/<incarnation>");
  });

  test("RS1 zoo 14: every membership but the newest one of the log is decided", () => {
    const { store } = new RaftCluster([]).add("z/1");
    const member = (...voters: string[]): Membership => ({ voters, outgoing: [], learners: [] });
    const entries: Committed[] = [
      { index: 1, term: 1, time: 0, payloads: [], membership: member("a/1", "b/1") },
      { index: 2, term: 1, time: 0, payloads: [] },
      { index: 3, term: 1, time: 0, payloads: [], membership: member("b/1") },
      { index: 4, term: 1, time: 0, payloads: [] },
    ];
    const ops = entries.map((entry): StoreOp => ({ op: "append", log: "raft", seq: entry.index, bytes: writeEntry(entry) }));
    void store.commit([...ops, { op: "put", space: "raft", key: "hard", bytes: writeHard({ replica: "a/1", term: 1, vote: undefined }) }]);
    const { commit, members } = restore(options(), store);
    expect([commit, members.active, members.pending?.index]).toEqual([1, member("a/1", "b/1"), 3]);
  });
});

describe("what contradicts itself is told", () => {
  test.each<[string, string, (node: RaftNode) => StoreOp[]]>([
    ["a term without entries of it", "there are entries, and no term", () => [{ op: "delete", space: "raft", key: "hard" }]],
    [
      "another replica",
      "that of another replica",
      () => [{ op: "put", space: "raft", key: "hard", bytes: writeHard({ replica: "b/1", term: 1, vote: undefined }) }],
    ],
    [
      "zoo 3: a term below that of the log",
      "of a later term",
      () => [{ op: "put", space: "raft", key: "hard", bytes: writeHard({ replica: "a/1", term: 0, vote: undefined }) }],
    ],
    ["a commit index behind the end", "beyond the end", () => [{ op: "put", space: "raft", key: "commit", bytes: writeCommit(99) }]],
    ["a snapshot that is gone", "between the snapshot and the log are missing", () => [{ op: "delete", space: "raft", key: "snapshot" }]],
    ["a part that is gone", "a part of the snapshot is missing", () => [{ op: "delete", space: "raft-snapshot", key: "part-00001" }]],
    [
      "a part that is another",
      "a part of the snapshot is not what was written",
      () => [{ op: "put", space: "raft-snapshot", key: "part-00001", bytes: new Uint8Array(16) }],
    ],
    ["entries between", "between the snapshot and the log are missing", () => [{ op: "trim", log: "raft", below: 18 }]],
    ["entries up to the snapshot", "ends before the snapshot", () => [{ op: "cut", log: "raft", from: 15 }]],
    [
      "zoo 26: a record that is damaged",
      "raft/17",
      () => [
        { op: "cut", log: "raft", from: 17 },
        { op: "append", log: "raft", seq: 17, bytes: Uint8Array.of(9, 9) },
      ],
    ],
    ["another position", "at another position", (node) => rewritten(node, 17, (entry) => ({ ...entry, index: 16 }))],
    ["terms that go back", "go back", (node) => rewritten(node, 18, (entry) => ({ ...entry, term: 0 }))],
    ["times that go back", "go back", (node) => rewritten(node, 18, (entry) => ({ ...entry, time: 1 }))],
    [
      "another history than the snapshot's",
      "go back|another one than that of the snapshot",
      (node) => [13, 14, 15, 16].flatMap((seq) => rewritten(node, seq, (entry) => ({ ...entry, term: 0 }))),
    ],
  ])("%s", (_what, message, damage) => {
    const node = settled();
    const ops = damage(node);
    expect(node.store.commit(ops)).toEqual({ ok: true });
    expect(() => restore(options(), node.store)).toThrow(new RegExp(message));
    expect(() => restore(options(), node.store)).toThrow(expect.objectContaining({ name: "AssertionFailure" }));
  });

  test("a gap", () => {
    const node = settled();
    const last = [...node.store.read("raft", 17)].at(-1)?.seq as number;
    const bytes = writeEntry({ index: last + 2, term: 1, time: 2e12, payloads: [] });
    void node.store.commit([{ op: "append", log: "raft", seq: last + 2, bytes }]);
    expect(() => restore(options(), node.store)).toThrow("the log has a gap");
  });
});
