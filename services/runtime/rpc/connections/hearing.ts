import type { ServerHttp2Session } from "node:http2";

/** With so much sent to a client since it was heard last, its answer to a ping is waited for as long: the ping, too, waits behind all that. */
const BULK_BYTES = 8 * 1024;
const PATIENCE_MS = 60_000;

/** HearingLimits say how long a client may be silent. */
export interface HearingLimits {
  readonly handshakeTimeoutMs: number;
  readonly keepaliveTimeMs: number;
  readonly keepaliveTimeoutMs: number;
}

/** Bytes that went over a socket so far. */
interface Counts {
  readonly bytesRead: number;
  readonly bytesWritten: number;
}

/**
 * Hearing judges by the bytes of a connection whether its client is still there. It is not the answer to a ping that counts but any byte:
 * over a slow link the answer waits behind what else is under way. grpc-js would count answers only; and Node loses track of some sessions
 * whose client leaves right after the handshake: their socket neither reads nor ends, and no event tells (seen with Node 24). Bytes do
 * not lie. Of the two connections of a session, the one that this hub sends on carries nothing back while a long frame is under way.
 *
 * HE1 a client that has answered once is asked when it was silent for `keepaliveTimeMs`, and is gone if it stays so for `keepaliveTimeoutMs`
 *    more, or for a minute, as for a pong (PROTOCOL S10), if more than 8 KiB were sent to it meanwhile.
 * HE2 one that has a handshake behind it, but has not answered, is gone after `keepaliveTimeoutMs`: what it says meanwhile proves nothing.
 */
export class Hearing {
  #read = 0;
  #written = 0;
  /** Bytes that were written before it was heard last. */
  #writtenBefore = 0;
  /** `mono` instant since which no more came. */
  #quietSince: number;
  #shaken = false;
  #proved = false;
  #asked = false;

  constructor(nowMono: number) {
    this.#quietSince = nowMono;
  }

  quietMs(nowMono: number): number {
    return nowMono - this.#quietSince;
  }

  /** shook notes that the handshake is done, and whose certificate it showed is known. What was written until then has arrived. */
  shook(nowMono: number, bytesWritten: number): void {
    this.#quietSince = nowMono;
    this.#shaken = true;
    this.#written = bytesWritten;
    this.#writtenBefore = bytesWritten;
  }

  /** asked notes a ping, and proved its answer: the connection is one that Node still serves. */
  asked(): void {
    this.#asked = true;
  }

  proved(): void {
    this.#proved = true;
  }

  /** look takes what the socket counted by now. `unseenMs`: time in which this process could not read. */
  look({ bytesRead, bytesWritten }: Counts, nowMono: number, unseenMs: number, limits: HearingLimits): "gone" | "ask" | undefined {
    this.#quietSince = Math.min(nowMono, this.#quietSince + unseenMs);
    if (bytesRead !== this.#read && (this.#proved || !this.#shaken)) {
      this.#quietSince = nowMono;
      this.#asked = false;
      this.#writtenBefore = this.#written;
    }
    this.#read = bytesRead;
    this.#written = bytesWritten;
    const quietMs = this.quietMs(nowMono);
    if (quietMs > this.#patienceMs(limits)) return "gone";
    return this.#proved && quietMs >= limits.keepaliveTimeMs && !this.#asked ? "ask" : undefined;
  }

  #patienceMs({ handshakeTimeoutMs, keepaliveTimeMs, keepaliveTimeoutMs }: HearingLimits): number {
    if (!this.#shaken) return handshakeTimeoutMs + keepaliveTimeoutMs;
    if (!this.#proved) return keepaliveTimeoutMs;
    const busy = this.#written - this.#writtenBefore > BULK_BYTES;
    return keepaliveTimeMs + (busy ? Math.max(PATIENCE_MS, keepaliveTimeoutMs) : keepaliveTimeoutMs);
  }
}

/** askFor a sign of life, with a ping. */
export function askFor({ session, hearing }: { readonly session: ServerHttp2Session | undefined; readonly hearing: Hearing }): void {
  if (session === undefined || session.destroyed) return;
  hearing.asked();
  session.ping((error) => {
    if (error === null) hearing.proved();
  });
}
