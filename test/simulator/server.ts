import type { DescMethod, Message } from "@bufbuild/protobuf";
import { RawMessage } from "#channel/call.ts";
import type { Entropy } from "#channel/entropy.ts";
import { decodeMessage, encodeMessage } from "#channel/messages.ts";
import { ByteOutbound, Inbound } from "#channel/streams.ts";
import { needsValidation, validateRequest } from "#channel/validation.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import { type AccessRule, authorise, requireMethodRule } from "#runtime/rpc/access.ts";
import type { CallContext, Caller, ServiceBinding } from "#runtime/rpc/call.ts";
import { accessInterceptor } from "#runtime/rpc/interceptors/access.ts";
import type { ServerCall } from "#runtime/rpc/server/call-context.ts";
import type { BidiHandler, ServerStreamHandler, UnaryHandler } from "#runtime/rpc/server/handlers.ts";
import type { Identities } from "#runtime/rpc/server/identities.ts";
import { TokenCache, type TokenVerifier } from "#runtime/rpc/server/token-verifier.ts";
import { failureOf } from "#runtime/rpc/status.ts";
import { Arrivals, type Flow, Lane, type Wire } from "./channel.ts";
import { SILENT } from "./host.ts";
import type { End, Socket } from "./network.ts";
import type { SimLeaf } from "./pki.ts";

type CallWire = Extract<Wire, { readonly w: "call" }>;

/** Decided is who calls, or why nobody does. */
type Decided = { readonly caller: Caller; readonly token: CallContext["token"] } | { readonly failure: Failure };

/** Opened is a call of a peer. */
interface Opened {
  readonly hubId: string;
  readonly leaf: SimLeaf;
  readonly call: ServedCall;
  readonly socket: Socket<Wire>;
  readonly longLived: boolean;
}

/** ServerOptions say what is served, and to whom. */
export interface ServerOptions {
  readonly bindings: readonly ServiceBinding[];
  readonly ids: Entropy;
  readonly flow: Flow;
  /** callerOf is what the certificate of a client of this hub would say; those of hubs are real. */
  readonly callerOf: (spiffeId: string) => Caller;
  /** What judges hubs, which have real certificates, in a run with discovery. */
  readonly peers: { readonly identities: Identities; readonly verifier: TokenVerifier } | undefined;
  readonly remoteOf: (from: number) => string;
  /** onSend sees what a stream sends, and may put something else in its place. */
  readonly onSend: (from: number, method: DescMethod, bytes: Buffer) => readonly Buffer[];
  /** A handler threw something that is not a failure: a bug. */
  readonly onBug: (error: unknown) => void;
}

/** When the certificates of clients end: never, in the time of a run. */
export const NEVER_WALL = 4_000_000_000_000;

const UNREAD_MS = 10_000;
const GONE: Failure = { reason: "CANCELLED", message: "the caller cancelled, or its connection is gone" };

/** SimServer serves bindings as the server of a hub does: access by the schema's rules, validation, one handler per call. */
export class SimServer {
  readonly #o: ServerOptions;
  readonly #rules = new Map<DescMethod, AccessRule>();
  readonly #access: ReturnType<typeof accessInterceptor> | undefined;
  /** What peers have open. */
  readonly #open = new Set<Opened>();

  constructor(options: ServerOptions) {
    this.#o = options;
    const { peers, flow } = options;
    if (peers === undefined) return;
    this.#access = accessInterceptor(new TokenCache(peers.verifier, () => peers.identities.authority.version()), flow.clock);
  }

