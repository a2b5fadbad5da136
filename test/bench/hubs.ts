// Families about hubs themselves: snapshot to a new peer, an idle hub, and how fast hubs start.

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { systemClock } from "#channel/clock.ts";
import { type Node, NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { Prng } from "#kernel/prng.ts";
import { sleep } from "#runtime/clock.ts";
import { RegistryClient } from "../../clients/typescript/registry-client.ts";
import { Federation, type HubProcess } from "../support/federation.ts";
import { belowRow, context, cpuOf, type Row, rssMiBOf } from "./measure.ts";
import { hubEntry } from "./rig.ts";
import { median } from "./worker.ts";

const SNAPSHOT_NODES = 20_000;
const SNAPSHOT_ROUNDS = 5;
/** Uncounted rounds of each pair of hubs that run already, until V8 has compiled what a snapshot needs. With the first and the counted one an owner lets a reader have no more without a pause. */
const SNAPSHOT_WARM_ROUNDS = 3;
const WORDS =
  "alpha beta gamma delta kitchen floor meter valve sensor north south line press weld paint robot arm gate pump motor heat light power water".split(
    " ",
  );

/** snapshotNode is a node of about 530 B with a description of seeded words, so that it compresses like text and not like zeros. */
function snapshotNode(prng: Prng, index: number) {
  const words: string[] = [];
  for (let length = 0; length < 400; ) {
    const word = `${WORDS[prng.below(WORDS.length)]}-${prng.below(1_000)}`;
    words.push(word);
    length += word.length + 1;
  }
  return create(NodeSchema, {
    nodeId: `device-${String(index).padStart(6, "0")}`,
    type: "sensor",
    name: `Device ${index}`,
    description: words.join(" "),
    capabilities: [
      { name: "power", type: ValueType.DOUBLE, readable: true, unit: "W" },
      { name: "state", type: ValueType.BOOL, readable: true, invocable: true },
      { name: "serial", type: ValueType.STRING, readable: true },
    ],
  });
}

/** sessionUpAt is the Unix time (ms) of the last "session is up" of registry-sync with a peer in a hub's log. */
function sessionUpAt(hub: HubProcess, peer: string): number {
  for (const line of hub.log("hub").trimEnd().split("\n").reverse()) {
    if (!line.includes('"session is up"') || !line.includes('"registry-sync"') || !line.includes(`"peer":"${peer}"`)) continue;
    const { time } = JSON.parse(line) as { time: number | string };
    return typeof time === "number" ? time : Date.parse(time);
  }
  throw new Error("the session did not come up");
}

/**
 * snapshot sends a registry of 10 MB to a hub that has nothing of it: one that runs already and gets a new peer, as V8 has compiled it
 * after some rounds, and one whose process has just been started.
 */
export async function snapshot(): Promise<Row[]> {
  const { nodes, bytes } = snapshotNodes();
  const each = (times: readonly number[]): string => `each ${times.map((ms) => ms.toFixed(0)).join(", ")} ms`;
  const cold = await snapshotsTo(nodes, SNAPSHOT_ROUNDS);
  const warm = await toRunning(nodes);
  const note = `${(bytes / 1e6).toFixed(1)} MB of encoded nodes, ${SNAPSHOT_NODES} of them; from "session is up" in the reader's log to the answer of its ListFeeds that has all of it, which it gives only after its commit (asked each 5 ms); ${each(warm)}, between any two of three hubs, after ${2 * SNAPSHOT_WARM_ROUNDS} snapshots that each of them sent and took in uncounted`;
  return [
    belowRow("snapshot", "10 MB to a new peer that runs, applied and durable", 400, "ms", median(warm), note, 0),
    context("snapshot", "the same to a process that has just started", `${median(cold).toFixed(0)} ms`, each(cold)),
  ];
}

/** own gives a hub its nodes. */
async function own(hub: HubProcess, nodes: readonly Node[]): Promise<void> {
  await RegistryClient.connect(hub.clients("gateway-zigbee").registry).registerAll([...nodes]);
}

/** snapshotNodes makes nodes, and says how many bytes they are encoded. */
export function snapshotNodes(count = SNAPSHOT_NODES): { readonly nodes: readonly Node[]; readonly bytes: number } {
  const prng = new Prng(1);
  const nodes = Array.from({ length: count }, (_, index) => snapshotNode(prng, index));
  return { nodes, bytes: nodes.reduce((sum, node) => sum + toBinary(NodeSchema, node).length, 0) };
}

/** snapshotsTo measures a hub that starts with nothing, so often: from "session is up" until it has all of the nodes, ms. */
export async function snapshotsTo(nodes: readonly Node[], rounds: number): Promise<number[]> {
  const hubs = ["a", "b"].map((id, i) => ({ id, peers: [{ hub: ["b", "a"][i]! }] }));
  const federation = await Federation.prepare({ hubs, entry: hubEntry() });
  try {
    const [a, b] = [federation.hub("a"), federation.hub("b")];
    await a.start();
    await own(a, nodes);
    const cold: number[] = [];
    for (let round = 0; round < rounds; round++) {
      await b.start();
      cold.push(await snapshotSeen(b, "a", b.clients(), nodes.length));
      b.closeClients();
      await b.end();
      rmSync(join(b.dir, "data"), { recursive: true, force: true });
    }
    return cold;
  } finally {
    await federation.stop();
  }
}

/**
 * toRunning measures hubs that run, each as a new peer of each other. An owner lets the same reader have a few snapshots as fast as they
 * go, and wait for more: so there are three hubs, and each pair of them has few.
 */
async function toRunning(nodes: readonly Node[]): Promise<number[]> {
  const ids = ["a", "b", "c"];
  const hubs = ids.map((id) => ({ id, peers: ids.filter((other) => other !== id).map((hub) => ({ hub })) }));
  const federation = await Federation.start({ hubs, entry: hubEntry() });
  try {
    await federation.operational(30_000);
    for (const id of ids) await own(federation.hub(id), nodes);
    const clients = new Map(ids.map((id) => [id, federation.hub(id).clients()]));
    const pairs = ids.flatMap((id) => ids.filter((other) => other !== id).map((other) => [id, other] as const));
    for (const [id, peer] of pairs) await snapshotSeen(federation.hub(id), peer, clients.get(id)!);
    const times: number[] = [];
    for (let round = 0; round <= SNAPSHOT_WARM_ROUNDS; round++)
      for (const [id, peer] of pairs) {
        const ms = await snapshotAgain(federation.hub(id), peer, clients.get(id)!);
        if (round === SNAPSHOT_WARM_ROUNDS) times.push(ms);
      }
    return times;
  } finally {
    await federation.stop();
  }
}

type Clients = Pick<ReturnType<HubProcess["clients"]>, "registry">;

/** feedNodes is how many nodes a hub has of a peer; undefined if it has no feed of it. */
async function feedNodes(peer: string, { registry }: Clients): Promise<number | undefined> {
  const { feeds } = await registry.listFeeds({ $typeName: "foedus.registry_sync.v1alpha1.ListFeedsRequest" });
  return feeds.find((feed) => !feed.own && feed.head?.hubId === peer)?.nodes;
}

/** snapshotSeen waits until a hub has the whole snapshot of a peer, and answers the ms since its session came up. */
async function snapshotSeen(hub: HubProcess, peer: string, clients: Clients, count = SNAPSHOT_NODES): Promise<number> {
  const end = systemClock.mono() + 30_000;
  while ((await feedNodes(peer, clients)) !== count) {
    if (systemClock.mono() > end) throw new Error("the snapshot did not arrive");
    await sleep(systemClock, 5);
  }
  return systemClock.wall() - sessionUpAt(hub, peer);
}

/** snapshotAgain makes a running hub forget a peer, and then have it as a new one. */
async function snapshotAgain(hub: HubProcess, peer: string, clients: Clients): Promise<number> {
  const file = join(hub.dir, "federation.json");
  const text = readFileSync(file, "utf8");
  const { peers } = JSON.parse(text) as { readonly peers: readonly { readonly hub_id: string }[] };
  const follow = (of: string): void => {
    writeFileSync(file, of);
    for (const pid of hub.pids.values()) process.kill(pid, "SIGHUP");
  };
  follow(JSON.stringify({ peers: peers.filter(({ hub_id: id }) => id !== peer) }));
  const end = systemClock.mono() + 30_000;
  while ((await feedNodes(peer, clients)) !== undefined) {
    if (systemClock.mono() > end) throw new Error("the peer was not forgotten");
    await sleep(systemClock, 5);
  }
  follow(text);
  return snapshotSeen(hub, peer, clients);
}

const IDLE_LINKS = 10;
const IDLE_SECONDS = 20;
/** What a start leaves behind is collected by V8 within this time; a hub is idle after that. */
const SETTLE_SECONDS = 30;

/** launch is how the installed command starts itself, from its first line: flags of node, and the environment. */
export function launch(): { readonly flags: readonly string[]; readonly env: Readonly<Record<string, string>> } {
  if (process.env["BENCH_ENTRY"] !== undefined) return { flags: [], env: {} };
  const [entry] = hubEntry();
  const line = /^#!\S+ -S (.*?)\bnode\b(.*)$/m.exec(readFileSync(entry!, "utf8").slice(0, 500));
  if (line === null) return { flags: [], env: {} };
  const words = (text: string | undefined): string[] => (text ?? "").split(" ").filter((word) => word !== "");
  return { flags: words(line[2]), env: Object.fromEntries(words(line[1]).map((word) => word.split("=", 2) as [string, string])) };
}

/** idleHub answers what a hub with idle links takes: MiB and percent of a core, by process. */
async function idleHub(mode: "single" | "split"): Promise<Record<string, { readonly rssMiB: number; readonly percent: number }>> {
  const others = Array.from({ length: IDLE_LINKS }, (_, index) => `peer-${index}`);
  const { flags, env } = launch();
  const federation = await Federation.start({
    hubs: [{ id: "hub", mode, env, peers: others.map((hub) => ({ hub })) }, ...others.map((id) => ({ id, peers: [{ hub: "hub" }] }))],
    entry: [...flags, ...hubEntry()],
    logLevel: "warn",
  });
  try {
    await federation.operational(60_000);
    const { pids } = federation.hub("hub");
    await sleep(systemClock, SETTLE_SECONDS * 1_000);
    const started = systemClock.mono();
    const before = new Map([...pids].map(([name, pid]) => [name, cpuOf(pid)]));
    await sleep(systemClock, IDLE_SECONDS * 1_000);
    const seconds = (systemClock.mono() - started) / 1_000;
    return Object.fromEntries(
      [...pids].map(([name, pid]) => [name, { rssMiB: rssMiBOf(pid), percent: ((cpuOf(pid) - before.get(name)!) / seconds) * 100 }]),
    );
  } finally {
    await federation.stop();
  }
}

/** idle measures a hub that has links and nothing to do, started as the installed command starts itself. */
export async function idle(): Promise<Row[]> {
  const { hub } = await idleHub("single");
  const split = Object.entries(await idleHub("split"));
  const show = (read: (one: { readonly rssMiB: number; readonly percent: number }) => string): string =>
    split.map(([name, one]) => `${name} ${read(one)}`).join(", ");
  const note = "VmRSS, all services in one process, with the flags of the installed command";
  return [
    belowRow("idle", `resident memory with ${IDLE_LINKS} idle links, bundled`, 90, "MiB", hub!.rssMiB, note, 1),
    belowRow(
      "idle",
      `processor with ${IDLE_LINKS} idle links`,
      1,
      "% of a core",
      hub!.percent,
      `over ${IDLE_SECONDS} s, ${SETTLE_SECONDS} s after the last link came up`,
    ),
    context(
      "idle",
      "the same in split mode, MiB",
      show(({ rssMiB }) => rssMiB.toFixed(1)),
      "a process per service",
    ),
    context(
      "idle",
      "the same in split mode, % of a core",
      show(({ percent }) => percent.toFixed(2)),
      `over ${IDLE_SECONDS} s`,
    ),
  ];
}

/** start measures how long three hubs take from their processes' start until every link is OPERATIONAL, seen from both ends. */
export async function start(): Promise<Row[]> {
  const ids = ["home", "factory", "lab"];
  const times: number[] = [];
  for (let round = 0; round < 3; round++) {
    const hubs = ids.map((id) => ({ id, peers: ids.filter((other) => other !== id).map((hub) => ({ hub })) }));
    const federation = await Federation.prepare({ hubs, entry: hubEntry(), logLevel: "warn" });
    try {
      const began = systemClock.mono();
      await Promise.all([...federation.hubs.values()].map((hub) => hub.start()));
      await federation.operational(30_000);
      times.push((systemClock.mono() - began) / 1_000);
    } finally {
      await federation.stop();
    }
  }
  return [
    belowRow(
      "start",
      "three hubs, from process start to all links OPERATIONAL",
      2,
      "s",
      median(times),
      `each ${times.map((time) => time.toFixed(2)).join(", ")} s`,
    ),
  ];
}
