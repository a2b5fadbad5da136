import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { frame as anyFrame } from "../../../test/support/raft-arbitrary.ts";
import { fakeCrypto, RaftCluster, type RaftNode } from "../../../test/support/raft-cluster.ts";
import type { Committed } from "../log/engine.ts";
import type { RaftFrame } from "./frames.ts";
import { manifestBytes, signedBytes } from "./state/record.ts";

const THREE = ["a/1", "b/1", "c/1"];
const HISTORY = "another history than the decided one";

/** A cluster with a leader, some entries, and a learner. */
function settled(): { readonly cluster: RaftCluster; readonly leader: RaftNode; readonly follower: RaftNode } {
  const cluster = new RaftCluster(THREE, { tuning: { snapshotEntries: 6, keepEntries: 2 } });
  const leader = cluster.elect();
  for (let i = 0; i < 10; i++) cluster.propose(leader, `p${i}`);
  cluster.pass(100);
  const follower = cluster.node(THREE.find((id) => id !== leader.id) as string);
  return { cluster, leader, follower };
}

const append = (over: Partial<Extract<RaftFrame, { type: "append" }>>): RaftFrame => ({
  type: "append",
  term: 1,
  prevIndex: 0,
  prevTerm: 0,
  entries: [],
  commit: 0,
  probe: 1,
  ageMs: 0,
  lease: false,
  ...over,
});

const NUMBERS = [Number.NaN, -1, 0.5, 2 ** 48, 2 ** 53, Number.POSITIVE_INFINITY, "7" as unknown as number, undefined as unknown as number];

describe("frames that cannot be", () => {
  test.each([
    ["vote_request", ["term", "lastIndex", "lastTerm"]],
    ["vote_answer", ["term", "commitIndex", "commitTerm"]],
    ["append", ["term", "prevIndex", "prevTerm", "commit", "probe", "ageMs"]],
    ["append_answer", ["term", "index", "hintIndex", "hintTerm", "probe"]],
    ["snapshot_offer", ["term"]],
    ["snapshot_part", ["term", "index", "part"]],
    ["snapshot_answer", ["term", "index", "have"]],
    ["transfer_now", ["term"]],
  ] as const)("%s with an odd number is dropped and counted, and changes nothing", (type, fields) => {
    const { leader, follower } = settled();
    const base = {
      ...append({}),
      type,
      lastIndex: 1,
      lastTerm: 1,
      commitIndex: 1,
      commitTerm: 1,
      index: 1,
      hintIndex: 1,
      hintTerm: 1,
      part: 0,
      have: 0,
      pre: false,
      granted: true,
      ok: true,
      transfer: true,
      bytes: new Uint8Array(1),
      manifest: new Uint8Array(1),
      signature: new Uint8Array(64),
    };
    for (const node of [leader, follower])
      for (const field of fields)
        for (const value of NUMBERS) {
          const before = [node.engine.describe(), node.observed.filter((what) => what === "frame_refused").length] as const;
          node.step({ kind: "frame", from: "c/1" === node.id ? "b/1" : "c/1", frame: { ...base, [field]: value } as RaftFrame });
          expect(node.engine.describe(), `${field}=${value}`).toBe(before[0]);
          expect(node.observed.filter((what) => what === "frame_refused")).toHaveLength(before[1] + 1);
        }
  });

  const entry: Committed = { index: 1, term: 1, time: 5, payloads: [] };
  test.each([
    ["a gap", [entry, { ...entry, index: 3 }]],
    ["a position that is not the next", [{ ...entry, index: 2 }]],
    ["terms that go back", [entry, { ...entry, index: 2, term: 0 }]],
    ["a term above the leader's", [{ ...entry, term: 2 }]],
    ["times that go back", [entry, { ...entry, index: 2, time: 4 }]],
    ["a time that is none", [{ ...entry, time: Number.NaN }]],
    ["too many entries", Array.from({ length: 4_097 }, (_, i) => ({ ...entry, index: i + 1 }))],
    ["too many bytes", [{ ...entry, payloads: [new Uint8Array(150_000), new Uint8Array(150_000)] }]],
    ["what is no payload", [{ ...entry, payloads: ["x" as unknown as Uint8Array] }]],
    ["what is no entry", [null as unknown as Committed]],
    ["a membership without voters", [{ ...entry, membership: { voters: [], outgoing: [], learners: ["a/1"] } }]],
    ["an unsorted membership", [{ ...entry, membership: { voters: ["b/1", "a/1"], outgoing: [], learners: [] } }]],
    ["a voter twice", [{ ...entry, membership: { voters: ["a/1", "a/1"], outgoing: [], learners: [] } }]],
    ["a voter that is a learner", [{ ...entry, membership: { voters: ["a/1"], outgoing: [], learners: ["a/1"] } }]],
    ["who is no replica", [{ ...entry, membership: { voters: ["a"], outgoing: [], learners: [] } }]],
  ])("an append with %s is dropped", (_what, entries) => {
    const cluster = new RaftCluster(THREE);
    const node = cluster.node("b/1");
    node.step({ kind: "frame", from: "a/1", frame: append({ entries }) });
    expect(node.observed).toContain("frame_refused");
    expect(node.engine.status(cluster.now)).toMatchObject({ term: 0, last: 0 });
  });
});

