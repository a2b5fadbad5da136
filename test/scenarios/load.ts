import { freemem } from "node:os";
import { systemClock } from "#channel/clock.ts";
import { FoedusError } from "#kernel/error.ts";
import { sleep } from "#runtime/clock.ts";
import { DEFAULT_POLICY } from "../../services/coordination/resources/commands.ts";
import { fairShares } from "../../services/coordination/resources/fair.ts";
import { cpuOf, rssMiBOf } from "../bench/measure.ts";
import { below, holds, type Line, type Play, quantile, type Scenario, said } from "./promises.ts";
import { type Decided, Stand } from "./stand.ts";
import { LOOK_AT_MS, Swarms, type Work } from "./swarms.ts";

/** Ten swarms of ten agents, and requests in a minute. */
const SWARMS = 10;
const AGENTS = 10;
const PER_MINUTE = 1_000;
/** What an agent is borrowed for, ms. */
const HOLD_MS = 1_000;
const DECISION_MS = 50;
/** The scale: swarms, and requests of a second of each of the two halves of them: 1,000 in all, of which 800 agents serve 800. */
const MANY_SWARMS = 100;
const FEW = 4;
const MANY = 16;
const WARM_MS = 2_000;
const MEASURED_MS = 6_000;
/** A request waits so long for an agent to be free, and is refused then with the reason. */
const WAIT_MS = 3_000;
const NO_ROOM = "nothing became free in time";
/** Before processes are measured they are under load for a while, until V8 has compiled what it needs; and at rest before they count as idle, ms. */
const WARM_UP_MS = 20_000;
const SETTLE_MS = 30_000;
const IDLE_MS = 20_000;
/** A hub that is a process takes less memory than this, with all that is needed around it, bytes. */
const HUB_BYTES = 300 * 1024 ** 2;

async function simulated({ scale }: Play): Promise<Line[]> {
  return scale === "short"
    ? [...ten(5_000), ...hundred(10, 1_000, 3_000)]
    : [...ten(60_000), ...hundred(MANY_SWARMS, WARM_MS, MEASURED_MS)];
}

function sumOf(all: Iterable<Work>): Work {
  const sum: Work = { sent: 0, done: 0, refused: new Map(), decisions: [] };
  for (const { sent, done, refused, decisions } of all) {
    sum.sent += sent;
    sum.done += done;
    for (const [why, count] of refused) sum.refused.set(why, (sum.refused.get(why) ?? 0) + count);
    sum.decisions.push(...decisions);
  }
  return sum;
}

function show({ sent, done, refused }: Work): string {
  return `${sent} requests, ${done} lent and given back${[...refused].map(([why, count]) => `, ${count} refused: ${why}`).join("")}`;
}

/** ten: as many swarms as the plan names, in virtual time. */
function ten(forMs: number): Line[] {
  const swarms = Swarms.found(SWARMS);
  swarms.offer(AGENTS);
  const work = sumOf(swarms.work({ perMinute: () => PER_MINUTE / SWARMS, forMs, holdMs: HOLD_MS, waitMs: 10_000 }).values());
  swarms.come(() => swarms.lent(swarms.ids[0]!) === 0);
  const { findings, asked } = swarms.audit();
  const wanted = Math.round((PER_MINUTE * forMs) / 60_000);
  const isAll = work.done === work.sent && Math.abs(work.sent - wanted) <= SWARMS;
  return [
    holds(
      `${SWARMS} swarms, ${SWARMS * AGENTS} agents, ${PER_MINUTE} requests/min: each is answered, lent and given back`,
      isAll,
      show(work),
    ),
    holds(
      "nothing contradicts itself by the word of each swarm",
      findings === 0 && asked === SWARMS && swarms.digests().length === 1,
      `${findings} findings, ${asked} swarms asked`,
    ),
    below("S1-38 decision of a request, p99, virtual time", DECISION_MS, "ms", quantile(work.decisions, 0.99), "", 0),
  ];
}

/** Seen is a lease as samples saw it: when first and last, virtual ms. */
interface Seen {
  readonly borrower: string;
  readonly first: number;
  last: number;
}

