import { Arrivals } from "./arrivals.ts";
import type { Suspect } from "./frames.ts";
import type { LivenessConfig } from "./settings.ts";

/** Phase is how far the doubt about a member has gone. */
export type Phase = "alive" | "probing" | "suspected" | "accused";

/** Probe is a question to a member and to helpers under one nonce. */
export interface Probe {
  readonly nonce: number;
  readonly at: number;
  readonly endsAt: number;
  /** What each helper has said: it has its answer, it has none, or it has not said anything. */
  readonly helpers: { readonly hub: string; said: "nothing" | "ack" | "nack" }[];
}

/** NONCES_MAX is how many pings to one member are remembered, for their answers. */
export const NONCES_MAX = 8;

/** Failures of a hub that lengthen the time it must be stable; one is forgotten in each `FORGET` intervals. */
const FLAPS_MAX = 6;
const FORGET = 600;

/** Watched is what is held of one member. Instants are own time. */
export class Watched {
  readonly hub: string;
  readonly arrivals: Arrivals;
  failed = false;
  phase: Phase = "alive";
  /** It has been heard since this hub started. */
  met = false;
  linkUp = true;
  /** When a frame of its own came, and when helpers last vouched for it. */
  heardAt: number;
  vouchedAt = Number.NEGATIVE_INFINITY;
  incarnation = 0;
  seq = 0;
  /** What it suspects, by its newest frame. */
  suspects: readonly Suspect[] = [];
  /** Nonces of the latest pings to it; whether any was answered since the last beat; whether it was pinged then. */
  readonly nonces: number[] = [];
  answered = false;
  asked = false;
  probe: Probe | undefined;
  /** Verdicts held back in this doubt because nobody who was asked said anything. */
  holds = 0;
  /** Doubts in a row that one helper alone has ended. */
  vouches = 0;
  suspectedAt = 0;
  accuseAt = 0;
  accusations = 0;
  /** When a suspicion of this hub by this member last counted against the own health. */
  blamedAt = Number.NEGATIVE_INFINITY;
  /** Questions of it that were answered since the last beat. */
  asks = 0;
  /** Since when a failed hub is heard without a gap, and when it was last said to be back. */
  backSince: number | undefined;
  returnedAt = Number.NEGATIVE_INFINITY;
  #failures = 0;
  #failedAt = 0;
  readonly #config: LivenessConfig;

  constructor(hub: string, config: LivenessConfig, at: number) {
    this.hub = hub;
    this.arrivals = new Arrivals(config);
    this.heardAt = at;
    this.#config = config;
  }

  /** aliveAt is when it was last known to be alive. */
  get aliveAt(): number {
    return Math.max(this.heardAt, this.vouchedAt);
  }

  /** timeoutMs is the silence after which it is suspected. One that was never heard may still be starting. */
  timeoutMs(at: number): number {
    const { floor, ceiling, intervalMs } = this.#config;
    if (!this.met) return ceiling * intervalMs;
    return this.linkUp ? this.arrivals.timeoutMs(at) : floor * intervalMs;
  }

  /** probeAt is when the doubt begins, so that its verdict falls on the timeout. */
  probeAt(at: number): number {
    return this.aliveAt + this.timeoutMs(at) - this.#config.probe * this.#config.intervalMs;
  }

  /** stableMs is how long it must be heard without a gap before it counts as back: twice as long after each failure. */
  get stableMs(): number {
    return this.#config.stable * this.#config.intervalMs * 2 ** Math.min(FLAPS_MAX, Math.max(0, this.#failures - 1));
  }

  /** setFailed takes what the book of members says of it. */
  setFailed(failed: boolean, at: number): void {
    if (failed === this.failed) return;
    this.failed = failed;
    this.phase = "alive";
    this.probe = undefined;
    this.backSince = undefined;
    if (failed) {
      const forgotten = Math.floor((at - this.#failedAt) / (FORGET * this.#config.intervalMs));
      this.#failures = Math.max(0, this.#failures - Math.max(0, forgotten)) + 1;
      this.#failedAt = at;
    } else this.heardAt = at;
  }

  /** expect remembers a ping to it. */
  expect(nonce: number): void {
    this.nonces.push(nonce);
    if (this.nonces.length > NONCES_MAX) this.nonces.shift();
  }

  describe(at: number): string {
    const silent = Math.round(at - this.aliveAt);
    const more = this.probe === undefined ? "" : ` helpers=${this.probe.helpers.map(({ hub, said }) => `${hub}:${said}`).join(",") || "-"}`;
    const failed = this.failed ? ` failed${this.backSince === undefined ? "" : " heard"}` : "";
    return `${this.hub} ${this.phase}${failed} incarnation=${this.incarnation} silent=${silent} timeout=${Math.round(this.timeoutMs(at))}${more}`;
  }
}
