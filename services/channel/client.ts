import type { DescMethod, DescService, Message } from "@bufbuild/protobuf";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import * as grpc from "@grpc/grpc-js";
import { FoedusError } from "#kernel/error.ts";
import { whenAborted } from "./abort.ts";
import { type CallOptions, type ClientDuplex, type ClientOf, RawMessage } from "./call.ts";
import type { Clock } from "./clock.ts";
import { decodeAnswer, encodeMessage, isRequestStream, Malformed, methodPath } from "./messages.ts";
import { hasDetails, isServiceError, serviceErrorToFoedus } from "./status.ts";
import { ByteOutbound, DuplexCall, Inbound } from "./streams.ts";
import { PeerChannelCredentials } from "./tls/peer-credentials.ts";
import { NARROW_WINDOW_BYTES, WIDE_WINDOW_BYTES } from "./windows.ts";

/** MeteredCall counts the messages of one call. */
export interface MeteredCall {
  received: number;
  sent: number;
  /** follow counts the call until its status is known. */
  follow(call: { on(event: "status", listener: (status: { readonly code: number }) => void): unknown }): void;
}

/** CallMeter counts calls: metrics are made of it. */
export interface CallMeter {
  /** call begins one. */
  call(method: DescMethod): MeteredCall;
}

/** ClientOptions are what a client is made of. */
export interface ClientOptions {
  /** `host:port`, an IPv6 host in brackets. */
  readonly address: string;
  /** From `createPeerCredentials`; other channel credentials are for tests. */
  readonly credentials: grpc.ChannelCredentials;
  readonly clock: Clock;
  /**
   * Whether failed connections say where: for whoever chose the address. Not between the processes of one hub, whose callers may be peers,
   * and learn nothing of how it is built.
   */
  readonly namesAddress?: boolean;
  /** Counts the calls; without it they are not counted. */
  readonly meter?: CallMeter;
  /** Deadline of unary calls that state none. Default 10 s. */
  readonly defaultTimeoutMs?: number;
  /** Largest message received, in bytes. Default 1 MiB + 64 KiB. */
  readonly maxMessageBytes?: number;
  /**
   * Receive window of every connection and stream, in bytes; see `windows.ts`. Default: the narrow one, and the wide one for the streams
   * that a hub alone sends on.
   */
  readonly flowControlWindowBytes?: number;
  /** Further grpc-js channel options; they win. */
  readonly channelOptions?: Readonly<Record<string, string | number>>;
}

const DEFAULT_TIMEOUT_MS = 10_000;
const DEFAULT_MAX_MESSAGE_BYTES = 1024 * 1024 + 64 * 1024;
/** Largest part of a call that grpc-js keeps for a transparent retry; what it keeps it calls written, so it must be small. */
const RETRY_BUFFER_BYTES = 64 * 1024;

function channelOptions(options: ClientOptions, windowBytes: number): grpc.ClientOptions {
  return {
    "grpc.max_receive_message_length": options.maxMessageBytes ?? DEFAULT_MAX_MESSAGE_BYTES,
    "grpc-node.flow_control_window": options.flowControlWindowBytes ?? windowBytes,
    "grpc.enable_retries": 0,
    "grpc.per_rpc_retry_buffer_size": RETRY_BUFFER_BYTES,
    // One socket per client: bulk and control do not share one.
    "grpc.use_local_subchannel_pool": 1,
    "grpc.keepalive_time_ms": 20_000,
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.initial_reconnect_backoff_ms": 500,
    "grpc.max_reconnect_backoff_ms": 10_000,
    "grpc.enable_channelz": 0,
    "grpc.enable_http_proxy": 0,
    ...options.channelOptions,
  };
}

/**
 * RemoteChannel makes calls and turns every failure into a FoedusError. Streams that the server alone sends on have a connection of their
 * own, which is opened with the first one: its other direction carries little, so that its window may be wide (WI2).
 */
