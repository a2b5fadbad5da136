import type net from "node:net";
import type { Clock, Timer } from "#channel/clock.ts";

/** Most that is read of a connection before TLS has a look; no hello of an honest client has more. */
const HELLO_BYTES = 16 * 1024;
/** TLS: a record of a handshake, and the bytes of a record's head. */
const HANDSHAKE = 0x16;
const HEAD_BYTES = 5;
/** Handshakes begun in one round of the event loop: of addresses from which callers come, and of strangers. */
const KNOWN_PER_ROUND = 4;
const STRANGERS_PER_ROUND = 2;
/** Most that are looked at in one round. */
const LOOKED_AT = 64;

/** NoHello is why what was waited for did not come. `not_tls`: what came is no TLS. */
export type NoHello = "closed" | "timeout" | "not_tls";

/** Waiting is a connection that has not said hello yet, or whose turn has not come. */
export interface Waiting {
  readonly socket: net.Socket;
  /** Whether its address is one from which callers come. */
  known(): boolean;
  /** For how long its address is shut out, ms. */
  waitMs(): number;
  /** The whole hello has come. */
  heard(): void;
  /** begin the handshake. */
  begin(): void;
  /** It took so long, ms, with what else was done meanwhile. */
  took(ms: number): void;
  /** over the rate: close it. */
  refuse(waitMs: number): void;
  /** There was no hello. */
  none(why: NoHello, bytes: number): void;
}

/** helloIn tells whether a whole ClientHello has come: "no" is for what is none. */
export function helloIn(bytes: Buffer): "whole" | "part" | "no" {
  if (bytes.length > 0 && bytes[0] !== HANDSHAKE) return "no";
  const whole = bytes.length >= HEAD_BYTES && bytes.length >= HEAD_BYTES + bytes.readUInt16BE(3);
  return whole || bytes.length >= HELLO_BYTES ? "whole" : "part";
}

/**
 * Collected is what was read so far. Its room doubles: who sends a byte at a time would else have all that came before copied for each, and
 * kept one by one each takes hundreds of bytes.
 */
export class Collected {
  #room: Buffer = Buffer.alloc(0);
  #length = 0;

  get bytes(): Buffer {
    return this.#length === this.#room.length ? this.#room : this.#room.subarray(0, this.#length);
  }

  /** add takes a piece, of which the first is not copied, and answers all that came. */
  add(piece: Buffer): Buffer {
    const length = this.#length + piece.length;
    if (this.#length === 0) this.#room = piece;
    else {
      if (length > this.#room.length) {
        const room = Buffer.allocUnsafeSlow(Math.max(length, 2 * this.#room.length));
        this.bytes.copy(room);
        this.#room = room;
      }
      piece.copy(this.#room, this.#length);
    }
    this.#length = length;
    return this.bytes;
  }
}

/**
 * HelloTurns stand before TLS. Connections that say nothing, or leave, cost no more than being accepted; those that have said hello get a
 * turn, a few in each round of the event loop, so that others are accepted and served meanwhile. Whose address is over its rate is closed
 * when its turn comes, before the hello costs anything.
 */
export class HelloTurns {
  readonly #known: Waiting[] = [];
  readonly #strangers: Waiting[] = [];
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  #next: Timer | undefined;
  /** Those that have begun in this round. */
  #begun: Waiting[] = [];

  constructor(clock: Clock, timeoutMs: number) {
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  /** add waits for the hello of a connection. */
  add(waiting: Waiting): void {
    const { socket } = waiting;
    const read = new Collected();
    const leave = (): void => {
      timer.cancel();
      socket.off("data", onData).off("end", onEnd).off("close", onClose);
    };
    const none = (why: NoHello): void => {
      leave();
      waiting.none(why, read.bytes.length);
      socket.destroy();
    };
    const timer = this.#clock.setTimer(this.#timeoutMs, () => none("timeout"));
    const onEnd = (): void => none("closed");
    const onClose = (): void => none("closed");
    const onData = (chunk: Buffer): void => {
      const hello = helloIn(read.add(chunk));
      if (hello === "part") return;
      if (hello === "no") return none("not_tls");
      leave();
      // What was read is there for TLS again; a reset is still noticed.
      socket.pause();
      socket.unshift(read.bytes);
      waiting.heard();
      (waiting.known() ? this.#known : this.#strangers).push(waiting);
      this.#arm();
    };
    socket.on("data", onData).on("end", onEnd).on("close", onClose).resume();
  }

  #arm(): void {
    this.#next ??= this.#clock.setImmediate(() => {
      this.#next = undefined;
      this.#serve(this.#known, KNOWN_PER_ROUND);
      this.#serve(this.#strangers, STRANGERS_PER_ROUND);
      if (this.#begun.length > 0) this.#measure();
      else if (this.#known.length + this.#strangers.length > 0) this.#arm();
    });
  }

  /** measure waits until TLS has looked at what has begun, before more does. */
  #measure(): void {
    const from = this.#clock.mono();
    this.#next = this.#clock.setImmediate(() => {
      this.#next = undefined;
      const begun = this.#begun;
      this.#begun = [];
      const ms = (this.#clock.mono() - from) / begun.length;
      for (const waiting of begun) waiting.took(ms);
      if (this.#known.length + this.#strangers.length > 0) this.#arm();
    });
  }

  #serve(queue: Waiting[], most: number): void {
    const full = this.#begun.length + most;
    for (let looked = 0; this.#begun.length < full && looked < LOOKED_AT; looked++) {
      const waiting = queue.shift();
      if (waiting === undefined) return;
      // Who has left meanwhile costs nothing.
      if (waiting.socket.destroyed) continue;
      const waitMs = waiting.waitMs();
      if (waitMs > 0) {
        waiting.refuse(waitMs);
        continue;
      }
      this.#begun.push(waiting);
      waiting.begin();
    }
  }
}
