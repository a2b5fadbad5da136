import type { X509Certificate } from "node:crypto";
import type { Http2SecureServer, ServerHttp2Session } from "node:http2";
import net from "node:net";
import type { TLSSocket } from "node:tls";
import type * as grpc from "@grpc/grpc-js";
import type { Registry } from "prom-client";
import { fail } from "#kernel/error.ts";
import type { Logger } from "#runtime/log/log.ts";
import { counter, gauge } from "#runtime/metrics/declare.ts";
import { parseSpiffeId, thumbprintOf, uriSans } from "#runtime/tls/peer-identity.ts";
import { NARROW_WINDOW_BYTES } from "./windows.ts";

/** Connection is one accepted TCP connection and, after the TLS handshake, whose it is. */
export interface Connection {
  readonly key: string;
  readonly socket: net.Socket;
  /** The client's leaf certificate; undefined until the handshake is done. */
  leaf: X509Certificate | undefined;
  thumbprint: string;
  /** Trust domain that the leaf claims (not yet checked against a bundle). */
  hubId: string;
  http2: ServerHttp2Session | undefined;
}

/** ConnectionLimits bound what strangers can take. */
export interface ConnectionLimits {
  readonly maxConnectionsPerIp: number;
  /** Connections altogether; no limit if not given. */
  readonly maxConnections?: number;
  /** HTTP/2 receive window of a connection that is not a narrow one, in bytes. */
  readonly flowControlWindowBytes: number;
}

/** Target says which connections to cut: those of a hub, or those that a predicate picks. */
export type CutTarget = string | ((connection: { readonly hubId: string; readonly thumbprint: string }) => boolean);

/** Reasons of failed handshakes. */
const TLS_REASONS = [
  "certificate_expired",
  "certificate_not_yet_valid",
  "no_certificate",
  "unknown_ca",
  "bad_certificate",
  "protocol_version",
  "not_tls",
  "timeout",
  "reset",
  "other",
] as const;
type TlsReason = (typeof TLS_REASONS)[number];

function metricsOf(registry: Registry) {
  const made = {
    open: gauge(registry, { name: "foedus_connections", help: "Open gRPC connections." }),
    tls: counter(registry, {
      name: "foedus_tls_handshake_failures_total",
      help: "TLS handshakes that clients did not complete, by reason.",
      labels: ["reason"],
    }),
    refused: counter(registry, {
      name: "foedus_connections_refused_total",
      help: "Connections closed before TLS, by reason.",
      labels: ["reason"],
    }),
  };
  // A counter that appears with its first event hides that event from rate() and increase().
  for (const reason of TLS_REASONS) made.tls.inc({ reason }, 0);
  for (const reason of ["per_ip_limit", "limit"]) made.refused.inc({ reason }, 0);
  return made;
}

/** tlsReason gives a failed handshake one of a few words, so that the label stays small. */
export function tlsReason(error: NodeJS.ErrnoException, socket?: { readonly authorizationError?: unknown }): TlsReason {
  const text = `${String(socket?.authorizationError ?? "")} ${error.code ?? ""} ${error.message}`;
  if (/CERT_HAS_EXPIRED|certificate has expired|certificate_expired/i.test(text)) return "certificate_expired";
  if (/CERT_NOT_YET_VALID/i.test(text)) return "certificate_not_yet_valid";
  if (/PEER_DID_NOT_RETURN|certificate required/i.test(text)) return "no_certificate";
  if (/UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|CERT_SIGNATURE|unknown ca/i.test(text)) return "unknown_ca";
  if (/INVALID_PURPOSE|bad certificate|CERT_/i.test(text)) return "bad_certificate";
  if (/PROTOCOL|UNSUPPORTED|VERSION/i.test(text)) return "protocol_version";
  if (/HTTP_REQUEST|WRONG_VERSION/i.test(text)) return "not_tls";
  if (/TIMEOUT/i.test(text)) return "timeout";
  return /ECONNRESET|EPIPE/.test(text) ? "reset" : "other";
}

