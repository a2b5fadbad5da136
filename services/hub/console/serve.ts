import type { IncomingMessage, ServerResponse } from "node:http";
import type { Registry } from "prom-client";
import type { Clock, Timer } from "#channel/clock.ts";
import type { Entropy } from "#channel/entropy.ts";
import { ROLE_VIEWER } from "#channel/tls/peer-identity.ts";
import type { ExchangeParts } from "#runtime/connect/exchange.ts";
import { HttpDoor } from "#runtime/connect/http-door.ts";
import { fromElsewhere, type HttpRequest, httpCounts, refuse, serveCall } from "#runtime/connect/serve.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { Connection } from "#runtime/rpc/connections/connection.ts";
import type { Entrance } from "#runtime/rpc/server/entrance.ts";
import type { ServerMaterial } from "#runtime/tls/credentials.ts";
import { FILES, PAGE_HEADERS } from "./page.ts";
import { ConsoleSessions, LIFE_MS, type Operator } from "./sessions.ts";

/** ConsoleOptions are what serving the console takes. */
export interface ConsoleOptions {
  readonly entrance: Entrance;
  readonly material: ServerMaterial;
  readonly host: string;
  readonly port: number;
  readonly clock: Clock;
  readonly entropy: Entropy;
  readonly log: Logger;
  readonly metrics: Registry;
}

/** How often it is looked at whether the sessions that have calls open still are, ms. */
const LOOK_MS = 10_000;
/** Bytes of a login, and how long it may take to arrive, ms. */
const LOGIN_BYTES = 1_024;
const LOGIN_MS = 5_000;
/** The prefix has browsers send it to this very origin only. */
const COOKIE = "__Host-foedus-console";
const COOKIE_RULES = "Path=/; Secure; HttpOnly; SameSite=Strict";

/**
 * serveConsole serves a page for browsers, and the RPCs to whoever is logged in at it, at a port of its own. It resolves with its number.
 *
 * DP1 without a session or an operator's certificate there is nothing but the page, which has nothing of the hub in it.
 * DP2 what changes or tells something is a POST that the page itself made: by its origin, and with a header that no form can send.
 * DP3 a call is made as the operator that the session is of, with the access rules of every call: a viewer only looks.
 * DP4 what a session has open ends with it.
 */
export function serveConsole(options: ConsoleOptions): Promise<number> {
  const console = new Console(options);
  return options.entrance.listen(options.host, options.port, "console.port", console.door);
}

class Console {
  readonly door: HttpDoor;
  readonly #parts: ExchangeParts;
  readonly #sessions: ConsoleSessions;
  readonly #clock: Clock;
  /** Calls that are open, by the secret of their session. */
  readonly #open = new Map<string, Set<ServerResponse>>();
  #timer: Timer | undefined;

  constructor({ entrance, material, clock, entropy, log, metrics }: ConsoleOptions) {
    const count = httpCounts(metrics);
    this.#parts = { entrance, clock, bugs: { ids: entropy, log } };
    this.#sessions = new ConsoleSessions(clock, entropy);
    this.#clock = clock;
    this.door = new HttpDoor({
      strangers: true,
      material,
      clock,
      refused: count.refused,
      serve: (connection, request, response) => {
        response.once("finish", () => count.answered(response.statusCode));
        for (const [name, value] of Object.entries(PAGE_HEADERS)) response.setHeader(name, value);
        this.#serve(connection, request, response);
      },
    });
  }

  #serve(connection: Connection, request: IncomingMessage, response: ServerResponse): void {
    connection.chatter.stream();
    const operator = this.#operator(connection, request);
    // Whoever is logged in counts as the operator, and not with all who are not.
    const tooSoonMs = operator === undefined ? this.#parts.entrance.begins(connection) : 0;
    if (tooSoonMs === undefined) return;
    if (tooSoonMs > 0) return refuse(response, 429, "resource_exhausted", "too many requests; try again in a moment");
    const path = (request.url ?? "").split("?", 1)[0] ?? "";
    if (request.method === "GET" || request.method === "HEAD") return file(request, response, path);
    if (request.method !== "POST")
      return refuse(response, 405, "unimplemented", "only GET and POST are served here", { allow: "GET, POST" });
    // The command line shows a certificate and has no origin; a browser always says where a POST comes from.
    if (fromElsewhere(request) || (request.headers.origin === undefined && connection.leaf === undefined) || !fromPage(request))
      return refuse(response, 403, "permission_denied", "only the page of the console may ask for this");
    if (path === "/login") return void this.#login(request, response);
    if (operator === undefined)
      return refuse(response, 401, "unauthenticated", "log in first; `foedus console` prints a link that can be used once");
    if (path === "/link") return this.#link(connection, operator, response);
    if (path === "/logout") return this.#logout(request, response);
    this.#keep(cookieOf(request), response);
    serveCall(this.#parts, { connection: as(connection, operator), request, response, tooSoonMs } satisfies HttpRequest);
  }

