import type net from "node:net";
import { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";

/** What a ClientHello may have. Nothing is verified for it. */
const HELLO_BYTES = 16 * 1024;
/**
 * CLIENT_FLIGHT_BYTES is what a client may send after its hello until the handshake is done: its certificates. A leaf with three
 * intermediates, all RSA of 4096 bits, has 7 KiB.
 */
export const CLIENT_FLIGHT_BYTES = 8 * 1024;
/** SERVER_FLIGHT_BYTES is the same of a server, which also lists the CAs that it knows. */
export const SERVER_FLIGHT_BYTES = 32 * 1024;

/** TOO_LARGE is the code of the error with which a handshake of too many bytes ends. */
export const TOO_LARGE = "ERR_HANDSHAKE_TOO_LARGE";

/** The guard that TLS was given something by last, or whose connection ended last, before its handshake was done. */
let latest: HandshakeGuard | undefined;

/**
 * HandshakeGuard stands between a TCP connection and TLS and bounds the bytes of a handshake. OpenSSL takes 100 KB of certificates and
 * verifies the signature of each on the event loop, also when it knows no CA of them, and Node has no setting for either. What comes
 * beyond the bound waits here until the handshake is done; if it is not done with what it was given, the connection ends. When it is done,
 * the guard steps out: TLS and the TCP connection then have each other, as it would else cost tens of microseconds for each message.
 */
export class HandshakeGuard extends Duplex {
  readonly raw: net.Socket;
  readonly #flightBytes: number;
  #left = HELLO_BYTES;
  #answered = false;
  #done = false;
  #cpuMs = 0;
  #charged = 0;
  /** The usage when TLS was given what it is looking at. */
  #since: NodeJS.CpuUsage | undefined;
  #held: Buffer[] = [];
  /** What Node puts between TLS and a stream that is none of its own, once the handshake is done. */
  #between: Between | undefined;
  #out = false;
  readonly #onData = (chunk: Buffer): void => this.#take(chunk);

  constructor(raw: net.Socket, flightBytes: number) {
    super();
    this.raw = raw;
    this.#flightBytes = flightBytes;
    raw.on("data", this.#onData);
    raw.on("end", () => {
      this.#ends();
      this.push(null);
    });
    raw.on("error", (error) => {
      this.#ends();
      this.destroy(error);
    });
    // A server that is being stopped does not take it any more, and then nobody else listens.
    this.on("error", () => undefined);
    raw.on("close", () => this.destroy());
  }

  /** cpuMs is the processor time that the handshake has taken. */
  get cpuMs(): number {
    if (this.#since === undefined) return this.#cpuMs;
    const { user, system } = process.threadCpuUsage(this.#since);
    return this.#cpuMs + (user + system) / 1_000;
  }

  /** charge gives the processor time that the handshake has taken since it was asked for last, ms: nobody pays twice. */
  charge(): number {
    const ms = this.cpuMs - this.#charged;
    this.#charged += ms;
    return ms;
  }

  /** pass ends the bound: the handshake of this TLS socket is done. */
  pass(secure: TLSSocket): void {
    if (this.#done) return;
    this.#done = true;
    if (latest === this) latest = undefined;
    const held = this.#held;
    this.#held = [];
    for (const chunk of held) this.#give(chunk);
    const between = handleOf(secure)?._parentWrap;
    if (between?.stream !== this) return;
    this.#between = between as Between;
    this.#stepOut();
  }

  /** stepOut leaves TLS and the TCP connection to each other, once all that came is read; it tells whether it did. */
  #stepOut(): boolean {
    const between = this.#between;
    if (this.#out || between === undefined || this.readableLength > 0 || this.destroyed) return this.#out;
    this.#out = true;
    const { raw } = this;
    raw.off("data", this.#onData);
    raw.on("data", (chunk: Buffer) => between._handle?.readBuffer(chunk));
    // Node reads, writes, pauses and ends by this property. How the connection ends is still told by the guard's events.
    between.stream = raw;
    if (!this.isPaused()) raw.resume();
    return true;
  }

  #ends(): void {
    if (!this.#done) latest = this;
  }

  #take(chunk: Buffer): void {
    if (this.#done && this.#stepOut()) return this.#between?._handle?.readBuffer(chunk);
    if (this.#done) return this.#give(chunk);
    this.#held.push(chunk);
    this.#advance();
  }

  /** advance gives TLS what it may have, and ends the connection when that was not enough. */
  #advance(): void {
    // What was given is still to be read, or is being read further up the stack.
    while (!this.#done && !this.destroyed && this.readableLength === 0) {
      const next = this.#held.shift();
      if (next === undefined) return;
      if (this.#left === 0) {
        this.destroy(Object.assign(new Error("the TLS handshake has too many bytes"), { code: TOO_LARGE }));
        return;
      }
      const part = next.subarray(0, this.#left);
      if (part.length < next.length) this.#held.unshift(next.subarray(part.length));
      this.#left -= part.length;
      latest = this;
      this.#since = process.threadCpuUsage();
      this.#give(part);
      this.#cpuMs = this.cpuMs;
      this.#since = undefined;
    }
  }

  #give(chunk: Buffer): void {
    if (!this.destroyed && !this.push(chunk)) this.raw.pause();
  }

  override _read(): void {
    if (this.#out) return;
    this.raw.resume();
    if (!this.#done && this.#held.length > 0) setImmediate(() => this.#advance());
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    if (!this.#answered) {
      // What is verified comes after the first answer, or, to a client, after the first word.
      this.#answered = true;
      this.#left = this.#flightBytes;
    }
    this.raw.write(chunk, done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    this._write(
      chunks.length === 1 ? (chunks[0] as { chunk: Buffer }).chunk : Buffer.concat(chunks.map(({ chunk }) => chunk)),
      "utf8",
      done,
    );
  }

  override _final(done: () => void): void {
    this.raw.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#held = [];
    this.raw.destroy();
    done(error);
  }
}

/** Between is Node's JSStreamSocket. */
interface Between {
  stream: Duplex;
  /** null once it is closed. */
  readonly _handle: { readBuffer(chunk: Buffer): void } | null;
}

const handleOf = (secure: TLSSocket): { readonly _parentWrap?: Partial<Between> } | null =>
  Reflect.get(secure, "_handle") as { readonly _parentWrap?: Partial<Between> } | null;

/** guardOf is the guard below a TLS socket whose handshake is not done, if there is one. */
export function guardOf(secure: TLSSocket): HandshakeGuard | undefined {
  const handle = handleOf(secure);
  const below = handle?._parentWrap?.stream;
  if (below instanceof HandshakeGuard) return below;
  // Node tells of a failed handshake when the TLS socket has let go of what is below it, but before anything else happens.
  return handle === null && parentOf(secure) === undefined ? latest : undefined;
}

/** socketUnder is the TCP connection below a TLS socket. */
export function socketUnder(secure: TLSSocket): net.Socket | undefined {
  return parentOf(secure) ?? guardOf(secure)?.raw;
}

const parentOf = (secure: TLSSocket): net.Socket | undefined =>
  (Reflect.get(secure, "_parent") as net.Socket | null | undefined) ?? undefined;

/** guardHandshakes bounds every handshake of a TLS server that listens by itself. Who ends one with `pass` is the server's secureConnection. */
export function guardHandshakes(server: net.Server, flightBytes: number): void {
  const accept = server.listeners("connection");
  server.removeAllListeners("connection");
  server.on("connection", (socket: net.Socket) => {
    const guard = new HandshakeGuard(socket, flightBytes);
    for (const listener of accept) listener.call(server, guard);
  });
}
