import type { DescMethod } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import type { Registry } from "prom-client";
import type { Clock } from "#channel/clock.ts";
import type { Entropy } from "#channel/entropy.ts";
import { isRequestStream, methodPath } from "#channel/messages.ts";
import { needsValidation, warmUp } from "#channel/validation.ts";
import { WIDE_WINDOW_BYTES } from "#channel/windows.ts";
import type { Shared } from "#kernel/bounds/holdings.ts";
import type { Failure } from "#kernel/error.ts";
import { fail } from "#kernel/error.ts";
import type { EventSink } from "#runtime/events.ts";
import { heapBytes } from "#runtime/heap.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { RotatingServerCredentials, ServerMaterial } from "#runtime/tls/credentials.ts";
import type { admit } from "#runtime/tls/peer-admission.ts";
import type { PeerAuthority } from "#runtime/tls/peer-authority.ts";
import type { Tracer } from "#runtime/trace/tracer.ts";
import { requireMethodRule } from "../access.ts";
import type { ServiceBinding } from "../call.ts";
import { Accounts, heldBytesIn } from "../connections/accounts.ts";
import type { Connection } from "../connections/connection.ts";
import { ConnectionTable, type CutTarget } from "../connections/connections.ts";
import type { RequestKind } from "../connections/intake.ts";
import { toServiceDefinition } from "../definition.ts";
import { createInterceptors } from "../interceptors/index.ts";
import type { Interceptor } from "../interceptors/interceptor.ts";
import type { Rates } from "../interceptors/rate.ts";
import { type MethodEntry, ServerCall } from "./call-context.ts";
import { DirectCall, type Route } from "./direct-call.ts";
import type { Entrance } from "./entrance.ts";
import { type Guard, GuardedCall } from "./guarded-call.ts";
import { type HandlerEnv, toGrpcHandler } from "./handlers.ts";
import { createHealth, type HealthService } from "./health.ts";
import { Identities } from "./identities.ts";
import { LongLived } from "./long-lived.ts";
import { createReflection } from "./reflection.ts";
import { TokenCache, type TokenVerifier } from "./token-verifier.ts";

/** RpcLimits bound what callers can take. */
export interface RpcLimits {
  /** Largest message received, in bytes: a snapshot part of 1 MiB and its envelope fit by default. */
  readonly maxMessageBytes: number;
  readonly maxConnectionsPerIp: number;
  /** Connections altogether, of which a quarter is kept for callers of this hub. Default: no limit. */
  readonly maxConnections?: number;
  /** True where everybody is a stranger: when all connections are taken, a newcomer ends the oldest of the address that has most. */
  readonly strangers?: boolean;
  /** Age at which a connection is ended, calls on it given as long again. Default: none. */
  readonly maxConnectionAgeMs?: number;
  /**
   * HTTP/2 receive window of a connection of this hub's own callers, in bytes; one of another hub has the narrow one until it is widened
   * (`windows.ts`). That of a stream is set with the credentials.
   */
  readonly flowControlWindowBytes: number;
  /** Memory that one HTTP/2 session may use, in MB. */
  readonly maxSessionMemoryMb: number;
  /** A silent client is pinged after this long, and cut when it does not answer within the timeout. */
  readonly keepaliveTimeMs: number;
  readonly keepaliveTimeoutMs: number;
  /** Deadline of unary calls that come without one. */
  readonly defaultTimeoutMs: number;
}

/** DEFAULT_LIMITS are safe for a small machine. */
export const DEFAULT_LIMITS: RpcLimits = {
  maxMessageBytes: 1024 * 1024 + 64 * 1024,
  // 256 programs: each has a second connection for the streams that the hub alone sends on.
  maxConnectionsPerIp: 512,
  flowControlWindowBytes: WIDE_WINDOW_BYTES,
  maxSessionMemoryMb: 128,
  keepaliveTimeMs: 20_000,
  keepaliveTimeoutMs: 10_000,
  defaultTimeoutMs: 10_000,
};