/** keyOf identifies a connection by its remote end, the only thing that a call tells about its socket. */
function keyOf(address: string | undefined, port: number | undefined): string {
  return `${address ?? "?"} ${port ?? 0}`;
}

/**
 * ConnectionTable accepts connections itself and hands them to grpc-js. So it can count them per address before TLS, see
 * handshakes fail (grpc-js does not tell), and cut exactly the connections of one hub.
 */
export class ConnectionTable {
  readonly #byKey = new Map<string, Connection>();
  readonly #perIp = new Map<string, number>();
  readonly #injector: ReturnType<grpc.Server["createConnectionInjector"]>;
  readonly #listeners = new Set<net.Server>();
  readonly #hubId: string;
  readonly #limits: ConnectionLimits;
  readonly #log: Logger;
  readonly #metrics: ReturnType<typeof metricsOf>;
  #empty: PromiseWithResolvers<void> | undefined;

  constructor(
    server: grpc.Server,
    credentials: grpc.ServerCredentials,
    options: { hubId: string; limits: ConnectionLimits; metrics: Registry; log: Logger },
  ) {
    this.#hubId = options.hubId;
    this.#limits = options.limits;
    this.#log = options.log;
    this.#metrics = metricsOf(options.metrics);
    this.#injector = server.createConnectionInjector(credentials);
    // grpc-js keeps its HTTP/2 server to itself, but it is the only one that tells about TLS failures and sessions.
    const servers = Reflect.get(server, "http2Servers") as Map<Http2SecureServer, unknown>;
    for (const http2 of servers.keys()) this.#watch(http2);
  }

