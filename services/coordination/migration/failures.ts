import type { Migration } from "./messages.ts";

/** REFUSALS_MAX are the agents that a hub may refuse, with none taken in since, before it is left alone. */
export const REFUSALS_MAX = 4;

/** Failures are what the log says of moves that came to nothing, whoever asked for them: the same at all hubs, and after a restart. */
export class Failures {
  readonly #failed = new Map<string, { readonly at: number; readonly to: Set<string> }>();
  readonly #refused = new Map<string, number>();

  /** `history` is the newest first; what was over before `since`, log time, is forgotten. */
  constructor(history: readonly Migration[], since: number) {
    const took = new Set<string>();
    for (const { agent, to, status, step, cause, deadline: at } of history) {
      if (at < since) continue;
      if (status !== "aborted") {
        took.add(to);
        continue;
      }
      const known = this.#failed.get(agent);
      if (known === undefined) this.#failed.set(agent, { at, to: new Set([to]) });
      else known.to.add(to);
      // Before VALIDATE it was the source that did not want to.
      const byOther = (cause === "REFUSED" || cause === "DEADLINE") && step !== "REQUEST";
      if (byOther && !took.has(to)) this.#refused.set(to, (this.#refused.get(to) ?? 0) + 1);
    }
  }

  /** triedAt is when a move of an agent came to nothing last, log time; 0 for never. */
  triedAt(agent: string): number {
    return this.#failed.get(agent)?.at ?? 0;
  }

  /** failedAt are the hubs to which an agent could not be moved. */
  failedAt(agent: string): ReadonlySet<string> | undefined {
    return this.#failed.get(agent)?.to;
  }

  /** refuses tells whether a hub has taken in none of the last few agents that were to move there. */
  refuses(hub: string): boolean {
    return (this.#refused.get(hub) ?? 0) >= REFUSALS_MAX;
  }
}
