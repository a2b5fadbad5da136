import type { Failure, Reason } from "../error.ts";
import type { Holding, Shared } from "./holdings.ts";

/** One holder may take an eighth of a room, and an eighth is kept for this hub's own people and services. */
const SHARE = 8;

/** How many parts the hub's own may have, and how many of a room that lends: more than one caller can borrow. */
const OWN = 2;
const OWN_LENT = 6;

/** Entries that one holder may have at least, if the room has so many. */
const LEAST = 8;

/** RoomBounds say how much there is of something that callers use up. */
export interface RoomBounds {
  /** Name of the bound in failures and metrics, such as `idempotency_keys`. */
  readonly limit: string;
  /** Entries. */
  readonly max: number;
  /** Bytes of all entries; unbounded by default. */
  readonly maxBytes?: number;
  /** What the holders are, as the end of the name of their bound; `per_caller` by default. */
  readonly per?: string;
  /** True: while half of the room is free, a holder may go beyond its part (RM5). */
  readonly lends?: boolean;
  /** False: none of the hub's own ever holds any of it, so that nothing is kept for them (RM2). */
  readonly forOwn?: boolean;
  /** What a refusal is called: LIMIT_EXCEEDED unless the room empties again shortly. */
  readonly reason?: Reason;
  /** Field that a refusal names. */
  readonly field?: string;
}

/** RoomUse is what of a room is taken, for metrics. */
export interface RoomUse {
  readonly limit: string;
  readonly used: number;
  readonly max: number;
}

interface Held {
  count: number;
  bytes: number;
}

/**
 * Room counts what callers use up, by who holds it, so that nobody can take it away from the others.
 *
 * RM1 one holder has at most an eighth of the entries, or eight if that is more, and at most an eighth of the bytes.
 * RM2 the last eighth is for the hub's own (operators, automations, its services), who may also have twice the part of one holder: a
 *    hub whose nodes use up a room can still be operated, and a node that is flooded can still be commanded.
 * RM3 a refusal says which bound it is and whose, in its text and in `limit` and `max` among its facts.
 * RM4 what was there before (after a restart, or counted late) is added without being asked, and counts.
 * RM5 a room that lends holds nobody to a part while half of it is free, so that one busy caller on a quiet hub gets half of it and the
 *    others find the other half. The hub's own may have three quarters.
 * RM6 of the last eighth of what a holder may use, whether kept for the hub's own or not, it gets no more than it leaves to those who come
 *    after it: however many holders fill the room, the next one finds something, down to the very last entries.
 */
export class Room {
  readonly #bounds: RoomBounds;
  readonly #held = new Map<string, Held>();
  readonly #part: number;
  readonly #partBytes: number;
  readonly #maxBytes: number;
  #count = 0;
  #bytes = 0;

  constructor(bounds: RoomBounds) {
    const { max, maxBytes = Number.POSITIVE_INFINITY } = bounds;
    this.#bounds = bounds;
    this.#maxBytes = maxBytes;
    this.#part = Math.min(max, Math.max(LEAST, Math.ceil(max / SHARE)));
    this.#partBytes = maxBytes / SHARE;
  }

