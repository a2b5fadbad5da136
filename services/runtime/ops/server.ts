import { X509Certificate } from "node:crypto";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { createServer as createTlsServer, type Server as TlsServer } from "node:https";
import { createRequire } from "node:module";
import type { AddressInfo, Socket } from "node:net";
import type { SecureContextOptions, TLSSocket } from "node:tls";
import type { Registry } from "prom-client";
import { systemClock } from "#channel/clock.ts";
import { CLIENT_FLIGHT_BYTES, guardHandshakes, guardOf } from "#channel/tls/handshake-guard.ts";
import { fail } from "#kernel/error.ts";
import { type LimitedLogger, limitedLogger } from "../log/limited.ts";
import type { Logger } from "../log/log.ts";
import { expose } from "../metrics/exposition.ts";

// `import … from "node:http"` reads every export of it, and one of them loads Node's whole fetch implementation: 12 MiB that a hub
// never uses. `require` gives the same module and reads nothing.
const { createServer } = createRequire(import.meta.url)("node:http") as typeof import("node:http");

/** OpsBind is where to listen; port 0 lets the system choose. */
export interface OpsBind {
  readonly host: string;
  readonly port: number;
  /** Fields of the configuration by which another port is chosen, for the sentence that says what to do when this one is taken. */
  readonly setting: string;
}

/** OpsOptions of the HTTP server for kubelets, Prometheus and operators. */
export interface OpsOptions {
  /** Plain HTTP. On a loopback address it answers everything, elsewhere only /healthz and /readyz. */
  readonly health: OpsBind;
  /** A listener of its own for /metrics and /statusz. Needed when `health` is not on loopback; mutual TLS unless on loopback. */
  readonly metrics?: OpsBind;
  /** Certificate, key and CA of this hub; a client certificate from that CA is demanded. */
  readonly tls?: SecureContextOptions;
  /** admit looks at the client's certificate and the path after TLS accepted it; false answers 403. All are admitted by default. */
  readonly admit?: (certificate: X509Certificate, path: string) => boolean;
  readonly registry: Registry;
  /** readiness is answered as JSON: 200 if ready, else 503. */
  readonly readiness: () => { readonly ready: boolean };
  /** describe is what /statusz shows. */
  readonly describe: () => string;
  readonly log: Logger;
}

/** OpsServer is the running server. */
export interface OpsServer {
  readonly healthPort: number;
  /** Port of /metrics; the health port when that serves both, undefined when it is not served. */
  readonly metricsPort: number | undefined;
  /** rotate puts a new certificate, key and CA into use for new connections. Invalid ones throw, and the old stay. */
  rotate(tls: SecureContextOptions): void;
  stop(): Promise<void>;
}

type Route = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>;
type Routes = ReadonlyMap<string, Route>;

/** isLoopback tells whether an address to listen on is reachable from this machine only. */
export function isLoopback(host: string): boolean {
  return LOOPBACK.test(host);
}

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|::1)$/;

/** Longest time that a request may take to arrive, ms, and the most connections of a listener: its clients are few and near. */
const REQUEST_MS = 5_000;
const CONNECTIONS = 64;
/** Node looks every 30 s whether a request is late, unless told otherwise. */
const CHECKED = { connectionsCheckingInterval: 1_000 };

/** startOps starts the listeners. A port that is taken, or metrics in the open without TLS, is NOT_CONFIGURED with the remedy. */
export async function startOps(options: OpsOptions): Promise<OpsServer> {
  const { health, metrics, tls } = options;
  const open = LOOPBACK.test(health.host);
  const probes = probeRoutes(options);
  const inside = insideRoutes(options);
  if (metrics !== undefined && !LOOPBACK.test(metrics.host) && tls === undefined)
    throw fail("NOT_CONFIGURED", `metrics on ${metrics.host} need TLS; give a certificate, or listen on 127.0.0.1`);
  const first = createServer(CHECKED, handler(options, open && metrics === undefined ? new Map([...probes, ...inside]) : probes));
  const servers: Server[] = [first];
  const log = limitedLogger(options.log, systemClock);
  let secured: TlsServer | undefined;
  try {
    const healthPort = await listen(first, health, log);
    let metricsPort = open && metrics === undefined ? healthPort : undefined;
    if (metrics !== undefined) {
      const second = tls === undefined ? createServer(CHECKED, handler(options, inside)) : mutual(options, tls, inside);
      secured = tls === undefined ? undefined : (second as TlsServer);
      servers.push(second);
      metricsPort = await listen(second, metrics, log);
    }
    const rotate = (next: SecureContextOptions): void => secured?.setSecureContext({ ...next, minVersion: "TLSv1.3" });
    return { healthPort, metricsPort, rotate, stop: () => stopAll(servers, log) };
  } catch (error) {
    await stopAll(servers, log);
    throw error;
  }
}

