import { BoundedMap } from "#kernel/bounds/bounded-map.ts";

/**
 * Processor time that a ClientHello takes, ms: a TLS connection, its keys and a signature. It is charged when a handshake begins, and given
 * back when it succeeds: whoever says hello and no more pays for it.
 */
const HELLO_MS = 1;
/** Most that is charged for one, ms: a pause of the process is not its fault. */
const HELLO_MAX_MS = 20;
/** Over so many of them an average is taken. */
const AVERAGED = 16;
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
const KNOWN: Parts = { own: 1 / 3, all: 1 / 2, ownWaitMs: 4_000, allWaitMs: 1_000 };
/** For so long a time one may be ahead of that, ms. */
const AHEAD_MS = 1_000;
/** An address that sent too much, or from which a peer made too many connections, is not trusted for so long, whoever else comes from it, ms. */
const DISTRUST_MS = 600_000;
/** Processor time that a byte of made-up certificates may take, ms. */
const MS_PER_BYTE = 0.01;
/** Of an address that is shut out so many connections are heard for each handshake that may begin: whose hello comes first has it. */
const HEARD_PER_HELLO = 2;
/** An address that is shut out for longer is not heard at all, and for so long one may be ahead with what is heard, ms. */
const DEEP_MS = 200;
const HEARD_AHEAD_MS = 50;
/** Stands for all callers of an address that are not just one of another hub. */
const SEVERAL = "";
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

/** Charge is what an address was charged for a handshake that has begun. */
export interface Charge {
  readonly key: string;
  readonly parts: Parts;
  /** Time, ms. */
  ms: number;
}

/** Paid says until when what addresses have taken is paid for, mono ms: of each, and of all that are alike. */
class Paid {
  readonly #own = new BoundedMap<number>();
  readonly #all = new Map<Parts, number>();
  readonly #aheadMs: number;

  constructor(aheadMs: number) {
    this.#aheadMs = aheadMs;
  }

  waitMs(key: string, parts: Parts, now: number): number {
    const until = Math.max(this.#own.get(key) ?? 0, this.#all.get(parts) ?? 0);
    return Math.max(0, until - now - this.#aheadMs);
  }

  spend(key: string, parts: Parts, ms: number, now: number): void {
    const own = Math.max(this.#own.get(key) ?? now, now) + ms / parts.own;
    this.#own.set(key, Math.min(own, now + this.#aheadMs + parts.ownWaitMs));
    const all = Math.max(this.#all.get(parts) ?? now, now) + ms / parts.all;
    this.#all.set(parts, Math.min(all, now + this.#aheadMs + parts.allWaitMs));
  }

  giveBack(key: string, parts: Parts, ms: number): void {
    const own = this.#own.get(key);
    if (own !== undefined) this.#own.set(key, own - ms / parts.own);
    const all = this.#all.get(parts);
    if (all !== undefined) this.#all.set(parts, all - ms / parts.all);
  }
}

/**
 * HandshakeCosts knows from which addresses callers came whose handshake succeeded, and shuts those out for a while whose handshakes take
 * too much processor time without success. Pure but for its Maps: time is an argument.
 */
export class HandshakeCosts {
  /** Addresses from which callers came, and who: SEVERAL if more than one, or one of this hub. */
  readonly #proven = new BoundedMap<string>();
  readonly #distrusted = new BoundedMap<number>();
  /** Addresses from which a caller of another hub made too many connections, who, and until when it proves nothing there. */
  readonly #pressed = new BoundedMap<{ readonly payer: string; readonly until: number }>();
  readonly #taken = new Paid(AHEAD_MS);
  /** What a hello took lately, on average, ms. */
  #usualMs = HELLO_MS;
  /** What is heard of addresses that are shut out. */
  readonly #heard = new Paid(HEARD_AHEAD_MS);

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
    return this.#taken.waitMs(addressKey(address), this.#partsOf(address), now);
  }

  /**
   * hears tells whether a connection from an address is to be read at all. When too many come, most are closed at once: all of them wait in
   * one queue, with callers among them.
   */
  hears(address: string, now: number): boolean {
    const waitMs = this.waitMs(address, now);
    if (waitMs === 0) return true;
    const [key, parts] = [addressKey(address), this.#partsOf(address)];
    if (waitMs > DEEP_MS || this.#heard.waitMs(key, parts, now) > 0) return false;
    this.#heard.spend(key, parts, this.#usualMs / HEARD_PER_HELLO, now);
    return true;
  }

  /**
   * proved notes that a caller from an address was let in. `payer` names one that is not of this hub: it proves nothing where it made too many
   * connections.
   */
  proved(address: string, payer: string | undefined, now: number): void {
    const key = addressKey(address);
    const pressed = this.#pressed.get(key);
    if (pressed !== undefined && pressed.payer === payer && pressed.until > now) return;
    const before = this.#proven.get(key) ?? payer;
    this.#proven.set(key, payer === undefined || before !== payer ? SEVERAL : payer);
  }

  /** tooOften notes a handshake that succeeded and was one too many: where nobody else comes from, its caller then has what strangers have. */
  tooOften(address: string, payer: string | undefined, ms: number, now: number): void {
    const key = addressKey(address);
    if (payer !== undefined && (this.#proven.get(key) ?? payer) === payer) {
      this.#proven.delete(key);
      this.#pressed.set(key, { payer, until: now + DISTRUST_MS });
    }
    this.failed(address, ms, now);
  }

  /** begins charges an address for a handshake that begins. */
  begins(address: string, now: number): Charge {
    const charge = { key: addressKey(address), parts: this.#partsOf(address), ms: HELLO_MS };
    this.spent(address, HELLO_MS, now);
    return charge;
  }

  /** succeeded gives back what a handshake was charged with. */
  succeeded({ key, parts, ms }: Charge): void {
    this.#taken.giveBack(key, parts, ms);
  }

  /**
   * took charges for the time that went by meanwhile, if that was more: on a machine that gives this process little of its processors, less
   * may begin.
   */
  took(charge: Charge, ms: number, now: number): void {
    const bounded = Math.min(Math.max(ms, HELLO_MS), HELLO_MAX_MS);
    this.#usualMs += (bounded - this.#usualMs) / AVERAGED;
    const more = bounded - charge.ms;
    if (more <= 0) return;
    charge.ms += more;
    this.#taken.spend(charge.key, charge.parts, more, now);
  }

  /** failed charges an address for the processor time that a handshake took beyond its hello. */
  failed(address: string, ms: number, now: number): void {
    if (ms > HELLO_MS) this.spent(address, ms - HELLO_MS, now);
  }

  /** spent charges an address for processor time. */
  spent(address: string, ms: number, now: number): void {
    this.#taken.spend(addressKey(address), this.#partsOf(address), ms, now);
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
