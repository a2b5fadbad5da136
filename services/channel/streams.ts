import type { Message } from "@bufbuild/protobuf";
import { type ClientDuplex, type Outbound, RawMessage } from "./call.ts";
import { Malformed, Sealed } from "./messages.ts";

/** DRAIN_MARK_BYTES is how many unsent bytes make `drained()` wait: about what keeps a fast link busy for one turn of the loop. */
export const DRAIN_MARK_BYTES = 256 * 1024;

/** What Inbound needs of a grpc-js stream: an object-mode readable that delivers one message per read. */
interface MessageSource {
  read(): unknown;
  on(event: "readable", listener: () => void): unknown;
}

/**
 * Inbound is the receiving half of a stream as an AsyncIterable. It pulls one message at a time, so a reader that does not
 * read pushes back to the sender; leaving the loop early does not destroy the stream, as Node's own iterator would.
 * Messages that arrived before the end are delivered before it; of what is behind a malformed one nothing is.
 */
export class Inbound<T> implements AsyncIterable<T>, AsyncIterator<T, undefined> {
  readonly #source: MessageSource;
  readonly #onReturn: () => void;
  readonly #onMalformed: () => void;
  #waiting: PromiseWithResolvers<IteratorResult<T, undefined>> | undefined;
  #over = false;
  /** Nothing is taken from the source any more. */
  #cut = false;
  #error: Error | undefined;
  #started = false;
  #onFinish: (() => void) | undefined;
  #onTaken: (() => void) | undefined;

  /** `onReturn` is called when the reader leaves, `onMalformed` when a message could not be read; by default both are the same. */
  constructor(source: MessageSource, onReturn: () => void = () => undefined, onMalformed: () => void = onReturn) {
    this.#source = source;
    this.#onReturn = onReturn;
    this.#onMalformed = onMalformed;
  }

  /** start makes the transport deliver; before it the first message is not even asked for. */
  #start(): void {
    if (this.#started) return;
    this.#started = true;
    this.#source.on("readable", () => this.#wake());
  }

  /** onTaken is called for each message that the reader gets. */
  onTaken(listener: () => void): void {
    this.#onTaken = listener;
  }

  /** onFinish is called once, when the stream has ended. */
  onFinish(listener: () => void): void {
    this.#onFinish = listener;
  }

  /** finish ends the iteration, after what is already here. With an error the iteration throws it. */
  finish(error?: Error): void {
    if (this.#over) return;
    this.#over = true;
    this.#error = error;
    this.#onFinish?.();
    this.#wake();
  }

  /** wake answers the reader that waits. What a pull causes must not answer it as well, so meanwhile nobody waits. */
  #wake(): void {
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    this.#waiting = undefined;
    const message = this.#pull();
    if (message !== null) waiting.resolve({ value: message, done: false });
    else if (!this.#over) this.#waiting = waiting;
    else if (this.#error === undefined) waiting.resolve({ value: undefined, done: true });
    else waiting.reject(this.#error);
  }

  /** pull takes one message; one that breaks the rules of its schema is the last that is taken, and ends the stream with what is wrong. */
  #pull(): T | null {
    if (this.#cut) return null;
    try {
      const arrived = this.#source.read() as T | Malformed | Sealed | null;
      if (arrived !== null) this.#onTaken?.();
      const message = arrived instanceof Sealed ? (arrived.open() as T | Malformed) : arrived;
      if (!(message instanceof Malformed)) return message;
      this.#fail(message.error);
    } catch (error) {
      this.#fail(error as Error);
    }
    return null;
  }

  /** fail ends the iteration here. An end that the transport told of before comes after this message, and so does not count. */
  #fail(error: Error): void {
    this.#cut = true;
    this.#error = error;
    this.finish(error);
    this.#onMalformed();
  }

  next(): Promise<IteratorResult<T, undefined>> {
    this.#start();
    const message = this.#pull();
    if (message !== null) return Promise.resolve({ value: message, done: false });
    if (this.#over) return this.#error === undefined ? Promise.resolve({ value: undefined, done: true }) : Promise.reject(this.#error);
    this.#waiting = Promise.withResolvers();
    return this.#waiting.promise;
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.#cut = true;
    this.finish();
    this.#onReturn();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/** Write writes an encoded message; `done` is called when the transport has taken the bytes. */
export type Write = (message: RawMessage, done: () => void) => void;

/** ByteOutbound is the sending half of a stream over any transport: it encodes, counts bytes and tells when they are gone. */
export class ByteOutbound<T extends Message> implements Outbound<T> {
  readonly #encode: (message: T) => Buffer;
  readonly #write: Write;
  readonly #onBug: (error: unknown) => void;
  #buffered = 0;
  /** Nothing more is sent; what was sent before still leaves. */
  #ended = false;
  #closed = false;
  #draining: PromiseWithResolvers<void> | undefined;

  constructor(encode: (message: T) => Buffer, write: Write, onBug: (error: unknown) => void) {
    this.#encode = encode;
    this.#write = write;
    this.#onBug = onBug;
  }

  send(message: T | RawMessage): boolean {
    if (this.#ended) return false;
    try {
      const raw = message instanceof RawMessage ? message : new RawMessage(this.#encode(message));
      const { length } = raw.bytes;
      this.#buffered += length;
      this.#write(raw, () => this.#written(length));
      return true;
    } catch (error) {
      this.close();
      this.#onBug(error);
      return false;
    }
  }

  #written(length: number): void {
    this.#buffered -= length;
    if (this.#buffered < DRAIN_MARK_BYTES) this.#release();
  }

  #release(): void {
    this.#draining?.resolve();
    this.#draining = undefined;
  }

  get bufferedBytes(): number {
    return this.#closed ? 0 : this.#buffered;
  }

  get closed(): boolean {
    return this.#ended;
  }

  drained(): Promise<void> {
    if (this.#closed || this.#buffered < DRAIN_MARK_BYTES) return Promise.resolve();
    this.#draining ??= Promise.withResolvers();
    return this.#draining.promise;
  }

  /** end refuses further messages. True if it did not before: then the other side is to be told. */
  end(): boolean {
    if (this.#ended) return false;
    this.#ended = true;
    return true;
  }

  /** close refuses further messages and wakes whoever waits in `drained`. */
  close(): void {
    this.#ended = true;
    this.#closed = true;
    this.#release();
  }
}

/** DuplexCall is what the caller's side of a stream does alike over any transport: it tells when it is open, and sends. */
export abstract class DuplexCall implements ClientDuplex<Message, Message> {
  readonly opened: Promise<void>;
  abstract readonly responses: AsyncIterable<Message>;
  protected abstract readonly out: ByteOutbound<Message>;
  /** Settles `opened`. */
  protected readonly opening = Promise.withResolvers<void>();

  constructor() {
    this.opened = this.opening.promise;
    this.opened.catch(() => undefined);
  }

  send(message: Message | RawMessage): boolean {
    return this.out.send(message);
  }

  get bufferedBytes(): number {
    return this.out.bufferedBytes;
  }

  get closed(): boolean {
    return this.out.closed;
  }

  drained(): Promise<void> {
    return this.out.drained();
  }

  end(): void {
    if (this.out.end()) this.halfClose();
  }

  /** halfClose tells the other side that nothing more comes, behind all that was sent. */
  protected abstract halfClose(): void;
  abstract cancel(): void;
}
