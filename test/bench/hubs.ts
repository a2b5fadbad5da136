// Families about hubs themselves: snapshot to a new peer, an idle hub, and how fast hubs start.
import { rmSync } from "node:fs";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { Prng } from "#kernel/prng.ts";
import { sleep, systemClock } from "#runtime/clock.ts";
import { RegistryClient } from "../../services/registry-sync/client.ts";
import { Federation, type HubProcess } from "../support/federation.ts";
import { belowRow, cpuOf, type Row, rssMiBOf } from "./measure.ts";
import { hubEntry } from "./rig.ts";
import { median } from "./worker.ts";

const SNAPSHOT_NODES = 20_000;
const SNAPSHOT_ROUNDS = 5;
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

/** sessionUpAt is the Unix time (ms) of the last "session is up" of registry-sync in a hub's log. */
function sessionUpAt(hub: HubProcess): number {
  for (const line of hub.log("hub").trimEnd().split("\n").reverse()) {
    if (!line.includes('"session is up"') || !line.includes('"registry-sync"')) continue;
    const { time } = JSON.parse(line) as { time: number | string };
    return typeof time === "number" ? time : Date.parse(time);
  }
  throw new Error("the session did not come up");
}

/** snapshot sends a registry of 10 MB to a hub that has nothing. */
export async function snapshot(): Promise<Row[]> {
  const federation = await Federation.prepare({
    hubs: [
      { id: "a", peers: [{ hub: "b" }] },
      { id: "b", peers: [{ hub: "a" }] },
    ],
    entry: hubEntry(),
  });
  try {
    const [a, b] = [federation.hub("a"), federation.hub("b")];
    await a.start();
    const prng = new Prng(1);
    const nodes = Array.from({ length: SNAPSHOT_NODES }, (_, index) => snapshotNode(prng, index));
    const bytes = nodes.reduce((sum, node) => sum + toBinary(NodeSchema, node).length, 0);
    await RegistryClient.connect(a.clients("gateway-zigbee").registry).registerAll(nodes);
    const times: number[] = [];
    for (let round = 0; round < SNAPSHOT_ROUNDS; round++) times.push(await snapshotOnce(b));
    const note = `${(bytes / 1e6).toFixed(1)} MB of encoded nodes, ${SNAPSHOT_NODES} of them; from "session is up" in B's log to the answer of B's ListFeeds that has all of it, which B gives only after its commit (asked each 5 ms); each ${times.map((ms) => ms.toFixed(0)).join(", ")} ms`;
    return [belowRow("snapshot", "10 MB to a new peer, applied and durable", 400, "ms", median(times), note, 0)];
  } finally {
    await federation.stop();
  }
}

async function snapshotOnce(b: HubProcess): Promise<number> {
  rmSync(join(b.dir, "data"), { recursive: true, force: true });
  await b.start();
  const { registry } = b.clients();
  const end = systemClock.mono() + 30_000;
  for (;;) {
    const { feeds } = await registry.listFeeds({ $typeName: "foedus.registry_sync.v1alpha1.ListFeedsRequest" });
    if (feeds.some((feed) => !feed.own && feed.nodes === SNAPSHOT_NODES)) break;
    if (systemClock.mono() > end) throw new Error("the snapshot did not arrive");
    await sleep(systemClock, 5);
  }
  const done = systemClock.wall();
  b.closeClients();
  await b.end();
  return done - sessionUpAt(b);
}

const IDLE_LINKS = 10;
const IDLE_SECONDS = 20;
const SETTLE_SECONDS = 5;

/** idle measures the memory and the processor time of a bundled hub with links on which nothing happens. */
export async function idle(): Promise<Row[]> {
  const others = Array.from({ length: IDLE_LINKS }, (_, index) => `peer-${index}`);
  const federation = await Federation.start({
    hubs: [{ id: "hub", peers: others.map((hub) => ({ hub })) }, ...others.map((id) => ({ id, peers: [{ hub: "hub" }] }))],
    entry: hubEntry(),
    logLevel: "warn",
  });
  try {
    await federation.operational(60_000);
    const pid = federation.hub("hub").pids.get("hub")!;
    await sleep(systemClock, SETTLE_SECONDS * 1_000);
    const [cpu, start] = [cpuOf(pid), systemClock.mono()];
    await sleep(systemClock, IDLE_SECONDS * 1_000);
    const seconds = (systemClock.mono() - start) / 1_000;
    const percent = ((cpuOf(pid) - cpu) / seconds) * 100;
    return [
      belowRow(
        "idle",
        `resident memory with ${IDLE_LINKS} idle links, bundled`,
        90,
        "MiB",
        rssMiBOf(pid),
        "VmRSS, all services in one process",
        1,
      ),
      belowRow("idle", `processor with ${IDLE_LINKS} idle links`, 1, "% of a core", percent, `over ${IDLE_SECONDS} s`),
    ];
  } finally {
    await federation.stop();
  }
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