describe("frames of whom they cannot be", () => {
  test("of itself, of a name that is none, and of a replica that was replaced are dropped", () => {
    const cluster = new RaftCluster(["a/2", "b/1", "c/1"]);
    const node = cluster.node("b/1");
    for (const from of ["b/1", "a", "a/0", "../1", "a/1", ""]) node.step({ kind: "frame", from, frame: append({}) });
    expect(node.observed).toEqual([...Array.from({ length: 4 }, () => "frame_refused"), "frame_of_replaced", "frame_refused"]);
    expect(node.engine.status(cluster.now).term).toBe(0);
  });

  test("answers of strangers count for nothing, and a stranger's term is not entered by them", () => {
    const { cluster, leader } = settled();
    const frame = { type: "append_answer", term: 99, ok: false, index: 0, hintIndex: 0, hintTerm: 0, probe: 0 } as const;
    leader.step({ kind: "frame", from: "x/1", frame });
    expect(leader.observed).toContain("answer_of_stranger");
    expect(leader.engine.status(cluster.now)).toMatchObject({ role: "leader", term: 1 });
  });

  test("a term that no elections lead to is not entered", () => {
    const { cluster, follower, leader } = settled();
    follower.step({ kind: "frame", from: leader.id, frame: append({ term: 2 ** 40 }) });
    expect(follower.observed).toContain("term_refused");
    expect(follower.engine.status(cluster.now).term).toBe(1);
  });

  test("a second leader of a term is not followed", () => {
    const { cluster, follower, leader } = settled();
    const other = THREE.find((id) => id !== leader.id && id !== follower.id) as string;
    for (const node of [follower, leader]) node.step({ kind: "frame", from: other, frame: append({}) });
    expect([follower, leader].map((node) => node.observed.at(-1))).toEqual(["second_leader", "second_leader"]);
    expect(follower.engine.status(cluster.now).leader).toBe(leader.id);
  });

  test("RA3 zoo 18, 28: a leader whose history contradicts what is decided stops the replica, and nothing is cut", () => {
    const { cluster, follower, leader } = settled();
    const { last } = follower.engine.status(cluster.now);
    const entries = [{ index: last, term: 2, time: 2e12, payloads: [] }];
    const frame = append({ term: 2, prevIndex: last - 1, prevTerm: 1, entries });
    expect(() => follower.step({ kind: "frame", from: leader.id, frame })).toThrow(HISTORY);
    const other = append({ term: 2, prevIndex: last, prevTerm: 2 });
    expect(() => follower.step({ kind: "frame", from: leader.id, frame: other })).toThrow(HISTORY);
  });
});

