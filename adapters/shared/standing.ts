import type { Freshness } from "../../clients/typescript/index.ts";

/** Value is what is known of one state key. */
interface Value {
  /** Something live has said it since the source was reached last. */
  live: boolean;
  /** It says so until then, mono ms. */
  until: number;
}

/** Shown is how current the values of a node are. */
export interface Shown {
  readonly freshness: Freshness;
  /** Keys that have a value which nothing live confirms. */
  readonly stale: readonly string[];
}

/**
 * Standing judges how current the values of one node are.
 *
 * VL1 a value is live only from something live on, until its time is over or its source was lost.
 * VL2 a node is FRESH only while its source is reached, it is available, and each value that it has is live.
 */
export class Standing {
  readonly #values = new Map<string, Value>();
  #reached = false;
  #available: boolean | undefined;
  #shown = "";

  /** reached says whether the source of the node is there. When it goes, nothing is confirmed any more. */
  reached(reached: boolean): void {
    if (!reached) for (const value of this.#values.values()) value.live = false;
    this.#reached = reached;
  }

  /** available says whether the node itself is there, as its source knows; undefined: nobody says. */
  available(available: boolean | undefined): void {
    this.#available = available;
  }

  /** isThere tells whether a command can reach it. */
  get isThere(): boolean {
    return this.#reached && this.#available !== false;
  }

  /** told notes a value. `forMs`: how long it says how things are. */
  told(key: string, live: boolean, now: number, forMs = Number.POSITIVE_INFINITY): void {
    const value = this.#values.get(key);
    if (value === undefined) this.#values.set(key, { live, until: now + forMs });
    else if (live) {
      value.live = true;
      value.until = now + forMs;
    }
  }

  /** doubt says that a value is not known to be current, if there is one. */
  doubt(key: string): void {
    const value = this.#values.get(key);
    if (value !== undefined) value.live = false;
  }

  /** forget drops a key. */
  forget(key: string): void {
    this.#values.delete(key);
  }

  /** deadline is when the next value is over, mono ms. */
  deadline(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const { live, until } of this.#values.values()) if (live) next = Math.min(next, until);
    return next;
  }

  /** show is how current the node is. */
  show(now: number): Shown {
    const stale: string[] = [];
    for (const [key, value] of this.#values) {
      if (value.live && value.until <= now) value.live = false;
      if (!value.live) stale.push(key);
    }
    stale.sort();
    if (!this.isThere) return { freshness: "UNKNOWN", stale };
    return { freshness: stale.length === 0 ? "FRESH" : "STALE", stale };
  }

  /** changed is what `show` says if that is not what it said before. */
  changed(now: number): Shown | undefined {
    const shown = this.show(now);
    const text = `${shown.freshness} ${shown.stale.join()}`;
    if (text === this.#shown) return undefined;
    this.#shown = text;
    return shown;
  }
}
