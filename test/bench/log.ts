// The family "log": three replicas on one disk, values of 128 B, put by 64 clients and by one. What is measured is what LOGS has; etcd is
// there always, as the one that the others are compared with.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ETCD_PEER, Etcd } from "./etcd.ts";
import { LOG_LOAD_FILE, LOGS, type LogClients, type LogEndpoint, type LogResult, type LogRun, type LogUnderTest } from "./log-load.ts";
import { context, cpuDuring, notMeasured, type Row, ratioRow, showRate, showSpread, spread } from "./measure.ts";
import { median, type Part, startPart } from "./worker.ts";

const FAMILY = "log";
const YARDSTICK = "etcd";
/** Clients at once: throughput, and the latency of one that waits for nobody. */
const CLIENTS = [64, 1] as const;
const BYTES = 128;
const ROUNDS = 3;
const SECONDS = 3;
/** Uncounted runs before that: the code of the load gets faster for some ten seconds. */
const WARM_RUNS = 10;
const WARM_SECONDS = 1;
/** What the other log has to reach of etcd's puts per second. */
const FLOOR = 1;
/** And what its p99 with one client may be of etcd's. */
const SLOWNESS = 2;

/** Measured is one run, with what the leader did for it. */
interface Measured extends LogResult {
  readonly syncsPerPut: number;
  /** Microseconds of processor time per put, of all replicas and of the clients. */
  readonly cpuUs: Readonly<Record<"replicas" | "clients", number>>;
}

/** Running is a log with its replicas and load parts up. */
class Running {
  readonly log: LogUnderTest;
  readonly endpoint: LogEndpoint;
  readonly #parts: ReadonlyMap<number, Part<LogResult>>;

  private constructor(log: LogUnderTest, endpoint: LogEndpoint, parts: ReadonlyMap<number, Part<LogResult>>) {
    this.log = log;
    this.endpoint = endpoint;
    this.#parts = parts;
  }

  static async start(name: string, log: LogUnderTest, dir: string): Promise<Running> {
    const [endpoint] = await log.start(dir);
    const parts = new Map<number, Part<LogResult>>();
    const running = new Running(log, endpoint!, parts);
    try {
      for (const clients of CLIENTS) {
        const argument: LogClients = { log: name, endpoint: endpoint!, clients };
        parts.set(clients, await startPart<LogResult>(LOG_LOAD_FILE, "putters", argument));
      }
    } catch (error) {
      await running.stop();
      throw error;
    }
    return running;
  }

  async run(clients: number, seconds: number): Promise<Measured> {
    const part = this.#parts.get(clients)!;
    const before = await this.log.syncs();
    const pids = { replicas: this.log.pids(), clients: [part.pid] };
    const { result, cpu } = await cpuDuring(pids, () => part.go({ seconds, bytes: BYTES } satisfies LogRun));
    const each = (name: string): number => ((cpu[name] as number) / result.puts) * 1e6;
    const cpuUs = { replicas: each("replicas"), clients: each("clients") };
    return { ...result, syncsPerPut: ((await this.log.syncs()) - before) / result.puts, cpuUs };
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#parts.values()].map((part) => part.stop()));
    await this.log.stop();
  }
}

function show({ perSecond, p50Ms, p99Ms }: Measured): string {
  return `${showRate(perSecond)}, p50 ${p50Ms.toFixed(2)} ms, p99 ${p99Ms.toFixed(1)} ms`;
}

/** rowsOf are those of one number of clients: each log as it is, and its ratio to etcd's of the same round. */
function rowsOf(clients: number, rounds: readonly ReadonlyMap<string, Measured>[], names: ReadonlyMap<string, string>): Row[] {
  const who = clients === 1 ? "1 client" : `${clients} clients`;
  return [...names].flatMap(([key, name]) => {
    const runs = rounds.map((round) => round.get(key)!);
    const middle = [...runs].sort((a, b) => a.perSecond - b.perSecond)[runs.length >> 1]!;
    const of = (figure: (run: Measured) => number): number => median(runs.map(figure));
    const syncs = `${of((run) => run.syncsPerPut).toFixed(2)} syncs of the leader's log per put`;
    const cpu = `${of((run) => run.cpuUs.replicas).toFixed(0)} us of processor time per put at the replicas, ${of((run) => run.cpuUs.clients).toFixed(0)} us at the clients`;
    const row = context(FAMILY, `${name}, ${who}`, show(middle), `${syncs}; ${cpu}`);
    if (key === YARDSTICK) return [row];
    const against = (figure: (run: Measured) => number) => rounds.map((round) => figure(round.get(key)!) / figure(round.get(YARDSTICK)!));
    const rate = ratioRow(
      FAMILY,
      `puts/s against etcd, ${who}`,
      FLOOR,
      against((run) => run.perSecond),
      `${BYTES} B, closed loop`,
    );
    return clients === 1 ? [row, rate, slownessRow(against((run) => run.p99Ms))] : [row, rate];
  });
}

/** slownessRow holds when the median ratio of the slowest puts is not above what it may be. */
function slownessRow(ratios: readonly number[]): Row {
  const ratio = spread(ratios);
  const held = ratio.median <= SLOWNESS ? "held" : "missed";
  const measured = showSpread(ratio, " x");
  return { family: FAMILY, name: "p99 of a put against etcd, 1 client", floor: `<= ${SLOWNESS} x`, measured, held, note: `${BYTES} B` };
}

/** ownClient are etcd's figures with its own client: what a better client than ours would get. */
async function ownClient(etcd: Etcd, endpoint: LogEndpoint): Promise<Row[]> {
  const rows: Row[] = [];
  for (const clients of CLIENTS) {
    const { puts_per_s, p50, p99 } = await etcd.load(endpoint, clients, SECONDS, BYTES);
    const measured = `${showRate(puts_per_s)}, p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(1)} ms`;
    rows.push(context(FAMILY, `${etcd.name}, ${clients === 1 ? "1 client" : `${clients} clients`} of its own`, measured, "written in Go"));
  }
  return rows;
}

async function measure(dir: string): Promise<Row[]> {
  const running = new Map<string, Running>();
  try {
    for (const [key, make] of Object.entries(LOGS)) running.set(key, await Running.start(key, make(), join(dir, key)));
    const names = new Map([...running].map(([key, { log }]) => [key, log.name]));
    const rows: Row[] = [];
    for (const clients of CLIENTS) {
      for (let i = 0; i < WARM_RUNS; i++) for (const one of running.values()) await one.run(clients, WARM_SECONDS);
      const rounds: ReadonlyMap<string, Measured>[] = [];
      for (let i = 0; i < ROUNDS; i++) {
        const round = new Map<string, Measured>();
        for (const [key, one] of running) round.set(key, await one.run(clients, SECONDS));
        rounds.push(round);
      }
      rows.push(...rowsOf(clients, rounds, names));
    }
    const { log, endpoint } = running.get(YARDSTICK)!;
    return [...rows, ...(log instanceof Etcd ? await ownClient(log, endpoint) : [])];
  } finally {
    for (const one of running.values()) await one.stop();
  }
}

/** log measures replicated logs against etcd. */
export async function log(): Promise<Row[]> {
  if (ETCD_PEER.reason !== undefined) return [notMeasured(FAMILY, "puts/s against etcd", `>= ${FLOOR} x`, ETCD_PEER.reason)];
  const dir = mkdtempSync(join(tmpdir(), "foedus-bench-"));
  try {
    return await measure(dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
