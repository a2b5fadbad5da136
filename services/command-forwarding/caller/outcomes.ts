import type { Now } from "#kernel/instant.ts";
import type { Journal } from "../journal/journal.ts";
import { compact } from "../journal/records.ts";
import { type Answer, OUTCOME, type Result } from "../messages.ts";
import type { Keys } from "./idempotency.ts";
import type { Keyed, Pending } from "./pending.ts";

/** Outcomes remembered for GetCommand and for late corrections. */
const RECENT = 1_024;

/** Outcomes remembers those of commands that have ended: the last ones, and those that an idempotency key asks for. */
export class Outcomes {
  readonly #keys: Keys;
  readonly #urgent: () => void;
  readonly #recent = new Array<Pending | undefined>(RECENT).fill(undefined);
  #unlogged: Keyed[] = [];

  /** `urgent` asks for `log` in this very step. */
  constructor(keys: Keys, urgent: () => void) {
    this.#keys = keys;
    this.#urgent = urgent;
  }

  /** recent finds a command of which the outcome was known lately. */
  recent(epoch: number, seq: number): Pending | undefined {
    const found = this.#recent[seq % RECENT];
    return found?.epoch === epoch && found.seq === seq ? found : undefined;
  }

  /** keep remembers an outcome: for a while, or for the life of its idempotency key (IK2). */
  keep(now: Now, pending: Pending, result: Result): void {
    if (pending.named) this.#recent[pending.seq % RECENT] = pending;
    pending.result = compact(result);
    const { keyed } = pending;
    if (keyed === undefined) return;
    keyed.pending = undefined;
    if (result.outcome === OUTCOME.REJECTED || result.outcome === OUTCOME.EXPIRED) return this.#keys.remove(keyed);
    this.#keys.settle(now, keyed, result);
    keyed.durationMs = pending.durationMs;
    this.#logKeyed(keyed);
  }

  /** correct applies a late report to a command that ended as UNKNOWN, once. */
  correct(now: Now, epoch: number, item: Answer): void {
    const pending = this.recent(epoch, item.seq);
    if (pending === undefined || pending.result?.outcome !== OUTCOME.UNKNOWN || item.result.outcome === OUTCOME.UNKNOWN) return;
    pending.result = compact(item.result);
    const { keyed } = pending;
    if (keyed === undefined || keyed.seq !== pending.seq || !this.#keys.holds(keyed)) return;
    this.#keys.settle(now, keyed, item.result);
    this.#logKeyed(keyed);
  }

  /** log writes down the outcomes of keys. */
  log(journal: Journal): void {
    for (const keyed of this.#unlogged) if (keyed.result !== undefined && this.#keys.holds(keyed)) journal.add(keyed);
    this.#unlogged = [];
  }

  /** logKeyed: a key's outcome is durable before its caller is answered: the stored answer never contradicts the given one. */
  #logKeyed(keyed: Keyed): void {
    this.#unlogged.push(keyed);
    this.#urgent();
  }
}
