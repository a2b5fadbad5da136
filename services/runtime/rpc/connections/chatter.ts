import type { Clock, Timer } from "#channel/clock.ts";
import { type Chatter, ChatterCosts, type Counts, FLOOD_BYTES } from "#channel/tls/chatter.ts";
import { addressKey } from "../handshakes/handshake-costs.ts";
import type { Account } from "./accounts.ts";

/** Talker is a connection as far as its chatter is concerned. */
export interface Talker {
  readonly socket: Counts;
  /** TLS on the socket, which counts the content of its records. */
  readonly secure: { readonly bytesRead: number } | undefined;
  readonly address: string;
  readonly account: Account | undefined;
  readonly chatter: Chatter;
}

/** How often the connections are looked at, ms, and up to how many of them; if there are more, less often: a thousand take a tenth of a millisecond. */
const LOOK_MS = 200;

/**
 * ChatterWatch looks at the connections of a server again and again while there are any. This hub's own services may say what they like.
 * All connections of a principal pay together, and it stays out for a while when it comes back: it would else have the time between two
 * looks again and again.
 */
export class ChatterWatch<T extends Talker> {
  readonly #costs = new ChatterCosts();
  readonly #clock: Clock;
  readonly #talkers: { readonly size: number; values(): Iterable<T> };
  readonly #onTooMuch: (talker: T, waitMs: number) => void;
  #timer: Timer | undefined;

  constructor(clock: Clock, talkers: { readonly size: number; values(): Iterable<T> }, onTooMuch: (talker: T, waitMs: number) => void) {
    this.#clock = clock;
    this.#talkers = talkers;
    this.#onTooMuch = onTooMuch;
  }

  /** arm goes on looking for as long as there are connections. */
  arm(): void {
    this.#timer ??= this.#clock.setTimer(Math.max(LOOK_MS, this.#talkers.size), () => {
      this.#timer = undefined;
      this.look();
      if (this.#talkers.size > 0) this.arm();
    });
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  look(): void {
    const now = this.#clock.mono();
    for (const talker of [...this.#talkers.values()]) {
      const { account, chatter, socket, secure } = talker;
      if (account === undefined || account.bounds.streams === undefined) continue;
      const excess = chatter.excess(socket, secure?.bytesRead);
      const waitMs = excess === 0 ? 0 : this.#costs.spent(payerOf(talker), excess, now);
      if (waitMs > 0) this.#onTooMuch(talker, waitMs);
    }
  }

  /** begins is told whose a connection is, and tells for how long that one is to stay out yet. What its handshake took does not count. */
  begins(talker: T): number {
    talker.chatter.excess(talker.socket, talker.secure?.bytesRead);
    return this.#costs.waitMs(payerOf(talker), this.#clock.mono());
  }

  /** floods charges whoever does what no honest program does; it answers for how long that one is to stay out, and all its connections. */
  floods(talker: T): { readonly waitMs: number; readonly all: readonly T[] } {
    const payer = payerOf(talker);
    const waitMs = this.#costs.spent(payer, FLOOD_BYTES, this.#clock.mono());
    return { waitMs, all: [...this.#talkers.values()].filter((other) => other.account !== undefined && payerOf(other) === payer) };
  }
}

/** payerOf names who pays: whom this hub does not know has as many certificates as it likes, so that its address pays. */
export function payerOf({ account, address }: Pick<Talker, "account" | "address">): string {
  return account?.known === true ? account.key : `address ${addressKey(address)}`;
}
