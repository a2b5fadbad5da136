/** Addresses remembered at once; beyond it the one that was noted longest ago is forgotten. */
const ADDRESSES_MAX = 4_096;
/** A failed handshake that took less processor time is that of an honest client, ms. */
const CHEAP_MS = 5;
/** Part of the processor time that the failed handshakes of one address may take, and of all addresses that are not proven together. */
const ADDRESS_PART = 1 / 20;
const ALL_PART = 1 / 5;
/** For so long a time one may be ahead of that, ms. */
const AHEAD_MS = 1_000;
/** Longest that one address, and everybody who is not proven, is shut out, ms. */
const ADDRESS_WAIT_MS = 20_000;
const ALL_WAIT_MS = 4_000;
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

/**
 * HandshakeCosts knows from which addresses callers came whose handshake succeeded, and shuts those out for a while whose failed handshakes
 * take too much processor time. Pure but for its Maps: time is an argument.
 */
export class HandshakeCosts {
  readonly #proven = new Kept<true>();
  readonly #distrusted = new Kept<number>();
  /** Until when what an address has taken is paid for, mono ms. */
  readonly #paid = new Kept<number>();
  #allPaid = Number.NEGATIVE_INFINITY;

  /** guarded tells whether a handshake from an address is to be bounded: from all but those that are proven and this machine. */
  guarded(address: string, now: number): boolean {
    const key = addressKey(address);
    if ((this.#distrusted.get(key) ?? Number.NEGATIVE_INFINITY) > now) return true;
    return !LOOPBACK.includes(address) && this.#proven.get(key) === undefined;
  }

  /** waitMs is for how long an address is shut out; 0 if it is not. */
  waitMs(address: string, now: number): number {
    const own = this.#paid.get(addressKey(address)) ?? Number.NEGATIVE_INFINITY;
    const until = this.guarded(address, now) ? Math.max(own, this.#allPaid) : own;
    return Math.max(0, until - now - AHEAD_MS);
  }

  /** proved notes that a caller from an address was let in. */
  proved(address: string): void {
    this.#proven.set(addressKey(address), true);
  }

  /** spent charges an address for a handshake that failed, with the processor time that it took. */
  spent(address: string, ms: number, now: number): void {
    if (ms < CHEAP_MS) return;
    const key = addressKey(address);
    const paid = Math.max(this.#paid.get(key) ?? now, now) + ms / ADDRESS_PART;
    this.#paid.set(key, Math.min(paid, now + AHEAD_MS + ADDRESS_WAIT_MS));
    this.#allPaid = Math.min(Math.max(this.#allPaid, now) + ms / ALL_PART, now + AHEAD_MS + ALL_WAIT_MS);
  }

  /** tooLarge notes a handshake of more bytes than an honest one has; those that were not held back count as the time that they can take. */
  tooLarge(address: string, read: number, now: number): void {
    this.#proven.delete(addressKey(address));
    this.#distrusted.set(addressKey(address), now + DISTRUST_MS);
    this.spent(address, read * MS_PER_BYTE, now);
  }
}
