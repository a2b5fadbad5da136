import type { Clock, Timer } from "#runtime/clock.ts";
import type { Account } from "./accounts.ts";
import { addressKey, Kept } from "./handshake-costs.ts";

/**
 * What may come of one principal in bytes that carry nothing, a second, and that at once. An honest client stays below a hundredth of it. As
 * window updates of 13 bytes they cost 0.4 % of a processor.
 */
const BYTES_PER_SECOND = 512 * 1024;
const AHEAD_MS = 16_000;
/** Longest that one who sent more is kept out, ms. */
const WAIT_MS = 60_000;
/** What is under way when a stream ends, and window updates for what was written, come later than what they are for: so much later at most. */
const CREDIT_BYTES = 4 * 1024 * 1024;
/** A client may tell of every frame that it read in two window updates, each in a TLS record of its own: 70 bytes, of a frame of 36 or more. */
const BYTES_PER_WRITTEN = 2;

/** PIECE_OVERHEAD_BYTES come with a piece of DATA that is honestly sent: the head of its frame and a TLS record. */
export const PIECE_OVERHEAD_BYTES = 64;
/** STREAM_OVERHEAD_BYTES come with a stream: its headers, a token included, and its end. Larger headers are paid for. */
export const STREAM_OVERHEAD_BYTES = 2 * 1024;

/** Bytes that went over a socket so far. */
interface Counts {
  readonly bytesRead: number;
  readonly bytesWritten: number;
}

/**
 * Chatter tells what of the bytes that come over a connection is for nothing. HTTP/2 windows bound only DATA, and only of streams that are
 * open; neither nghttp2 nor Node bounds window updates, padding, and DATA of streams that are closed, and no event tells of them. Whoever sends them as fast as this hub reads has it do nothing else. So what streams carry, and what honest
 * clients send about what was written to them, is taken from what was read, and the rest counts, whatever it is.
 */
export class Chatter {
  #read = 0;
  #written = 0;
  /** Bytes that have a reason and were not seen yet, or if negative, that have none yet. */
  #credit = 0;

  /** explain tells of bytes that were read for a reason, or may still come for one. */
  explain(bytes: number): void {
    this.#credit += bytes;
  }

  /** excess is how many more bytes came since it was asked last than there is a reason for. */
  excess({ bytesRead, bytesWritten }: Counts): number {
    const credit = this.#credit + (bytesWritten - this.#written) * BYTES_PER_WRITTEN - (bytesRead - this.#read);
    this.#read = bytesRead;
    this.#written = bytesWritten;
    this.#credit = Math.min(Math.max(0, credit), CREDIT_BYTES);
    return Math.max(0, -credit);
  }
}

/** ChatterCosts knows who sent how much for nothing. Pure but for its Map: time is an argument. */
export class ChatterCosts {
  /** Until when what came is paid for, mono ms. */
  readonly #paid = new Kept<number>();

  /** spent charges a payer for bytes, and tells for how long it is to be kept out: 0 if it is not. */
  spent(payer: string, bytes: number, now: number): number {
    const paid = Math.max(this.#paid.get(payer) ?? now, now) + (bytes * 1_000) / BYTES_PER_SECOND;
    this.#paid.set(payer, Math.min(paid, now + AHEAD_MS + WAIT_MS));
    return this.waitMs(payer, now);
  }

  /** waitMs is for how long a payer is kept out; 0 if it is not. */
  waitMs(payer: string, now: number): number {
    return Math.max(0, (this.#paid.get(payer) ?? Number.NEGATIVE_INFINITY) - now - AHEAD_MS);
  }
}

/** Talker is a connection as far as its chatter is concerned. */
export interface Talker {
  readonly socket: Counts;
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
      const { account, chatter, socket } = talker;
      if (account === undefined || account.bounds.streams === undefined) continue;
      const excess = chatter.excess(socket);
      const waitMs = excess === 0 ? 0 : this.#costs.spent(payerOf(talker), excess, now);
      if (waitMs > 0) this.#onTooMuch(talker, waitMs);
    }
  }

  /** begins is told whose a connection is, and tells for how long that one is to stay out yet. What its handshake took does not count. */
  begins(talker: T): number {
    talker.chatter.excess(talker.socket);
    return this.#costs.waitMs(payerOf(talker), this.#clock.mono());
  }
}

/** payerOf names who pays: whom this hub does not know has as many certificates as it likes, so that its address pays. */
function payerOf({ account, address }: Talker): string {
  return account?.known === true ? account.key : `address ${addressKey(address)}`;
}