/** hundred: many swarms, of which half ask for more than there is. Who asks for less than its share has all that it asks for. */
function hundred(count: number, warmMs: number, measuredMs: number): Line[] {
  const swarms = Swarms.found(count);
  swarms.offer(AGENTS);
  const rate = new Map(swarms.ids.map((id, i) => [id, i % 2 === 0 ? FEW : MANY]));
  const used = new Map(swarms.ids.map((id) => [id, 0]));
  const seen = new Map<number, Seen>();
  let looks = 0;
  const from = swarms.now + warmMs;
  const look = (): void => {
    if (swarms.now < from) return;
    looks++;
    const { allocations } = swarms.lending(swarms.ids[0]!, "allocations", { kind: "list", what: "allocations" });
    for (const { lease } of allocations) {
      used.set(lease.borrower, used.get(lease.borrower)! + 1);
      const before = seen.get(lease.lease);
      if (before === undefined) seen.set(lease.lease, { borrower: lease.borrower, first: swarms.now, last: swarms.now });
      else before.last = swarms.now;
    }
  };
  const forMs = warmMs + measuredMs;
  const all = swarms.work({ perMinute: (id) => 60 * rate.get(id)!, forMs, holdMs: HOLD_MS, waitMs: WAIT_MS, look });
  const work = sumOf(all.values());
  const modest = sumOf(swarms.ids.filter((id) => rate.get(id) === FEW).map((id) => all.get(id)!));
  const taken = takenMs(seen.values(), from, from + measuredMs);
  const { worst, text } = fairness(used, looks, new Map([...rate].map(([id, tasks]) => [id, (tasks * taken) / 1_000])));
  const { findings, asked } = swarms.audit();
  const late = work.refused.get(NO_ROOM) ?? 0;
  return [
    holds(
      `S1-41 ${count} swarms, ${count * AGENTS} agents, ${(count * 600).toLocaleString("en")} requests/min: no request is lost`,
      work.done + late === work.sent && work.sent >= 0.98 * (count / 2) * (FEW + MANY) * (forMs / 1_000),
      `${show(work)}, in ${forMs / 1_000} s of virtual time`,
    ),
    { promised: "S1-41 what each has is within 5 % of its exact fair share", measured: text, held: worst <= 0.05 },
    below("S1-41 decision for who asks for less than its share, p99, virtual time", 1_000, "ms", quantile(modest.decisions, 0.99), "", 0),
    holds(
      "nothing contradicts itself by the word of each swarm",
      findings === 0 && asked === count,
      `${findings} findings, ${asked} swarms asked`,
    ),
  ];
}

/** takenMs is how long a task takes an agent away, on average, from its reservation until its owner says that it has stopped. */
function takenMs(seen: Iterable<Seen>, from: number, to: number): number {
  const whole = [...seen].filter(({ first, last }) => first > from + LOOK_AT_MS && last < to - 2 * LOOK_AT_MS);
  return whole.reduce((sum, { first, last }) => sum + last - first + LOOK_AT_MS, 0) / whole.length;
}

/** fairness compares what each swarm had, on average, with its exact share: who asks for little has that, the others the rest in equal parts. */
function fairness(
  used: ReadonlyMap<string, number>,
  looks: number,
  demand: ReadonlyMap<string, number>,
): { readonly worst: number; readonly text: string } {
  // In thousandths of agents: demands are averages.
  const ids = [...used.keys()];
  const lent = Math.floor((AGENTS * DEFAULT_POLICY.maxUtilization) / 1_000) * ids.length;
  const shares = fairShares(
    [1_000 * lent, 0, 0, 0, 0, 0],
    ids.map((id) => ({ task: [1, 0, 0, 0, 0, 0], tasks: Math.round(1_000 * demand.get(id)!) })),
  );
  let [worst, text] = [0, "none is off"];
  for (const [i, id] of ids.entries()) {
    const { num, den } = shares[i]!;
    const share = Number(num) / Number(den) / 1_000;
    const had = used.get(id)! / looks;
    const off = Math.abs(had / share - 1);
    if (off > worst)
      [worst, text] = [off, `at most ${(100 * off).toFixed(1)} % off: ${id} had ${had.toFixed(2)} agents of ${share.toFixed(2)}`];
  }
  return { worst, text };
}