class RemoteChannel {
  readonly #client: grpc.Client;
  #watching: grpc.Client | undefined;
  #closed = false;
  readonly #options: ClientOptions;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#client = this.#dial(NARROW_WINDOW_BYTES);
  }

  #dial(windowBytes: number): grpc.Client {
    return new grpc.Client(this.#options.address, this.#options.credentials, channelOptions(this.#options, windowBytes));
  }

  close(): void {
    this.#closed = true;
    this.#client.close();
    this.#watching?.close();
  }

  /** #forStreams is the channel of server streams. */
  #forStreams(): grpc.Client {
    if (this.#closed) return this.#client;
    this.#watching ??= this.#dial(WIDE_WINDOW_BYTES);
    return this.#watching;
  }

  /** error explains a failed call; a server that this client refused is named by the credentials, which know why. */
  readonly #error = (error: unknown): FoedusError => {
    if (error instanceof FoedusError) return error;
    if (!isServiceError(error))
      return new FoedusError({ reason: "INTERNAL", message: "the call failed in this process" }, { cause: error });
    const { credentials, address, namesAddress } = this.#options;
    // A connection that this client ends makes an error of this process in grpc-js.
    const mayBe = error.code === grpc.status.UNAVAILABLE || error.code === grpc.status.INTERNAL;
    // What was refused once must not explain a server that is simply down later, so the text decides.
    const refused = mayBe && credentials instanceof PeerChannelCredentials ? credentials.failureIn(error.details) : undefined;
    return refused === undefined
      ? serviceErrorToFoedus(error, namesAddress === true ? address : undefined)
      : new FoedusError(refused, { cause: error });
  };

  #metadata(options: CallOptions): grpc.Metadata {
    const metadata = new grpc.Metadata();
    for (const [key, value] of Object.entries(options.metadata ?? {})) metadata.set(key, value);
    return metadata;
  }

  #callOptions(timeoutMs: number | undefined): grpc.CallOptions {
    return timeoutMs === undefined ? {} : { deadline: this.#options.clock.wall() + timeoutMs };
  }

  #measure(method: DescMethod): MeteredCall | undefined {
    return this.#options.meter?.call(method);
  }

  /** #mustBeOpen throws FoedusError (CANCELLED) once the channel was closed: grpc-js has errors of its own for that. */
  #mustBeOpen(): void {
    if (this.#closed) throw new FoedusError({ reason: "CANCELLED", message: "the client was closed by this program" });
  }

  unary(method: DescMethod, request: Message | RawMessage, options: CallOptions = {}): Promise<Message> {
    return new Promise((resolve, reject) => {
      this.#mustBeOpen();
      if (options.signal?.aborted) return reject(cancelled(options.signal));
      const timeoutMs = options.timeoutMs ?? this.#options.defaultTimeoutMs ?? DEFAULT_TIMEOUT_MS;
      const settle = (error: grpc.ServiceError | null, response?: Message): void => {
        options.signal?.removeEventListener("abort", abort);
        if (error !== null) reject(this.#error(error));
        else if (response instanceof Malformed) reject(response.error);
        else resolve(response as Message);
      };
      const measured = this.#measure(method);
      const call = this.#client.makeUnaryRequest(
        methodPath(method),
        encoderOf(method, measured),
        decoderOf(method, measured),
        request,
        this.#metadata(options),
        this.#callOptions(timeoutMs),
        settle,
      );
      measured?.follow(call);
      const abort = (): void => call.cancel();
      whenAborted(options.signal, abort);
    });
  }

  serverStream(method: DescMethod, request: Message | RawMessage, options: CallOptions = {}): AsyncIterable<Message> {
    this.#mustBeOpen();
    return { [Symbol.asyncIterator]: () => this.#responses(method, request, options) };
  }

  /** #responses opens a server stream: if its connection is refused while that of the other calls stands, on that one, in a narrow window. */
  #responses(method: DescMethod, request: Message | RawMessage, options: CallOptions): AsyncIterator<Message> {
    const settings = this.#callOptions(options.timeoutMs);
    const open = (client: grpc.Client): Inbound<Message> => this.#responsesOn(client, method, request, options, settings);
    return new Responses(open(this.#forStreams()), (error) => {
      if (this.#closed || !isUnreachable(error)) return undefined;
      const connected = this.#client.getChannel().getConnectivityState(false) === grpc.connectivityState.READY;
      return connected ? open(this.#client) : undefined;
    });
  }

  #responsesOn(
    client: grpc.Client,
    method: DescMethod,
    request: Message | RawMessage,
    options: CallOptions,
    settings: grpc.CallOptions,
  ): Inbound<Message> {
    const measured = this.#measure(method);
    const stream = client.makeServerStreamRequest(
      methodPath(method),
      encoderOf(method, measured),
      decoderOf(method, measured),
      request,
      this.#metadata(options),
      settings,
    );
    measured?.follow(stream);
    const inbound = new Inbound<Message>(stream, () => stream.cancel());
    const forget = cancelWith(stream, options.signal);
    stream.on("error", (error) => inbound.finish(this.#error(error)));
    stream.on("status", () => {
      forget();
      inbound.finish();
    });
    return inbound;
  }

  duplex(method: DescMethod, options: CallOptions = {}): ClientDuplex<Message, Message> {
    this.#mustBeOpen();
    const measured = this.#measure(method);
    const serialize = encoderOf(method, measured);
    const deserialize = decoderOf(method, measured, options.rawResponses);
    const metadata = this.#metadata(options);
    const settings = this.#callOptions(options.timeoutMs);
    if (method.methodKind === "bidi_streaming") {
      const stream = this.#client.makeBidiStreamRequest(methodPath(method), serialize, deserialize, metadata, settings);
      measured?.follow(stream);
      // A reader of both directions may have something to say about a malformed message before it cancels the call: sessions do.
      const keep = (): void => undefined;
      const inbound = new Inbound<Message>(stream, () => stream.cancel(), keep);
      const duplex = new RemoteDuplex(method, stream, inbound, options.signal, this.#error);
      stream.on("error", (error) => duplex.finish(error));
      stream.on("status", () => duplex.finish());
      return duplex;
    }
    const responses = new Mailbox();
    const inbound = new Inbound<Message>(responses, () => stream.cancel());
    const stream = this.#client.makeClientStreamRequest(
      methodPath(method),
      serialize,
      deserialize,
      metadata,
      settings,
      (error, response) => {
        if (error === null) responses.put(response as Message);
        duplex.finish(error ?? undefined);
      },
    );
    measured?.follow(stream);
    const duplex = new RemoteDuplex(method, stream, inbound, options.signal, this.#error);
    return duplex;
  }
}

/** encoderOf makes the bytes of a request, and counts it. */
function encoderOf(method: DescMethod, measured: MeteredCall | undefined): (message: Message | RawMessage) => Buffer {
  return (message) => {
    if (measured !== undefined) measured.sent++;
    return encodeMessage(method.input, message);
  };
}

/** decoderOf reads a response, or passes its bytes on, and counts it. */
function decoderOf(method: DescMethod, measured: MeteredCall | undefined, raw = false): (bytes: Buffer) => Message {
  return (bytes) => {
    if (measured !== undefined) measured.received++;
    // What was refused comes out as Malformed: grpc-js would make INTERNAL of a throw here.
    return (raw ? new RawMessage(bytes) : decodeAnswer(method, bytes)) as Message;
  };
}

/** Mailbox is a source of at most one message: the response of a client stream. */
class Mailbox {
  #message: Message | null = null;
  put(message: Message): void {
    this.#message = message;
  }
  read(): Message | null {
    const message = this.#message;
    this.#message = null;
    return message;
  }
  on(): void {
    // Nothing arrives but by `put`, which is followed by the end.
  }
}

/** isUnreachable tells that a call failed for want of a connection, and not by what the server said or who it is. */
function isUnreachable(error: unknown): boolean {
  if (!(error instanceof FoedusError) || error.failure.reason !== "PEER_UNREACHABLE") return false;
  return isServiceError(error.cause) && error.cause.code === grpc.status.UNAVAILABLE && !hasDetails(error.cause);
}

type Instead = (error: unknown) => Inbound<Message> | undefined;

/** Responses are those of a stream or, if that fails before its first one, of the stream that is opened instead. */
class Responses implements AsyncIterator<Message, undefined> {
  #source: Inbound<Message>;
  #instead: Instead | undefined;

  constructor(source: Inbound<Message>, instead: Instead) {
    this.#source = source;
    this.#instead = instead;
  }

  next(): Promise<IteratorResult<Message, undefined>> {
    return this.#instead === undefined ? this.#source.next() : this.#first();
  }

  async #first(): Promise<IteratorResult<Message, undefined>> {
    const source = this.#source;
    try {
      return await source.next();
    } catch (error) {
      const other = this.#instead?.(error);
      if (other !== undefined) this.#source = other;
      if (this.#source === source) throw error;
      this.#instead = undefined;
      return await this.#source.next();
    } finally {
      this.#instead = undefined;
    }
  }

  return(): Promise<IteratorResult<Message, undefined>> {
    this.#instead = undefined;
    return this.#source.return();
  }
}

function cancelled(signal: AbortSignal): FoedusError {
  return new FoedusError({ reason: "CANCELLED", message: "the call was cancelled before it began" }, { cause: signal.reason });
}

/** cancelWith cancels a call when a signal aborts; the answer unhooks it. */
function cancelWith(call: { cancel(): void }, signal: AbortSignal | undefined): () => void {
  if (signal === undefined) return () => undefined;
  const abort = (): void => call.cancel();
  whenAborted(signal, abort);
  return () => signal.removeEventListener("abort", abort);
}

type Writer = grpc.ClientWritableStream<Message | RawMessage> | grpc.ClientDuplexStream<Message | RawMessage, Message>;

class RemoteDuplex extends DuplexCall {
  override readonly responses: AsyncIterable<Message>;
  readonly #inbound: Inbound<Message>;
  readonly #stream: Writer;
  protected override readonly out: ByteOutbound<Message>;
  readonly #forget: () => void;
  readonly #error: (error: unknown) => FoedusError;

  constructor(
    method: DescMethod,
    stream: Writer,
    inbound: Inbound<Message>,
    signal: AbortSignal | undefined,
    error: (error: unknown) => FoedusError,
  ) {
    super();
    this.#stream = stream;
    this.#inbound = inbound;
    this.responses = inbound;
    this.#error = error;
    this.out = new ByteOutbound<Message>(
      (message) => encodeMessage(method.input, message),
      (raw, done) => stream.write(raw, done),
      (bug) => {
        this.finish(bug);
        stream.cancel();
      },
    );
    this.#forget = cancelWith(stream, signal);
    stream.on("metadata", () => this.opening.resolve());
    // A failed write is followed by the status, which says why.
    stream.on("error", () => undefined);
  }

  /** finish ends both halves; the first end counts. */
  finish(error?: unknown): void {
    const failure = error === undefined ? undefined : this.#error(error);
    this.#forget();
    this.out.close();
    this.#inbound.finish(failure);
    if (failure === undefined) this.opening.resolve();
    else this.opening.reject(failure);
  }

  protected override halfClose(): void {
    this.#stream.end();
  }
  override cancel(): void {
    this.#stream.cancel();
  }
}

/**
 * createClient makes a typed client of a service at an address. The connection is made with the first call. After `close` calls fail, and
 * streams are not opened: both with FoedusError (CANCELLED). What is under way goes on.
 */
export function createClient<S extends GenService<GenServiceMethods>>(service: S, options: ClientOptions): ClientOf<S> {
  const channel = new RemoteChannel(options);
  const client: Record<string, unknown> = { close: () => channel.close() };
  for (const method of (service as DescService).methods) client[method.localName] = callOf(channel, method);
  return client as ClientOf<S>;
}

/** Calls makes calls: over the network or in this process. */
export interface Calls {
  unary(method: DescMethod, request: Message | RawMessage, options?: CallOptions): Promise<Message>;
  serverStream(method: DescMethod, request: Message | RawMessage, options?: CallOptions): AsyncIterable<Message>;
  duplex(method: DescMethod, options?: CallOptions): ClientDuplex<Message, Message>;
}

/** callOf gives the function that a client has for one RPC. */
export function callOf(calls: Calls, method: DescMethod): unknown {
  if (isRequestStream(method)) return (options?: CallOptions) => calls.duplex(method, options);
  if (method.methodKind === "unary") return (request: Message, options?: CallOptions) => calls.unary(method, request, options);
  return (request: Message, options?: CallOptions) => calls.serverStream(method, request, options);
}
