import { once } from "node:events";
import { createServer as createPlain, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createSecure } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ReadableStream } from "node:stream/web";
import type { Clock } from "../../../clients/typescript/index.ts";
import { type GuardOptions, refusalOf } from "./guard.ts";

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

/** TlsFiles are what a listener proves who it is with, and whose callers' certificates it takes. PEM. */
export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
  /** CA of callers' certificates. Undefined: they show none. */
  readonly clientCa: string | undefined;
}

/** ListenOptions say where a listener is, and whom it takes. */
export interface ListenOptions {
  readonly host: string;
  /** 0 for a free one. */
  readonly port: number;
  readonly guard: GuardOptions;
  /** Undefined: plain HTTP, for loopback only. */
  readonly tls: TlsFiles | undefined;
}

/** Asked is a request that was let in. */
export interface Asked {
  readonly method: string;
  readonly path: string;
  /** Without secrets. */
  readonly headers: Headers;
  readonly body: string;
  readonly socket: Socket;
  /** Aborts when the client has gone. */
  readonly signal: AbortSignal;
}

/** Answerer answers requests. */
export interface Answerer {
  /** Called before a request's body is read; what it gives is the answer then. */
  readonly refuse?: (asked: Omit<Asked, "body" | "signal">) => Response | undefined;
  readonly answer: (asked: Asked) => Promise<Response>;
}

/** Around is what a listener needs of the program that it is in. */
export interface Around {
  readonly clock: Clock;
  /** Told what nobody expected. */
  readonly onError: (error: unknown) => void;
}

/** problem is an answer that says what is wrong. */
export function problem(status: number, message: string, headers: Readonly<Record<string, string>> = {}): Response {
  return Response.json({ jsonrpc: "2.0", error: { code: -32_000, message }, id: null }, { status, headers });
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

/** headersOf are the headers of a request. Nobody behind the guard needs its secrets. */
function headersOf(request: IncomingMessage): Headers {
  const headers = new Headers();
  for (const [name, value] of Object.entries(request.headers))
    if (typeof value === "string" && name !== "authorization" && name !== "cookie") headers.set(name, value);
  return headers;
}

/** Listener takes requests over HTTP, as far as the guard and the limits let them in. */
export class Listener {
  readonly #server: Server;
  readonly #options: ListenOptions;
  readonly #answerer: Answerer;
  readonly #around: Around;
  #serving = 0;

  private constructor(options: ListenOptions, answerer: Answerer, around: Around) {
    this.#options = options;
    this.#answerer = answerer;
    this.#around = around;
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

  /** open listens. Throws what the system says when it cannot. */
  static async open(options: ListenOptions, answerer: Answerer, around: Around): Promise<Listener> {
    const listener = new Listener(options, answerer, around);
    const { host, port } = options;
    listener.#server.listen({ host, port });
    await once(listener.#server, "listening");
    return listener;
  }

  /** origin is where it listens, as it stands before the path of a URL. */
  get origin(): string {
    const { host, tls } = this.#options;
    const { port } = this.#server.address() as AddressInfo;
    return `${tls === undefined ? "http" : "https"}://${host.includes(":") ? `[${host}]` : host}:${port}`;
  }

  /** close takes no more requests, and waits a moment for those that are answered. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeIdleConnections();
    const timer = this.#around.clock.setTimer(STOP_WITHIN_MS, () => this.#server.closeAllConnections());
    await closed;
    timer.cancel();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (this.#serving >= REQUESTS_MAX) return end(response, 503, `${REQUESTS_MAX} requests are served already`, { "retry-after": "1" });
    this.#serving++;
    try {
      await this.#answer(request, response);
    } catch (error) {
      if (response.headersSent) response.destroy();
      else end(response, 500, "the server failed in a way that it did not expect");
      this.#around.onError(error);
    } finally {
      this.#serving--;
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    const { host, origin, authorization } = request.headers;
    const refusal = refusalOf({ host, origin, authorization }, this.#options.guard);
    if (refusal !== undefined) return end(response, refusal.status, refusal.message, refusal.headers);
    const [path = ""] = (request.url ?? "").split("?");
    const asked = { method: request.method ?? "", path, headers: headersOf(request), socket: request.socket };
    const refused = this.#answerer.refuse?.(asked);
    if (refused !== undefined) return send(response, refused, gone.signal, true);
    const body = await bodyOf(request).catch(() => "");
    if (body === undefined) return end(response, 413, `a request has at most ${BODY_MAX_BYTES} bytes`);
    await send(response, await this.#answerer.answer({ ...asked, body, signal: gone.signal }), gone.signal);
  }
}

async function send(response: ServerResponse, answer: Response, gone: AbortSignal, last = false): Promise<void> {
  response.writeHead(answer.status, { ...Object.fromEntries(answer.headers), ...(last ? { connection: "close" } : {}) });
  if (answer.body === null) return void response.end();
  await pipeline(Readable.fromWeb(answer.body as ReadableStream), response).catch((error: unknown) => {
    // The client left before the end.
    if (!gone.aborted) throw error;
  });
}

/** end answers without reading what is left of the request. */
function end(response: ServerResponse, status: number, message: string, headers: Readonly<Record<string, string>> = {}): void {
  response.writeHead(status, { ...headers, "content-type": "application/json", connection: "close" });
  response.end(`${JSON.stringify({ jsonrpc: "2.0", error: { code: -32_000, message }, id: null })}\n`);
}
