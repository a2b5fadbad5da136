import { describe, expect, test } from "vitest";
import { RaftCluster, type RaftNode } from "../../../../test/support/raft-cluster.ts";
import type { RaftTuning } from "../config.ts";
import { readStoredManifest } from "../state/record.ts";

const THREE = ["a/1", "b/1", "c/1"];

/** A leader whose log does not go back to what one follower, which is cut off, has. */
function purged(
  partBytes = 64,
  more: Partial<RaftTuning> = {},
): { readonly cluster: RaftCluster; readonly leader: RaftNode; readonly away: RaftNode } {
  const cluster = new RaftCluster(THREE, { tuning: { snapshotEntries: 20, keepEntries: 0, partBytes, partWindow: 2, ...more } });
  const leader = cluster.elect();
  const away = cluster.node(THREE.find((id) => id !== leader.id) as string);
  cluster.cut.add(away.id);
  for (let i = 0; i < 60; i++) {
    cluster.propose(leader, `value-${i}`);
    cluster.pass(5);
  }
  return { cluster, leader, away };
}

const parts = (node: RaftNode): number => [...node.store.space("raft-incoming")].filter(({ key }) => key.startsWith("part-")).length;

describe("snapshots", () => {
  test("RY2 bring a replica to their position, with the membership of it; after a start it is still there", () => {
    const { cluster, away } = purged();
    cluster.cut.clear();
    cluster.pass(1_000);
    expect(away.applied).toHaveLength(60);
    const install = away.answers.find(({ kind }) => kind === "install");
    expect(install).toMatchObject({ snapshot: { membership: { voters: THREE, outgoing: [], learners: [] } } });
    expect(parts(away)).toBe(0);
    away.crash();
    away.tick();
    cluster.pass(300);
    expect(away.applied).toHaveLength(60);
  });

  test("RY1 go on where they were, after losses, a restart of the receiver, and with another leader", () => {
    const { cluster, leader, away } = purged();
    cluster.cut.clear();
    let sent = 0;
    cluster.lose = ({ frame }) => frame.type === "snapshot_part" && ++sent > 4;
    cluster.pass(400);
    expect(parts(away)).toBe(4);
    away.crash();
    away.tick();
    const again: number[] = [];
    cluster.lose = ({ frame }) => frame.type === "snapshot_part" && again.push(frame.part) < 0;
    cluster.cut.add(leader.id);
    cluster.pass(3_000);
    expect(away.applied).toHaveLength(60);
    // The new leader's snapshot has the same state, so that its first parts were there.
    expect(Math.min(...again)).toBe(4);
  });

  test("RX6 bring a replica on while others write faster than it takes one", () => {
    const { cluster, leader, away } = purged(8);
    cluster.cut.clear();
    const installs = (): number => away.answers.filter(({ kind }) => kind === "install").length;
    let written = 60;
    const reach = (): number => leader.applied.length - away.applied.length;
    while (reach() > 3 && written < 600) {
      cluster.propose(leader, `value-${written++}`);
      cluster.pass(5);
    }
    // It took so long that it would have been too late for the log that is kept otherwise.
    expect(written).toBeGreaterThan(60 + 20);
    expect(written).toBeLessThan(600);
    expect(installs()).toBe(1);
    // When it has everything, no more is kept for it.
    for (let i = 0; i < 40; i++) cluster.propose(leader, "more");
    cluster.pass(100);
    const { base, kept } = /log=(?<base>\d+)\+(?<kept>\d+) /.exec(leader.engine.describe())!.groups!;
    expect([Number(base) > written, Number(kept) <= 20]).toEqual([true, true]);
  });

  test("RX6 keep no more of the log for it than heldBytes, and nothing for one that does not answer", () => {
    const kept = (heldBytes: number, answers: boolean): number => {
      const { cluster, leader, away } = purged(2, { heldBytes, keepBytes: 0 });
      cluster.cut.clear();
      cluster.pass(60);
      if (!answers) cluster.cut.add(away.id);
      cluster.pass(answers ? 0 : 400);
      for (let i = 0; i < 100; i++) {
        cluster.propose(leader, `value-${i}`);
        cluster.pass(5);
      }
      return leader.engine.status(cluster.now).committed - Number(/log=(\d+)\+/.exec(leader.engine.describe())![1]);
    };
    expect(kept(1_000_000, true)).toBeGreaterThan(60);
    expect(kept(40 * 30, true)).toBeLessThan(60);
    expect(kept(1_000_000, false)).toBeLessThanOrEqual(20);
  });

  test("a part that is lost is sent again", () => {
    const { cluster, away } = purged();
    cluster.cut.clear();
    let count = 0;
    cluster.lose = ({ frame }) => (frame.type === "snapshot_part" || frame.type === "snapshot_answer") && ++count % 3 === 0;
    cluster.pass(5_000);
    expect(away.applied).toHaveLength(60);
  });

  test("the last answer that is lost is given again", () => {
    const { cluster, away } = purged();
    cluster.cut.clear();
    let lost = 0;
    cluster.lose = ({ from, frame }) => from === away.id && frame.type === "append_answer" && frame.ok && frame.index > 0 && ++lost < 4;
    cluster.pass(3_000);
    expect(lost).toBeGreaterThan(3);
    expect(away.applied).toHaveLength(60);
  });

  test("zoo 21: a leader without any entries and a replica of which nothing is known come together", () => {
    const { cluster, leader, away } = purged();
    away.store = new RaftCluster([]).add(away.id).store.crash("process");
    leader.crash();
    leader.tick();
    cluster.cut.clear();
    cluster.lose = () => false;
    cluster.pass(3_000);
    for (const node of cluster.nodes.values()) expect(node.applied).toHaveLength(60);
  });

  test("RG1 zoo 15: have the membership of their position, not one that was written or decided after it", () => {
    const cluster = new RaftCluster(THREE, { tuning: { snapshotEntries: 5 } });
    const leader = cluster.elect();
    cluster.pass(100);
    leader.captures = false;
    for (let i = 0; i < 5; i++) cluster.propose(leader, "x");
    cluster.pass(50);
    const { committed } = leader.engine.status(cluster.now);
    leader.step({ kind: "reconfigure", call: 1, voters: THREE, learners: ["d/1"] });
    cluster.pass(50);
    cluster.lose = () => true;
    leader.step({ kind: "reconfigure", call: 2, voters: THREE, learners: ["e/1"] });
    leader.step({ kind: "captured", index: committed, state: new TextEncoder().encode("[]") });
    const stored = leader.store.get("raft", "snapshot") as Uint8Array;
    expect(readStoredManifest("r", stored)).toMatchObject({ index: committed, membership: { voters: THREE, outgoing: [], learners: [] } });
    expect(leader.engine.status(cluster.now).membership.learners).toEqual(["d/1"]);
    leader.crash();
    expect(leader.engine.status(cluster.now).membership.learners).toEqual(["d/1"]);
  });

  test("RY3 zoo 28: an old one replaces nothing", () => {
    const { cluster, leader, away } = purged();
    const offers: Parameters<RaftCluster["lose"]>[0][] = [];
    cluster.lose = (letter) => letter.frame.type === "snapshot_offer" && offers.push(letter) < 0;
    cluster.cut.clear();
    cluster.pass(1_000);
    for (let i = 0; i < 30; i++) cluster.propose(leader, "more");
    cluster.pass(200);
    const before = away.engine.describe();
    const [offer] = offers;
    if (offer === undefined) throw new Error("nothing was offered");
    const out = away.step({ kind: "frame", from: offer.from, frame: offer.frame });
    expect(out.map(({ kind }) => kind)).toEqual(["send"]);
    expect(away.engine.describe()).toBe(before);
  });

  test("a state that is too long is not kept, and asked for again only after as many entries", () => {
    const cluster = new RaftCluster(["a/1"], { tuning: { snapshotEntries: 5, stateBytes: 4 } });
    const leader = cluster.elect();
    for (let i = 0; i < 14; i++) cluster.propose(leader, "xxxx");
    cluster.pass(20);
    expect(leader.observed.filter((what) => what === "capture_too_long")).toHaveLength(3);
    expect(leader.answers.filter(({ kind }) => kind === "capture")).toHaveLength(3);
    for (const index of [-1, 0, 0.5, 99, Number.NaN]) leader.step({ kind: "captured", index, state: new Uint8Array(1) });
    expect(leader.observed.slice(-5)).toEqual(Array.from({ length: 5 }, () => "capture_refused"));
  });

  test("entries before it are kept as far as they are few and short", () => {
    const log = (tuning: object): string => {
      const cluster = new RaftCluster(["a/1"], { tuning: { snapshotEntries: 20, ...tuning } });
      const leader = cluster.elect();
      for (let i = 0; i < 19; i++) cluster.propose(leader, "x".repeat(64));
      return /log=\S+ /.exec(leader.engine.describe())?.[0] ?? "";
    };
    expect([log({ keepEntries: 5 }), log({ keepBytes: 350 }), log({ keepEntries: 0 }), log({})]).toEqual([
      "log=15+5 ",
      "log=17+3 ",
      "log=20+0 ",
      "log=0+20 ",
    ]);
  });
});
