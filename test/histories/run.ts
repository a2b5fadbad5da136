// One run: hubs as real processes, clients that use them, faults from a seed, and a verdict on what the clients saw.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { systemClock } from "#channel/clock.ts";
import { CoordinationService, GetValueRequestSchema } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { Prng } from "#kernel/prng.ts";
import { foundTogether } from "../support/deciding.ts";
import { Federation, type HubProcess, type HubSpec } from "../support/federation.ts";
import { type HistoryOp, type HistoryVerdict, judgeHistory } from "../support/porcupine.ts";
import { until } from "../support/until.ts";
import { Clients, type Tally } from "./clients.ts";
import { type Fault, Nemesis } from "./nemesis.ts";
import { Star } from "./net.ts";

const FEDERATION = "histories";
const NAMES = ["home", "factory", "lab", "shop", "yard"] as const;
/** After the last fault every hub answers within this, ms; else the run has failed, whatever its history says. */
const RECOVERY_MS = 60_000;
const JUDGE_MS = 120_000;

/** RunOptions say what one run is. */
export interface RunOptions {
  readonly seed: number;
  readonly hubs: 3 | 5;
  readonly clients: number;
  readonly seconds: number;
  readonly faults: readonly Fault[];
  /** Arguments of node before the verb. */
  readonly entry: readonly string[];
  /** Folder of the run; what its hubs wrote goes there, and the history. */
  readonly dir: string;
  /** Each hub in a network namespace of its own: only in a process that is in one itself. */
  readonly parted: boolean;
}

/** RunReport is what a run showed. */
export interface RunReport {
  readonly verdict: HistoryVerdict;
  readonly tally: Tally;
  readonly deeds: readonly { readonly at: number; readonly deed: string }[];
  /** Time from the end of the last fault until each hub answered a read that sees all decisions, ms. */
  readonly recoveryMs: number;
  /** Where the history is. */
  readonly history: string;
}

/** runHistory plays one run. It throws when hubs do not recover, and when clients wrote nothing, or never saw what was written. */
export async function runHistory(options: RunOptions): Promise<RunReport> {
  const star = options.parted ? await Star.make(options.hubs) : undefined;
  const names = NAMES.slice(0, options.hubs);
  const specs = names.map((id, index) => specOf(id, index, names, star));
  const federation = await Federation.start({ hubs: specs, dir: join(options.dir, "hubs"), entry: options.entry, logLevel: "info" });
  try {
    await federation.operational(60_000);
    await foundTogether(federation, FEDERATION, names);
    return await play(federation, star, options);
  } finally {
    await federation.stop("SIGKILL");
    await star?.close();
  }
}

function specOf(id: string, index: number, names: readonly string[], star: Star | undefined): HubSpec {
  const peers = names.filter((hub) => hub !== id).map((hub) => ({ hub }));
  // What a hub gives up it says before the client gives up itself.
  const config = { coordination: { decision_timeout_ms: 3_000, snapshot_entries: 500 } };
  return { id, peers, config, ...(star === undefined ? {} : { host: star.address(index), launch: star.launch(index) }) };
}

async function play(federation: Federation, star: Star | undefined, options: RunOptions): Promise<RunReport> {
  const hubs = [...federation.hubs.values()];
  const clients = new Clients(hubs, options.seed);
  const { faults } = options;
  const nemesis = new Nemesis({ federation, federationId: FEDERATION, hubs, star, prng: new Prng(options.seed), faults });
  clients.start(options.clients);
  try {
    await nemesis.run(systemClock.mono() + options.seconds * 1_000);
    const healedAt = systemClock.mono();
    await Promise.all(hubs.map((hub) => answers(hub)));
    const recoveryMs = Math.round(systemClock.mono() - healedAt);
    await clients.stop();
    expectTold(clients.history);
    return { ...report(clients, options), deeds: nemesis.deeds, recoveryMs };
  } catch (error) {
    await clients.stop();
    const { history } = report(clients, options);
    throw new Error(`${error instanceof Error ? error.message : String(error)}; history: ${history}`, { cause: error });
  } finally {
    writeFileSync(join(options.dir, "deeds.json"), `${JSON.stringify(nemesis.deeds, undefined, 2)}\n`);
  }
}

/** answers resolves when a hub answers a read of all that is decided. */
async function answers(hub: HubProcess): Promise<void> {
  const rpc = hub.client(CoordinationService);
  const request = create(GetValueRequestSchema, { key: "recovered" });
  try {
    await until(
      `${hub.id} answering after the last fault`,
      async () => (await rpc.getValue(request, { timeoutMs: 4_000 })) !== undefined,
      RECOVERY_MS,
    );
  } finally {
    rpc.close();
  }
}

/** expectTold throws if a history is one that would be linearizable whatever hubs do: without a write that was done, or a read that saw one. */
function expectTold(history: readonly HistoryOp[]): void {
  const writes = history.filter((one) => one.op !== "read" && one.return_ns !== null && (one.op === "write" || one.result));
  const reads = history.filter((one) => one.op === "read" && one.result !== null);
  if (writes.length === 0 || reads.length === 0)
    throw new Error(`the history tells nothing: ${writes.length} writes were done, and ${reads.length} reads saw one`);
}

function report(clients: Clients, { dir }: RunOptions): Pick<RunReport, "verdict" | "tally" | "history"> {
  const history = join(dir, "history.jsonl");
  mkdirSync(dir, { recursive: true });
  writeFileSync(history, clients.history.map((one) => `${JSON.stringify(one)}\n`).join(""));
  const verdict = judgeHistory(clients.history, { timeoutMs: JUDGE_MS, picture: join(dir, "fault.html") });
  return { verdict, tally: clients.tally, history };
}
