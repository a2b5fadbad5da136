import type { Prng } from "#kernel/prng.ts";
import type { Scheduler } from "../scheduler.ts";

/** NetworkOptions are drawn from the seed of a run. Chances are per datagram. */
export interface NetworkOptions {
  readonly minMs: number;
  /** Mean of what a datagram takes more: with more than the time between two of them they overtake each other. */
  readonly jitterMs: number;
  readonly loss: number;
  readonly duplicate: number;
  /** How often a datagram, or its copy, arrives only up to `staleMs` later: long after its session, or the life of who sent it. */
  readonly stale: number;
  readonly staleMs: number;
}

/**
 * DatagramNetwork carries frames between hubs with no promise but that what arrives was sent: it drops, repeats, delays and reorders.
 * Links are cut in one direction each.
 */
export class DatagramNetwork {
  readonly #scheduler: Scheduler;
  readonly #prng: Prng;
  readonly #o: NetworkOptions;
  readonly #hubs: number;
  readonly #cut: boolean[];
  #healed = false;
  sent = 0;
  delivered = 0;

  constructor(scheduler: Scheduler, prng: Prng, options: NetworkOptions, hubs: number) {
    this.#scheduler = scheduler;
    this.#prng = prng;
    this.#o = options;
    this.#hubs = hubs;
    this.#cut = Array.from({ length: hubs * hubs }, () => false);
  }

  isCut(from: number, to: number): boolean {
    return this.#cut[from * this.#hubs + to] as boolean;
  }

  cut(from: number, to: number, is: boolean): void {
    this.#cut[from * this.#hubs + to] = is;
  }

  /** mend ends all cuts; from then on only what is on its way is late, and one in a hundred gets lost. */
  mend(): void {
    this.#cut.fill(false);
    this.#healed = true;
  }

  /** send lets `deliver` happen once, never or several times. */
  send(from: number, to: number, deliver: () => void): void {
    this.sent++;
    const { loss, duplicate } = this.#o;
    const prng = this.#prng;
    if (this.isCut(from, to)) return;
    if (!prng.chance(this.#healed ? Math.min(loss, 0.01) : loss)) this.#carry(deliver);
    if (prng.chance(this.#healed ? Math.min(duplicate, 0.01) : duplicate)) this.#carry(deliver);
  }

  #carry(deliver: () => void): void {
    const { minMs, jitterMs, stale, staleMs } = this.#o;
    const prng = this.#prng;
    const late = !this.#healed && prng.chance(stale) ? staleMs * prng.unit() : 0;
    const jitter = this.#healed ? Math.min(jitterMs, 3) : jitterMs;
    this.#scheduler.after(minMs - jitter * Math.log(1 - prng.unit()) + late, () => {
      this.delivered++;
      deliver();
    });
  }
}
