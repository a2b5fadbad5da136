import { once } from "node:events";
import { createServer as createPlain, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createSecure } from "node:https";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ReadableStream } from "node:stream/web";
import type { TLSSocket } from "node:tls";
import { type AuthInfo, createMcpHandler, type McpHttpHandler } from "@modelcontextprotocol/server";
import { callerIn, whenAborted } from "../../clients/typescript/index.ts";
import { type GuardOptions, MCP_PATH, refusalOf } from "./http-guard.ts";
import { createServer, type ServerParts } from "./server.ts";
import type { Caller } from "./tool.ts";

/** Bytes of a request, and of its headers. */
const BODY_MAX_BYTES = 262_144;
const HEADERS_MAX_BYTES = 16_384;
/** Connections, and requests that are served at the same time: waiting ones hold a few KiB each. */
const CONNECTIONS_MAX = 64;
const REQUESTS_MAX = 32;
/** How long a client may take for its headers, and for a whole request, ms. */
const HEADERS_WITHIN_MS = 10_000;
const REQUEST_WITHIN_MS = 30_000;
/** How long what is answered may take to end when the server stops, ms. */
const STOP_WITHIN_MS = 2_000;

/** TlsFiles are what a listener proves who it is with, and whose callers' certificates it takes. */
export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
  /** CA of the hub: callers show an operator's certificate that it issued. Undefined: they show none. */
  readonly clientCa: string | undefined;
}

/** HttpOptions say where a listener is, and whom it takes. */
export interface HttpOptions {
  readonly host: string;
  /** 0 for a free one. */
  readonly port: number;
  readonly guard: GuardOptions;
  /** Undefined: plain HTTP, for loopback only. */
  readonly tls: TlsFiles | undefined;
}

/** HttpListener is a server that listens. */
export interface HttpListener {
  readonly url: string;
  close(): Promise<void>;
}

/** Roles from the least to the most. */
const ROLES = ["metrics", "viewer", "admin"] as const;

/** lesser is the lesser of two roles: neither the caller nor this server may do what the other may not. */
function lesser(a: Caller["role"], b: Caller["role"]): Caller["role"] {
  return ROLES[Math.min(ROLES.indexOf(a), ROLES.indexOf(b))] ?? "metrics";
}

/** callerOfSocket reads who shows a certificate; undefined if it is no operator of the hub. That its CA signed it was checked in TLS. */
function callerOfSocket(socket: TLSSocket, hubId: string): Caller | undefined {
  const leaf = socket.getPeerX509Certificate();
  const caller = leaf === undefined ? undefined : callerIn(leaf);
  if (caller === undefined || caller.hubId !== hubId || caller.kind !== "operator" || caller.role === undefined) return undefined;
  return { id: `operator/${caller.name}`, role: caller.role };
}

/** bodyOf reads the body of a request; undefined if it is longer than it may be. */
async function bodyOf(request: IncomingMessage): Promise<string | undefined> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > BODY_MAX_BYTES) return undefined;
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

class Listener implements HttpListener {
  readonly #server: Server;
  readonly #options: HttpOptions;
  readonly #parts: ServerParts;
  readonly #callerNow: () => Caller;
  readonly #handler: McpHttpHandler;
  #serving = 0;

