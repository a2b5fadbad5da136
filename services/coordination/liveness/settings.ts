/** LivenessConfig shapes how the dead are told from the slow. Times are ms; factors count intervals. */
export interface LivenessConfig {
  /** This hub. */
  readonly hubId: string;
  /** Boot counter of this process: it rises with every start, so that what was said before a restart is older. 1 to 2^33 - 1. */
  readonly boot: number;
  /** Time between two heartbeats to each member: 1,000 by default, 100 to 30,000 (S1-9). */
  readonly intervalMs: number;
  /**
   * Silence, in intervals, that is never a reason to suspect: 2.5 by default. Two signs of life come per interval, a heartbeat and an
   * answer, so that on average a death is suspected as early as by three missed heartbeats (S1-15).
   */
  readonly floor: number;
  /** Longest silence, in intervals, that a member with a record of pauses is waited for before it is suspected: 7 by default. */
  readonly ceiling: number;
  /** A member is waited for this many times the longest pause that is remembered of it: 2.2 by default. */
  readonly margin: number;
  /** Intervals after which a remembered pause counts half: 600 by default. */
  readonly memory: number;
  /**
   * A hub that has just started does not know yet how it pauses: it asks to be waited for as long as the ceiling at first, and half as
   * long after so many intervals: 10 by default. 0: it asks for nothing.
   */
  readonly novice: number;
  /** Other members that are asked for a probe before a suspicion: 3 by default. */
  readonly helpers: number;
  /** Intervals that a probe waits for its answer at full local health: 0.5 by default. */
  readonly probe: number;
  /** Intervals from a suspicion to the accusation: with all confirmations that are waited for, and without any: 0.2 and 1.5 by default. */
  readonly confirmedAfter: number;
  readonly unconfirmedAfter: number;
  /** Intervals that a failed hub must be heard without a gap before it is said to be back, at first: 10 by default. */
  readonly stable: number;
}

/** DEFAULT_LIVENESS is for hubs that hear each other every second. */
export const DEFAULT_LIVENESS: Omit<LivenessConfig, "hubId" | "boot"> = {
  intervalMs: 1_000,
  floor: 2.5,
  ceiling: 7,
  margin: 2.2,
  memory: 600,
  novice: 10,
  helpers: 3,
  probe: 0.5,
  confirmedAfter: 0.2,
  unconfirmedAfter: 1.5,
  stable: 10,
};

/** MEMBERS_MAX is the most members of a federation that one detector watches. */
export const MEMBERS_MAX = 128;

/** livenessProblem says what is wrong with a configuration and what to do, or undefined if nothing is. */
export function livenessProblem(config: LivenessConfig): string | undefined {
  const { boot, intervalMs, floor, ceiling, margin, memory, novice, helpers, probe, confirmedAfter, unconfirmedAfter, stable } = config;
  if (!(Number.isSafeInteger(boot) && boot >= 1 && boot < BOOT_END)) return `boot counter ${boot} is none; use a whole number from 1`;
  if (!(intervalMs >= 100 && intervalMs <= 30_000)) return `heartbeat interval is ${intervalMs} ms; use 100 to 30,000`;
  if (!(floor >= 2 && floor <= 100)) return `a floor of ${floor} intervals suspects without reason or never; use 2 to 100`;
  if (!(ceiling >= floor && ceiling <= 1_000)) return `a ceiling of ${ceiling} intervals is out of bounds; use the floor to 1,000`;
  if (!(margin >= 1 && margin <= 10)) return `a margin of ${margin} is out of bounds; use 1 to 10`;
  if (!(memory >= 1 && memory <= 100_000)) return `a memory of ${memory} intervals is out of bounds; use 1 to 100,000`;
  if (!(novice >= 0 && novice <= 100_000)) return `a time of ${novice} intervals as a novice is out of bounds; use 0 to 100,000`;
  if (!(Number.isInteger(helpers) && helpers >= 0 && helpers <= 8)) return `${helpers} helpers are out of bounds; use 0 to 8`;
  if (!(probe >= 0.1 && probe <= 1)) return `a probe of ${probe} intervals is out of bounds; use 0.1 to 1`;
  if (!(confirmedAfter >= 0.1 && confirmedAfter <= unconfirmedAfter && unconfirmedAfter <= 100))
    return `suspicions of ${confirmedAfter} to ${unconfirmedAfter} intervals are out of bounds; use 0.1 to 100, the shorter one first`;
  if (!(stable >= 1 && stable <= 10_000)) return `a stable time of ${stable} intervals is out of bounds; use 1 to 10,000`;
  return undefined;
}

/** RAISES is how often a hub can refute within one boot; an incarnation is `boot * RAISES + refutations`. */
export const RAISES = 2 ** 20;

/** BOOT_END is the first boot counter whose incarnations are no safe integers. */
const BOOT_END = 2 ** 33;

/** INCARNATION_MAX is the greatest incarnation that a frame may name. */
export const INCARNATION_MAX = BOOT_END * RAISES - 1;

/** bootOf gives the boot counter of an incarnation. */
export function bootOf(incarnation: number): number {
  return Math.floor(incarnation / RAISES);
}
