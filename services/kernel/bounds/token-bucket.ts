/** Rate is what a token bucket lets through: `perSecond` in the long run, `burst` at once. */
export interface Rate {
  readonly perSecond: number;
  readonly burst: number;
}

/** What floating point may add to a wait. */
const ROUNDING_MS = 1e-6;

/** TokenBucket limits a rate. It is full at the start; its rate is an argument, so that it may change. Pure: so is time. */
export class TokenBucket {
  #tokens: number;
  #atMono: number;

  constructor({ burst }: Rate, nowMono: number) {
    this.#tokens = burst;
    this.#atMono = nowMono;
  }

  /** take uses up tokens, one by default; 0 if there were as many, else the ms until there are. More than a burst counts as a burst. */
  take({ perSecond, burst }: Rate, nowMono: number, tokens = 1): number {
    const need = Math.min(tokens, Math.max(1, burst));
    this.#tokens = Math.min(burst, this.#tokens + ((nowMono - this.#atMono) * perSecond) / 1_000);
    this.#atMono = nowMono;
    if (this.#tokens < need) return Math.max(1, Math.ceil(((need - this.#tokens) * 1_000) / perSecond - ROUNDING_MS));
    this.#tokens -= need;
    return 0;
  }
}