  /** operator is who asks: the one of the session, or the one whose certificate the connection shows. */
  #operator(connection: Connection, request: IncomingMessage): Operator | undefined {
    const secret = cookieOf(request);
    const session = secret === undefined ? undefined : this.#sessions.of(secret);
    const { leaf, thumbprint, hubId } = session ?? connection;
    if (leaf === undefined) return undefined;
    const caller = this.#parts.entrance.who({ leaf, thumbprint });
    return caller?.kind === "operator" && caller.role >= ROLE_VIEWER ? { leaf, thumbprint, hubId } : undefined;
  }

  /** keep has a call end with its session (DP4). */
  #keep(secret: string | undefined, response: ServerResponse): void {
    if (secret === undefined) return;
    const open = this.#open.get(secret) ?? new Set();
    this.#open.set(secret, open.add(response));
    response.once("close", () => {
      open.delete(response);
      if (open.size === 0) this.#open.delete(secret);
    });
    this.#arm();
  }

  #arm(): void {
    this.#timer ??= this.#clock.setTimer(LOOK_MS, () => {
      this.#timer = undefined;
      for (const secret of [...this.#open.keys()]) if (this.#sessions.of(secret) === undefined) this.#end(secret);
      if (this.#open.size > 0) this.#arm();
    });
  }

  #end(secret: string): void {
    for (const response of [...(this.#open.get(secret) ?? [])]) response.destroy();
  }

  /** link gives a secret for one login to who shows the certificate itself: a session cannot make itself last. */
  #link(connection: Connection, operator: Operator, response: ServerResponse): void {
    if (connection.thumbprint !== operator.thumbprint)
      return refuse(response, 403, "permission_denied", "a link is given to the certificate of an operator only");
    answer(response, 200, { link: this.#sessions.link(operator) });
  }

  async #login(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await smallBody(request, this.#clock);
    const secret = body === undefined ? undefined : this.#sessions.login(linkIn(body));
    if (secret === undefined) return refuse(response, 401, "unauthenticated", "this link was used before, is too old, or never was one");
    response.setHeader("set-cookie", `${COOKIE}=${secret}; ${COOKIE_RULES}; Max-Age=${LIFE_MS / 1_000}`);
    answer(response, 200, {});
  }

  #logout(request: IncomingMessage, response: ServerResponse): void {
    const secret = cookieOf(request);
    if (secret !== undefined) {
      this.#sessions.logout(secret);
      this.#end(secret);
    }
    response.setHeader("set-cookie", `${COOKIE}=; ${COOKIE_RULES}; Max-Age=0`);
    answer(response, 200, {});
  }
}

/** as is a connection as if it showed the certificate of an operator, of whom its calls are (CZ2). */
function as(connection: Connection, { leaf, thumbprint, hubId }: Operator): Connection {
  return { ...connection, leaf, thumbprint, hubId, account: undefined };
}

function fromPage({ headers }: IncomingMessage): boolean {
  return headers["x-foedus-console"] === "1";
}

function file({ method }: IncomingMessage, response: ServerResponse, path: string): void {
  const found = FILES.get(path);
  if (found === undefined) return refuse(response, 404, "not_found", "there is no such page; begin at /");
  response.writeHead(200, { "content-type": found.type, "content-length": Buffer.byteLength(found.body) });
  response.end(method === "HEAD" ? undefined : found.body);
}

function answer(response: ServerResponse, status: number, body: object): void {
  if (response.destroyed) return;
  const text = JSON.stringify(body);
  response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
  response.end(text);
}

/** cookieOf is the secret of a session that a browser sends along. */
function cookieOf({ headers }: IncomingMessage): string | undefined {
  for (const pair of (headers.cookie ?? "").split(";")) {
    const [name, value] = pair.trim().split("=", 2);
    if (name === COOKIE && value !== undefined && value !== "") return value;
  }
  return undefined;
}

function linkIn(body: string): string {
  try {
    const { link } = JSON.parse(body) as { readonly link?: unknown };
    return typeof link === "string" ? link : "";
  } catch {
    return "";
  }
}

/** smallBody reads a body of a few bytes; undefined if it is larger, or does not come. */
function smallBody(request: IncomingMessage, clock: Clock): Promise<string | undefined> {
  return new Promise((resolve) => {
    let text = "";
    const timer = clock.setTimer(LOGIN_MS, () => resolve(undefined));
    const end = (body: string | undefined): void => {
      timer.cancel();
      resolve(body);
    };
    request.setEncoding("utf8");
    request.on("data", (piece: string) => {
      text = text.length > LOGIN_BYTES ? text : text + piece;
    });
    request.once("end", () => end(text.length > LOGIN_BYTES ? undefined : text));
    request.once("close", () => end(undefined));
    request.on("error", () => end(undefined));
  });
}
