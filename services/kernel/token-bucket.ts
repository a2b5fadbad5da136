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

  /** take uses up one token; 0 if there was one, else the ms until there is one. */
  take({ perSecond, burst }: Rate, nowMono: number): number {
    this.#tokens = Math.min(burst, this.#tokens + ((nowMono - this.#atMono) * perSecond) / 1_000);
    this.#atMono = nowMono;
    if (this.#tokens < 1) return Math.max(1, Math.ceil(((1 - this.#tokens) * 1_000) / perSecond - ROUNDING_MS));
    this.#tokens--;
    return 0;
  }
}