/** RpcServerOptions are what a server is made of. */
export interface RpcServerOptions {
  readonly bindings: readonly ServiceBinding[];
  readonly credentials: RotatingServerCredentials;
  readonly authority: PeerAuthority;
  /** Who a certificate is; by default a service, node, gateway or operator of a known hub. For a door that takes strangers. */
  readonly admission?: typeof admit;
  /** Without a verifier no peer gets past a method that is not `tokenless`. */
  readonly tokens?: TokenVerifier;
  readonly metrics: Registry;
  readonly log: Logger;
  /** Told of callers who are refused by who they are: once per check, caller and minute. */
  readonly events?: EventSink;
  readonly clock: Clock;
  readonly ids: Pick<Entropy, "id">;
  readonly limits?: Partial<RpcLimits>;
  /** Asked at each call, so that a changed configuration counts at once. Without it nothing is limited. */
  readonly rates?: () => Rates;
  /** False leaves out reflection and health: for a door that shows nothing to strangers. Default true. */
  readonly introspection?: boolean;
  /** Makes spans of unary calls; without one, tracing is off, and contexts pass through. */
  readonly tracer?: Tracer | undefined;
}

/** RpcServer serves bindings over mutual TLS. */
export interface RpcServer {
  readonly health: HealthService;
  /** listen binds a port, 0 for a free one, and resolves with its number. */
  listen(host: string, port: number, setting?: string): Promise<number>;
  /** rotate puts new certificates and CAs in place for new connections. Bad material throws and changes nothing. */
  rotate(material: ServerMaterial): void;
  /** cut destroys the connections of one hub, or those a predicate picks, and answers how many. */
  cut(target: CutTarget): number;
  /**
   * recheck decides again who may stay, and answers how many calls it ended. It is called when the authority changed (a CA set, a
   * revocation): long-lived calls of callers who are no longer admitted end with the reason, and their connections get GOAWAY. The
   * server looks by itself too, each second, at the authority's version and at the ends of certificates.
   */
  recheck(): number;
  /** drain stops accepting, ends long-lived streams with SHUTTING_DOWN, waits for calls at most `graceMs`, then cuts what is left. */
  drain(graceMs: number): Promise<void>;
  /** connections open now. */
  readonly connections: number;
  /** calls running now. */
  readonly calls: number;
  /** held is how many calls take room now, those included that are over and whose stream is not closed yet. */
  readonly held: number;
  /** unreadBytes of answers that callers have not read yet. */
  readonly unreadBytes: number;
  /** requestBytes that arrived and were not taken yet. */
  readonly requestBytes: number;
  /** shared is who holds how much of this server. */
  shared(): Shared[];
  /** entrance is the way in for calls that come by another protocol. */
  readonly entrance: Entrance;
}

const STRIPPED_PREFIX = "x-foedus-";

class Server implements RpcServer {
  readonly health: HealthService;
  readonly #options: RpcServerOptions;
  readonly #limits: RpcLimits;
  readonly #grpc: grpc.Server;
  readonly #table: ConnectionTable;
  readonly #entries = new Map<string, MethodEntry>();
  readonly #routes = new Map<string, Route>();
  readonly #guarded: Guard;
  readonly #byMetadata = new WeakMap<grpc.Metadata, ServerCall>();
  readonly #live = new Set<ServerCall>();
  readonly #accounts: Accounts;
  readonly #identities: Identities;
  readonly #longLived: LongLived;
  readonly #interceptors: readonly Interceptor[];
  #draining = false;

