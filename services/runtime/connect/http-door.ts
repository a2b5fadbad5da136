import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import type { Clock, Timer } from "#channel/clock.ts";
import { contextOf, HANDSHAKE_TIMEOUT_MS } from "#channel/tls/material.ts";
import type { Connection, Door } from "../rpc/connections/connection.ts";
import { HEADER_LIST_BYTES, type ServerMaterial } from "../tls/credentials.ts";

/** How long a connection may be open without a request that is under way, ms; a request's head must have come in that time, too. */
const IDLE_MS = 30_000;
/** How long the rest of a body may take that is not wanted, ms. */
const REST_MS = 2_000;
/** Answers of one connection that have not left yet. */
const ANSWERS_MAX = 4;
/** Headers of one request. */
const HEADERS_MAX = 64;

/** Visit is one connection while it is open. */
interface Visit {
  readonly connection: Connection;
  readonly secure: TLSSocket;
  idle: Timer | undefined;
  /** The answer to the request that came last. */
  last: ServerResponse | undefined;
  /** Answers that have not left yet, the last among them. */
  open: number;
  /** It ends with the request that is under way. */
  leaving: boolean;
}

/** HttpDoorOptions are what a door is made of. */
export interface HttpDoorOptions {
  /** True for browsers, which need not show a certificate. */
  readonly strangers?: boolean;
  readonly material: ServerMaterial;
  readonly clock: Clock;
  /** serve answers one request. */
  readonly serve: (connection: Connection, request: IncomingMessage, response: ServerResponse) => void;
  /** refused is told of each connection that ended because what came was no HTTP, or late, or two requests at once. */
  readonly refused: (why: "http" | "idle" | "pipelined") => void;
}

/**
 * HttpDoor speaks HTTP/1.1 over TLS 1.3, mutual unless it is for browsers, with whoever the server lets in: one request at a time on a connection, whose head comes
 * within half a minute. It has no port: it is handed connections.
 */
export class HttpDoor implements Door {
  readonly tls: Server;
  readonly strangers: boolean;
  readonly #o: HttpDoorOptions;
  readonly #visits = new WeakMap<Duplex, Visit>();
  readonly #byConnection = new WeakMap<Connection, Visit>();

  constructor(options: HttpDoorOptions) {
    this.#o = options;
    this.strangers = options.strangers === true;
    this.tls = createServer(
      {
        ...contextOf(options.material).options,
        requestCert: true,
        rejectUnauthorized: !this.strangers,
        handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
        ALPNProtocols: ["http/1.1"],
        maxHeaderSize: HEADER_LIST_BYTES,
        insecureHTTPParser: false,
        // These would be Node's timers; ours hold whether or not the server listens by itself.
        keepAliveTimeout: 0,
        headersTimeout: 0,
        requestTimeout: 0,
      },
      (request, response) => this.#request(request, response),
    );
    this.tls.maxHeadersCount = HEADERS_MAX;
    this.tls.on("clientError", (error: NodeJS.ErrnoException, socket) => this.#broken(error, socket));
  }

  rotate(material: ServerMaterial): void {
    this.tls.setSecureContext(contextOf(material).options);
  }

  opened(connection: Connection, secure: TLSSocket): void {
    const visit: Visit = { connection, secure, idle: undefined, last: undefined, open: 0, leaving: false };
    this.#visits.set(secure, visit);
    this.#byConnection.set(connection, visit);
    connection.socket.once("close", () => visit.idle?.cancel());
    this.#arm(visit);
  }

  retire(connection: Connection): void {
    const visit = this.#byConnection.get(connection);
    if (visit === undefined || visit.open === 0) return void connection.socket.destroy();
    visit.leaving = true;
  }

  #arm(visit: Visit, waitMs = IDLE_MS): void {
    visit.idle?.cancel();
    if (visit.connection.socket.destroyed) return;
    visit.idle = this.#o.clock.setTimer(waitMs, () => {
      this.#o.refused("idle");
      visit.connection.socket.destroy();
    });
  }

  #request(request: IncomingMessage, response: ServerResponse): void {
    const visit = this.#visits.get(request.socket);
    if (visit === undefined) return void request.socket.destroy();
    // Requests behind one that is not answered: no client of ours sends any, and answers that nobody reads take memory. A client has the end of
    // an answer a moment before this process hears that it has left.
    if (visit.leaving || visit.last?.writableEnded === false || visit.open >= ANSWERS_MAX) {
      this.#o.refused("pipelined");
      return void visit.connection.socket.destroy();
    }
    visit.last = response;
    visit.open++;
    visit.idle?.cancel();
    response.once("close", () => {
      visit.open--;
      if (visit.open > 0) return;
      // What was written is with the system by now; the client reads it before the end.
      if (visit.leaving) visit.secure.end(() => visit.connection.socket.destroySoon());
      // Whoever is still sending a body that was refused reads the answer only if it may go on for a moment.
      else this.#arm(visit, request.complete ? IDLE_MS : REST_MS);
    });
    request.once("end", () => {
      if (visit.open === 0) this.#arm(visit);
    });
    this.#o.serve(visit.connection, request, response);
  }

  /** broken ends a connection on which something other than HTTP came. */
  #broken({ code }: NodeJS.ErrnoException, socket: Duplex): void {
    if (code === "ECONNRESET" || !socket.writable) return void socket.destroy();
    this.#o.refused("http");
    const status = code === "HPE_HEADER_OVERFLOW" ? "431 Request Header Fields Too Large" : "400 Bad Request";
    socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy());
  }
}
