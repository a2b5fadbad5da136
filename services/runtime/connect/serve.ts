import type { IncomingMessage, ServerResponse } from "node:http";
import type { Registry } from "prom-client";
import type { Clock } from "#channel/clock.ts";
import type { Entropy } from "#channel/entropy.ts";
import { printable } from "#kernel/printable.ts";
import type { Logger } from "../log/log.ts";
import { counter } from "../metrics/declare.ts";
import type { Connection } from "../rpc/connections/connection.ts";
import type { Entrance } from "../rpc/server/entrance.ts";
import type { ServerMaterial } from "../tls/credentials.ts";
import { describeMethod, Exchange, type ExchangeParts, sendError } from "./exchange.ts";
import { HttpDoor } from "./http-door.ts";
import { formatNamed, formatOf, mayCall, mayGet } from "./protocol.ts";

/** ConnectOptions are what serving the Connect protocol takes. */
export interface ConnectOptions {
  readonly entrance: Entrance;
  readonly material: ServerMaterial;
  readonly host: string;
  readonly port: number;
  /** Field of the configuration that chooses the port. */
  readonly setting: string;
  readonly clock: Clock;
  readonly ids: Pick<Entropy, "id">;
  readonly log: Logger;
  readonly metrics: Registry;
}

/** serveConnect serves the RPCs of a server as JSON over HTTPS at a port of its own, and resolves with its number. */
export function serveConnect(options: ConnectOptions): Promise<number> {
  const { entrance, material, host, port, setting, clock, ids, log, metrics } = options;
  const count = httpCounts(metrics);
  const parts: ExchangeParts = { entrance, clock, bugs: { ids, log } };
  const door = new HttpDoor({
    material,
    clock,
    refused: count.refused,
    serve: (connection, request, response) => {
      response.once("finish", () => count.answered(response.statusCode));
      connection.chatter.stream();
      const tooSoonMs = entrance.begins(connection);
      if (tooSoonMs === undefined) return;
      if (fromElsewhere(request)) return refuse(response, 403, "permission_denied", "a page of another site may not call this hub");
      serveCall(parts, { connection, request, response, tooSoonMs });
    },
  });
  return entrance.listen(host, port, setting, door);
}

/** httpCounts declares what ports for HTTP count. */
export function httpCounts(metrics: Registry) {
  const answered = counter(metrics, {
    name: "foedus_http_responses_total",
    help: "Answers over HTTP, by status. Calls are counted with those of gRPC as well; a stream that failed has status 200.",
    labels: ["status"],
  });
  const refused = counter(metrics, {
    name: "foedus_http_connections_ended_total",
    help: "HTTP connections that this hub ended: what came was no HTTP (http), no request came in time (idle), or a second one before the answer (pipelined).",
    labels: ["reason"],
  });
  for (const reason of ["http", "idle", "pipelined"]) refused.inc({ reason }, 0);
  return {
    answered: (status: number): void => answered.inc({ status: String(status) }),
    refused: (reason: string): void => refused.inc({ reason }),
  };
}

/** Characters of a path that are told back. */
const PATH_CHARS = 120;

/** HttpRequest is one request, with the connection that it counts on, and how long its caller should have waited. */
export interface HttpRequest {
  readonly connection: Connection;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly tooSoonMs: number;
}

/** serveCall finds out which RPC a request is for, and refuses what is for none. */
export function serveCall(parts: ExchangeParts, { connection, request, response, tooSoonMs }: HttpRequest): void {
  const { entrance } = parts;
  const [path = "", query = ""] = (request.url ?? "").split("?", 2);
  const route = entrance.route(path);
  if (route === undefined)
    return refuse(
      response,
      404,
      "unimplemented",
      `there is no RPC at ${printable(path.slice(0, PATH_CHARS))}; paths are /<package>.<Service>/<Method>`,
    );
  const { method } = route;
  if (!mayCall(method)) return refuse(response, 501, "unimplemented", `${method.name} takes a stream of requests; call it over gRPC`);
  const get = request.method === "GET" && mayGet(method);
  if (request.method !== "POST" && !get) {
    const allow = mayGet(method) ? "GET, POST" : "POST";
    return refuse(response, 405, "unimplemented", `${method.name} is called with ${allow.replace(", ", " or ")}`, { allow });
  }
  const format = get ? formatNamed("json", method) : formatOf(request.headers["content-type"] ?? "", method);
  if (format === undefined) {
    const accept = describeMethod(method);
    return refuse(response, 415, "unknown", `${method.name} takes the content type ${accept}`, {
      "accept-post": accept.replace(" or ", ", "),
    });
  }
  const encoding = request.headers[format.stream ? "connect-content-encoding" : "content-encoding"] ?? "identity";
  if (encoding !== "identity")
    return refuse(response, 501, "unimplemented", "compressed requests are not read here; send it as it is", {
      "accept-encoding": "identity",
    });
  const exchange = new Exchange(parts, connection, request, response, route, format);
  exchange.run(tooSoonMs, get ? new URLSearchParams(query) : undefined).catch((error: unknown) => {
    parts.bugs.log.error({ err: error, method: method.name }, "unexpected error in an exchange");
    connection.socket.destroy();
  });
}

/**
 * fromElsewhere tells that a page of another origin made a request. A browser shows its certificate and cookies to whichever page asks, so what
 * such a page sends is not what its user wants.
 */
export function fromElsewhere({ headers }: IncomingMessage): boolean {
  const { origin, host } = headers;
  if (headers["sec-fetch-site"] === "cross-site" || headers["sec-fetch-site"] === "same-site") return true;
  return origin !== undefined && origin !== `https://${host}`;
}

/** refuse answers a request that is no call, as Connect writes errors. */
export function refuse(
  response: ServerResponse,
  status: number,
  code: string,
  message: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  sendError(response, status, { code, message }, headers);
}