  /** cut ends the connections that are picked. */
  cut(picks: (connection: { readonly hubId: string; readonly thumbprint: string }) => boolean): number {
    const chosen = [...this.#open].filter(({ hubId, leaf }) => picks({ hubId, thumbprint: leaf.thumbprint }));
    for (const { call, socket } of chosen) {
      socket.abort(GONE);
      call.abort(GONE);
    }
    return chosen.length;
  }

  /** shows tells whether a peer has something open with a certificate. */
  shows(thumbprint: string): boolean {
    return [...this.#open].some(({ leaf }) => leaf.thumbprint === thumbprint);
  }

  /** recheck ends the long-lived calls of those who are not admitted any more. */
  recheck(): number {
    let ended = 0;
    for (const { leaf, call, longLived } of [...this.#open]) {
      const answer = longLived ? this.#o.peers?.identities.admission(leaf.certificate, leaf.thumbprint) : undefined;
      if (answer === undefined || "caller" in answer) continue;
      call.end(answer.failure);
      ended++;
    }
    return ended;
  }

  readonly accept = (from: number, socket: Socket<Wire>, first: Wire): End<Wire> => {
    if (first.w !== "call") throw new Error("a connection begins with a call");
    const { method } = first;
    const lane = new Lane(() => socket, this.#o.flow.windowBytes);
    const arrivals = new Arrivals(this.#o.flow, this.#decoder(method), () => socket);
    const requests = new Inbound<Message>(arrivals);
    const controller = new AbortController();
    const call = new ServedCall(this.#o, socket, from, method, lane, requests, controller);
    this.#begin(call, from, socket, first, controller.signal).catch((error: unknown) => this.#o.onBug(error));
    return {
      receive: (wire) => {
        if (wire.w === "data") arrivals.push(wire.bytes);
        else if (wire.w === "window") lane.taken(wire.bytes);
        else if (wire.w === "half") arrivals.push(() => requests.finish());
      },
      ended: () => arrivals.push(() => call.abort(GONE)),
    };
  };

  /** begin decides who calls, and lets the handler have the call. What is decided at once is not waited for. */
  async #begin(call: ServedCall, from: number, socket: Socket<Wire>, first: CallWire, signal: AbortSignal): Promise<void> {
    const { method, timeoutMs, caller: identity } = first;
    const rule = this.#ruleOf(method);
    const named = typeof identity === "string" ? this.#named(identity, rule) : this.#proved(call, socket, identity, rule, first);
    const decided = named instanceof Promise ? await named : named;
    if (signal.aborted) return;
    if ("failure" in decided) return call.end(decided.failure);
    const { caller, token } = decided;
    const context: CallContext = { caller, method, signal, timeoutMs, token, remote: this.#o.remoteOf(from) };
    await call.run(this.#handler(method), context);
  }

  #named(spiffeId: string, rule: AccessRule): Decided {
    const caller = this.#o.callerOf(spiffeId);
    const failure = authorise(caller, rule);
    if (failure !== undefined) return { failure };
    return { caller, token: caller.kind === "peer" && !rule.tokenless ? { expiresAtWall: NEVER_WALL, id: "sim" } : undefined };
  }

  /** proved is what the server of a hub does with the certificate and the token of a peer. */
  #proved(
    call: ServedCall,
    socket: Socket<Wire>,
    leaf: SimLeaf,
    rule: AccessRule,
    { authorization }: CallWire,
  ): Decided | Promise<Decided> {
    const admission = this.#o.peers?.identities.admission(leaf.certificate, leaf.thumbprint);
    if (admission === undefined) throw new Error("a certificate in a run without discovery");
    if ("failure" in admission) return admission;
    const { caller } = admission;
    const opened: Opened = { hubId: caller.hubId, leaf, call, socket, longLived: rule.longLived };
    this.#open.add(opened);
    call.onOver = () => this.#open.delete(opened);
    const asked = { caller, entry: { rule }, authorization, token: undefined as CallContext["token"] };
    const answer = this.#access?.open?.(asked as unknown as ServerCall);
    const decide = (failure: Failure | undefined): Decided => (failure === undefined ? { caller, token: asked.token } : { failure });
    return answer instanceof Promise ? answer.then(decide) : decide(answer);
  }

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
  onOver: () => void = () => undefined;

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
    this.onOver();
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
    this.onOver();
    const error = new FoedusError(failure);
    this.#controller.abort(error);
    this.#requests.finish(error);
    this.#out.close();
  }
}
