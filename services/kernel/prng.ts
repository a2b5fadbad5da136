/**
 * Prng is a seeded generator of pseudo-random numbers (sfc32, Chris Doty-Humphrey, PractRand), for jitter and simulation only;
 * never for secrets. The same seed gives the same sequence on every machine.
 */
export class Prng {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  constructor(seed: number) {
    this.#a = 0x9e3779b9;
    this.#b = 0x243f6a88;
    this.#c = 0xb7e15162;
    this.#d = seed >>> 0;
    for (let i = 0; i < 15; i++) this.u32();
  }

  /** u32 is uniform over [0, 2^32). */
  u32(): number {
    const t = (((this.#a + this.#b) >>> 0) + this.#d) >>> 0;
    this.#d = (this.#d + 1) >>> 0;
    this.#a = (this.#b ^ (this.#b >>> 9)) >>> 0;
    this.#b = (this.#c + (this.#c << 3)) >>> 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) >>> 0;
    this.#c = (this.#c + t) >>> 0;
    return t;
  }

  /** unit is uniform over [0, 1). */
  unit(): number {
    return this.u32() / 0x1_0000_0000;
  }

  /** below is an integer uniform over [0, n), n > 0. */
  below(n: number): number {
    return Math.floor(this.unit() * n);
  }

  /** chance is true with the probability `p`. */
  chance(p: number): boolean {
    return this.unit() < p;
  }
}