  constructor(options: HttpOptions, callerNow: () => Caller, parts: ServerParts) {
    this.#options = options;
    this.#parts = parts;
    this.#callerNow = callerNow;
    this.#handler = createMcpHandler(({ authInfo }) => createServer(authInfo?.extra?.["caller"] as Caller, parts), {
      onerror: parts.onError,
    });
    const { tls } = options;
    const limits = { maxHeaderSize: HEADERS_MAX_BYTES, headersTimeout: HEADERS_WITHIN_MS, requestTimeout: REQUEST_WITHIN_MS };
    const serve = (request: IncomingMessage, response: ServerResponse): void => void this.#serve(request, response);
    if (tls === undefined) this.#server = createPlain(limits, serve);
    else {
      const clients = tls.clientCa === undefined ? {} : { ca: tls.clientCa, requestCert: true, rejectUnauthorized: true };
      this.#server = createSecure({ ...limits, cert: tls.cert, key: tls.key, minVersion: "TLSv1.3", ...clients }, serve);
    }
    this.#server.maxConnections = CONNECTIONS_MAX;
    // What a client does to its connection is no error of this server.
    this.#server.on("tlsClientError", () => undefined);
  }

  get url(): string {
    const { host, tls } = this.#options;
    const { port } = this.#server.address() as AddressInfo;
    return `${tls === undefined ? "http" : "https"}://${host.includes(":") ? `[${host}]` : host}:${port}${MCP_PATH}`;
  }

  async listen(): Promise<void> {
    const { host, port } = this.#options;
    this.#server.listen({ host, port });
    await once(this.#server, "listening");
  }

  async close(): Promise<void> {
    const { clock } = this.#parts;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    await this.#handler.close();
    this.#server.closeIdleConnections();
    const timer = clock.setTimer(STOP_WITHIN_MS, () => this.#server.closeAllConnections());
    await closed;
    timer.cancel();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (this.#serving >= REQUESTS_MAX) return refuse(response, 503, `${REQUESTS_MAX} requests are served already`, { "retry-after": "1" });
    this.#serving++;
    try {
      await this.#answer(request, response);
    } catch (error) {
      if (!response.headersSent) refuse(response, 500, "the server failed in a way that it did not expect");
      else response.destroy();
      if (!response.destroyed) this.#parts.onError(error);
    } finally {
      this.#serving--;
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { host, origin, authorization } = request.headers;
    const [path = ""] = (request.url ?? "").split("?");
    const { guard, tls } = this.#options;
    const refusal = refusalOf({ method: request.method ?? "", path, host, origin, authorization }, guard);
    if (refusal !== undefined) return refuse(response, refusal.status, refusal.message, refusal.headers);
    const own = this.#callerNow();
    const theirs = tls?.clientCa === undefined ? own : callerOfSocket(request.socket as TLSSocket, this.#parts.hub.hubId);
    if (theirs === undefined) return refuse(response, 403, `show the certificate of an operator of ${this.#parts.hub.hubId}`);
    const body = request.method === "POST" ? await bodyOf(request) : "";
    if (body === undefined) return refuse(response, 413, `a request has at most ${BODY_MAX_BYTES} bytes`);
    const role = lesser(own.role, theirs.role);
    const caller: Caller = { id: theirs.id, role, limited: role !== own.role };
    await this.#forward(request, response, body, caller);
  }

  async #forward(request: IncomingMessage, response: ServerResponse, body: string, caller: Caller): Promise<void> {
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    const headers = new Headers();
    // The handler needs no secret, and no name that was checked already.
    for (const [name, value] of Object.entries(request.headers))
      if (typeof value === "string" && name !== "authorization" && name !== "cookie") headers.set(name, value);
    const method = request.method ?? "GET";
    const web = new Request(this.url, { method, headers, signal: gone.signal, ...(method === "POST" ? { body } : {}) });
    const authInfo: AuthInfo = { token: "", clientId: caller.id, scopes: [caller.role], extra: { caller } };
    const answer = await this.#handler.fetch(web, { authInfo });
    response.writeHead(answer.status, Object.fromEntries(answer.headers));
    if (answer.body === null) return void response.end();
    await pipeline(Readable.fromWeb(answer.body as ReadableStream), response).catch((error: unknown) => {
      // The client left before the end.
      if (!gone.signal.aborted) throw error;
    });
  }
}

function refuse(response: ServerResponse, status: number, message: string, headers: Readonly<Record<string, string>> = {}): void {
  // What is left of the request is not read.
  response.writeHead(status, { ...headers, "content-type": "application/json", connection: "close" });
  response.end(`${JSON.stringify({ jsonrpc: "2.0", error: { code: -32_000, message }, id: null })}\n`);
}

/** serveHttp listens for MCP clients over HTTP, until it is closed or `signal` aborts. Throws what the system says when it cannot. */
export async function serveHttp(
  options: HttpOptions,
  callerNow: () => Caller,
  parts: ServerParts,
  signal?: AbortSignal,
): Promise<HttpListener> {
  const listener = new Listener(options, callerNow, parts);
  await listener.listen();
  whenAborted(signal, () => void listener.close().catch(parts.onError));
  return listener;
}
