import type { DescMethod, DescService } from "@bufbuild/protobuf";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import type { In, Out, Outbound, RawMessage } from "#channel/call.ts";
import type { Failure } from "#kernel/error.ts";
import type { TraceContext } from "#kernel/trace-context.ts";

/** Caller is who calls, as proved by the certificate (`spiffe://<hub>/<kind>/<name>`), never as claimed in a message. */
export interface Caller {
  readonly kind: "peer" | "node" | "gateway" | "operator" | "service" | "stranger";
  /** Trust domain of the certificate. For every kind but `peer` and `stranger` it is this hub; a stranger only claims it. */
  readonly hubId: string;
  /** Last part of the SPIFFE id: service, node, gateway or operator name. */
  readonly name: string;
  readonly spiffeId: string;
  /** base64url(SHA-256(DER of the leaf)): what tokens are bound to (RFC 8705 `x5t#S256`). */
  readonly thumbprint: string;
  /** Wall-clock ms at which the leaf expires. */
  readonly notAfterWall: number;
  /** Only for `peer`: trust level as decided here, 1 MINIMAL, 2 LIMITED, 3 FULL. */
  readonly level: number;
  /** Only for `operator`: 1 viewer, 2 admin. */
  readonly role: number;
  /** Only for `gateway`: node ids it may speak for start with one of these; empty means all. */
  readonly prefixes: readonly string[];
}

/** CallContext is what a handler knows about its call beside the request. */
export interface CallContext {
  readonly caller: Caller;
  readonly method: DescMethod;
  /** Aborted when the caller cancels, the deadline passes, or the connection is gone. */
  readonly signal: AbortSignal;
  /** Milliseconds left until the deadline when the call arrived; undefined without one. */
  readonly timeoutMs: number | undefined;
  /** The bearer token that was verified for this call, if any: its expiry (wall ms) and id. */
  readonly token: { readonly expiresAtWall: number; readonly id: string } | undefined;
  /** The trace that the call belongs to (W3C Trace Context, metadata `traceparent`); undefined for none, or a malformed one. */
  readonly trace?: TraceContext | undefined;
  /** Address that the call came from; undefined for one within the process. */
  readonly remote?: string | undefined;
  /** widen lets the call's connection carry more to us at a time; only for one on which little is sent back (`windows.ts`). */
  widen?(): void;
  /** bytesRead counts what came over the call's connection, messages that are not whole yet included. */
  bytesRead?(): number;
}

/** Handler of one RPC. A handler may throw FoedusError; anything else leaves as INTERNAL with an id, never its text. */
export type Handler<M extends GenServiceMethods[string], Req = In<M>> = M["methodKind"] extends "unary"
  ? (request: Req, context: CallContext) => Promise<Out<M> | RawMessage> | Out<M> | RawMessage
  : M["methodKind"] extends "server_streaming"
    ? (request: Req, out: Outbound<Out<M>>, context: CallContext) => Promise<void>
    : M["methodKind"] extends "client_streaming"
      ? (requests: AsyncIterable<Req>, context: CallContext) => Promise<Out<M>>
      : (requests: AsyncIterable<Req>, out: Outbound<Out<M>>, context: CallContext) => Promise<void>;

/** Handlers of a service, one per RPC. Those named in `Raw` get the bytes of their requests instead of messages. */
export type Handlers<S, Raw extends string = never> =
  S extends GenService<infer M> ? { readonly [K in keyof M]: K extends Raw ? Handler<M[K], RawMessage> : Handler<M[K]> } : never;

/** ServiceBinding pairs a service's descriptor with its handlers. Made by `bind` so that the types match. */
export interface ServiceBinding {
  readonly service: DescService;
  readonly handlers: Readonly<Record<string, unknown>>;
  /**
   * Local names of RPCs whose handler gets each request as a RawMessage: neither parsed nor validated, which is then the
   * handler's duty. For hot paths only.
   */
  readonly rawRequests?: ReadonlySet<string>;
  /** refused is told of calls that were refused before their handlers began: by access, validation or a limit. By local name of the RPC. */
  readonly refused?: Readonly<Record<string, RefusedCall>>;
}

/** RefusedCall is told who was refused, and why. The reason is as much of it as the status says. */
export type RefusedCall = (caller: Caller, failure: Failure) => void;

/** bind checks handlers against the descriptor at compile time. `rawRequests`: see ServiceBinding. */
export function bind<S extends GenService<GenServiceMethods>, Raw extends string = never>(
  service: S,
  handlers: Handlers<S, Raw>,
  rawRequests: readonly Raw[] = [],
): ServiceBinding {
  return { service, handlers: handlers as Readonly<Record<string, unknown>>, rawRequests: new Set<string>(rawRequests) };
}
