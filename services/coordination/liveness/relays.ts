/** RELAYS_PER_ASKER is how many probes for one member run at a time; what is beyond is answered at once with a nack. */
export const RELAYS_PER_ASKER = 4;

/** Relay is a probe that another member asked this hub for. */
export interface Relay {
  readonly asker: string;
  /** Nonce of the asker, and of our ping to the subject. */
  readonly nonce: number;
  readonly own: number;
  readonly subject: string;
  readonly endsAt: number;
}

/**
 * Relays are the probes that run for others: answered exactly once, with an ack when the subject answered our own ping, else with a
 * nack at the end (LV11).
 */
export class Relays {
  #open: Relay[] = [];

  get size(): number {
    return this.#open.length;
  }

  /** add opens a relay; false if its asker has as many as it may. */
  add(relay: Relay): boolean {
    if (this.#open.filter(({ asker }) => asker === relay.asker).length >= RELAYS_PER_ASKER) return false;
    this.#open.push(relay);
    return true;
  }

  /** answered ends the relay whose ping the subject answered. */
  answered(subject: string, own: number): Relay | undefined {
    const found = this.#open.find((relay) => relay.subject === subject && relay.own === own);
    if (found !== undefined) this.#open = this.#open.filter((relay) => relay !== found);
    return found;
  }

  /** expired ends those whose time is up. */
  expired(at: number): readonly Relay[] {
    const ended = this.#open.filter(({ endsAt }) => endsAt <= at);
    if (ended.length > 0) this.#open = this.#open.filter(({ endsAt }) => endsAt > at);
    return ended;
  }

  /** forget drops those for or about hubs that are no members any more. */
  forget(known: (hub: string) => boolean): void {
    this.#open = this.#open.filter(({ asker, subject }) => known(asker) && known(subject));
  }

  /** dueAt is when the first one ends; infinity for never. */
  get dueAt(): number {
    return this.#open.reduce((least, { endsAt }) => Math.min(least, endsAt), Number.POSITIVE_INFINITY);
  }
}
