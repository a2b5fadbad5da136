import type { DescMethod, DescService, Message } from "@bufbuild/protobuf";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import { whenAborted } from "#channel/abort.ts";
import { type CallOptions, type ClientDuplex, type ClientOf, RawMessage } from "#channel/call.ts";
import { type Calls, callOf } from "#channel/client.ts";
import type { Clock, Timer } from "#channel/clock.ts";
import type { Entropy } from "#channel/entropy.ts";
import { decodeMessage, encodeMessage, methodPath } from "#channel/messages.ts";
import { serviceErrorToFoedus } from "#channel/status.ts";
import { ByteOutbound, DuplexCall, Inbound } from "#channel/streams.ts";
import { needsValidation, validateRequest } from "#channel/validation.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import { parseTrace, type TraceContext } from "#kernel/trace-context.ts";
import type { Logger } from "#runtime/log/log.ts";
import { type AccessRule, authorise, requireMethodRule } from "../access.ts";
import type { CallContext, Caller, ServiceBinding } from "../call.ts";
import type { BidiHandler, ClientStreamHandler, ServerStreamHandler, UnaryHandler } from "../server/handlers.ts";
import { type BugReporter, failureOf, PlainStatus, serviceErrorOf } from "../status.ts";

/** LocalClientOptions are what a client in the same process is made of. */
export interface LocalClientOptions {
  /** Who the handlers see as their caller: usually this hub's own service. */
  readonly caller: Caller;
  readonly clock: Clock;
  readonly log: Logger;
  readonly ids: Pick<Entropy, "id">;
  /** Deadline of unary calls that state none. Default 10 s. */
  readonly defaultTimeoutMs?: number;
}

const DEFAULT_TIMEOUT_MS = 10_000;

/**
 * Pipe carries encoded messages from one end to the other. A message counts as written when it was read, so that the sender's
 * `bufferedBytes` and `drained` bound what lies here. Like a socket it does not parse: the reader does.
 */
class Pipe {
  readonly #queue: { readonly raw: RawMessage; readonly done: () => void }[] = [];
  readonly #decode: (bytes: Buffer) => Message;
  #wake: (() => void) | undefined;

  constructor(decode: (bytes: Buffer) => Message) {
    this.#decode = decode;
  }

  readonly write = (raw: RawMessage, done: () => void): void => {
    this.#queue.push({ raw, done });
    this.#wake?.();
  };

  on(_event: "readable", listener: () => void): void {
    this.#wake = listener;
  }

  read(): Message | null {
    const entry = this.#queue.shift();
    if (entry === undefined) return null;
    entry.done();
    return this.#decode(entry.raw.bytes);
  }
}

/** LocalCall is the context of one call in this process and the clock that ends it. */
class LocalCall implements CallContext {
  readonly caller: Caller;
  readonly method: DescMethod;
  readonly timeoutMs: number | undefined;
  readonly token = undefined;
  readonly trace: TraceContext | undefined;
  readonly #controller = new AbortController();
  readonly #timer: Timer | undefined;
  readonly #outer: AbortSignal | undefined;
  readonly #forward = (): void => this.abort({ reason: "CANCELLED", message: "the call was cancelled" });

  constructor(caller: Caller, method: DescMethod, timeoutMs: number | undefined, clock: Clock, { signal: outer, metadata }: CallOptions) {
    this.caller = caller;
    this.method = method;
    this.timeoutMs = timeoutMs;
    this.#outer = outer;
    const parent = metadata?.["traceparent"];
    if (parent !== undefined) this.trace = parseTrace(parent, metadata?.["tracestate"]);
    if (timeoutMs !== undefined)
      this.#timer = clock.setTimer(timeoutMs, () => this.abort({ reason: "DEADLINE_EXPIRED", message: "the deadline passed" }));
    whenAborted(outer, this.#forward);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  abort(failure: Failure): void {
    if (!this.signal.aborted) this.#controller.abort(new FoedusError(failure));
  }

  /** aborted rejects when the call is aborted. */
  aborted(): Promise<never> {
    const { promise, reject } = Promise.withResolvers<never>();
    promise.catch(() => undefined);
    whenAborted(this.signal, () => reject(this.signal.reason));
    return promise;
  }

  /** release stops the deadline: the call is over. */
  release(): void {
    this.#timer?.cancel();
    this.#outer?.removeEventListener("abort", this.#forward);
  }
}

class LocalChannel implements Calls {
  readonly #binding: ServiceBinding;
  readonly #options: LocalClientOptions;
  readonly #rules = new Map<DescMethod, AccessRule>();
  readonly #bugs: BugReporter;

