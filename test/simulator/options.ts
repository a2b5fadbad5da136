import { Prng } from "#kernel/prng.ts";
import { LEAST_LATE_MS } from "./clock.ts";
import type { DiskOptions } from "./disk.ts";
import type { NetworkOptions } from "./network.ts";

/** FAULTS are the kinds of trouble that can be switched on and off; `--faults` names them. */
export const FAULTS = [
  "cut",
  "late",
  "half",
  "partition",
  "nat",
  "clock",
  "crash",
  "power",
  "restore",
  "disk",
  "slow",
  "share",
  "imports",
  "rotate",
  "overlap",
  "executor",
  "hostile",
] as const;

/** Fault is one kind. */
export type Fault = (typeof FAULTS)[number];

/** FaultChoice is which kinds a run has: those named, or a few that are drawn from its seed. */
export type FaultChoice = readonly Fault[] | "few";

/**
 * faultsOf gives the kinds of a run. With all kinds at once one fault often mends what another one broke: a link that is cut begins
 * anew, and a restart forgets. With a few, what stays broken is seen.
 */
export function faultsOf(seed: number, choice: FaultChoice): readonly Fault[] {
  if (choice !== "few") return choice;
  const prng = new Prng(seed);
  const count = 2 + prng.below(3);
  const drawn = new Set<Fault>();
  while (drawn.size < count) drawn.add(pick(prng, FAULTS));
  return FAULTS.filter((fault) => drawn.has(fault));
}

/** HubOptions are one hub's machine. */
export interface HubOptions {
  readonly clockRate: number;
  readonly wallSkewMs: number;
  /** Without a battery the date is 1970 after a loss of power, until somebody sets it. */
  readonly battery: boolean;
  readonly natted: boolean;
  /** Version of its rules for what it takes in of its peers, at first. */
  readonly imports: number;
  readonly disk: DiskOptions;
}

/** RunOptions are everything that one run is made of, drawn from its seed. Times are virtual ms. */
export interface RunOptions {
  readonly seed: number;
  readonly hubs: number;
  readonly faults: ReadonlySet<Fault>;
  readonly network: NetworkOptions;
  readonly machines: readonly HubOptions[];
  /** How long there is trouble; afterwards everything heals. */
  readonly chaosMs: number;
  /** How long after that everything must be as it should be. */
  readonly healMs: number;
  readonly operations: number;
  readonly faultCount: number;
  readonly nodesPerHub: number;
  readonly ringSegments: number;
  readonly tailSegments: number;
  readonly checkpointSegments: number;
  readonly partBytes: number;
  /** Credit of a session: the smallest is what a few commands fill, so that senders wait. */
  readonly windowBytes: number;
  /** What may be under way in one direction of a connection before the other side reads. */
  readonly transportBytes: number;
  /** True runs the shipping discovery as well, which costs half as much again; else who trusts whom is a table that changes. */
  readonly discovery: boolean;
  /** True compresses for real; it costs time, and changes only the bytes. */
  readonly zstd: boolean;
  /** How late timers of hubs are: an event loop that is busy takes what is half done further only now and then. */
  readonly lateMs: number;
  /** Hub that also forges frames; -1 for none. */
  readonly hostile: number;
}

/** KEY_LIFE_MS is how long an idempotency key stands for its command. */
export const KEY_LIFE_MS = 60_000;

/** HEAL_MS: a dead link is noticed (30 s to 60 s), dialled again (backoff up to 60 s, quiet 60 s), and the lease (90 s) runs. */
const HEAL_MS = 260_000;

/** Part of the runs that have discovery. */
const DISCOVERY_PART = 0.3;

function pick<T>(prng: Prng, values: readonly T[]): T {
  return values[prng.below(values.length)] as T;
}

function machine(prng: Prng, faults: ReadonlySet<Fault>): HubOptions {
  const clock = faults.has("clock");
  return {
    clockRate: clock ? 0.99 + 0.02 * prng.unit() : 1,
    wallSkewMs: clock ? Math.floor((prng.unit() - 0.5) * 40_000) : 0,
    battery: !clock || prng.chance(0.6),
    natted: faults.has("nat") && prng.chance(0.3),
    imports: prng.chance(0.2) ? 1 : 0,
    disk: {
      durability: faults.has("power") && prng.chance(0.4) ? "process" : "full",
      commitMinMs: pick(prng, [0.2, 1, 1, 5]),
      commitJitterMs: pick(prng, [0, 1, 4, 40]),
      syncMs: 2_000 + prng.below(8_000),
    },
  };
}

/** drawOptions makes the options of a run of a seed. The same seed, hubs and faults give the same options, on every machine. */
export function drawOptions(seed: number, hubs: number, faults: ReadonlySet<Fault> = new Set(FAULTS)): RunOptions {
  const prng = new Prng(seed);
  const machines = Array.from({ length: hubs }, () => machine(prng, faults));
  const options: RunOptions = {
    seed,
    hubs,
    faults,
    machines,
    network: {
      delayMinMs: pick(prng, [0.1, 1, 10, 40]),
      delayJitterMs: pick(prng, [0, 2, 20, 120]),
      spikes: pick(prng, [0, 0, 0.01, 0.05]),
      spikeMs: 1_500,
    },
    chaosMs: 20_000 + prng.below(40_000),
    healMs: HEAL_MS,
    operations: 40 + prng.below(60),
    faultCount: 5 + prng.below(20),
    nodesPerHub: 3 + prng.below(4),
    ringSegments: pick(prng, [4, 8, 64]),
    tailSegments: pick(prng, [2, 8, 32]),
    checkpointSegments: pick(prng, [4, 16, 64]),
    partBytes: pick(prng, [256, 1_024, 8_192]),
    windowBytes: pick(prng, [512, 65_536, 262_144]),
    transportBytes: pick(prng, [4_096, 65_536, 262_144]),
    // Dice of its own: what is drawn for the others is the same with and without it.
    discovery: new Prng(seed ^ 0xd15c).chance(DISCOVERY_PART),
    zstd: prng.chance(0.1),
    hostile: faults.has("hostile") && prng.chance(0.3) ? prng.below(hubs) : -1,
    lateMs: pick(prng, [LEAST_LATE_MS, LEAST_LATE_MS, 1, 15]),
  };
  // What it forges is shorter than what it sends for it, and credit for the difference never comes back: its own loss, but for ever.
  return options.hostile < 0 ? options : { ...options, windowBytes: Math.max(options.windowBytes, 65_536) };
}
