import type { Now } from "#kernel/instant.ts";
import type { LogStatus } from "./engine.ts";

/** Standstill is how long this hub's monotonic clock stood still, so that what was known before is older than it says (RO7). */
export class Standstill {
  /** When that was noticed last, mono ms, and for how long it was. */
  #noticed: { readonly at: number; readonly ms: number } | undefined;

  /** note takes that it stood still for `ms` until now; `status` is what the engine says. */
  note(now: Now, ms: number, { ageMs }: LogStatus): void {
    if (ms > 0) this.#noticed = { at: now.mono, ms: this.#missing(now, ageMs) + ms };
  }

  /** aged is what the engine says, with the age that it really has. */
  aged(now: Now, status: LogStatus): LogStatus {
    const missing = this.#missing(now, status.ageMs);
    return missing === 0 || status.ageMs === undefined ? status : { ...status, ageMs: status.ageMs + missing };
  }

  #missing(now: Now, ageMs: number | undefined): number {
    return this.#noticed === undefined || ageMs === undefined || now.mono - ageMs > this.#noticed.at ? 0 : this.#noticed.ms;
  }
}
