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
import { HandshakeFailures } from "../handshakes/failures.ts";
import { HandshakeCosts } from "../handshakes/handshake-costs.ts";
import { type ClosedReason, connectionMetrics } from "../handshakes/handshakes.ts";
import { HelloTurns } from "../handshakes/hello-turns.ts";
import { Listeners } from "../handshakes/listeners.ts";
import { type Limit, Rooms } from "../handshakes/rooms.ts";
import { CallerBounds } from "./caller-bounds.ts";
import { ChatterWatch } from "./chatter.ts";
import type { Connection, Door } from "./connection.ts";
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

/**
 * ConnectionTable accepts connections itself and hands them to grpc-js. So it can bound them per address before TLS and per caller
 * after it, see handshakes fail (grpc-js does not tell), and cut exactly the connections of one hub.
 */
export class ConnectionTable {
  readonly #bySocket = new Map<net.Socket, Connection>();
  /** Also those that are gone: what a handshake failed with is told after the end of its socket. */
  readonly #ever = new WeakMap<net.Socket, Connection>();
  readonly #bySession = new WeakMap<ServerHttp2Session, Connection>();
  readonly #failures: HandshakeFailures;
  readonly #costs = new HandshakeCosts();
  readonly #rates: ConnectionRates;
  readonly #rooms: Rooms<Connection>;
  readonly #injector: ReturnType<grpc.Server["createConnectionInjector"]>;
  readonly #listeners: Listeners[] = [];
  readonly #doors: Door[] = [];
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
  #stopped = false;
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
    this.#failures = new HandshakeFailures({
      clock: options.clock,
      log: this.#log,
      metrics: this.#metrics,
      costs: this.#costs,
      addressOf: (socket) => this.#ever.get(socket)?.address,
    });
    this.#chatter = new ChatterWatch(options.clock, this.#bySocket, (connection, waitMs) => this.#refuseChatter(connection, waitMs));
    this.#turns = new HelloTurns(options.clock, HANDSHAKE_TIMEOUT_MS);
    this.#injector = server.createConnectionInjector(credentials);
    // grpc-js keeps its HTTP/2 server to itself, but it is the only one that tells about TLS failures and sessions.
    const servers = Reflect.get(server, "http2Servers") as Map<Http2SecureServer, unknown>;
    for (const http2 of servers.keys()) this.#watch(http2);
  }

  #watch(http2: Http2SecureServer): void {
    let current: Connection | undefined;
    http2.on("tlsClientError", (error: NodeJS.ErrnoException, socket: TLSSocket) => this.#failures.failed(error, socket));
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

  #identify(connection: Connection, socket: TLSSocket): void {
    this.#rooms.shook(connection);
    const guard = guardOf(socket);
    const { accounts, identities } = this.#o;
    const leaf = connection.door?.strangers === true && !socket.authorized ? undefined : socket.getPeerX509Certificate();
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
    if (!this.#mayStay(connection)) return;
    // Clients of this hub's own callers have narrow windows, so what they send may come in a wide one (WI2).
    if (connection.hubId === this.#o.identities.authority.hubId) connection.widen();
    askFor(connection);
  }

  /** mayStay closes a connection that comes too soon, or is one too many of its caller, and then answers false. */
  #mayStay(connection: Connection): boolean {
    const { account, tooSoonMs } = connection;
    const met = account === undefined ? undefined : this.#bounds.met(account);
    const waitMs = tooSoonMs > 0 || met !== undefined ? 0 : this.#chatter.begins(connection);
    if (tooSoonMs > 0) this.#refuse(connection, "connection_rate", { caller: account?.key, waitMs: tooSoonMs });
    else if (met !== undefined) this.#refuse(connection, met.reason, { caller: account?.key, limit: met.limit });
    else if (waitMs > 0) this.#refuseChatter(connection, waitMs);
    else return true;
    return false;
  }

  /** attend has the TLS server of a door say whose its connections are, before the door itself hears of them. */
  #attend(door: Door): void {
    this.#doors.push(door);
    door.tls.on("tlsClientError", (error: NodeJS.ErrnoException, socket: TLSSocket) => this.#failures.failed(error, socket));
    door.tls.prependListener("secureConnection", (socket: TLSSocket) => {
      const connection = this.#under(socket);
      if (connection === undefined) return void socket.destroy();
      this.#identify(connection, socket);
      if (this.#mayStay(connection)) door.opened(connection, socket);
    });
  }

  /** doors are the ports on which another protocol is spoken. */
  get doors(): readonly Door[] {
    return this.#doors;
  }

  /** begins counts a call at a door as a stream: how long its caller should have waited, ms. Undefined if its connection is closed for it. */
  begins(connection: Connection): number | undefined {
    const { account } = connection;
    const rate = account?.bounds.streams;
    const call = {};
    if (account === undefined || rate === undefined) return 0;
    if (this.#streams.begun(call, account, rate, this.#o.clock.mono())) return this.#streams.tooSoonMs(call);
    this.#refuse(connection, "stream_rate", { caller: account.key, perSecond: rate.perSecond });
    return undefined;
  }

  /** crumbs ends the connections of whoever sends its requests at a door in far too many pieces. */
  crumbs(connection: Connection): void {
    this.#floods(connection, "chatter");
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

  /** listen binds a port (0 picks a free one), of gRPC or of a door, and resolves with it. A taken port fails with what to do. */
  listen(host: string, port: number, setting?: string, door?: Door): Promise<number> {
    const failed = (err: Error): void => this.#log.log("error", "", { err }, "listener failed");
    const listeners = new Listeners((socket) => this.#accept(socket, door), failed);
    this.#listeners.push(listeners);
    if (this.#stopped) listeners.close();
    if (door !== undefined) this.#attend(door);
    return listeners.listen(host, port, setting);
  }

  #accept(socket: net.Socket, door: Door | undefined): void {
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
    const connection: Connection = { socket, address, door, ...state, hearing: new Hearing(mono), chatter: new Chatter(), widen };
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
      none: (why, bytes) => this.#failures.noHello(address, why, bytes),
    });
  }

  #beginHandshake(connection: Connection): void {
    const { socket, address, door } = connection;
    const mono = this.#o.clock.mono();
    connection.charge = this.#costs.begins(address, mono);
    socket.setNoDelay(true).setKeepAlive(true, door === undefined ? undefined : this.#limits.keepaliveTimeMs);
    const guarded = this.#limits.strangers === true || this.#costs.guarded(address, mono);
    const below = guarded ? new HandshakeGuard(socket, CLIENT_FLIGHT_BYTES) : socket;
    if (door === undefined) this.#injector.injectConnection(below);
    else door.tls.emit("connection", below);
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
      // Nobody can be asked for a sign of life at a door: TCP does, and who is served there has bounds of its own.
      if (connection.door !== undefined && connection.secure !== undefined) continue;
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
    const { session, socket, door } = connection;
    if (door === undefined && (session === undefined || session.destroyed)) return void socket.destroy();
    session?.close();
    door?.retire(connection);
    const timer = this.#o.clock.setTimer(RETIRE_MS, () => socket.destroy());
    socket.once("close", () => timer.cancel());
  }

  get size(): number {
    return this.#bySocket.size;
  }

  /** stopAccepting closes the listening ports; connections live on. */
  stopAccepting(): void {
    this.#stopped = true;
    for (const listeners of this.#listeners) listeners.close();
  }

  /** closeSessions says GOAWAY to every client; sessions close when their calls are over. Resolves when all are closed. */
  closeSessions(): Promise<void> {
    this.#injector.destroy();
    for (const connection of [...this.#bySocket.values()]) {
      if (connection.leaf === undefined && connection.door?.strangers !== true) connection.socket.destroy();
      else connection.door?.retire(connection);
    }
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