  constructor(binding: ServiceBinding, options: LocalClientOptions) {
    this.#binding = binding;
    this.#options = options;
    this.#bugs = { ids: options.ids, log: options.log };
    for (const method of binding.service.methods) this.#rules.set(method, requireMethodRule(method));
  }

  #handler<H>(method: DescMethod): H {
    return this.#binding.handlers[method.localName] as H;
  }

  /** open makes the call after the same decision that a server would take. */
  #open(method: DescMethod, options: CallOptions, defaultTimeoutMs?: number): LocalCall {
    const denied = authorise(this.#options.caller, this.#rules.get(method));
    if (denied !== undefined) throw new FoedusError(denied);
    return new LocalCall(this.#options.caller, method, options.timeoutMs ?? defaultTimeoutMs, this.#options.clock, options);
  }

  /** parse makes the handler's own copy of a request, checked like one from the network. */
  #parse(method: DescMethod, bytes: Buffer): Message {
    // The handler was bound as one that takes bytes (ServiceBinding.rawRequests).
    if (this.#binding.rawRequests?.has(method.localName)) return new RawMessage(bytes) as unknown as Message;
    const request = decodeMessage(method.input, bytes);
    const failure = needsValidation(method) ? validateRequest(method.input, request) : undefined;
    if (failure !== undefined) throw new FoedusError(failure);
    return request;
  }

  #request(method: DescMethod, request: Message | RawMessage): Message {
    return this.#parse(method, encodeMessage(method.input, request));
  }

