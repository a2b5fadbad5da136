import { constants, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import { type Chatter, MESSAGES_PER_DROPPED } from "#channel/tls/chatter.ts";
import { MessageEnds } from "#channel/tls/message-ends.ts";
import { WIDE_WINDOW_BYTES } from "#channel/windows.ts";
import type { Failure } from "#kernel/error.ts";
import type { Account } from "./accounts.ts";

/** RequestKind is how the requests of a call come: one message, a stream that begins with one, or a stream on which nothing is due. */
export type RequestKind = "one" | "stream" | "idle_stream";

/** How long a message, or what is due of it, may stand still: it goes on with so many bytes at least, a twentieth of a link of 64 kbit/s. */
const STALL_MS = 10_000;
const PROGRESS_BYTES = 4 * 1024;

/**
 * What a piece costs beside its bytes for as long as it waits for the rest of its message, and then the message until it is taken.
 * An empty message of a stream was measured to keep 330 bytes.
 */
const PIECE_BYTES = 384;
const MESSAGE_BYTES = PIECE_BYTES;

/** Headers of a stream up to which nobody asks whether its caller may hold them: a call itself takes more. */
const SMALL_HEADERS_BYTES = 2 * 1024;

/** The window of a stream (`credentials.ts`). */
const OWN_WINDOW_BYTES = 1024 * 1024;

/** IntakeReason is why a request is refused: it does not arrive, its caller, or all callers, hold too much, or it comes in crumbs. */
export type IntakeReason = "late" | "bytes" | "pieces";

/**
 * Intake is what has arrived of the requests of one stream, from the moment it is read from the socket. HTTP/2 bounds only what waits in
 * one stream and grpc-js only one message, so that without it a caller holds the product of that and of its calls.
 *
 * IT1 its caller pays for each byte, and for what is kept of each piece and message beside, in the room that its unread answers are in,
 *    until the handler takes the message, else until the stream is closed: the status may wait behind an answer that is not read.
 * IT2 a piece that is small beside the read that it came with is copied, because it would keep all that was read.
 * IT3 what is due goes on by 4 KiB in ten seconds, or ends there. Time in which this hub does not read does not count.
 * IT4 what arrives after the call has its status is dropped, and its sender is not asked for more.
 * IT5 large headers are paid for like a piece, for as long as the stream is open.
 * IT6 what comes in many more pieces than an honest sender makes ends, and with it all connections of its caller (`chatter.ts`).
 */
export class Intake {
  readonly kind: RequestKind;
  readonly account: Account;
  readonly #stream: ServerHttp2Stream;
  readonly #chatter: Chatter | undefined;
  readonly #onRefused: (intake: Intake, reason: IntakeReason) => void;
  #refuse: ((failure: Failure, reason: IntakeReason) => void) | undefined;
  /** Sizes of complete messages that were not taken yet, oldest first; only of streams. */
  readonly #sizes: number[] = [];
  #firstSize = 0;
  #held = 0;
  #decoded = 0;
  #pieces = 0;
  #arrived = 0;
  /** Also what was dropped. */
  #sent = 0;
  #completed = 0;
  #messages = 0;
  #whole = false;
  /** The call has its status: nothing is due of it any more. */
  #ended = false;
  /** The stream is closed, and nothing is held. */
  #over = false;
  #seenBytes = 0;
  #seenMessages = 0;
  #since: number;

  constructor(
    stream: ServerHttp2Stream,
    kind: RequestKind,
    account: Account,
    nowMono: number,
    onRefused: (intake: Intake, reason: IntakeReason) => void,
    chatter?: Chatter,
  ) {
    this.#stream = stream;
    this.#chatter = chatter;
    this.kind = kind;
    this.account = account;
    this.#since = nowMono;
    this.#onRefused = onRefused;
    const push = stream.push;
    const ends = new MessageEnds();
    stream.push = (piece: Buffer | null, encoding) => {
      if (piece === null) return push.call(stream, piece, encoding);
      this.#sent += piece.length;
      const fits = chatter?.piece(piece.length, this.#ended ? MESSAGES_PER_DROPPED : ends.take(piece)) ?? true;
      if (this.#ended) return false;
      if (!fits) return this.#tooSmall();
      const kept = ownPiece(piece);
      return this.#arrive(kept.length) && push.call(stream, kept, encoding);
    };
  }

  /** session that the stream is of; undefined when it is closed. */
  get session(): ServerHttp2Session | undefined {
    return this.#stream.session as ServerHttp2Session | undefined;
  }

  /** attach sets how the call of this stream is refused. Until then, and for a path that nobody serves, the stream is reset. */
  attach(refuse: (failure: Failure, reason: IntakeReason) => void): void {
    this.#refuse = refuse;
  }

  /** headers says how large those of the stream are; it is reset when that is too much. */
  headers(bytes: number): void {
    this.#chatter?.stream();
    if (bytes <= SMALL_HEADERS_BYTES) return;
    if (this.account.fits(bytes)) this.#hold(bytes);
    else this.#tooMany();
  }

  #arrive(bytes: number): boolean {
    const cost = bytes + PIECE_BYTES;
    if (!this.account.fits(cost)) {
      this.#tooMany();
      return false;
    }
    this.#arrived += bytes;
    this.#pieces += PIECE_BYTES;
    this.#hold(cost);
    return true;
  }

  /** hold counts bytes, or with a negative number gives them back; nothing once all is given back. */
  #hold(bytes: number): void {
    if (this.#over) return;
    this.#held += bytes;
    this.account.requests(bytes);
  }

  /**
   * message is told of each message that is complete, with its frame, in their order. It answers a number for `unpacked`. The first
   * of a piece costs what the piece did; one piece may bring thousands more.
   */
  message(bytes: number): number {
    if (this.#over) return this.#messages++;
    this.#completed += bytes;
    const pieces = this.#arrived > this.#completed ? Math.min(this.#pieces, PIECE_BYTES) : 0;
    const more = MESSAGE_BYTES + pieces - this.#pieces;
    if (more > 0 && !this.#ended && !this.account.fits(more)) this.#tooMany();
    this.#pieces = pieces;
    this.#hold(more);
    if (this.kind !== "one") this.#sizes.push(bytes + MESSAGE_BYTES);
    return this.#messages++;
  }

  /** unpacked says that a message turned out to be larger; false when that is too much, or nobody waits for it any more. */
  unpacked(message: number, bytes: number): boolean {
    if (this.#ended) return false;
    if (!this.account.fits(bytes)) {
      this.#end("bytes", {
        reason: "OVERLOADED",
        message: `the requests of ${this.account.key} that wait are too large when unpacked; send fewer at once`,
        facts: { limit: "bytes", max: String(this.account.bounds.bytes) },
      });
      return false;
    }
    const at = message - this.#firstSize;
    if (this.kind !== "one" && at >= 0) this.#sizes[at] = (this.#sizes[at] ?? 0) + bytes;
    this.#hold(bytes);
    return true;
  }

  /** decoded says how much memory the one message of a call takes now; false when that is too much. It is held until the stream is closed. */
  decoded(bytes: number): boolean {
    if (this.#ended) return false;
    if (bytes === 0 || this.kind !== "one") return true;
    if (!this.account.decode(bytes)) {
      this.#end("bytes", {
        reason: "OVERLOADED",
        message: `this request takes ${bytes} bytes of memory once it is read, beside others of ${this.account.key} that are under way; send smaller ones, and fewer at once`,
        facts: { limit: "bytes", max: String(this.account.bounds.bytes) },
      });
      return false;
    }
    this.#decoded += bytes;
    return true;
  }

  /** taken says that the handler has the next message of a stream. */
  taken(): void {
    if (this.#over) return;
    this.#firstSize++;
    this.#hold(-(this.#sizes.shift() ?? 0));
  }

  /** whole says that the client has said all that it will say. */
  whole(): void {
    this.#whole = true;
  }

  /** ended says that the call has its status. What has arrived is kept, and paid for, until the stream is closed. */
  ended(): void {
    this.#ended = true;
  }

  /** over gives everything back: the stream is closed. */
  over(): void {
    this.#ended = true;
    if (!this.#over) {
      this.account.decoded(-this.#decoded);
      if (!this.#whole) this.#chatter?.dropped(this.#comes());
    }
    this.#hold(-this.#held);
    this.#over = true;
    this.#sizes.length = 0;
  }

  /**
   * comes is how much may be under way on a stream that ends before its request does, which HTTP/2 drops without a word: a window of an own
   * caller, whose streams cost it more; of others as much as has come.
   */
  #comes(): number {
    return this.account.foreign ? Math.min(this.#sent, WIDE_WINDOW_BYTES) : OWN_WINDOW_BYTES;
  }

  /** waiting: something is due of the client, and this hub reads. */
  get #waiting(): boolean {
    if (this.#whole || this.#ended) return false;
    if (this.#refuse !== undefined && this.#stream.isPaused()) return false;
    if (this.kind === "one") return true;
    return this.#arrived > this.#completed || (this.kind === "stream" && this.#messages === 0);
  }

  /** look refuses a request of which too little has come for too long. `unseenMs`: time in which this process could not read. */
  look(nowMono: number, unseenMs: number): void {
    this.#since = Math.min(nowMono, this.#since + unseenMs);
    const goesOn = this.#arrived - this.#seenBytes >= PROGRESS_BYTES || this.#messages !== this.#seenMessages;
    if (goesOn || !this.#waiting) {
      this.#since = nowMono;
      this.#seenBytes = this.#arrived;
      this.#seenMessages = this.#messages;
    } else if (nowMono - this.#since >= STALL_MS) {
      const came = this.#arrived - this.#seenBytes;
      const message = `the request does not arrive: ${came} bytes in ${STALL_MS / 1_000} s, ${this.#arrived} altogether, and it is not complete`;
      this.#end("late", { reason: "DEADLINE_EXPIRED", message });
    }
  }

  #tooMany(): void {
    this.#end("bytes", {
      reason: "OVERLOADED",
      message: `${this.account.bytes} bytes of requests and unread answers of ${this.account.key} wait already; send and ask for fewer at once`,
      facts: { limit: "bytes", max: String(this.account.bounds.bytes) },
    });
  }

  #tooSmall(): false {
    this.#end("pieces", { reason: "OVERLOADED", message: `the requests of ${this.account.key} come in too many pieces; send fuller ones` });
    return false;
  }

  #end(reason: IntakeReason, failure: Failure): void {
    this.ended();
    this.#onRefused(this, reason);
    if (this.#refuse !== undefined) this.#refuse(failure, reason);
    else this.#stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
  }
}

/** ownPiece copies a piece that is the smaller part of what was read with it. */
function ownPiece(piece: Buffer): Buffer {
  if (piece.length * 2 >= piece.buffer.byteLength) return piece;
  const copy = Buffer.allocUnsafeSlow(piece.length);
  piece.copy(copy);
  return copy;
}

/** Intakes are those of all open streams of a server. */
export class Intakes {
  readonly #all = new Map<ServerHttp2Stream, Intake>();
  readonly #onRefused: (intake: Intake, reason: IntakeReason) => void;
  readonly #onClosed: (account: Account) => void;

  /** `onClosed` is told whose stream is closed and gave back all that it held. */
  constructor(onRefused: (intake: Intake, reason: IntakeReason) => void, onClosed: (account: Account) => void) {
    this.#onRefused = onRefused;
    this.#onClosed = onClosed;
  }

  /** begin takes in a stream before anything of it is read. Another hub has no reason to open one and say nothing (PROTOCOL S3). */
  begin(
    stream: ServerHttp2Stream,
    kind: RequestKind,
    account: Account,
    nowMono: number,
    from: { chatter?: Chatter; headerBytes?: number } = {},
  ): void {
    const due = account.foreign && kind === "idle_stream" ? "stream" : kind;
    const intake = new Intake(stream, due, account, nowMono, this.#onRefused, from.chatter);
    this.#all.set(stream, intake);
    account.streams++;
    stream.once("close", () => {
      this.#all.delete(stream);
      intake.over();
      account.streams--;
      this.#onClosed(account);
    });
    intake.headers(from.headerBytes ?? 0);
  }

  of(stream: ServerHttp2Stream): Intake | undefined {
    return this.#all.get(stream);
  }

  /** look goes over all of them; a few thousand cost some tenths of a millisecond. */
  look(nowMono: number, unseenMs: number): void {
    for (const intake of this.#all.values()) intake.look(nowMono, unseenMs);
  }
}