describe("snapshots that cannot be", () => {
  const state = new TextEncoder().encode(`["${"7".repeat(96)}"]`);
  const offer = (sender: string, over: object = {}, signer = sender): RaftFrame => {
    const membership = { voters: THREE, outgoing: [], learners: [] };
    const digests = [fakeCrypto(sender).hash(state.subarray(0, 64)), fakeCrypto(sender).hash(state.subarray(64))];
    const manifest = manifestBytes({ sender, index: 50, term: 1, time: 2e12, membership, length: 100, partBytes: 64, digests, ...over });
    return { type: "snapshot_offer", term: 1, manifest, signature: fakeCrypto(signer).sign(signedBytes(manifest)) };
  };

  test.each<[string, (leader: string) => RaftFrame]>([
    ["signed by another", (leader) => offer(leader, {}, leader === "b/1" ? "c/1" : "b/1")],
    ["of another sender", (leader) => offer(leader === "b/1" ? "c/1" : "b/1")],
    ["of a later term", (leader) => offer(leader, { term: 2 })],
    ["of no position", (leader) => offer(leader, { index: 0 })],
    ["without a part", (leader) => offer(leader, { length: 500 })],
    ["too long", (leader) => offer(leader, { length: 64 * 4_000, digests: Array.from({ length: 4_000 }, () => new Uint8Array(32)) })],
  ])("one that is %s is refused", (_what, make) => {
    const cluster = new RaftCluster(THREE, { tuning: { stateBytes: 10_000 } });
    const leader = cluster.elect();
    const follower = cluster.node(THREE.find((id) => id !== leader.id) as string);
    const before = follower.engine.describe();
    follower.step({ kind: "frame", from: leader.id, frame: make(leader.id) });
    expect(follower.observed.at(-1)).toBe("snapshot_refused");
    expect(follower.engine.describe()).toBe(before);
  });

  test("RY1 a part that is not what the manifest says is refused; the right ones make it whole", () => {
    const cluster = new RaftCluster(THREE);
    const leader = cluster.elect();
    const follower = cluster.node(THREE.find((id) => id !== leader.id) as string);
    const part = (number: number, bytes: Uint8Array): void =>
      void follower.step({ kind: "frame", from: leader.id, frame: { type: "snapshot_part", term: 1, index: 50, part: number, bytes } });
    follower.step({ kind: "frame", from: leader.id, frame: offer(leader.id) });
    part(0, state.subarray(0, 63));
    part(0, new Uint8Array(64));
    part(2, state.subarray(0, 64));
    expect(follower.observed.slice(-3)).toEqual(["part_refused", "part_refused", "part_refused"]);
    part(1, state.subarray(64));
    expect(follower.answers.some(({ kind }) => kind === "install")).toBe(false);
    part(0, state.subarray(0, 64));
    expect(follower.applied).toEqual(["7".repeat(96)]);
    expect(follower.engine.status(cluster.now)).toMatchObject({ committed: 50, last: 50 });
  });
});

test("whatever frames come from whom, a replica goes on, or says that the history is another one", { timeout: 60_000 }, () => {
  const small = fc.nat({ max: 14 });
  /** Frames that nearly fit: small numbers, and entries that follow each other. */
  const near = anyFrame.chain((frame) =>
    fc
      .tuple(small, small, small, small, fc.nat({ max: 3 }), fc.array(fc.nat({ max: 3 }), { maxLength: 4 }), fc.boolean())
      .map(([term, a, b, c, d, terms, changes]): RaftFrame => {
        const numbers = {
          term,
          prevIndex: a,
          prevTerm: d,
          commit: b,
          probe: c,
          index: a,
          hintIndex: b,
          hintTerm: d,
          lastIndex: a,
          lastTerm: d,
        };
        const of = { ...frame, ...Object.fromEntries(Object.entries(numbers).filter(([name]) => name in frame)) } as RaftFrame;
        if (of.type === "vote_answer") return { ...of, commitIndex: a, commitTerm: d };
        if (of.type !== "append") return of;
        const membership = { voters: ["b/1", "x/1"], outgoing: changes ? THREE : [], learners: [] };
        let high = d;
        const entries = terms.map((more, i): Committed => {
          high += more;
          const entry = { index: a + 1 + i, term: high, time: 1_800_000_000_000 + 10_000 + i, payloads: [] };
          return more === 2 ? { ...entry, membership } : entry;
        });
        return { ...of, entries };
      }),
  );
  const from = fc.constantFrom("a/1", "b/1", "c/1", "x/1", "a/2");
  fc.assert(
    fc.property(
      fc.array(fc.tuple(from, fc.oneof({ weight: 4, arbitrary: near }, anyFrame), fc.nat({ max: 300 })), { maxLength: 25 }),
      (frames) => {
        const { cluster, follower, leader } = settled();
        cluster.lose = () => true;
        for (const [sender, frame, ms] of frames)
          for (const node of [follower, leader]) {
            cluster.mono += ms;
            try {
              node.tick();
              node.step({ kind: "frame", from: sender, frame });
            } catch (error) {
              if (!(error as Error).message.includes(HISTORY)) throw error;
              return;
            }
          }
        for (const node of [follower, leader]) {
          node.crash();
          node.tick();
        }
      },
    ),
    { numRuns: Number(process.env["RAFT_RUNS"] ?? 400) },
  );
});