  readonly #error = (method: DescMethod, error: unknown): FoedusError => {
    if (error instanceof FoedusError) return error;
    if (error instanceof PlainStatus) return serviceErrorToFoedus(serviceErrorOf(error));
    return new FoedusError(failureOf(error, this.#bugs, { method: methodPath(method) }));
  };

  async unary(method: DescMethod, request: Message | RawMessage, options: CallOptions = {}): Promise<Message> {
    let call: LocalCall | undefined;
    try {
      call = this.#open(method, options, this.#options.defaultTimeoutMs ?? DEFAULT_TIMEOUT_MS);
      call.signal.throwIfAborted();
      const handler = this.#handler<UnaryHandler>(method);
      const response = await Promise.race([handler(this.#request(method, request), call), call.aborted()]);
      return decodeMessage(method.output, encodeMessage(method.output, response));
    } catch (error) {
      throw this.#error(method, error);
    } finally {
      call?.release();
    }
  }

  serverStream(method: DescMethod, request: Message | RawMessage, options: CallOptions = {}): AsyncIterable<Message> {
    return { [Symbol.asyncIterator]: () => this.#responses(method, request, options) };
  }

  #responses(method: DescMethod, request: Message | RawMessage, options: CallOptions): AsyncIterator<Message> {
    const pipe = new Pipe((bytes) => decodeMessage(method.output, bytes));
    const responses = new Inbound<Message>(pipe, () => call?.abort(LEFT));
    let call: LocalCall | undefined;
    try {
      const opened = this.#open(method, options);
      call = opened;
      const parsed = this.#request(method, request);
      this.#run(opened, pipe, responses, (out) => this.#handler<ServerStreamHandler>(method)(parsed, out, opened));
    } catch (error) {
      call?.release();
      responses.finish(this.#error(method, error));
    }
    return responses;
  }

  /** run starts a handler that sends, and ends the stream with what it ends with. */
  #run(call: LocalCall, pipe: Pipe, responses: Inbound<Message>, work: (out: ByteOutbound<Message>) => Promise<void>): void {
    const { method } = call;
    const finish = (error?: unknown): void => {
      out.close();
      call.release();
      responses.finish(error === undefined ? undefined : this.#error(method, error));
    };
    const out = new ByteOutbound<Message>((message) => encodeMessage(method.output, message), pipe.write, finish);
    whenAborted(call.signal, () => finish(call.signal.reason));
    if (call.signal.aborted) return;
    work(out).then(() => finish(), finish);
  }

  duplex(method: DescMethod, options: CallOptions = {}): ClientDuplex<Message, Message> {
    const inward = new Pipe((bytes) => this.#parse(method, bytes));
    const outward = new Pipe((bytes) =>
      options.rawResponses === true ? (new RawMessage(bytes) as unknown as Message) : decodeMessage(method.output, bytes),
    );
    const requests = new Inbound<Message>(inward);
    const keep = (): void => undefined;
    const responses = new Inbound<Message>(outward, () => duplex.cancel(), keep);
    const duplex = new LocalDuplex(method, inward, requests, responses);
    try {
      const call = this.#open(method, options);
      duplex.attach(call);
      this.#run(call, outward, responses, (out) => this.#stream(call, requests, out));
    } catch (error) {
      responses.finish(this.#error(method, error));
      duplex.over(this.#error(method, error));
    }
    return duplex;
  }

  async #stream(call: LocalCall, requests: Inbound<Message>, out: ByteOutbound<Message>): Promise<void> {
    if (call.method.methodKind === "bidi_streaming") return this.#handler<BidiHandler>(call.method)(requests, out, call);
    out.send(await this.#handler<ClientStreamHandler>(call.method)(requests, call));
  }
}

const LEFT: Failure = { reason: "CANCELLED", message: "the caller left the stream" };

class LocalDuplex extends DuplexCall {
  override readonly responses: AsyncIterable<Message>;
  readonly #requests: Inbound<Message>;
  protected override readonly out: ByteOutbound<Message>;
  #call: LocalCall | undefined;

  constructor(method: DescMethod, pipe: Pipe, requests: Inbound<Message>, responses: Inbound<Message>) {
    super();
    this.#requests = requests;
    this.responses = responses;
    this.out = new ByteOutbound<Message>(
      (message) => encodeMessage(method.input, message),
      pipe.write,
      (error) => {
        const known = error instanceof FoedusError ? error.failure : undefined;
        this.#call?.abort(known ?? { reason: "INVALID_FIELD", message: "the message cannot be encoded" });
      },
    );
    responses.onFinish(() => this.out.close());
  }

  attach(call: LocalCall): void {
    this.#call = call;
    whenAborted(call.signal, () => this.over(call.signal.reason as FoedusError));
    this.opening.resolve();
  }

  /** over closes the sending half and wakes a handler that waits for requests. */
  over(error: FoedusError): void {
    this.out.close();
    this.#requests.finish(error);
    this.opening.reject(error);
  }

  protected override halfClose(): void {
    this.#requests.finish();
  }
  override cancel(): void {
    this.#call?.abort({ reason: "CANCELLED", message: "the call was cancelled" });
  }
}

/**
 * createLocalClient calls a binding in the same process. Messages are serialised and parsed, rules and validation apply and
 * failures are the same as over the network, so that both ways behave alike; only sockets and certificates are missing.
 */
export function createLocalClient<S extends GenService<GenServiceMethods>>(
  service: S,
  binding: ServiceBinding,
  options: LocalClientOptions,
): ClientOf<S> {
  const channel = new LocalChannel(binding, options);
  const client: Record<string, unknown> = { close: () => undefined };
  for (const method of (service as DescService).methods) client[method.localName] = callOf(channel, method);
  return client as ClientOf<S>;
}
