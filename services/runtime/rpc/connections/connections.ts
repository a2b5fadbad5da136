import type { Http2SecureServer, ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import type net from "node:net";
import type { TLSSocket } from "node:tls";
import type * as grpc from "@grpc/grpc-js";
import type { Timer } from "#channel/clock.ts";
import { Chatter } from "#channel/tls/chatter.ts";
import { CLIENT_FLIGHT_BYTES, guardOf, HandshakeGuard, socketUnder } from "#channel/tls/handshake-guard.ts";
import { HANDSHAKE_TIMEOUT_MS } from "#channel/tls/material.ts";
import { parseSpiffeId, thumbprintOf, uriSans } from "#channel/tls/peer-identity.ts";
import { POST_HANDSHAKE_MS, stopReading, watchPostHandshake } from "#channel/tls/post-handshake.ts";
import { NARROW_WINDOW_BYTES } from "#channel/windows.ts";
import { type LimitedLogger, limitedLogger } from "#runtime/log/limited.ts";
import { ConnectionRates } from "../handshakes/connection-rates.ts";
import { HandshakeCosts } from "../handshakes/handshake-costs.ts";
import { type ClosedReason, connectionMetrics, type TlsReason, tlsReason, UnknownCas } from "../handshakes/handshakes.ts";
import { HelloTurns, type NoHello } from "../handshakes/hello-turns.ts";
import { Listeners } from "../handshakes/listeners.ts";
import { type Limit, Rooms } from "../handshakes/rooms.ts";
import { CallerBounds } from "./caller-bounds.ts";
import { ChatterWatch } from "./chatter.ts";
import type { Connection } from "./connection.ts";
import type { ConnectionLimits, ConnectionOptions } from "./connection-options.ts";
import { keepRead } from "./headers.ts";
import { askFor, Hearing } from "./hearing.ts";
import { type Intake, type IntakeReason, Intakes } from "./intake.ts";
import { StreamRates } from "./stream-rates.ts";
import { capTimeout } from "./timeout-header.ts";
import { unanswerable } from "./unanswerable.ts";

/** CutTarget says which connections to cut: those of a hub, or those that a predicate picks. */
export type CutTarget = string | ((connection: { readonly hubId: string; readonly thumbprint: string }) => boolean);

/** How long the calls of a connection that is retired have to end by themselves, ms. */
const RETIRE_MS = 5_000;
/** A client that has sent more and has not finished its handshake does not mean to. */
const LARGE_BYTES = 2 * CLIENT_FLIGHT_BYTES;

/**
 * ConnectionTable accepts connections itself and hands them to grpc-js. So it can bound them per address before TLS and per caller
 * after it, see handshakes fail (grpc-js does not tell), and cut exactly the connections of one hub.
 */
export class ConnectionTable {
  readonly #bySocket = new Map<net.Socket, Connection>();
  /** Also those that are gone: what a handshake failed with is told after the end of its socket. */
  readonly #ever = new WeakMap<net.Socket, Connection>();
  readonly #bySession = new WeakMap<ServerHttp2Session, Connection>();
  readonly #unknownCas = new UnknownCas();
  readonly #costs = new HandshakeCosts();
  readonly #rates: ConnectionRates;
  readonly #rooms: Rooms<Connection>;
  readonly #injector: ReturnType<grpc.Server["createConnectionInjector"]>;
  readonly #listeners: Listeners;
  readonly #turns: HelloTurns;
  readonly #o: ConnectionOptions;
  readonly #limits: ConnectionLimits;
  readonly #bounds: CallerBounds;
  readonly #log: LimitedLogger;
  readonly #metrics: ReturnType<typeof connectionMetrics>;
  readonly #streams = new StreamRates();
  readonly #intakes = new Intakes(
    (intake, reason) => this.#refuseRequest(intake, reason),
    (account) => this.#o.accounts.settle(account),
  );
  readonly #chatter: ChatterWatch<Connection>;
  #watchTimer: Timer | undefined;
  #lookedAt = 0;
  #empty: PromiseWithResolvers<void> | undefined;

  constructor(server: grpc.Server, credentials: grpc.ServerCredentials, options: ConnectionOptions) {
    this.#o = options;
    this.#limits = options.limits;
    this.#bounds = new CallerBounds(options.limits);
    const end = (connection: Connection, { reason, limit }: Limit): void => {
      this.#forget(connection);
      this.#refuse(connection, reason, { limit });
    };
    this.#rates = new ConnectionRates(this.#costs, options.limits.strangers === true);
    this.#rooms = new Rooms(options.limits, (address) => this.#costs.known(address), end);
    this.#log = limitedLogger(options.log, options.clock);
    this.#metrics = connectionMetrics(options.metrics);
    this.#chatter = new ChatterWatch(options.clock, this.#bySocket, (connection, waitMs) => this.#refuseChatter(connection, waitMs));
    this.#turns = new HelloTurns(options.clock, HANDSHAKE_TIMEOUT_MS);
    const failed = (err: Error): void => this.#log.log("error", "", { err }, "listener failed");
    this.#listeners = new Listeners((socket) => this.#accept(socket), failed);
    this.#injector = server.createConnectionInjector(credentials);
    // grpc-js keeps its HTTP/2 server to itself, but it is the only one that tells about TLS failures and sessions.
    const servers = Reflect.get(server, "http2Servers") as Map<Http2SecureServer, unknown>;
    for (const http2 of servers.keys()) this.#watch(http2);
  }

  #watch(http2: Http2SecureServer): void {
    let current: Connection | undefined;
    http2.on("tlsClientError", (error: NodeJS.ErrnoException, socket: TLSSocket) => this.#failed(error, socket));
    // Before Node's own listener, which makes the session and tells of it at once: so each session is known by its connection.
    http2.prependListener("secureConnection", (socket: TLSSocket) => {
      current = this.#under(socket);
      if (current !== undefined) this.#identify(current, socket);
    });
    // There is no session, so that nothing else would end it before Node does, after ten seconds.
    http2.on("unknownProtocol", (socket: TLSSocket) => {
      if (current !== undefined) this.#refuse(current, "no_http2", { caller: current.account?.key });
      else socket.destroy();
      current = undefined;
    });
    // Before grpc-js reads the headers.
    http2.prependListener("stream", (stream, headers) => {
      const headerBytes = keepRead(headers);
      this.#begun(stream, String(headers[":path"] ?? ""), headerBytes);
      capTimeout(headers, this.#o.unary);
      if (stream.closed || stream.destroyed) unanswerable(stream);
    });
    http2.on("session", (session: ServerHttp2Session) => {
      session.setLocalWindowSize(Math.min(NARROW_WINDOW_BYTES, this.#limits.flowControlWindowBytes));
      if (current !== undefined) this.#begin(current, session);
      current = undefined;
    });
  }

  /** under finds the connection below a TLS socket: by the socket itself, as an address may be used again while it is still known. */
  #under(secure: TLSSocket): Connection | undefined {
    const socket = socketUnder(secure);
    return socket === undefined ? undefined : this.#bySocket.get(socket);
  }

  #failed(error: NodeJS.ErrnoException, secure: TLSSocket): void {
    const raw = socketUnder(secure);
    const known = raw === undefined ? undefined : this.#ever.get(raw);
    const bytesRead = raw?.bytesRead ?? 0;
    const reason = tlsReason(error, { authorizationError: secure.authorizationError, bytesRead });
    const costly = known !== undefined && this.#charge(known.address, guardOf(secure), bytesRead, reason);
    // Null where the certificate was not judged; whose it is TLS does not tell once it has refused it.
    const { authorizationError: why } = secure as { readonly authorizationError?: unknown };
    this.#tell(reason, costly, { remote: known?.address, code: error.code, ...(why ? { why } : {}), bytes: bytesRead });
  }

  /** noHello tells of a connection that ended before TLS had a look. */
  #noHello({ address }: Connection, why: NoHello, bytes: number): void {
    this.#tell(why !== "closed" ? why : bytes === 0 ? "probe" : "reset", false, { remote: address, bytes });
  }

  #tell(reason: TlsReason, costly: boolean, fields: object): void {
    this.#metrics.tls.inc({ reason });
    const passes = !costly && reason === "unknown_ca" && !this.#unknownCas.lasts(this.#o.clock.mono());
    this.#log.log(
      reason === "probe" ? "debug" : passes ? "info" : "warn",
      reason,
      { reason, ...fields },
      // It may be a hub that is not a peer yet, one that is none any more, or a stranger.
      reason === "unknown_ca" ? "tls handshake failed: no CA that is pinned here signed the client's certificate" : "tls handshake failed",
    );
  }

  /** charge notes what a failed handshake cost, and tells whether it was more than that of an honest client. */
  #charge(address: string, guard: HandshakeGuard | undefined, bytesRead: number, reason: TlsReason): boolean {
    const now = this.#o.clock.mono();
    const tooLarge = reason === "too_large" || (guard === undefined && bytesRead > LARGE_BYTES);
    if (guard !== undefined) this.#costs.failed(address, guard.charge(), now);
    if (tooLarge) this.#costs.tooLarge(address, guard === undefined ? bytesRead : 0, now);
    return tooLarge || this.#costs.waitMs(address, now) > 0;
  }

  #identify(connection: Connection, socket: TLSSocket): void {
    this.#rooms.shook(connection);
    const guard = guardOf(socket);
    const { accounts, identities } = this.#o;
    const leaf = socket.getPeerX509Certificate();
    if (leaf !== undefined) {
      connection.hearing.shook(this.#o.clock.mono(), connection.socket.bytesWritten);
      connection.leaf = leaf;
      connection.thumbprint = thumbprintOf(leaf);
      connection.hubId = parseSpiffeId(uriSans(leaf)[0] ?? "")?.hubId ?? "";
    }
    // Who shows no certificate, which only a door lets in, is refused as well, and pays with all others who are.
    const answer = leaf === undefined ? undefined : identities.admission(leaf, connection.thumbprint);
    const account = accounts.of(answer !== undefined && "caller" in answer ? answer.caller : undefined);
    connection.account = account;
    this.#bounds.enter(account);
    connection.tooSoonMs = this.#rates.shook(connection, guard, this.#o.clock.mono());
    this.#opens(connection, socket, guard);
  }

  /** opens lets what a connection carries after its handshake through, if its caller is not kept out. */
  #opens(connection: Connection, secure: TLSSocket, guard: HandshakeGuard | undefined): void {
    connection.secure = secure;
    if (this.#chatter.begins(connection) > 0 || connection.tooSoonMs > 0) {
      if (guard !== undefined) this.#costs.spent(connection.address, guard.charge(), this.#o.clock.mono());
      return stopReading(connection.socket);
    }
    guard?.pass(secure);
    if (connection.account?.bounds.streams === undefined) return;
    watchPostHandshake(
      secure,
      () => this.#o.clock.mono(),
      () => this.#floods(connection, "tls_records"),
    );
  }

  /** floods ends all connections of whoever does on one what no honest program does; first of all, nothing more is read of them. */
  #floods(connection: Connection, reason: ClosedReason): void {
    const { waitMs, all } = this.#chatter.floods(connection);
    for (const { socket } of all) stopReading(socket);
    this.#costs.flooded(connection.address, POST_HANDSHAKE_MS, this.#o.clock.mono());
    this.#o.clock.setImmediate(() => {
      for (const each of all)
        if (this.#bySocket.has(each.socket)) this.#refuse(each, reason, { caller: each.account?.key, waitMs: Math.ceil(waitMs) });
    });
  }

  /** begin takes the session of a connection, or closes it if its caller, or all who are not of this hub, have too many. */
  #begin(connection: Connection, session: ServerHttp2Session): void {
    connection.session = session;
    this.#bySession.set(session, connection);
    const { account, tooSoonMs } = connection;
    if (tooSoonMs > 0) return this.#refuse(connection, "connection_rate", { caller: account?.key, waitMs: tooSoonMs });
    const met = account === undefined ? undefined : this.#bounds.met(account);
    if (met !== undefined) return this.#refuse(connection, met.reason, { caller: account?.key, limit: met.limit });
    const waitMs = this.#chatter.begins(connection);
    if (waitMs > 0) return this.#refuseChatter(connection, waitMs);
    // Clients of this hub's own callers have narrow windows, so what they send may come in a wide one (WI2).
    if (connection.hubId === this.#o.identities.authority.hubId) connection.widen();
    askFor(connection);
  }

  /** begun counts a stream. A connection on which they come too fast is closed at once: what else was read of it is then not looked at. */
  #begun(stream: ServerHttp2Stream, path: string, headerBytes: number): void {
    const { session } = stream;
    const connection = session === undefined ? undefined : this.#bySession.get(session as ServerHttp2Session);
    const account = connection?.account;
    if (connection === undefined || account === undefined) return;
    const now = this.#o.clock.mono();
    this.#intakes.begin(stream, this.#o.requests(path), account, now, { chatter: connection.chatter, headerBytes });
    const rate = account.bounds.streams;
    if (rate === undefined || this.#streams.begun(stream, account, rate, now)) return;
    session?.destroy();
    this.#refuse(connection, "stream_rate", { caller: account.key, perSecond: rate.perSecond });
  }

  /** tooSoonMs is how long the caller of a call should have waited with it. */
  tooSoonMs(call: grpc.ServerInterceptingCallInterface): number {
    const stream = Reflect.get(call, "stream") as ServerHttp2Stream | undefined;
    return stream === undefined ? 0 : this.#streams.tooSoonMs(stream);
  }

  /** intakeOf is what has arrived of the requests of a call. */
  intakeOf(call: grpc.ServerInterceptingCallInterface): Intake | undefined {
    const stream = Reflect.get(call, "stream") as ServerHttp2Stream | undefined;
    return stream === undefined ? undefined : this.#intakes.of(stream);
  }

  #refuseRequest({ account, session }: Intake, reason: IntakeReason): void {
    this.#metrics.requests.inc({ reason });
    this.#log.log("warn", `${reason} ${account.key}`, { reason, caller: account.key, bytes: account.bytes }, "request refused");
    const connection = session === undefined ? undefined : this.#bySession.get(session);
    if (reason === "pieces" && connection !== undefined) this.#floods(connection, "chatter");
  }

  #refuseChatter(connection: Connection, waitMs: number): void {
    this.#refuse(connection, "chatter", { caller: connection.account?.key, waitMs: Math.ceil(waitMs) });
  }

  #refuse(connection: Connection, reason: ClosedReason, fields: object): void {
    this.#count(reason, connection.address, fields);
    connection.socket.destroy();
  }

  #count(reason: ClosedReason, remote: string, fields: object): void {
    this.#metrics.refused.inc({ reason });
    this.#log.log("warn", reason, { reason, remote, ...fields }, "connection closed");
  }

  /** listen binds a port (0 picks a free one) and resolves with it. A taken port fails with what to do. */
  listen(host: string, port: number, setting?: string): Promise<number> {
    return this.#listeners.listen(host, port, setting);
  }

  #accept(socket: net.Socket): void {
    const address = socket.remoteAddress ?? "?";
    const mono = this.#o.clock.mono();
    if (!this.#costs.hears(address, mono)) {
      socket.destroy();
      return this.#count("handshake_cost", address, {});
    }
    const unknown = { leaf: undefined, account: undefined, session: undefined, charge: undefined, secure: undefined };
    const state = { ...unknown, thumbprint: "", hubId: "", tooSoonMs: 0 };
    const widen = (): void => {
      const { session } = connection;
      if (session === undefined || session.destroyed) return;
      session.setLocalWindowSize(this.#limits.flowControlWindowBytes);
      // Node holds the update back until it writes something else.
      session.ping(() => undefined);
    };
    const connection: Connection = { socket, address, ...state, hearing: new Hearing(mono), chatter: new Chatter(), widen };
    socket.on("error", (err) => this.#o.log.debug({ remote: address, err }, "connection failed"));
    const met = this.#rooms.enter(connection, mono);
    if (met !== undefined) return this.#refuse(connection, met.reason, { limit: met.limit });
    this.#bySocket.set(socket, connection);
    this.#ever.set(socket, connection);
    this.#metrics.open.inc();
    socket.once("close", () => this.#forget(connection));
    this.#arm();
    this.#chatter.arm();
    this.#turns.add({
      socket,
      known: () => this.#costs.known(address),
      waitMs: () => this.#costs.waitMs(address, this.#o.clock.mono()),
      heard: () => this.#rooms.heard(connection, this.#o.clock.mono()),
      begin: () => this.#beginHandshake(connection),
      took: (ms) => {
        if (connection.charge !== undefined && connection.leaf === undefined) this.#costs.took(connection.charge, ms, this.#o.clock.mono());
      },
      refuse: (waitMs) => this.#refuse(connection, "handshake_cost", { waitMs: Math.ceil(waitMs) }),
      none: (why, bytes) => this.#noHello(connection, why, bytes),
    });
  }

  #beginHandshake(connection: Connection): void {
    const { socket, address } = connection;
    const mono = this.#o.clock.mono();
    connection.charge = this.#costs.begins(address, mono);
    socket.setNoDelay(true).setKeepAlive(true);
    const guarded = this.#limits.strangers === true || this.#costs.guarded(address, mono);
    this.#injector.injectConnection(guarded ? new HandshakeGuard(socket, CLIENT_FLIGHT_BYTES) : socket);
  }

  #forget(connection: Connection): void {
    const { socket, account } = connection;
    if (!this.#bySocket.delete(socket)) return;
    this.#rooms.leave(connection);
    this.#metrics.open.dec();
    if (account !== undefined) {
      this.#bounds.leave(account);
      this.#o.accounts.settle(account);
    }
    if (this.#bySocket.size > 0) return;
    this.#watchTimer?.cancel();
    this.#watchTimer = undefined;
    this.#chatter.stop();
    this.#empty?.resolve();
  }

  /** arm looks at the connections, and at the requests that have not arrived, again and again while there are any. */
  #arm(): void {
    if (this.#watchTimer !== undefined) return;
    this.#lookedAt = this.#o.clock.mono();
    this.#watchTimer = this.#o.clock.setTimer(this.#limits.keepaliveTimeoutMs / 4, () => {
      this.#watchTimer = undefined;
      this.#look();
      if (this.#bySocket.size > 0) this.#arm();
    });
  }

  /**
   * look pings the connections that fell silent, and closes those on which nothing is heard any more. One that comes late, as after a pause
   * of the process, counts as two periods: what came meanwhile has not been read yet.
   */
  #look(): void {
    const now = this.#o.clock.mono();
    const unseenMs = Math.max(0, now - this.#lookedAt - this.#limits.keepaliveTimeoutMs / 2);
    this.#lookedAt = now;
    this.#intakes.look(now, unseenMs);
    const limits = { ...this.#limits, handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS };
    for (const connection of this.#bySocket.values()) {
      const { hearing, socket, account } = connection;
      const verdict = hearing.look(socket, now, unseenMs, limits);
      if (verdict === "gone") this.#refuse(connection, "silent", { caller: account?.key, quietMs: hearing.quietMs(now) });
      else if (verdict === "ask") askFor(connection);
    }
  }

  /** of finds the connection that a call came on. */
  of(call: grpc.ServerInterceptingCallInterface): Connection | undefined {
    const session = (Reflect.get(call, "stream") as ServerHttp2Stream | undefined)?.session;
    return session === undefined ? undefined : this.#bySession.get(session as ServerHttp2Session);
  }

  /** cut destroys the connections of one hub, or those that a predicate picks, and answers how many. Calls on them end at once. */
  cut(target: CutTarget): number {
    const picks = typeof target === "string" ? (connection: Connection) => connection.hubId === target : target;
    const chosen = [...this.#bySocket.values()].filter((connection) => connection.leaf !== undefined && picks(connection));
    for (const { socket } of chosen) socket.destroy();
    return chosen.length;
  }

  /** retire says GOAWAY on a connection, so that its client makes a new one, and destroys it when its calls do not end. */
  retire(connection: Connection): void {
    const { session, socket } = connection;
    if (session === undefined || session.destroyed) return void socket.destroy();
    session.close();
    const timer = this.#o.clock.setTimer(RETIRE_MS, () => socket.destroy());
    socket.once("close", () => timer.cancel());
  }

  get size(): number {
    return this.#bySocket.size;
  }

  /** stopAccepting closes the listening ports; connections live on. */
  stopAccepting(): void {
    this.#listeners.close();
  }

  /** closeSessions says GOAWAY to every client; sessions close when their calls are over. Resolves when all are closed. */
  closeSessions(): Promise<void> {
    this.#injector.destroy();
    for (const { leaf, socket } of this.#bySocket.values()) if (leaf === undefined) socket.destroy();
    if (this.#bySocket.size === 0) return Promise.resolve();
    this.#empty ??= Promise.withResolvers();
    return this.#empty.promise;
  }

  /** destroy cuts everything. */
  destroy(): void {
    for (const { socket } of this.#bySocket.values()) socket.destroy();
    this.#log.flush();
  }
}
