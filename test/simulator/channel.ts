import type { DescMethod, DescService, Message } from "@bufbuild/protobuf";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import { type CallOptions, type ClientDuplex, type ClientOf, RawMessage } from "#channel/call.ts";
import { type Calls, callOf } from "#channel/client.ts";
import type { Clock } from "#channel/clock.ts";
import { decodeMessage, encodeMessage } from "#channel/messages.ts";
import { ByteOutbound, DuplexCall, Inbound } from "#channel/streams.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import type { End, Network, Socket } from "./network.ts";
import type { SimLeaf } from "./pki.ts";

/** Wire is what travels on the connection of one call: protobuf messages in their bytes, and what HTTP/2 says around them. */
export type Wire =
  | {
      readonly w: "call";
      readonly method: DescMethod;
      readonly caller: Identity;
      readonly authorization: string | undefined;
      readonly timeoutMs: number | undefined;
    }
  | { readonly w: "data"; readonly bytes: Buffer }
  /** The reader took so many bytes: the writer may go on. */
  | { readonly w: "window"; readonly bytes: number }
  /** No more messages from the caller. */
  | { readonly w: "half" }
  /** The call is over: its status. */
  | { readonly w: "end"; readonly failure: Failure | undefined };

/** Identity is what a caller proves in TLS: a hub its certificate, a client of the own hub its SPIFFE id. */
export type Identity = string | SimLeaf;

/** Flow is how much may be under way in one direction before its reader has read, as HTTP/2's windows have it. */
export interface Flow {
  readonly windowBytes: number;
  /** How long a reader takes for a message now; 0 unless it is a slow one. */
  readonly slowMs: () => number;
  readonly clock: Clock;
}

/** Lane is the sending half of one side: what the window has no room for waits here. */
export class Lane {
  readonly #socket: () => Socket<Wire> | undefined;
  readonly #windowBytes: number;
  readonly #waiting: { readonly wire: Wire; readonly bytes: number; readonly done: () => void }[] = [];
  #under = 0;

  constructor(socket: () => Socket<Wire> | undefined, windowBytes: number) {
    this.#socket = socket;
    this.#windowBytes = windowBytes;
  }

  readonly write = (raw: RawMessage, done: () => void): void => {
    this.#waiting.push({ wire: { w: "data", bytes: raw.bytes }, bytes: raw.bytes.length, done });
    this.#pump();
  };

  /** say comes after all that was written. */
  say(wire: Wire, done: () => void = () => undefined): void {
    this.#waiting.push({ wire, bytes: 0, done });
    this.#pump();
  }

  taken(bytes: number): void {
    this.#under -= bytes;
    this.#pump();
  }

  #pump(): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      // A reader says what it took once that is half a window: with less than that under way nothing would ever make room. HTTP/2 sends the
      // part of a message that has room; here a message is whole, and goes over the window by its rest.
      if (this.#under >= this.#windowBytes / 2 && this.#under + next.bytes > this.#windowBytes) return;
      this.#waiting.shift();
      this.#under += next.bytes;
      this.#socket()?.send(next.wire);
      next.done();
    }
  }
}

/** Arrivals is the receiving half of one side, read one message at a time as a grpc stream is; a slow reader gets them slowly. */
export class Arrivals {
  readonly #flow: Flow;
  readonly #decode: (bytes: Buffer) => Message;
  readonly #socket: () => Socket<Wire> | undefined;
  readonly #queue: Buffer[] = [];
  readonly #held: (Buffer | (() => void))[] = [];
  #waiting = false;
  #wake: () => void = () => undefined;
  #read = 0;

  constructor(flow: Flow, decode: (bytes: Buffer) => Message, socket: () => Socket<Wire> | undefined) {
    this.#flow = flow;
    this.#decode = decode;
    this.#socket = socket;
  }

  on(_event: "readable", listener: () => void): void {
    this.#wake = listener;
  }

  read(): Message | null {
    const bytes = this.#queue.shift();
    if (bytes === undefined) return null;
    this.#read += bytes.length;
    if (this.#read >= this.#flow.windowBytes / 2) {
      this.#socket()?.send({ w: "window", bytes: this.#read });
      this.#read = 0;
    }
    return this.#decode(bytes);
  }

  /** push takes a message, or what happens after those before it were handed on. */
  push(next: Buffer | (() => void)): void {
    this.#held.push(next);
    if (!this.#waiting) this.#pump();
  }

  #pump(): void {
    for (let next = this.#held[0]; next !== undefined; next = this.#held[0]) {
      const slowMs = this.#flow.slowMs();
      if (slowMs > 0) {
        this.#waiting = true;
        this.#flow.clock.setTimer(slowMs, () => {
          this.#waiting = false;
          this.#hand();
          this.#pump();
        });
        return;
      }
      this.#hand();
    }
  }

  #hand(): void {
    const next = this.#held.shift();
    if (typeof next === "function") return next();
    if (next === undefined) return;
    this.#queue.push(next);
    this.#wake();
  }
}

