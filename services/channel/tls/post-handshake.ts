import type net from "node:net";
import type { TLSSocket } from "node:tls";
import { type Rate, TokenBucket } from "#kernel/bounds/token-bucket.ts";

/**
 * Key updates, and tickets of a server, that may come over a connection. Programs that send key updates at all do after gigabytes, and
 * servers send two tickets, with the handshake.
 */
const MESSAGES: Rate = { perSecond: 1, burst: 32 };
/** POST_HANDSHAKE_MS is the processor time that what is already read when too many have come may take, ms. */
export const POST_HANDSHAKE_MS = 50;

/**
 * watchPostHandshake looks for key updates and tickets. Each costs tens of microseconds, nothing in Node, OpenSSL or HTTP/2 bounds them, and
 * they are no data of which an event would tell. One turn of the event loop may read two megabytes, and take seconds; so reading stops when
 * there are too many, and what was read by then is all that is processed, 64 KiB. `onTooMany` is called once, in a state in which
 * sockets must not be destroyed: OpenSSL is at work. OpenSSL tells of a key update only as it tells of keys for a log; they are not looked at.
 */
export function watchPostHandshake(secure: TLSSocket, nowMono: () => number, onTooMany: () => void): void {
  let bucket: TokenBucket | undefined;
  let over = false;
  const count = (): void => {
    if (over) return;
    bucket ??= new TokenBucket(MESSAGES, nowMono());
    if (bucket.take(MESSAGES, nowMono()) === 0) return;
    over = true;
    onTooMany();
  };
  secure.on("keylog", count);
  secure.on("session", count);
}

/** stopReading of a TCP connection, so that what TLS has is the last that it gets. */
export function stopReading(raw: net.Socket): void {
  raw.pause();
  // TLS reads from the handle, of which the socket that owns it knows nothing.
  (Reflect.get(raw, "_handle") as { readStop?(): void } | null)?.readStop?.();
}
