import type { Clock } from "../../clients/typescript/index.ts";

/** GateLimits say how many calls one server takes. */
export interface GateLimits {
  /** Calls that run at the same time. */
  readonly concurrent: number;
  /** Calls in a second, and how many may come at once. */
  readonly perSecond: number;
  readonly burst: number;
}

/** GATE_LIMITS are the limits of a server: far above what an agent needs, far below what troubles a hub. */
export const GATE_LIMITS: GateLimits = { concurrent: 16, perSecond: 20, burst: 60 };

/** Gate lets so many calls in, whoever makes them. */
export class Gate {
  readonly #limits: GateLimits;
  readonly #clock: Pick<Clock, "mono">;
  #running = 0;
  #tokens: number;
  #at: number;

  constructor(clock: Pick<Clock, "mono">, limits: GateLimits = GATE_LIMITS) {
    this.#limits = limits;
    this.#clock = clock;
    this.#tokens = limits.burst;
    this.#at = clock.mono();
  }

  /** enter lets a call in, or says why not. Who is in has to `leave`. */
  enter(): string | undefined {
    const { concurrent, perSecond, burst } = this.#limits;
    const now = this.#clock.mono();
    this.#tokens = Math.min(burst, this.#tokens + ((now - this.#at) * perSecond) / 1_000);
    this.#at = now;
    if (this.#running >= concurrent) return `${concurrent} tool calls run already; wait for one to end`;
    if (this.#tokens < 1) return `more than ${perSecond} tool calls a second; wait a second and make fewer`;
    this.#tokens--;
    this.#running++;
    return undefined;
  }

  /** leave ends a call that was let in. */
  leave(): void {
    this.#running--;
  }
}