  #watch(http2: Http2SecureServer): void {
    http2.on("tlsClientError", (error: NodeJS.ErrnoException, socket: TLSSocket) => {
      const reason = tlsReason(error, socket);
      this.#metrics.tls.inc({ reason });
      this.#log.warn({ reason, remote: socket.remoteAddress, code: error.code }, "tls handshake failed");
    });
    http2.on("secureConnection", (socket: TLSSocket) => this.#identify(socket));
    // It comes before the event that tells of the certificate: whose connection it is, is not known yet.
    http2.on("session", (session: ServerHttp2Session) => this.#sized(session));
  }

  #sized(session: ServerHttp2Session): void {
    const { remoteAddress, remotePort } = session.socket;
    const connection = this.#byKey.get(keyOf(remoteAddress, remotePort));
    if (connection !== undefined) connection.http2 = session;
    session.setLocalWindowSize(Math.min(NARROW_WINDOW_BYTES, this.#limits.flowControlWindowBytes));
  }

  #identify(socket: TLSSocket): void {
    const connection = this.#byKey.get(keyOf(socket.remoteAddress, socket.remotePort));
    const leaf = socket.getPeerX509Certificate();
    if (connection === undefined || leaf === undefined) return;
    connection.leaf = leaf;
    connection.thumbprint = thumbprintOf(leaf);
    connection.hubId = parseSpiffeId(uriSans(leaf)[0] ?? "")?.hubId ?? "";
    // Clients of this hub's own callers have narrow windows, so what they send may come in a wide one (W2).
    if (connection.hubId === this.#hubId) this.widen(connection);
  }

  /** widen lets a connection carry more to us at a time: for one on which this hub does not send in bulk (W2). */
  widen({ http2 }: Connection): void {
    if (http2 !== undefined && !http2.destroyed) http2.setLocalWindowSize(this.#limits.flowControlWindowBytes);
  }

  /** listen binds a port (0 picks a free one) and resolves with it. A taken port fails with what to do. */
  listen(host: string, port: number): Promise<number> {
    const listener = net.createServer({ noDelay: true, keepAlive: true }, (socket) => this.#accept(socket));
    return new Promise((resolve, reject) => {
      listener.once("error", (cause: NodeJS.ErrnoException) => reject(listenError(host, port, cause)));
      listener.listen(port, host, () => {
        this.#listeners.add(listener);
        listener.on("error", (err) => this.#log.error({ err }, "listener failed"));
        resolve((listener.address() as net.AddressInfo).port);
      });
    });
  }

  #accept(socket: net.Socket): void {
    const ip = socket.remoteAddress ?? "?";
    const count = (this.#perIp.get(ip) ?? 0) + 1;
    if (count > this.#limits.maxConnectionsPerIp) {
      this.#metrics.refused.inc({ reason: "per_ip_limit" });
      this.#log.warn({ remote: ip, limit: this.#limits.maxConnectionsPerIp }, "connection refused, too many from one address");
      socket.destroy();
      return;
    }
    if (this.#byKey.size >= (this.#limits.maxConnections ?? Number.POSITIVE_INFINITY)) {
      this.#metrics.refused.inc({ reason: "limit" });
      this.#log.warn({ remote: ip, limit: this.#limits.maxConnections }, "connection refused, too many");
      socket.destroy();
      return;
    }
    this.#perIp.set(ip, count);
    const key = keyOf(ip, socket.remotePort);
    this.#byKey.set(key, { key, socket, leaf: undefined, thumbprint: "", hubId: "", http2: undefined });
    this.#metrics.open.inc();
    socket.on("error", (err) => this.#log.debug({ remote: ip, err }, "connection failed"));
    socket.once("close", () => this.#forget(key, ip));
    this.#injector.injectConnection(socket);
  }

  #forget(key: string, ip: string): void {
    this.#byKey.delete(key);
    this.#metrics.open.dec();
    const left = (this.#perIp.get(ip) ?? 1) - 1;
    if (left > 0) this.#perIp.set(ip, left);
    else this.#perIp.delete(ip);
    if (this.#byKey.size === 0) this.#empty?.resolve();
  }

  /** of finds the connection that a call came on. */
  of(call: grpc.ServerInterceptingCallInterface): Connection | undefined {
    const { remoteAddress, remotePort } = call.getConnectionInfo();
    return this.#byKey.get(keyOf(remoteAddress, remotePort));
  }

  /** cut destroys the connections of one hub, or those that a predicate picks, and answers how many. Calls on them end at once. */
  cut(target: CutTarget): number {
    const picks = typeof target === "string" ? (connection: Connection) => connection.hubId === target : target;
    const chosen = [...this.#byKey.values()].filter((connection) => connection.leaf !== undefined && picks(connection));
    for (const { socket } of chosen) socket.destroy();
    return chosen.length;
  }

  get size(): number {
    return this.#byKey.size;
  }

  /** stopAccepting closes the listening ports; connections live on. */
  stopAccepting(): void {
    for (const listener of this.#listeners) listener.close();
    this.#listeners.clear();
  }

  /** closeSessions says GOAWAY to every client; sessions close when their calls are over. Resolves when all are closed. */
  closeSessions(): Promise<void> {
    this.#injector.destroy();
    for (const { leaf, socket } of this.#byKey.values()) if (leaf === undefined) socket.destroy();
    if (this.#byKey.size === 0) return Promise.resolve();
    this.#empty ??= Promise.withResolvers();
    return this.#empty.promise;
  }

  /** destroy cuts everything. */
  destroy(): void {
    for (const { socket } of this.#byKey.values()) socket.destroy();
  }
}

function listenError(host: string, port: number, cause: NodeJS.ErrnoException): Error {
  if (cause.code === "EADDRINUSE")
    return fail("ALREADY_EXISTS", `port ${port} on ${host} is already in use; stop the other program or configure another port`, {
      cause,
      facts: { port: String(port) },
    });
  if (cause.code === "EACCES")
    return fail("ACCESS_DENIED", `no permission to listen on port ${port}; use a port above 1023`, {
      cause,
      facts: { port: String(port) },
    });
  if (cause.code === "EADDRNOTAVAIL")
    return fail("INVALID_FIELD", `${host} is not an address of this machine; use 0.0.0.0 or one that it has`, { cause });
  return fail("NOT_CONFIGURED", `cannot listen on ${host} port ${port}`, { cause });
}