async function processes(play: Play): Promise<Line[]> {
  const count = play.scale === "short" ? 3 : Math.max(3, Math.min(SWARMS, Math.floor(freemem() / HUB_BYTES)));
  const ids = Array.from({ length: count }, (_, i) => `swarm-${String(i + 1).padStart(2, "0")}`);
  const stand = await Stand.start(play, { ids });
  try {
    for (const id of ids)
      await stand.offer(
        id,
        Array.from({ length: AGENTS }, (_, i) => `${id}-coder-${i}`),
      );
    const [settleMs, idleMs, warmMs, forMs] = play.scale === "short" ? [0, 500, 0, 3_000] : [SETTLE_MS, IDLE_MS, WARM_UP_MS, 60_000];
    const idle = await overhead(stand, settleMs, idleMs);
    await load(stand, warmMs);
    const before = cpus(stand);
    const began = systemClock.mono();
    const { decided, refused } = await load(stand, forMs);
    const busy = percents(stand, before, systemClock.mono() - began);
    const { findings, asked } = await stand.audit();
    await stand.equal();
    const wanted = requestsOf(stand, forMs);
    const whole = decided.map(({ wholeMs }) => wholeMs);
    return [
      said("processes", `${count} of ${SWARMS} swarms are processes of their own, all on this machine; all ${SWARMS} are simulated above`),
      holds(
        `${count} swarms, ${count * AGENTS} agents, ${requestsOf(stand, 60_000)} requests/min: each is answered, lent and given back`,
        decided.length === wanted && findings === 0 && asked === count,
        `${decided.length} of ${wanted} requests${refused.map((why) => `; ${why}`).join("")}; ${findings} findings of ${asked} swarms`,
      ),
      below(
        "S1-38 decision of a request, p99",
        DECISION_MS,
        "ms",
        quantile(
          decided.map(({ ms }) => ms),
          0.99,
        ),
        spread(decided.map(({ ms }) => ms)),
      ),
      below("S1-38 until the borrower has it with its fence (two decisions), p99", 500, "ms", quantile(whole, 0.99), spread(whole)),
      ...idle,
      said("processor under that load, % of a core, by swarm", `${Math.min(...busy).toFixed(1)} to ${Math.max(...busy).toFixed(1)}`),
    ];
  } finally {
    await stand.stop();
  }
}

function spread(times: readonly number[]): string {
  return `p50 ${quantile(times, 0.5).toFixed(1)} ms, at most ${Math.max(...times).toFixed(0)} ms`;
}

function pidsOf(stand: Stand): number[] {
  return stand.ids.flatMap((id) => [...stand.hub(id).pids.values()]);
}

/** cpus is the processor time of each hub so far, s. */
function cpus(stand: Stand): number[] {
  return pidsOf(stand).map(cpuOf);
}

function percents(stand: Stand, before: readonly number[], ms: number): number[] {
  return cpus(stand).map((now, i) => (100_000 * (now - before[i]!)) / ms);
}

/** overhead is what swarms take that are federated and have nothing to do. */
async function overhead(stand: Stand, settleMs: number, idleMs: number): Promise<Line[]> {
  await sleep(systemClock, settleMs);
  const before = cpus(stand);
  await sleep(systemClock, idleMs);
  const idle = percents(stand, before, idleMs);
  const memory = pidsOf(stand).map(rssMiBOf);
  const note = `each of ${stand.ids.length} with ${stand.ids.length - 1} links, from`;
  return [
    below(
      "S1-40 overhead of a swarm that is idle, processor",
      5,
      "% of a core",
      Math.max(...idle),
      `${note} ${Math.min(...idle).toFixed(1)} %`,
    ),
    below(
      "S1-40 overhead of a swarm that is idle, resident memory",
      100,
      "MB",
      (Math.max(...memory) * 1_024 ** 2) / 1e6,
      `${note} ${((Math.min(...memory) * 1_024 ** 2) / 1e6).toFixed(0)} MB`,
    ),
  ];
}

/** requestsOf is how many requests there are in a time: fewer where not all swarms are processes. */
function requestsOf(stand: Stand, forMs: number): number {
  return Math.round((PER_MINUTE * stand.ids.length * forMs) / SWARMS / 60_000);
}

/** load sends requests at a steady rate, whatever the answers take (an open loop); each swarm asks in turn. */
async function load(stand: Stand, forMs: number): Promise<{ readonly decided: readonly Decided[]; readonly refused: readonly string[] }> {
  const began = systemClock.mono();
  const count = requestsOf(stand, forMs);
  const decided: Decided[] = [];
  const refused = new Map<string, number>();
  const all: Promise<void>[] = [];
  for (let i = 0; i < count; i++) {
    const wait = began + (i * forMs) / count - systemClock.mono();
    if (wait > 0) await sleep(systemClock, wait);
    const one = stand.use(stand.ids[i % stand.ids.length]!, HOLD_MS);
    const failed = (error: unknown): void => {
      const why = error instanceof FoedusError ? error.reason : String(error);
      refused.set(why, (refused.get(why) ?? 0) + 1);
    };
    all.push(one.then((done) => void decided.push(done), failed));
  }
  await Promise.all(all);
  return { decided, refused: [...refused].map(([why, times]) => `${times} refused: ${why}`) };
}

/** LOAD is the scenario in which many ask at once. */
export const LOAD: Scenario = {
  id: "T4",
  shows: "S1-34, S1-38, S1-40, S1-41",
  title: "load: ten swarms, and a hundred",
  ways: { simulated, processes },
};