  constructor(options: RpcServerOptions) {
    this.#options = options;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.health = createHealth(options.bindings.map(({ service }) => service.typeName));
    const { authority, clock, admission } = options;
    this.#accounts = new Accounts(clock, heldBytesIn(heapBytes()));
    this.#identities = new Identities(authority, clock, admission);
    this.#longLived = new LongLived({
      identities: this.#identities,
      clock,
      onRefused: (connection, failure) => this.#retire(connection, failure),
    });
    const bindings = this.#bindings();
    const methods = this.#index(bindings);
    const guard = this.#guard(methods);
    this.#guarded = guard;
    this.#interceptors = guard.interceptors;
    const { maxConnectionAgeMs } = this.#limits;
    this.#grpc = new grpc.Server({
      "grpc.max_receive_message_length": this.#limits.maxMessageBytes,
      "grpc-node.max_session_memory": this.#limits.maxSessionMemoryMb,
      "grpc.enable_channelz": 0,
      ...(maxConnectionAgeMs === undefined
        ? {}
        : { "grpc.max_connection_age_ms": maxConnectionAgeMs, "grpc.max_connection_age_grace_ms": maxConnectionAgeMs }),
      interceptors: [(method, call) => new GuardedCall(call, method.path, guard) as unknown as grpc.ServerInterceptingCall],
    });
    this.#register(bindings);
    const { credentials, metrics, log } = options;
    const unary = (path: string) => this.#entries.get(path)?.method.methodKind === "unary";
    const requests = (path: string) => requestKind(this.#entries.get(path));
    const shared = { identities: this.#identities, accounts: this.#accounts, unary, requests };
    this.#table = new ConnectionTable(this.#grpc, credentials, { limits: this.#limits, metrics, log, clock, ...shared });
  }

  #bindings(): readonly ServiceBinding[] {
    const { bindings, introspection } = this.#options;
    if (introspection === false) return bindings;
    const served = [...bindings, this.health.binding];
    return [...served, ...createReflection(served.map(({ service }) => service))];
  }

  /** index reads every access rule; a method without one stops the start. */
  #index(bindings: readonly ServiceBinding[]): DescMethod[] {
    const methods = bindings.flatMap(({ service }) => service.methods);
    const told = new Map(bindings.flatMap(({ service, refused }) => service.methods.map((m) => [m, refused?.[m.localName]] as const)));
    const raw = new Set(
      bindings.flatMap(({ service, rawRequests }) => service.methods.filter((method) => rawRequests?.has(method.localName))),
    );
    for (const method of methods) {
      this.#entries.set(methodPath(method), {
        method,
        rule: requireMethodRule(method),
        validated: !raw.has(method) && needsValidation(method),
        refused: told.get(method),
      });
      warmUp(method);
    }
    return methods;
  }

  /** retire gives up the connection of a caller that is no longer admitted: a client that has renewed its certificate makes a new one. */
  #retire(connection: Connection, failure: Failure): void {
    const { address, hubId, account, session } = connection;
    if (session?.closed === true) return;
    this.#options.log.warn({ remote: address, hub: hubId, caller: account?.key, failure }, "caller is no longer admitted");
    this.#table.retire(connection);
  }

  #guard(methods: readonly DescMethod[]): Guard {
    const { authority, clock, ids, log, metrics, rates = () => ({}), tokens, tracer } = this.#options;
    const cache = tokens === undefined ? undefined : new TokenCache(tokens, () => authority.version());
    const { defaultTimeoutMs, maxMessageBytes } = this.#limits;
    return {
      interceptors: createInterceptors({
        metrics,
        log,
        events: this.#options.events,
        clock,
        identities: this.#identities,
        // The refused call gets its status first.
        onOutlived: (connection, failure) => clock.setImmediate(() => this.#retire(connection, failure)),
        accounts: this.#accounts,
        tokens: cache,
        rates,
        defaultTimeoutMs,
        methods,
        tracer,
      }),
      bugs: { ids, log },
      maxMessageBytes,
      nowMono: () => clock.mono(),
      setTimer: (delayMs, fn) => clock.setTimer(delayMs, fn),
      setImmediate: (fn) => clock.setImmediate(fn),
      begin: (inner, path, metadata) => this.#begin(inner, path, metadata),
      over: (call) => {
        this.#live.delete(call);
        this.#longLived.remove(call);
      },
      closed: (account) => this.#accounts.settle(account),
      intakeOf: (inner) => this.#table.intakeOf(inner),
    };
  }

  #begin(inner: grpc.ServerInterceptingCallInterface, path: string, metadata: grpc.Metadata): ServerCall {
    for (const key of Object.keys(metadata.getMap())) if (key.startsWith(STRIPPED_PREFIX)) metadata.remove(key);
    const deadline = Number(inner.getDeadline());
    const call = new ServerCall({
      entry: this.#entries.get(path) as MethodEntry,
      connection: this.#table.of(inner),
      authorization: textOf(metadata, "authorization"),
      startedMono: this.#options.clock.mono(),
      timeoutMs: Number.isFinite(deadline) ? deadline - this.#options.clock.wall() : undefined,
      traceparent: textOf(metadata, "traceparent"),
      tracestate: textOf(metadata, "tracestate"),
      tooSoonMs: this.#table.tooSoonMs(inner),
    });
    this.#byMetadata.set(metadata, call);
    return this.#counted(call);
  }

  /** counted has a call be one of those that run, and that hear of a shutdown. */
  #counted(call: ServerCall): ServerCall {
    this.#live.add(call);
    this.#longLived.add(call);
    if (this.#draining && call.entry.rule.longLived) call.abort(SHUTDOWN);
    return call;
  }

  get entrance(): Entrance {
    return {
      maxMessageBytes: this.#limits.maxMessageBytes,
      listen: (host, port, setting, door) => this.#table.listen(host, port, setting, door),
      route: (path) => this.#routes.get(path),
      begins: (connection) => this.#table.begins(connection),
      who: ({ leaf, thumbprint }) => {
        const answer = leaf === undefined ? undefined : this.#identities.admission(leaf, thumbprint);
        return answer !== undefined && "caller" in answer ? answer.caller : undefined;
      },
      crumbs: (connection) => this.#table.crumbs(connection),
      begin: (route, arrival, answers) => {
        const call = new ServerCall({ ...arrival, entry: route, startedMono: this.#options.clock.mono() });
        return new DirectCall(route, this.#counted(call), this.#guarded, answers);
      },
    };
  }

  #register(bindings: readonly ServiceBinding[]): void {
    const { ids, log } = this.#options;
    const env: HandlerEnv = {
      bugs: { ids, log },
      callOf: (metadata) => {
        const call = this.#byMetadata.get(metadata);
        if (call === undefined) throw new Error("a call reached its handler past the guard");
        return call;
      },
    };
    for (const { service, handlers, rawRequests } of bindings) {
      const implementation: Record<string, grpc.UntypedHandleCall> = {};
      for (const method of service.methods) {
        const handler = handlers[method.localName];
        if (typeof handler !== "function") throw fail("NOT_CONFIGURED", `${service.typeName}.${method.name} has no handler`);
        implementation[method.localName] = toGrpcHandler(method, handler, env);
        const entry = this.#entries.get(methodPath(method)) as MethodEntry;
        this.#routes.set(methodPath(method), { ...entry, handler, raw: rawRequests?.has(method.localName) === true });
      }
      this.#grpc.addService(toServiceDefinition(service, rawRequests), implementation);
    }
  }

  listen(host: string, port: number, setting?: string): Promise<number> {
    return this.#table.listen(host, port, setting);
  }

  rotate(material: ServerMaterial): void {
    this.#options.credentials.rotate(material);
    for (const door of this.#table.doors) door.rotate(material);
  }

  cut(target: CutTarget): number {
    const count = this.#table.cut(target);
    if (count > 0) this.#options.log.info({ count, hub: typeof target === "string" ? target : undefined }, "connections cut");
    return count;
  }

  recheck(): number {
    return this.#longLived.recheck();
  }

  async drain(graceMs: number): Promise<void> {
    const { clock, log } = this.#options;
    this.#draining = true;
    this.#table.stopAccepting();
    this.health.setAll(false);
    for (const call of this.#longLived) call.abort(SHUTDOWN);
    const grace = Promise.withResolvers<void>();
    const timer = clock.setTimer(graceMs, () => grace.resolve());
    await Promise.race([this.#table.closeSessions(), grace.promise]);
    timer.cancel();
    if (this.#live.size > 0) log.warn({ calls: this.#live.size, graceMs }, "calls cut at the end of the grace time");
    this.#longLived.stop();
    this.#table.destroy();
    this.#grpc.forceShutdown();
    for (const interceptor of this.#interceptors) interceptor.stop?.();
  }

  get connections(): number {
    return this.#table.size;
  }

  get calls(): number {
    return this.#live.size;
  }

  get held(): number {
    return this.#accounts.sum(({ calls }) => calls);
  }

  get unreadBytes(): number {
    return this.#accounts.sum(({ unreadBytes }) => unreadBytes);
  }

  get requestBytes(): number {
    return this.#accounts.sum(({ requestBytes }) => requestBytes);
  }

  shared(): Shared[] {
    return this.#accounts.shared();
  }
}

/** requestKind says what is due of a caller. A path that nobody serves gets its answer at once, and is then as good as one request. */
function requestKind(entry: MethodEntry | undefined): RequestKind {
  if (entry === undefined || !isRequestStream(entry.method)) return "one";
  return entry.rule.longLived ? "idle_stream" : "stream";
}

/** textOf is the first value of a header, if it is text. */
function textOf(metadata: grpc.Metadata, name: string): string | undefined {
  const [value] = metadata.get(name);
  return typeof value === "string" ? value : undefined;
}

const SHUTDOWN = { reason: "SHUTTING_DOWN", message: "this hub is shutting down; try again" } as const;

/** createRpcServer makes a server. It throws for an RPC without an access rule or a handler: who may call must be stated. */
export function createRpcServer(options: RpcServerOptions): RpcServer {
  return new Server(options);
}