  /** count and bytes are what is taken. */
  get count(): number {
    return this.#count;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** holders is how many hold something. */
  get holders(): number {
    return this.#held.size;
  }

  /** refusal tells why a holder may not have another entry of so many bytes; undefined if it may. It takes nothing. */
  refusal(holder: string, bytes: number, own: boolean): Failure | undefined {
    const { limit, max, per = "per_caller" } = this.#bounds;
    const held = this.#held.get(holder);
    if (held !== undefined && this.overPart(holder, bytes, own)) {
      const part = this.#partOf(own);
      if (held.count >= part) return this.#refuse(`${limit}_${per}`, part, `${held.count} ${words(limit)} of ${holder}`);
      return this.#refuse(`${limit}_bytes_${per}`, this.#partBytesOf(own), `${held.bytes} bytes of ${words(limit)} of ${holder}`);
    }
    const reserved = own || this.#bounds.forOwn === false ? 0 : 1 / SHARE;
    const left = max - Math.floor(max * reserved) - this.#count;
    if (left <= 0) return this.#refuse(limit, max, `${this.#count} ${words(limit)}`);
    const leftBytes = this.#maxBytes * (1 - reserved) - this.#bytes;
    if (bytes > leftBytes) return this.#refuse(`${limit}_bytes`, this.#maxBytes, `${this.#bytes} bytes of ${words(limit)}`);
    if (held === undefined) return undefined;
    if (left <= Math.floor(max / SHARE) && held.count >= left)
      return this.#refuse(`${limit}_${per}`, left, `${held.count} ${words(limit)} of ${holder}`);
    if (leftBytes < this.#partBytes && held.bytes + bytes > leftBytes)
      return this.#refuse(`${limit}_bytes_${per}`, leftBytes, `${held.bytes} bytes of ${words(limit)} of ${holder}`);
    return undefined;
  }

  /** overPart tells whether a holder with another entry of so many bytes would have more than its part, and cannot borrow it (RM1, RM5). */
  overPart(holder: string, bytes: number, own: boolean): boolean {
    const held = this.#held.get(holder);
    if (held === undefined || this.#mayBorrow(bytes)) return false;
    return held.count >= this.#partOf(own) || held.bytes + bytes > this.#partBytesOf(own);
  }

  /** countOf is how many entries a holder has. */
  countOf(holder: string): number {
    return this.#held.get(holder)?.count ?? 0;
  }

  /** usedBy is how much of the room a holder has: the greater of its parts of the entries and of the bytes. */
  usedBy(holder: string): number {
    const { count, bytes } = this.#held.get(holder) ?? { count: 0, bytes: 0 };
    return Math.max(count / this.#bounds.max, bytes / this.#maxBytes);
  }

  #mayBorrow(bytes: number): boolean {
    const { lends = false, max } = this.#bounds;
    return lends && this.#count < max / 2 && this.#bytes + bytes <= this.#maxBytes / 2;
  }

  #partBytesOf(own: boolean): number {
    if (!own) return this.#partBytes;
    return this.#partBytes * (this.#bounds.lends === true ? OWN_LENT : OWN);
  }

  #partOf(own: boolean): number {
    return own ? Math.min(this.#bounds.max, this.#part * (this.#bounds.lends === true ? OWN_LENT : OWN)) : this.#part;
  }

  /** take adds an entry if its holder may have it, and answers why not otherwise. */
  take(holder: string, bytes: number, own: boolean): Failure | undefined {
    const failure = this.refusal(holder, bytes, own);
    if (failure === undefined) this.add(holder, bytes);
    return failure;
  }

  /** add counts an entry without asking (RM4). */
  add(holder: string, bytes: number): void {
    const held = this.#held.get(holder);
    if (held === undefined) this.#held.set(holder, { count: 1, bytes });
    else {
      held.count++;
      held.bytes += bytes;
    }
    this.#count++;
    this.#bytes += bytes;
  }

  /** resize corrects the bytes of an entry by `delta`. */
  resize(holder: string, delta: number): void {
    const held = this.#held.get(holder);
    if (held === undefined) return;
    held.bytes += delta;
    this.#bytes += delta;
  }

  /** give takes an entry out again. */
  give(holder: string, bytes: number): void {
    const held = this.#held.get(holder);
    if (held === undefined) return;
    this.#count--;
    this.#bytes -= bytes;
    held.bytes -= bytes;
    if (--held.count === 0) this.#held.delete(holder);
  }

  /** use is what is taken, for metrics: entries, and bytes where they are bounded. */
  use(): RoomUse[] {
    const { limit, max } = this.#bounds;
    const entries = { limit, used: this.#count, max };
    if (this.#maxBytes === Number.POSITIVE_INFINITY) return [entries];
    return [entries, { limit: `${limit}_bytes`, used: this.#bytes, max: this.#maxBytes }];
  }

  /** shared is who holds how much of it. */
  shared(): Shared {
    const { limit, max, maxBytes } = this.#bounds;
    return { what: limit, max, maxBytes, holdings: this.#holdings() };
  }

  *#holdings(): Generator<Holding> {
    for (const [holder, { count, bytes }] of this.#held) yield { holder, count, bytes };
  }

  #refuse(limit: string, max: number, what: string): Failure {
    const { reason = "LIMIT_EXCEEDED", field } = this.#bounds;
    return {
      reason,
      message: `${what} are in use; at most ${max} may be`,
      ...(field === undefined ? {} : { field }),
      facts: { limit, max: String(max) },
    };
  }
}

function words(limit: string): string {
  return limit.replaceAll("_", " ");
}
