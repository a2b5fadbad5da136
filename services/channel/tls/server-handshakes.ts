import { ChatterCosts } from "./chatter.ts";
import { SERVER_FLIGHT_BYTES } from "./handshake-guard.ts";

/** For so long a server that sent more than a handshake has is not trusted, whatever it proves, ms. */
const DISTRUST_MS = 600_000;
/** Processor time of a failed handshake that is nothing to speak of, ms. */
const CHEAP_MS = 10;
/** Part of the processor time that failed handshakes of one server may take, and longest that it is not dialled because of that, ms. */
const PART = 1 / 20;
const WAIT_MS = 20_000;
/** Processor time that a byte of made-up certificates may take, ms. */
const MS_PER_BYTE = 0.01;

/** All that a `ServerHandshakes` knows is of one. */
const SERVER = "server";

/** Failed is what a handshake that failed has read, and the processor time that it took, as far as it was measured. */
export interface Failed {
  readonly bytesRead: number;
  readonly cpuMs: number;
}

/**
 * ServerHandshakes are those with one server, whoever dials it: each dial of a session is a client of its own, and has to know how the
 * others went. Until the server has proved who it is, the bytes of each are bounded; whoever answers at its address may not be it. Pure: time is an
 * argument, mono ms.
 */
export class ServerHandshakes {
  /** A server of this hub itself: what it sends is not looked at. */
  readonly own: boolean;
  #proven: boolean;
  readonly #chatter = new ChatterCosts();
  #distrustedUntil = Number.NEGATIVE_INFINITY;
  #paidUntil = Number.NEGATIVE_INFINITY;

  /** `proven`: a server of this hub itself. */
  constructor(proven = false) {
    this.own = proven;
    this.#proven = proven;
  }

  /** guarded tells whether the bytes of the next one are to be bounded. */
  guarded(now: number): boolean {
    return !this.#proven || now < this.#distrustedUntil;
  }

  /** refusal says why it is not to be dialled, and for how long; undefined if it may be. */
  refusal(now: number): string | undefined {
    const chatterMs = this.#chatter.waitMs(SERVER, now);
    const handshakeMs = this.#paidUntil - now;
    if (chatterMs <= 0 && handshakeMs <= 0) return undefined;
    const why = chatterMs > handshakeMs ? "it sent much that carries nothing" : "its last TLS handshake took too long to verify";
    return `${why}; it is dialled again in ${Math.ceil(Math.max(chatterMs, handshakeMs))} ms`;
  }

  /** chattered charges it for bytes that carry nothing, over whichever connection, and tells whether that is too much. */
  chattered(bytes: number, now: number): boolean {
    return this.#chatter.spent(SERVER, bytes, now) > 0;
  }

  /** proved notes one that is done, with the certificate of that server. */
  proved(): void {
    this.#proven = true;
  }

  failed({ bytesRead, cpuMs }: Failed, now: number): void {
    const tooLarge = bytesRead > SERVER_FLIGHT_BYTES;
    if (tooLarge) {
      this.#proven = false;
      this.#distrustedUntil = now + DISTRUST_MS;
    }
    const ms = cpuMs > 0 || !tooLarge ? cpuMs : bytesRead * MS_PER_BYTE;
    if (ms > CHEAP_MS) this.#paidUntil = now + Math.min(ms / PART, WAIT_MS);
  }
}
