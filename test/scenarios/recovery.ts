import { create } from "@bufbuild/protobuf";
import { systemClock } from "#channel/clock.ts";
import { ListAgentsRequestSchema } from "#gen/foedus/coordination/v1alpha1/agents_pb.ts";
import { ReadLogRequestSchema } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { ResourceTake } from "#gen/foedus/coordination/v1alpha1/lending_pb.ts";
import type { Lease } from "#gen/foedus/coordination/v1alpha1/resources_pb.ts";
import { drawOptions as drawConsensus } from "../simulator/consensus/options.ts";
import { runSeed as runConsensus } from "../simulator/consensus/run.ts";
import { subjectOf } from "../simulator/consensus/subjects.ts";
import { drawOptions } from "../simulator/options.ts";
import { runSeed } from "../simulator/run.ts";
import { get, lamp, register, stateOf, text, update } from "../support/acts.ts";
import { CountingClient, CountingProgram, connectTo } from "../support/counting-agent.ts";
import { until } from "../support/until.ts";
import { below, holds, type Line, type Play, type Scenario, timed } from "./promises.ts";
import { Stand } from "./stand.ts";
import { Swarms, seeds } from "./swarms.ts";

const SWARMS = ["home", "factory", "lab"] as const;
/** From the death of all until each decides again, ms, also on a machine that is busy. */
const AGAIN_MS = 30_000;
/** Entries after which a snapshot takes their place: the least that there can be. Values are more than fit before it. */
const SNAPSHOT_ENTRIES = 100;
const VALUES = 130;
/** What the agent counts before, and after it. */
const COUNTED = 50;

async function simulated({ scale }: Play): Promise<Line[]> {
  const raft = subjectOf("raft");
  const died = new Set(["crash", "power", "late", "sync", "loss"] as const);
  return [
    ...restarts(scale === "short" ? 2 : 20),
    await seeds("consensus: five voters, processes die and machines lose power at the worst moments", scale === "short" ? 2 : 60, (seed) =>
      runConsensus(drawConsensus(raft, seed, 5, died), raft),
    ),
    await seeds("feeds and commands: three swarms that die and lose power", scale === "short" ? 1 : 15, (seed) =>
      runSeed(drawOptions(seed, 3, new Set(["crash", "power", "disk"]))),
    ),
  ];
}

/** restarts: all of five die at once, again and again, with loans under way, in virtual time. */
function restarts(times: number): Line[] {
  const swarms = Swarms.found(5, "raft", (hubs) => hubs.tune({ snapshotEntries: 20, keepEntries: 5 }));
  const { hubs, ids } = swarms;
  swarms.offer(5);
  const { lease } = swarms.borrow(ids[1]!, ids[0]!);
  let [kept, longest] = [0, 0];
  for (let round = 0; round < times; round++) {
    for (let i = 0; i < 10; i++) swarms.put(ids[i % 5]!, `${round}-${i}`, `${round}`);
    for (const id of ids) hubs.stop(id);
    for (const id of ids) hubs.start(id);
    const began = swarms.now;
    swarms.come(() => ids.every((id) => swarms.status(id).canDecide) && swarms.digests().length === 1);
    longest = Math.max(longest, swarms.now - began);
    swarms.come(() => swarms.hubs.core(ids[0]!).describe().includes("not synced") === false);
    const values = Array.from({ length: 10 }, (_, i) => swarms.read(ids[(i + 1) % 5]!, `${round}-${i}`));
    const admitted = swarms.lending(ids[0]!, "admitted", { kind: "check", lease: lease.lease, fence: lease.fence, done: false });
    if (values.every((value) => value === `${round}`) && admitted.validMs > 0) kept++;
    swarms.lending(ids[1]!, "lease", { kind: "renew", lease: lease.lease, fence: lease.fence, durationMs: 60_000 });
  }
  return [
    holds(
      "all five die at once: what was decided is there, and who had borrowed still has, under the same fence",
      kept === times,
      `${kept} of ${times} restarts of all`,
    ),
    below("each decides again, and has the same, virtual time", 5_000, "ms", longest, "at most", 0),
  ];
}

/** Before is what there was when all died. */
interface Before {
  readonly lease: Lease;
  readonly program: CountingProgram;
  readonly client: CountingClient;
  readonly fence: bigint;
  readonly applied: bigint;
}

async function processes(play: Play): Promise<Line[]> {
  const stand = await Stand.start(play, { ids: SWARMS, config: { coordination: { snapshot_entries: SNAPSHOT_ENTRIES } } });
  const ends: (() => Promise<void> | void)[] = [];
  try {
    const before = await prepare(stand, ends);
    const killed = systemClock.mono();
    await Promise.all(SWARMS.map((id) => stand.hub(id).end("SIGKILL")));
    await Promise.all(SWARMS.map((id) => stand.hub(id).start()));
    await stand.deciding();
    const again = systemClock.mono() - killed;
    return [
      below("all are killed at once and started: until each decides again", AGAIN_MS, "ms", again, "", 0),
      ...(await there(stand, before)),
    ];
  } finally {
    for (const end of ends) await end();
    await stand.stop();
  }
}

