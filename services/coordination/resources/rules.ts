/** Rules are the times (ms of log time) and bounds of lending, the same at every hub of a federation. */
export interface Rules {
  /** Until a reservation must be confirmed. */
  readonly reserveMs: number;
  /** Between the notice of an early end and the end. */
  readonly graceMs: number;
  /** An allocation so young is no victim, but of a request within a nominal quota: what was given is not taken back at once. */
  readonly settleMs: number;
  /** Until terms must be answered. */
  readonly answerMs: number;
  readonly roundsMax: number;
  /** A request that is first in line and has waited so long has what becomes free kept for it, however small a piece. */
  readonly starveMs: number;
  /** How long what has become of a request is remembered. */
  readonly settledMs: number;
  /** How much a hub may owe, what it has in escrow included, in millionths of a unit. */
  readonly creditMicro: number;
  readonly offersMax: number;
  /** Requests that are kept of one borrower, settled ones included. */
  readonly requestsMax: number;
  readonly quotasMax: number;
  /** Leases of one owner at a time, those included that have ended and of which it has not said that they have stopped. */
  readonly leasesMax: number;
  /** Characters of the contexts of all requests of one borrower that are kept. */
  readonly contextMax: number;
}

/** RULES are those of a federation that has not decided on others. */
export const RULES: Rules = {
  reserveMs: 10_000,
  graceMs: 30_000,
  settleMs: 60_000,
  answerMs: 60_000,
  roundsMax: 6,
  starveMs: 5_000,
  settledMs: 60_000,
  creditMicro: 1_000_000_000_000,
  offersMax: 64,
  requestsMax: 4_096,
  quotasMax: 256,
  leasesMax: 4_096,
  contextMax: 262_144,
};

/** AGENTS_MAX, MODELS_MAX, TYPES_MAX and LEASES_MAX bound the lists of a command. */
export const AGENTS_MAX = 256;
export const MODELS_MAX = 64;
export const TYPES_MAX = 64;
export const LEASES_MAX = 256;

/** NAME_LENGTH and CONTEXT_LENGTH bound texts, in characters. */
export const NAME_LENGTH = 63;
export const CONTEXT_LENGTH = 1_024;

/** DURATION_MAX bounds what a duration can be: a year. WAIT_MAX_MS bounds a wait, GRACE_MAX_MS the grace of an owner. */
export const DURATION_MAX = 365 * 86_400_000;
export const WAIT_MAX_MS = 3_600_000;
export const GRACE_MAX_MS = 3_600_000;

/** REPORT_MAX bounds each list of what a hub reports for an audit, so that it fits into a frame however long ids are; a list that is full may not be whole. */
export const REPORT_MAX = 2_048;