function mutual(options: OpsOptions, tls: SecureContextOptions, routes: Routes): TlsServer {
  const serve = handler(options, routes);
  const server = createTlsServer(
    { ...tls, ...CHECKED, handshakeTimeout: REQUEST_MS, requestCert: true, rejectUnauthorized: true, minVersion: "TLSv1.3" },
    (request, response) => {
      const { raw } = (request.socket as TLSSocket).getPeerCertificate();
      if (options.admit !== undefined && !options.admit(new X509Certificate(raw), pathOf(request)))
        return answer(response, 403, "this certificate may not read here\n");
      serve(request, response);
    },
  );
  server.on("tlsClientError", (error) => options.log.debug({ error }, "ops connection refused"));
  server.prependListener("secureConnection", (socket: TLSSocket) => guardOf(socket)?.pass(socket));
  guardHandshakes(server, CLIENT_FLIGHT_BYTES);
  return server;
}

function probeRoutes(options: OpsOptions): Routes {
  return new Map<string, Route>([
    ["/healthz", (_, response) => answer(response, 200, "ok\n")],
    [
      "/readyz",
      (_, response) => {
        const readiness = options.readiness();
        answer(response, readiness.ready ? 200 : 503, `${JSON.stringify(readiness)}\n`, "application/json");
      },
    ],
  ]);
}

function insideRoutes(options: OpsOptions): Routes {
  const turn = onePerTurn();
  return new Map<string, Route>([
    [
      "/metrics",
      async (request, response) => {
        await turn();
        // Nobody waits for it any more.
        if (response.destroyed) return;
        const { body, contentType } = await expose(options.registry, request.headers.accept);
        answer(response, 200, body, contentType);
      },
    ],
    [
      "/statusz",
      async (_, response) => {
        await turn();
        if (!response.destroyed) answer(response, 200, options.describe());
      },
    ],
  ]);
}

/** onePerTurn lets one caller per turn of the event loop go on: a long page takes milliseconds, and what waits beside it comes first. */
function onePerTurn(): () => Promise<void> {
  let last = Promise.resolve();
  return () => {
    last = last.then(() => new Promise<void>((resolve) => void systemClock.setImmediate(() => resolve())));
    return last;
  };
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? "").split("?", 1)[0] ?? "";
}

function handler(options: OpsOptions, routes: Routes): (request: IncomingMessage, response: ServerResponse) => void {
  const busy = new WeakSet<Socket>();
  return (request, response) => {
    const { socket } = request;
    // Requests behind one that is not answered: no reader of these pages sends any, and answers that nobody reads take memory.
    if (busy.has(socket)) return void socket.destroy();
    busy.add(socket);
    response.once("close", () => busy.delete(socket));
    const route = routes.get(pathOf(request));
    if (route === undefined)
      return answer(response, 404, `not served here: ${[...routes.keys()].join(", ")} are${elsewhere(options, routes)}\n`);
    if (request.method !== "GET" && request.method !== "HEAD") return answer(response, 405, "only GET\n");
    const served = new Promise<void>((resolve) => resolve(route(request, response)));
    served.catch((error: unknown) => {
      options.log.error({ error }, "ops request failed");
      if (!response.headersSent) answer(response, 500, "failed; see the log\n");
    });
  };
}

/** elsewhere says where the pages of the inside are, for whoever asks for them at the port of probes. */
function elsewhere({ metrics }: OpsOptions, routes: Routes): string {
  if (routes.has("/statusz")) return "";
  return metrics === undefined
    ? "; the others are served at a loopback address, or with ops.metrics_host"
    : `; /metrics and /statusz are at ${metrics.host}:${metrics.port}`;
}

function answer(response: ServerResponse, status: number, body: string, type = "text/plain; charset=utf-8"): void {
  response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(body), "cache-control": "no-store" });
  response.end(response.req.method === "HEAD" ? undefined : body);
}

/**
 * bound closes the oldest connection when there are too many, not the newest: a probe takes milliseconds, so whoever keeps many open and
 * says nothing (a port scan, a client that leaks) keeps nobody else out.
 */
function bound(server: Server): void {
  const open = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    open.add(socket);
    socket.once("close", () => open.delete(socket));
    const [oldest] = open;
    if (open.size > CONNECTIONS) oldest?.destroy();
  });
}

function listen(server: Server, bind: OpsBind, log: LimitedLogger): Promise<number> {
  server.requestTimeout = REQUEST_MS;
  server.headersTimeout = REQUEST_MS;
  // Covers those who say nothing at all, also before TLS.
  server.timeout = REQUEST_MS;
  bound(server);
  return new Promise((resolve, reject) => {
    server.on("error", (error: NodeJS.ErrnoException) => {
      // As it listens already, it is a connection that could not be accepted.
      if (server.listening) return log.log("warn", `${bind.host}:${bind.port}`, { error }, "listener failed");
      const taken = error.code === "EADDRINUSE";
      const why = taken
        ? `is taken; stop the other program or choose another port with ${bind.setting}`
        : `cannot be used: ${error.message}`;
      reject(fail("NOT_CONFIGURED", `ops port ${bind.port} on ${bind.host} ${why}`, { cause: error }));
    });
    server.listen(bind.port, bind.host, () => resolve((server.address() as AddressInfo).port));
  });
}

async function stopAll(servers: readonly Server[], log: LimitedLogger): Promise<void> {
  await Promise.all(
    servers.map((server) => {
      const closed = new Promise<void>((resolve) => void server.close(() => resolve()));
      server.closeAllConnections();
      return closed;
    }),
  );
  log.flush();
}
