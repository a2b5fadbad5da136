/** Addresses remembered at once; beyond it the one that was noted longest ago is forgotten. */
const ADDRESSES_MAX = 4_096;
/**
 * Processor time that a ClientHello takes, ms: a TLS connection, its keys and a signature. It is charged when a handshake begins, and given
 * back when it succeeds: whoever says hello and no more pays for it.
 */
const HELLO_MS = 2;
/** Parts of the processor time that handshakes may take that have not succeeded. */
interface Parts {
  /** Those of one address. */
  readonly own: number;
  /** Those of all addresses like it. */
  readonly all: number;
  /** Longest that one address, and all that are like it, are shut out, ms. */
  readonly ownWaitMs: number;
  readonly allWaitMs: number;
}
const STRANGERS: Parts = { own: 1 / 20, all: 1 / 5, ownWaitMs: 20_000, allWaitMs: 4_000 };
/** Addresses from which callers come: those must get in beside whoever shares their address. */
const KNOWN: Parts = { own: 1 / 4, all: 1 / 3, ownWaitMs: 4_000, allWaitMs: 1_000 };
/** For so long a time one may be ahead of that, ms. */
const AHEAD_MS = 1_000;
/** An address that sent too much is not trusted for so long, whoever else comes from it, ms. */
const DISTRUST_MS = 600_000;
/** Processor time that a byte of made-up certificates may take, ms. */
const MS_PER_BYTE = 0.01;
const LOOPBACK: readonly string[] = ["127.0.0.1", "::1", "::ffff:127.0.0.1"];

/** addressKey names who an address belongs to: with IPv6 whoever has one has its whole /64. */
export function addressKey(address: string): string {
  const plain = address.startsWith("::ffff:") ? address.slice("::ffff:".length) : address;
  if (!plain.includes(":")) return plain;
  const [head = "", tail = ""] = (plain.split("%")[0] as string).split("::");
  const left = head.split(":");
  const right = tail === "" ? [] : tail.split(":");
  if (plain.includes("::")) while (left.length + right.length < 8) left.push("0");
  return `${[...left, ...right]
    .slice(0, 4)
    .map((group) => Number.parseInt(group === "" ? "0" : group, 16).toString(16))
    .join(":")}::/64`;
}

/** Kept is a Map that forgets what was set longest ago. */
export class Kept<V> {
  readonly #values = new Map<string, V>();

  get(key: string): V | undefined {
    return this.#values.get(key);
  }

  set(key: string, value: V): void {
    this.#values.delete(key);
    this.#values.set(key, value);
    if (this.#values.size > ADDRESSES_MAX) this.#values.delete(this.#values.keys().next().value as string);
  }

  delete(key: string): void {
    this.#values.delete(key);
  }
}

/** Charge is what an address was charged for a handshake that has begun. */
export interface Charge {
  readonly key: string;
  readonly parts: Parts;
}

/**
 * HandshakeCosts knows from which addresses callers came whose handshake succeeded, and shuts those out for a while whose handshakes take
 * too much processor time without success. Pure but for its Maps: time is an argument.
 */
export class HandshakeCosts {
  readonly #proven = new Kept<true>();
  readonly #distrusted = new Kept<number>();
  /** Until when what an address has taken is paid for, mono ms. */
  readonly #paid = new Kept<number>();
  readonly #allPaid = new Map<Parts, number>();

  /** known tells whether an address is one from which callers came, or that of this machine. */
  known(address: string): boolean {
    return LOOPBACK.includes(address) || this.#proven.get(addressKey(address)) !== undefined;
  }

  /** guarded tells whether a handshake from an address is to be bounded: from all but those that are known, and of those who sent too much. */
  guarded(address: string, now: number): boolean {
    return !this.known(address) || (this.#distrusted.get(addressKey(address)) ?? Number.NEGATIVE_INFINITY) > now;
  }

  /** waitMs is for how long an address is shut out; 0 if it is not. */
  waitMs(address: string, now: number): number {
    const own = this.#paid.get(addressKey(address)) ?? Number.NEGATIVE_INFINITY;
    const all = this.#allPaid.get(this.#partsOf(address)) ?? Number.NEGATIVE_INFINITY;
    return Math.max(0, Math.max(own, all) - now - AHEAD_MS);
  }

  /** proved notes that a caller from an address was let in. */
  proved(address: string): void {
    this.#proven.set(addressKey(address), true);
  }

  /** begins charges an address for a handshake that begins. */
  begins(address: string, now: number): Charge {
    const charge = { key: addressKey(address), parts: this.#partsOf(address) };
    this.spent(address, HELLO_MS, now);
    return charge;
  }

  /** succeeded gives back what a handshake was charged with. */
  succeeded({ key, parts }: Charge): void {
    const own = this.#paid.get(key);
    if (own !== undefined) this.#paid.set(key, own - HELLO_MS / parts.own);
    this.#allPaid.set(parts, (this.#allPaid.get(parts) ?? 0) - HELLO_MS / parts.all);
  }

  /** failed charges an address for the processor time that a handshake took beyond its hello. */
  failed(address: string, ms: number, now: number): void {
    if (ms > HELLO_MS) this.spent(address, ms - HELLO_MS, now);
  }

  /** spent charges an address for processor time. */
  spent(address: string, ms: number, now: number): void {
    const key = addressKey(address);
    const parts = this.#partsOf(address);
    const paid = Math.max(this.#paid.get(key) ?? now, now) + ms / parts.own;
    this.#paid.set(key, Math.min(paid, now + AHEAD_MS + parts.ownWaitMs));
    const all = Math.max(this.#allPaid.get(parts) ?? now, now) + ms / parts.all;
    this.#allPaid.set(parts, Math.min(all, now + AHEAD_MS + parts.allWaitMs));
  }

  /** flooded notes what somebody from an address did after the handshake, and the processor time that it took: what comes next is bounded. */
  flooded(address: string, ms: number, now: number): void {
    this.#proven.delete(addressKey(address));
    this.#distrusted.set(addressKey(address), now + DISTRUST_MS);
    this.spent(address, ms, now);
  }

  /** tooLarge notes a handshake of more bytes than an honest one has; those that were not held back count as the time that they can take. */
  tooLarge(address: string, read: number, now: number): void {
    this.#proven.delete(addressKey(address));
    this.#distrusted.set(addressKey(address), now + DISTRUST_MS);
    this.spent(address, read * MS_PER_BYTE, now);
  }

  #partsOf(address: string): Parts {
    return this.known(address) ? KNOWN : STRANGERS;
  }
}