/** prepare gives the swarms something to lose. */
async function prepare(stand: Stand, ends: (() => Promise<void> | void)[]): Promise<Before> {
  for (const id of SWARMS) {
    const gateway = stand.hub(id).clients("gateway-zigbee");
    await register(gateway, ...Array.from({ length: 20 }, (_, i) => lamp(`lamp-${i}`)));
    await update(gateway, "lamp-7", { state: text(`of ${id}`) });
    gateway.close();
    await stand.offer(id, [`${id}-coder`, `${id}-reviewer`]);
  }
  const home = stand.hub("home");
  const program = await CountingProgram.at(home, { ballast: Buffer.alloc(100_000, 7) });
  ends.push(() => program.close());
  await until("the agent running", () => program.has, 30_000);
  const hub = await connectTo(home, "operator-admin");
  const client = new CountingClient(new Map([["home", hub]]), "home");
  ends.push(async () => {
    await client.abandon();
    hub.close();
  });
  client.start();
  await until("the agent counting", () => client.answers.length >= COUNTED, 30_000);
  const { lease } = await until("a loan", () => stand.borrow("lab", "factory", ResourceTake.KEEP), 30_000);
  for (let i = 0; i < VALUES; i++) await stand.put(SWARMS[i % 3]!, `value-${i}`, `${i}`);
  const { applied } = await stand.status("home");
  return { lease, program, client, fence: await fenceOf(stand), applied };
}

async function fenceOf(stand: Stand): Promise<bigint> {
  const { agents } = await stand.of("lab").coordination.listAgents(create(ListAgentsRequestSchema));
  return agents.find(({ agent }) => agent?.agent === "counter")!.agent!.fence;
}

/** there looks what is left. */
async function there(stand: Stand, { lease, program, client, fence, applied }: Before): Promise<Line[]> {
  const counted = client.answers.length;
  const took = await timed(() => until("the agent counting on", () => program.has && client.answers.length >= counted + COUNTED, 60_000));
  await client.stop();
  await stand.equal();
  const values = await Promise.all(
    Array.from({ length: VALUES }, async (_, i) => (await stand.read(SWARMS[(i + 1) % 3]!, `value-${i}`, false)).text === `${i}`),
  );
  const oldest = await oldestEntry(stand);
  const inForce = await until("the fence", () => stand.checks(lease), 30_000);
  const refused = !(await stand.checks(lease, lease.fence - 1n));
  const sights = await Promise.all(SWARMS.flatMap((id) => SWARMS.map((of) => sees(stand, id, of))));
  const isWhole = program.serials.length === client.sent && program.serials.every((serial, i) => serial === i + 1);
  const fenceNow = await fenceOf(stand);
  await stand.giveBack(lease);
  await until("all being back", async () => (await stand.lent("home")).length === 0, 60_000);
  const { findings, asked } = await stand.audit();
  const have = values.filter((value) => value).length;
  return [
    holds(
      "everything decided is there, from a snapshot and what came after it, the same at each",
      have === VALUES && oldest > 1,
      `${have} of ${VALUES} values at position ${applied}; the log begins at ${oldest}`,
    ),
    holds(
      "who had borrowed still has, under the same fence, and no other",
      inForce && refused,
      `lease ${lease.lease}, fence ${lease.fence}`,
    ),
    holds(
      "the agent counts on where it was, with no count lost or repeated",
      isWhole && fenceNow === fence,
      `${client.sent} commands, ${program.serials.length} counted; fence ${fence}, now ${fenceNow}; after ${(took / 1_000).toFixed(1)} s`,
    ),
    holds(
      "each sees the nodes of each other one with their state",
      sights.every((seen) => seen),
      `${sights.filter((seen) => seen).length} of ${sights.length} views`,
    ),
    holds(
      "nothing contradicts itself by the word of each swarm",
      findings === 0 && asked === 3,
      `${findings} findings, ${asked} swarms asked`,
    ),
  ];
}

/** sees waits until a hub sees another one's nodes as they are. */
function sees(stand: Stand, id: string, of: string): Promise<boolean> {
  return until(
    `${id} seeing the nodes of ${of}`,
    async () => stateOf(await get(stand.of(id), of, "lamp-7"), "state") === `of ${of}`,
    60_000,
  );
}

/** oldestEntry is the first position that each hub has as an entry and not in a snapshot only. */
async function oldestEntry(stand: Stand): Promise<number> {
  const each = await Promise.all(
    SWARMS.map(async (id) => {
      let [oldest, before] = [0n, 0n];
      do {
        const page = await stand.of(id).coordination.readLog(create(ReadLogRequestSchema, { beforeIndex: before }));
        oldest = page.entries.at(-1)?.index ?? oldest;
        before = page.nextBeforeIndex;
      } while (before > 0n);
      return Number(oldest);
    }),
  );
  return Math.min(...each);
}

/** RECOVERY is the scenario in which all die at once. */
export const RECOVERY: Scenario = { id: "T5", shows: "S1-35", title: "all die at once and come back", ways: { simulated, processes } };
