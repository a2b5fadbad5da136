import { Backoff, type BackoffConfig } from "#kernel/backoff.ts";
import type { Prng } from "#kernel/prng.ts";

/** Push is what telemetry tells of at once: events in order, how many it no longer has, and up to where that is all. */
export interface Push<E> {
  readonly events: readonly E[];
  readonly missed: number;
  readonly nextSeq: number;
}

/** Delivery is what is posted next: an event, or that some are missing. */
export type Delivery<E> =
  | { readonly kind: "event"; readonly event: E; readonly after: number }
  | { readonly kind: "missed"; readonly missed: number; readonly after: number };

/** Outcome is what became of a try. `refused`: the receiver says that it never takes this one. */
export type Outcome = "taken" | "failed" | "refused";

/** SinkRules are the numbers of a queue. */
export interface SinkRules {
  readonly backoff: BackoffConfig;
  readonly giveUpMs: number;
  /** Tries of a delivery that the receiver refuses for good, in case it does not mean it. */
  readonly refusals: number;
}

/**
 * SinkQueue says what is posted next to one sink, and when. It is pure: times are `mono` ms.
 *
 * WH1 events leave in order, one at a time: the next only when the one before was taken, or given up.
 * WH2 what one push told waits here, and its reader takes no other until that is gone: telemetry keeps the rest, and says what it lost.
 * WH3 what is missing is said in its place, by a delivery of its own: what telemetry no longer had, and what was given up here.
 * WH4 `position` is that of the first event which was not taken: whoever begins there again sends the last one twice at most, and leaves none out.
 * WH5 after a failure the next try waits, twice as long each time and with jitter, and as long as the receiver asks for; never longer than the longest.
 */
export class SinkQueue<E> {
  readonly #rules: SinkRules;
  readonly #seqOf: (event: E) => number;
  readonly #backoff: Backoff;
  #waiting: Delivery<E>[] = [];
  #position: number;
  #dueAt = Number.NEGATIVE_INFINITY;
  #firstTried: number | undefined;
  #refusals = 0;
  #givenUp = 0;

  /** `position` is where to go on; 0 for a sink that is new. */
  constructor(rules: SinkRules, prng: Prng, position: number, seqOf: (event: E) => number) {
    this.#rules = rules;
    this.#position = position;
    this.#seqOf = seqOf;
    this.#backoff = new Backoff(prng, rules.backoff);
  }

  /** position is where telemetry is asked to begin after a restart (WH4). */
  get position(): number {
    return this.#position;
  }

  /** waiting is how many deliveries are here. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** failures in a row of what is tried now. */
  get failures(): number {
    return this.#backoff.failures;
  }

  /** take has what telemetry tells of wait in its order. */
  take({ events, missed, nextSeq }: Push<E>): void {
    const first = events[0];
    if (missed > 0) this.#waiting.push({ kind: "missed", missed, after: first === undefined ? nextSeq : this.#seqOf(first) });
    for (const event of events) this.#waiting.push({ kind: "event", event, after: this.#seqOf(event) + 1 });
    const last = this.#waiting.at(-1);
    // What the filter leaves out between the last event and there need not be looked at again.
    if (last === undefined) this.#position = nextSeq;
    else this.#waiting[this.#waiting.length - 1] = { ...last, after: nextSeq };
  }

  /** next is what to post now; a number says for how many ms nothing is, and undefined that nothing waits. */
  next(mono: number): Delivery<E> | number | undefined {
    const [first] = this.#waiting;
    if (first === undefined) return undefined;
    if (mono < this.#dueAt) return this.#dueAt - mono;
    this.#firstTried ??= mono;
    return first;
  }

  /** tried says what became of what `next` gave; `retryAfterMs` is what the receiver asked for. */
  tried(mono: number, outcome: Outcome, retryAfterMs = 0): "taken" | "again" | "given up" {
    const [first] = this.#waiting;
    if (first === undefined) return "taken";
    if (outcome === "taken") {
      this.#over(first.after);
      return "taken";
    }
    if (outcome === "refused") this.#refusals++;
    const late = mono - (this.#firstTried ?? mono) >= this.#rules.giveUpMs;
    if (late || this.#refusals >= this.#rules.refusals) {
      this.#giveUp(first);
      return "given up";
    }
    const waitMs = Math.max(this.#backoff.failed(mono), Math.min(retryAfterMs, this.#rules.backoff.maxMs));
    this.#dueAt = mono + waitMs;
    return "again";
  }

  #over(position: number): void {
    this.#waiting.shift();
    this.#position = position;
    this.#firstTried = undefined;
    this.#refusals = 0;
    this.#dueAt = Number.NEGATIVE_INFINITY;
    this.#backoff.succeeded();
  }

  /** giveUp leaves a delivery out and has the next one say so (WH3). */
  #giveUp(first: Delivery<E>): void {
    this.#givenUp += first.kind === "missed" ? 0 : 1;
    const lost = first.kind === "missed" ? first.missed : 1;
    const next = this.#waiting[1];
    this.#over(first.after);
    if (next?.kind === "missed") this.#waiting[0] = { ...next, missed: next.missed + lost };
    else this.#waiting.unshift({ kind: "missed", missed: lost, after: first.after });
  }

  /** givenUp is how many events were. */
  get givenUp(): number {
    return this.#givenUp;
  }
}
