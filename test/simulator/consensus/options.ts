import { Prng } from "#kernel/prng.ts";
import type { DiskOptions } from "./disk.ts";
import type { NetworkOptions } from "./network.ts";
import type { EngineName, Subject } from "./subject.ts";

/** FAULTS are the kinds of trouble of a run of consensus. */
export const FAULTS = [
  /** Datagrams get lost, come twice, overtake each other, or come long after. */
  "loss",
  "duplicate",
  "reorder",
  "stale",
  /** Links are cut in both directions, in one, or so that few see everyone (chained, quorum loss, constrained). */
  "partition",
  "oneway",
  "partial",
  /** A process dies; a machine loses its power. */
  "crash",
  "power",
  /** A sync fails once; a disk has no room for a while; it stalls. */
  "sync",
  "full",
  "stall",
  /** What is durable is told late, and in another order. */
  "late",
  /** A process is stopped and goes on; a machine sleeps; its date is set; its oscillator is off. */
  "pause",
  "suspend",
  "clock",
  /** A disk is empty after a start, or has an old backup on it. */
  "wipe",
  "restore",
  /** Operators change the members, and who leads. */
  "members",
  "transfer",
  /** Hints about sessions that are wrong. */
  "hints",
] as const;

export type Fault = (typeof FAULTS)[number];

/** ConsensusOptions are all that a run is made of. */
export interface ConsensusOptions {
  readonly seed: number;
  readonly engine: EngineName;
  /** Voters at the founding, and hubs that may become some. */
  readonly voters: number;
  readonly spares: number;
  readonly faults: ReadonlySet<Fault>;
  readonly network: NetworkOptions;
  readonly disk: DiskOptions;
  /** Rates of the hubs' oscillators. */
  readonly rates: readonly number[];
  readonly chaosMs: number;
  /** Mean time between two faults. */
  readonly troubleMs: number;
  /** Mean time that links are cut. */
  readonly cutMs: number;
  /** Mean time between two things that operators want. */
  readonly operatorMs: number;
  /** How often trouble comes at such a moment. */
  readonly moments: Readonly<Record<Moment, number>>;
  /** How often, and by how much at most, the outcome of a write is told late. */
  readonly late: number;
  readonly lateMs: number;
  readonly clients: number;
  readonly thinkMs: number;
  /** Characters that a value is filled up to. */
  readonly valueLength: number;
  readonly snapshotEvery: number;
  readonly leaseReads: boolean;
  readonly durableApp: boolean;
  readonly commit: "turn" | "now";
  /** After the trouble: a time with partial connectivity in which decisions have to go on. */
  readonly partialAfter: "chained" | "quorum-loss" | undefined;
}

/**
 * Moment is when trouble hurts most: a replica leads, is to hand leadership over, stores a term or vote, has new members, decides, makes a
 * snapshot, writes.
 */
export type Moment = "lead" | "handover" | "vote" | "change" | "decide" | "snapshot" | "write";

const MOMENTS: ConsensusOptions["moments"] = {
  lead: 0.15,
  handover: 0.2,
  vote: 0.02,
  change: 0.25,
  decide: 0.01,
  snapshot: 0.1,
  write: 0.003,
};

/** drawFaults draws the kinds of trouble of a seed: all of them in one run of four, else some. */
export function drawFaults(seed: number): ReadonlySet<Fault> {
  const prng = new Prng(seed ^ 0xfa17);
  if (prng.chance(0.25)) return new Set(FAULTS);
  const share = prng.chance(0.5) ? 0.2 : 0.5;
  return new Set(FAULTS.filter(() => prng.chance(share)));
}

/** drawOptions draws a run from its seed. `voters` fixes how many there are at the founding. */
export function drawOptions(
  subject: Pick<Subject<unknown>, "name" | "voters" | "oneLeader">,
  seed: number,
  voters?: number,
  faults: ReadonlySet<Fault> = drawFaults(seed),
): ConsensusOptions {
  const prng = new Prng(seed ^ 0xc0de);
  const [fewest, most] = subject.voters;
  const count = voters ?? drawVoters(prng, fewest, most);
  const spares = 2;
  const when = (fault: Fault, value: number): number => (faults.has(fault) ? value : 0);
  const slow = prng.chance(0.2);
  return {
    seed,
    engine: subject.name,
    voters: count,
    spares,
    faults,
    network: {
      minMs: 0.2 + prng.unit(),
      jitterMs: when("reorder", prng.chance(0.5) ? 3 : 20 * prng.unit()) + 0.3,
      loss: when("loss", 0.15 * prng.unit() * prng.unit()),
      duplicate: when("duplicate", 0.2 * prng.unit()),
      stale: when("stale", prng.chance(0.2) ? 0.3 : 0.03 * prng.unit()),
      staleMs: prng.chance(0.5) ? 1_000 : 6_000,
    },
    disk: {
      minMs: slow ? 2 : 0.1,
      jitterMs: slow ? 20 * prng.unit() : 2 * prng.unit(),
      stallChance: when("stall", 0.02 * prng.unit()),
      stallMs: 50 + 600 * prng.unit(),
    },
    rates: Array.from({ length: count + spares }, () => (faults.has("clock") ? 0.98 + 0.04 * prng.unit() : 1)),
    chaosMs: 4_000 + 6_000 * prng.unit(),
    troubleMs: prng.chance(0.5) ? 250 : 800,
    cutMs: 700,
    operatorMs: 1_000,
    moments: MOMENTS,
    late: when("late", 0.3 * prng.unit()),
    lateMs: prng.chance(0.5) ? 50 : 1_500,
    clients: 3 + prng.below(3),
    thinkMs: prng.chance(0.3) ? 8 : 40,
    valueLength: prng.chance(0.1) ? 2_000 : 0,
    snapshotEvery: prng.chance(0.5) ? 12 : 80,
    leaseReads: prng.chance(0.3),
    durableApp: prng.chance(0.4),
    commit: prng.chance(0.5) ? "now" : "turn",
    partialAfter: drawPartial(prng, count, subject.oneLeader),
  };
}

/** Few voters most of the time: they fail together sooner. */
function drawVoters(prng: Prng, fewest: number, most: number): number {
  return prng.chance(0.5) ? fewest : fewest + prng.below(most - fewest + 1);
}

/** Among hubs that may lie a message of one is not passed on by another: with too few links nothing is decided, rightly. */
function drawPartial(prng: Prng, voters: number, oneLeader: boolean): ConsensusOptions["partialAfter"] {
  if (voters < 3 || !prng.chance(0.25)) return undefined;
  const few = voters >= 5 && prng.chance(0.5);
  return few && oneLeader ? "quorum-loss" : "chained";
}
