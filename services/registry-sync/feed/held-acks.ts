/** Ack says that everything on a stream is durable up to this batch. */
export interface Ack {
  readonly stream: number;
  readonly upTo: number;
}

/** Acknowledgements that are held for one stream; a sender that minds its window has no more batches under way. */
const HELD_MAX = 64;

/**
 * HeldAcks keeps acknowledgements back while peers cannot follow, so that senders slow down to what those can take.
 *
 * HA1 while held, each stream gets its oldest acknowledgement every `holdMs`: however slow a peer is, nobody stands still because of it.
 * HA2 when the peers have caught up, all of them go at once.
 * HA3 no more than 64 are held for a stream; beyond them the newest takes the place of the one before it.
 */
export class HeldAcks {
  readonly #holdMs: number;
  readonly #streams = new Map<number, number[]>();
  #deadline = Number.POSITIVE_INFINITY;

  constructor(holdMs: number) {
    this.#holdMs = holdMs;
  }

  /** empty: nothing is held. */
  get empty(): boolean {
    return this.#streams.size === 0;
  }

  /** deadline is when the oldest ones go in any case, monotonic ms; infinity when nothing is held. */
  get deadline(): number {
    return this.#deadline;
  }

  /** hold keeps one back; those of a stream come in order. */
  hold(now: number, { stream, upTo }: Ack): void {
    const held = this.#streams.get(stream);
    if (held === undefined) this.#streams.set(stream, [upTo]);
    else if (held.length < HELD_MAX) held.push(upTo);
    else held[HELD_MAX - 1] = upTo;
    if (this.#deadline === Number.POSITIVE_INFINITY) this.#deadline = now + this.#holdMs;
  }

  /** all answers what is held, one per stream, and forgets it (HA2). */
  all(): Ack[] {
    const acks = [...this.#streams].map(([stream, held]) => ({ stream, upTo: held.at(-1) as number }));
    this.#streams.clear();
    this.#deadline = Number.POSITIVE_INFINITY;
    return acks;
  }

  /** due answers what has been held long enough (HA1). */
  due(now: number): Ack[] {
    if (now < this.#deadline) return [];
    const acks: Ack[] = [];
    for (const [stream, held] of this.#streams) {
      acks.push({ stream, upTo: held.shift() as number });
      if (held.length === 0) this.#streams.delete(stream);
    }
    this.#deadline = this.empty ? Number.POSITIVE_INFINITY : now + this.#holdMs;
    return acks;
  }

  /** forget drops what is held for a stream that has ended. */
  forget(stream: number): void {
    this.#streams.delete(stream);
    if (this.empty) this.#deadline = Number.POSITIVE_INFINITY;
  }
}