/** ChannelOptions say who calls whom. */
export interface ChannelOptions {
  readonly network: Network<Wire>;
  readonly from: number;
  readonly to: number;
  readonly caller: Identity;
  /** refuse is why the caller does not go on with the server that it finds, as TLS would tell it; undefined for one that is right. */
  readonly refuse?: () => Failure | undefined;
  readonly flow: Flow;
  /** onSend sees what a stream sends, and may put something else in its place. */
  readonly onSend?: (method: DescMethod, bytes: Buffer) => readonly Buffer[];
}

const CANCELLED: Failure = { reason: "CANCELLED", message: "the call was cancelled" };
const DEFAULT_TIMEOUT_MS = 10_000;
/** How long a handshake takes that fails. */
const HANDSHAKE_MS = 5;

/** Call is the caller's side of one call, which has a connection of its own. */
class Call extends DuplexCall {
  override readonly responses: Inbound<Message>;
  readonly #lane: Lane;
  protected override readonly out: ByteOutbound<Message>;
  #socket: Socket<Wire> | undefined;
  #over = false;

  constructor(o: ChannelOptions, method: DescMethod, options: CallOptions) {
    super();
    const socket = () => this.#socket;
    const decode = (bytes: Buffer): Message =>
      options.rawResponses === true ? (new RawMessage(bytes) as unknown as Message) : decodeMessage(method.output, bytes);
    const arrivals = new Arrivals(o.flow, decode, socket);
    this.#lane = new Lane(socket, o.flow.windowBytes);
    this.out = new ByteOutbound<Message>(
      (message) => encodeMessage(method.input, message),
      (raw, done) => {
        if (o.onSend === undefined) return this.#lane.write(raw, done);
        for (const bytes of o.onSend(method, raw.bytes)) this.#lane.write(new RawMessage(bytes), () => undefined);
        done();
      },
      () => this.#finish({ reason: "INVALID_FIELD", message: "the message cannot be encoded" }),
    );
    const onMalformed = method.methodKind === "bidi_streaming" ? () => undefined : undefined;
    this.responses = new Inbound<Message>(arrivals, () => this.cancel(), onMalformed);
    const end: End<Wire> = {
      receive: (wire) => {
        if (wire.w === "data") arrivals.push(wire.bytes);
        else if (wire.w === "window") this.#lane.taken(wire.bytes);
        else if (wire.w === "end") arrivals.push(() => this.#finish(wire.failure));
      },
      ended: (failure) => arrivals.push(() => this.#finish(failure)),
    };
    const refused = o.refuse?.();
    if (refused !== undefined) o.flow.clock.setTimer(HANDSHAKE_MS, () => this.#finish(refused));
    else this.#socket = o.network.dial(o.from, o.to, this.#callOf(o, method, options), end, () => this.opening.resolve());
    options.signal?.addEventListener("abort", () => this.cancel(), { once: true });
  }

  #callOf({ caller }: ChannelOptions, method: DescMethod, { metadata, timeoutMs }: CallOptions): Wire {
    return { w: "call", method, caller, authorization: metadata?.["authorization"], timeoutMs };
  }

  #finish(failure: Failure | undefined): void {
    if (this.#over) return;
    this.#over = true;
    const error = failure === undefined ? undefined : new FoedusError(failure);
    this.opening.reject(error ?? new FoedusError(CANCELLED));
    this.out.close();
    this.responses.finish(error);
    this.#socket?.abort(failure ?? CANCELLED);
  }

  protected override halfClose(): void {
    this.#lane.say({ w: "half" });
  }
  override cancel(): void {
    this.#finish(CANCELLED);
  }
  /** fail ends the call at the caller's side, as its deadline does. */
  fail(failure: Failure): void {
    this.#finish(failure);
  }
}

/** Channel makes the calls of one caller to one hub over the simulated network. */
class Channel implements Calls {
  readonly #o: ChannelOptions;

  constructor(options: ChannelOptions) {
    this.#o = options;
  }

  async unary(method: DescMethod, request: Message | RawMessage, options: CallOptions = {}): Promise<Message> {
    const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    const call = new Call(this.#o, method, { ...options, timeoutMs });
    const timer = this.#o.flow.clock.setTimer(timeoutMs, () =>
      call.fail({ reason: "DEADLINE_EXPIRED", message: `no answer within ${timeoutMs} ms` }),
    );
    call.send(request);
    call.end();
    try {
      for await (const response of call.responses) return response;
      throw new FoedusError({ reason: "INTERNAL", message: "the call ended without an answer" });
    } finally {
      timer.cancel();
    }
  }

  async *serverStream(method: DescMethod, request: Message | RawMessage, options: CallOptions = {}): AsyncGenerator<Message> {
    const call = new Call(this.#o, method, options);
    call.send(request);
    call.end();
    yield* call.responses;
  }

  duplex(method: DescMethod, options: CallOptions = {}): ClientDuplex<Message, Message> {
    return new Call(this.#o, method, options);
  }
}

/** createChannel gives the client of a service at a hub. */
export function createChannel<S extends GenService<GenServiceMethods>>(service: S, options: ChannelOptions): ClientOf<S> {
  const channel = new Channel(options);
  const client: Record<string, unknown> = { close: () => undefined };
  for (const method of (service as DescService).methods) client[method.localName] = callOf(channel, method);
  return client as ClientOf<S>;
}
