// A soak: four hubs under load and faults for a while. It answers with what was wrong, which should be nothing, and with what it counted.
import { systemClock } from "#channel/clock.ts";
import { Prng } from "#kernel/prng.ts";
import { metric } from "../support/acts.ts";
import { ROOT } from "../support/federation.ts";
import { Nemesis } from "./faults.ts";
import { HUBS, type HubName, logLines, Stage } from "./hubs.ts";
import { type Counts, Load } from "./load.ts";

/** SoakOptions shape a run. */
export interface SoakOptions {
  readonly seed: number;
  readonly ms: number;
  readonly everyMs?: readonly [number, number];
  /** One command in so many has an idempotency key. Default 1. */
  readonly keyedEvery?: number;
  readonly entry?: readonly string[];
  readonly say?: (line: string) => void;
}

/** Memory of the steady hub at a moment, bytes. */
interface Memory {
  readonly atMs: number;
  readonly rss: number;
  readonly heap: number;
  readonly external: number;
}

/** SoakReport is what a run found. */
export interface SoakReport {
  readonly wrong: readonly string[];
  readonly counts: Counts;
  readonly faults: ReadonlyMap<string, number>;
  /** Lines of level ERROR, and gaps in feeds, by message, over all hubs. */
  readonly errors: ReadonlyMap<string, number>;
  readonly memory: readonly Memory[];
}

const SAMPLE_MS = 5_000;

/** soak runs one. */
export async function soak(options: SoakOptions): Promise<SoakReport> {
  const { seed, ms, everyMs = [5_000, 10_000], keyedEvery = 1, entry = [`${ROOT}/cli/main.ts`], say = () => undefined } = options;
  const stage = await Stage.start(entry);
  const load = new Load(stage, seed, keyedEvery);
  const memory: Memory[] = [];
  const startedAt = systemClock.mono();
  const sampler = setSampler(stage, memory, startedAt);
  try {
    await load.start();
    say("load is running");
    const nemesis = new Nemesis(stage, new Prng(seed), say);
    await nemesis.run(ms, everyMs);
    await stage.federation.operational(60_000);
    await load.stop();
    return { wrong: load.wrong, counts: load.counts, faults: nemesis.counts, errors: errorsOf(stage), memory };
  } finally {
    sampler.stop();
    load.close();
    await stage.stop();
  }
}

function setSampler(stage: Stage, memory: Memory[], startedAt: number): { stop(): void } {
  const steady = stage.hub("steady");
  let stopped = false;
  const sample = async (): Promise<void> => {
    if (stopped) return;
    const read = (name: string): Promise<number> => metric(steady, name).catch(() => 0);
    const rss = await read("process_resident_memory_bytes");
    const [heap, external] = [await read("nodejs_heap_size_used_bytes"), await read("nodejs_external_memory_bytes")];
    if (rss > 0) memory.push({ atMs: systemClock.mono() - startedAt, rss, heap, external });
    if (!stopped) timer = systemClock.setTimer(SAMPLE_MS, () => void sample());
  };
  let timer = systemClock.setTimer(SAMPLE_MS, () => void sample());
  return {
    stop: () => {
      stopped = true;
      timer.cancel();
    },
  };
}

function errorsOf(stage: Stage): ReadonlyMap<string, number> {
  const errors = new Map<string, number>();
  for (const hub of HUBS)
    for (const line of logLines(stage.hub(hub)))
      if (isError(line) && !isFullDisk(hub, line)) {
        const key = `${hub}: ${saysOf(line)}`;
        errors.set(key, (errors.get(key) ?? 0) + 1);
      }
  return errors;
}

/** isError tells whether a line must not be there. A gap in a feed heals, but each was a fault: sessions lose nothing of what they carry. */
function isError({ level, reason }: Readonly<Record<string, unknown>>): boolean {
  return Number(level) >= 50 || level === "error" || reason === "FEED_GAP";
}

/** isFullDisk tells whether a line is what an operator must read when the disk is full, at the hub whose disk a fault fills. */
function isFullDisk(hub: HubName, { message, failure }: Readonly<Record<string, unknown>>): boolean {
  const { facts } = (failure ?? {}) as { readonly facts?: { readonly cause?: unknown } };
  return hub === "cramped" && message === "store refuses writes" && facts?.cause === "full";
}

/** saysOf is the text of a log line with what it is about, short enough for a message. */
function saysOf({ message, text, service, error, err, failure }: Readonly<Record<string, unknown>>): string {
  const about = [service, text, error ?? err ?? failure].filter((part) => part !== undefined);
  return [message, ...about.map((part) => (typeof part === "string" ? part : JSON.stringify(part)))].join(" | ").slice(0, 400);
}

type Kind = "rss" | "heap" | "external";

/** quarterOf are the values of one quarter of a run, the least first. */
function quarterOf(memory: readonly Memory[], of: Kind, from: number): number[] {
  const part = memory.slice(Math.floor((memory.length * from) / 4), Math.ceil((memory.length * (from + 1)) / 4));
  return part.map((at) => at[of]).sort((a, b) => a - b);
}

/** growth compares the third quarter of a run with the last one: 1.05 is 5 % more. The first half is for filling rings and caches. */
export function growth(memory: readonly Memory[], of: Kind): number {
  const middle = (values: readonly number[]): number => values[Math.floor(values.length / 2)] ?? Number.NaN;
  return middle(quarterOf(memory, of, 3)) / middle(quarterOf(memory, of, 2));
}

/** floors are the least values of each quarter: what is there after a collection, and not what waits for the next one. */
export function floors(memory: readonly Memory[], of: Kind): readonly number[] {
  return [0, 1, 2, 3].map((quarter) => quarterOf(memory, of, quarter)[0] ?? Number.NaN);
}
