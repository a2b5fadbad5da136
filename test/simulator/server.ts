import type { DescMethod, Message } from "@bufbuild/protobuf";
import { type Failure, FoedusError } from "#kernel/error.ts";
import type { Entropy } from "#runtime/entropy.ts";
import { type AccessRule, authorise, requireMethodRule } from "#runtime/rpc/access.ts";
import { type CallContext, type Caller, RawMessage, type ServiceBinding } from "#runtime/rpc/call.ts";
import { decodeMessage, encodeMessage } from "#runtime/rpc/definition.ts";
import type { BidiHandler, ServerStreamHandler, UnaryHandler } from "#runtime/rpc/handlers.ts";
import { needsValidation, validateRequest } from "#runtime/rpc/interceptors/validation.ts";
import { failureOf } from "#runtime/rpc/status.ts";
import { ByteOutbound, Inbound } from "#runtime/rpc/streams.ts";
import { Arrivals, type Flow, Lane, type Wire } from "./channel.ts";
import { SILENT } from "./host.ts";
import type { End, Socket } from "./network.ts";

/** ServerOptions say what is served, and to whom. */
export interface ServerOptions {
  readonly bindings: readonly ServiceBinding[];
  readonly ids: Entropy;
  readonly flow: Flow;
  /** callerOf is what the certificate of who dials would say. */
  readonly callerOf: (spiffeId: string) => Caller;
  /** onSend sees what a stream sends, and may put something else in its place. */
  readonly onSend: (from: number, method: DescMethod, bytes: Buffer) => readonly Buffer[];
  /** A handler threw something that is not a failure: a bug. */
  readonly onBug: (error: unknown) => void;
}

/** Expiry of the tokens that callers are taken to have: never, in the time of a run. */
export const TOKEN_EXPIRES_AT_WALL = 4_000_000_000_000;

const UNREAD_MS = 10_000;
const GONE: Failure = { reason: "CANCELLED", message: "the caller cancelled, or its connection is gone" };

/** SimServer serves bindings as the server of a hub does: access by the schema's rules, validation, one handler per call. */
export class SimServer {
  readonly #o: ServerOptions;
  readonly #rules = new Map<DescMethod, AccessRule>();

  constructor(options: ServerOptions) {
    this.#o = options;
  }

  readonly accept = (from: number, socket: Socket<Wire>, first: Wire): End<Wire> => {
    const { callerOf } = this.#o;
    if (first.w !== "call") throw new Error("a connection begins with a call");
    const { method, timeoutMs } = first;
    const caller = callerOf(first.caller);
    const lane = new Lane(() => socket, this.#o.flow.windowBytes);
    const arrivals = new Arrivals(this.#o.flow, this.#decoder(method), () => socket);
    const requests = new Inbound<Message>(arrivals);
    const controller = new AbortController();
    const call = new ServedCall(this.#o, socket, from, method, lane, requests, controller);
    const rule = this.#ruleOf(method);
    const denied = authorise(caller, rule);
    const token = caller.kind === "peer" && !rule.tokenless ? { expiresAtWall: TOKEN_EXPIRES_AT_WALL, id: "sim" } : undefined;
    const context: CallContext = { caller, method, signal: controller.signal, timeoutMs, token };
    if (denied !== undefined) call.end(denied);
    else void call.run(this.#handler(method), context);
    return {
      receive: (wire) => {
        if (wire.w === "data") arrivals.push(wire.bytes);
        else if (wire.w === "window") lane.taken(wire.bytes);
        else if (wire.w === "half") arrivals.push(() => requests.finish());
      },
      ended: () => arrivals.push(() => call.abort(GONE)),
    };
  };

  #ruleOf(method: DescMethod): AccessRule {
    const rule = this.#rules.get(method) ?? requireMethodRule(method);
    this.#rules.set(method, rule);
    return rule;
  }

  #binding(method: DescMethod): ServiceBinding {
    const binding = this.#o.bindings.find(({ service }) => service === method.parent);
    if (binding === undefined) throw new Error(`nobody serves ${method.name}`);
    return binding;
  }

  #handler(method: DescMethod): unknown {
    return this.#binding(method).handlers[method.localName];
  }

  #decoder(method: DescMethod): (bytes: Buffer) => Message {
    if (this.#binding(method).rawRequests?.has(method.localName)) return (bytes) => new RawMessage(bytes) as unknown as Message;
    return (bytes) => {
      const request = decodeMessage(method.input, bytes);
      const failure = needsValidation(method) ? validateRequest(method.input, request) : undefined;
      if (failure !== undefined) throw new FoedusError(failure);
      return request;
    };
  }
}

/** ServedCall is the server's side of one call. */
class ServedCall {
  readonly #o: ServerOptions;
  readonly #method: DescMethod;
  readonly #lane: Lane;
  readonly #requests: Inbound<Message>;
  readonly #controller: AbortController;
  readonly #out: ByteOutbound<Message>;
  readonly #socket: Socket<Wire>;
  #over = false;

  constructor(
    options: ServerOptions,
    socket: Socket<Wire>,
    from: number,
    method: DescMethod,
    lane: Lane,
    requests: Inbound<Message>,
    controller: AbortController,
  ) {
    this.#o = options;
    this.#socket = socket;
    this.#method = method;
    this.#lane = lane;
    this.#requests = requests;
    this.#controller = controller;
    this.#out = new ByteOutbound<Message>(
      (message) => encodeMessage(method.output, message),
      (raw, done) => {
        if (method.localName !== "session") return lane.write(raw, done);
        for (const bytes of options.onSend(from, method, raw.bytes)) lane.write(new RawMessage(bytes), () => undefined);
        done();
      },
      (error) => options.onBug(error),
    );
  }

  async run(handler: unknown, context: CallContext): Promise<void> {
    try {
      if (this.#method.methodKind === "unary") await this.#unary(handler as UnaryHandler, context);
      else if (this.#method.methodKind === "server_streaming") {
        const request = await this.#first();
        if (request !== undefined) await (handler as ServerStreamHandler)(request, this.#out, context);
      } else await (handler as BidiHandler)(this.#requests, this.#out, context);
      this.end(undefined);
    } catch (error) {
      if (!(error instanceof FoedusError)) this.#o.onBug(error);
      this.end(failureOf(error, { ids: this.#o.ids, log: SILENT }));
    }
  }

  async #unary(handler: UnaryHandler, context: CallContext): Promise<void> {
    const request = await this.#first();
    if (request !== undefined) this.#out.send(await handler(request, context));
  }

  async #first(): Promise<Message | undefined> {
    const { value } = await this.#requests.next();
    return value;
  }

  /** end is the status; it comes after everything that was sent. */
  end(failure: Failure | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#out.close();
    this.#requests.finish();
    // As the shipping server: who does not read what came before the status does not keep the call open for ever.
    const timer = this.#o.flow.clock.setTimer(UNREAD_MS, () => this.#socket.leave());
    this.#lane.say({ w: "end", failure }, () => {
      timer.cancel();
      this.#socket.leave();
    });
  }

  abort(failure: Failure): void {
    if (this.#over) return;
    const error = new FoedusError(failure);
    this.#controller.abort(error);
    this.#requests.finish(error);
    this.#out.close();
  }
}
