import type { Failure } from "../error.ts";
import type { Shared } from "./holdings.ts";
import { LIMITS } from "./limits.ts";

/** One caller may take an eighth of what there is, but not fewer than `LIMITS.streamsPerCaller`. */
const SHARE = 8;

/** StreamsPerCaller counts the streams of one kind by who opened them, so that nobody takes more than a part of those that may be open. */
export class StreamsPerCaller {
  readonly #limit: string;
  readonly #max: number;
  /** Most that one caller may have. */
  readonly perCaller: number;
  readonly #held = new Map<string, number>();
  #total = 0;

  /** `limit` is the name of the bound `max` in failures. */
  constructor(limit: string, max: number) {
    this.#limit = limit;
    this.#max = max;
    this.perCaller = Math.min(max, Math.max(LIMITS.streamsPerCaller, Math.ceil(max / SHARE)));
  }

  /** take counts one more; a LIMIT_EXCEEDED if there is none left for this caller, or for anybody. */
  take(caller: string): Failure | undefined {
    const held = this.#held.get(caller) ?? 0;
    if (held >= this.perCaller) return exceeded(`${this.#limit}_per_caller`, this.perCaller, "one caller may have open");
    if (this.#total >= this.#max) return exceeded(this.#limit, this.#max, "may be open");
    this.#held.set(caller, held + 1);
    this.#total++;
    return undefined;
  }

  /** give takes back one that was counted. */
  give(caller: string): void {
    const held = this.#held.get(caller) ?? 0;
    if (held === 0) return;
    if (held === 1) this.#held.delete(caller);
    else this.#held.set(caller, held - 1);
    this.#total--;
  }

  /** shared is who has how many open. */
  shared(): Shared {
    const holdings = [...this.#held].map(([holder, count]) => ({ holder, count, bytes: 0 }));
    return { what: this.#limit, max: this.#max, holdings };
  }
}

function exceeded(limit: string, max: number, what: string): Failure {
  return { reason: "LIMIT_EXCEEDED", message: `at most ${max} such streams ${what}; close one first`, facts: { limit, max: String(max) } };
}
