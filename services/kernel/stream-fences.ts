import type { Failure } from "./error.ts";

/** StreamNumber says which of the streams of one group of one caller this is. */
export interface StreamNumber {
  /** Chosen by the caller; any text. */
  readonly group: string;
  readonly incarnation: number;
  readonly n: number;
}

/** FenceLimits bound what is remembered of groups without an open stream. */
export interface FenceLimits {
  /** Groups of one caller. */
  readonly perCaller: number;
  /** Groups of all callers. */
  readonly total: number;
  /** How long a group is remembered after its last stream, ms: longer than a connection outlives a client that is gone. */
  readonly keepMs: number;
}

/** FENCE_LIMITS: keepalive ends a connection whose client is gone within 30 s; a handshake that hangs ends sooner. */
export const FENCE_LIMITS: FenceLimits = { perCaller: 64, total: 4_096, keepMs: 120_000 };

/** REPLACED is why a stream ends, or is refused, of whose group a newer one is or was open. */
export const REPLACED: Failure = {
  reason: "SESSION_REPLACED",
  message: "a newer stream of the same group took the place of this one; nothing more is taken from it",
};

interface Fence<S> {
  incarnation: number;
  n: number;
  /** The newest stream, while it is open. */
  stream: S | undefined;
  closedAt: number;
}

/** Groups of one caller. In `idle` they are in the order in which their last streams closed. */
interface Groups<S> {
  readonly open: Map<string, Fence<S>>;
  readonly idle: Map<string, Fence<S>>;
}

/** Opened is what became of a stream that opens: refused, or the newest of its group, with the one that it replaced. */
export type Opened<S> = { readonly failure: Failure } | { readonly failure: undefined; readonly replaced: S | undefined };

/**
 * StreamFences decide which streams of a caller may still be heard: of each group the newest that opened. Bytes of an older one may
 * come long after it, because the network held them back.
 *
 * SF1 of one caller and group, a stream opens only if it is newer than all that opened before; it replaces the one that is open.
 * SF2 groups of different callers, and different groups of one caller, have nothing to do with one another.
 * SF3 open groups are bounded by whoever counts open streams; of the others `limits` are kept, and each caller gives up its own first.
 *
 * Nothing is stored: a restart ends every connection that bytes could still arrive on.
 */
export class StreamFences<S> {
  readonly #limits: FenceLimits;
  readonly #callers = new Map<string, Groups<S>>();
  /** Those of them with groups without an open stream, in the order in which they were last heard of: the first has waited longest. */
  readonly #waiting = new Map<string, Groups<S>>();
  #idle = 0;

  constructor(limits: FenceLimits = FENCE_LIMITS) {
    this.#limits = limits;
  }

  /** size is how many groups are remembered without an open stream. */
  get size(): number {
    return this.#idle;
  }

  /** open makes a stream the newest of its group, or refuses it (SF1). What only changes something, and does not stay, may repeat the newest number. */
  open(mono: number, caller: string, { group, incarnation, n }: StreamNumber, stream: S, mayRepeat = false): Opened<S> {
    this.#expire(mono);
    const groups = this.#callers.get(caller) ?? { open: new Map(), idle: new Map() };
    const fence = groups.open.get(group) ?? groups.idle.get(group);
    if (
      fence !== undefined &&
      (incarnation < fence.incarnation || (incarnation === fence.incarnation && (mayRepeat ? n < fence.n : n <= fence.n)))
    )
      return { failure: REPLACED };
    this.#callers.set(caller, groups);
    if (groups.idle.delete(group)) this.#idle--;
    this.#touch(caller, groups);
    groups.open.set(group, { incarnation, n, stream, closedAt: 0 });
    return { failure: undefined, replaced: fence?.stream };
  }

  /** close notes that a stream has ended; of one that was replaced before, nothing is to be noted. */
  close(mono: number, caller: string, group: string, stream: S): void {
    const groups = this.#callers.get(caller);
    const fence = groups?.open.get(group);
    if (groups === undefined || fence?.stream !== stream) return;
    groups.open.delete(group);
    fence.stream = undefined;
    fence.closedAt = mono;
    groups.idle.set(group, fence);
    this.#idle++;
    this.#touch(caller, groups);
    if (groups.idle.size > this.#limits.perCaller) this.#forgetOldest(caller, groups);
    this.#expire(mono);
  }

  #touch(caller: string, groups: Groups<S>): void {
    this.#waiting.delete(caller);
    if (groups.idle.size > 0) this.#waiting.set(caller, groups);
  }

  #forgetOldest(caller: string, groups: Groups<S>): void {
    const [oldest] = groups.idle.keys();
    if (oldest !== undefined && groups.idle.delete(oldest)) this.#idle--;
    if (groups.idle.size > 0) return;
    this.#waiting.delete(caller);
    if (groups.open.size === 0) this.#callers.delete(caller);
  }

  /** expire forgets what is old, and, beyond the total, of whoever has been silent longest. */
  #expire(mono: number): void {
    for (const [caller, groups] of this.#waiting) {
      for (const fence of groups.idle.values()) {
        if (this.#idle <= this.#limits.total && mono - fence.closedAt < this.#limits.keepMs) break;
        this.#forgetOldest(caller, groups);
      }
      // What closed last closed when its caller was last heard of, or before: all that follow are younger.
      if (groups.idle.size > 0 && this.#idle <= this.#limits.total) return;
    }
  }
}
