import { type Stats, statSync } from "node:fs";
import type { Clock, Timer } from "#channel/clock.ts";

/** Noted is to be told of each file before it is read, so that a change while it is read is seen too. */
export type Noted = (path: string) => void;

/** Looks between two tries of files that could not be read, at most: what kept them from being read may pass without a trace on them. */
const RETRY_MAX_LOOKS = 30;

/** FollowOptions say what is read, and who is told. */
export interface FollowOptions<T> {
  readonly clock: Clock;
  /** How long a change stays unseen at most, ms. */
  readonly intervalMs: number;
  /** read reads the value from its files and says which they are. What it throws goes to `failed`. */
  readonly read: (noted: Noted) => T;
  /** apply takes what was read again. What it throws goes to `failed`. */
  readonly apply: (value: T) => void;
  /** failed is told once for each bad state of the files, and at each `reread`; the value of before stays. */
  readonly failed: (error: unknown) => void;
}

/**
 * FollowedFiles reads a value from one file or several, and reads it again when one of those that it read has changed: a CA that a file
 * names is as much a part of the value as the file itself.
 */
export class FollowedFiles<T> {
  readonly #o: FollowOptions<T>;
  #stamps = new Map<string, string>();
  #timer: Timer | undefined;
  /** The last reading failed: with what, how many looks pass until the next try, and how many of them are left. */
  #failing: { readonly text: string; readonly looks: number; left: number } | undefined;

  constructor(options: FollowOptions<T>) {
    this.#o = options;
  }

  /** first reads the value at the start; what it throws is the caller's. Without it the first look reads. */
  first(): T {
    return this.#read();
  }

  /** start looks from now on, until `stop`. */
  start(): void {
    this.#timer = this.#o.clock.setTimer(this.#o.intervalMs, () => {
      this.look();
      this.start();
    });
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** look reads the value again if a file of it changed, and tries again from time to time after a reading that failed. */
  look(): void {
    const failing = this.#failing;
    const unread = this.#stamps.size === 0 && failing === undefined;
    if (unread || [...this.#stamps].some(([path, stamp]) => stampOf(path) !== stamp)) this.reread();
    else if (failing !== undefined && --failing.left <= 0) this.#again(failing);
  }

  /** reread reads the value again whether a file changed or not. */
  reread(): void {
    this.#again(undefined);
  }

  /** again reads the value; what failed in the same way before, with the same files, is not told again. */
  #again(before: { readonly text: string; readonly looks: number } | undefined): void {
    try {
      this.#o.apply(this.#read());
      this.#failing = undefined;
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      const looks = Math.min(RETRY_MAX_LOOKS, (before?.looks ?? 1) * 2);
      this.#failing = { text, looks, left: looks };
      if (text !== before?.text) this.#o.failed(error);
    }
  }

  #read(): T {
    const before = this.#stamps;
    const stamps = new Map<string, string>();
    // What was not come to because a file before it is bad is still looked at, as it is now.
    this.#stamps = new Map([...before.keys()].map((path) => [path, stampOf(path)]));
    const value = this.#o.read((path) => {
      const stamp = stampOf(path);
      stamps.set(path, stamp);
      this.#stamps.set(path, stamp);
    });
    this.#stamps = stamps;
    return value;
  }
}

/** stampOf tells versions of a file apart without reading it, and who may read them: rights move only the time of the inode. */
function stampOf(path: string): string {
  let stats: Stats;
  try {
    stats = statSync(path);
  } catch {
    return "missing";
  }
  return `${stats.mtimeMs} ${stats.ctimeMs} ${stats.size} ${stats.ino}`;
}
