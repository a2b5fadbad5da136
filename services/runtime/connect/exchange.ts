import type { IncomingMessage, ServerResponse } from "node:http";
import type { DescMethod } from "@bufbuild/protobuf";
import type { Clock, Timer } from "#channel/clock.ts";
import { FoedusError } from "#kernel/error.ts";
import type { Connection } from "../rpc/connections/connection.ts";
import type { Answers, DirectCall, Route } from "../rpc/server/direct-call.ts";
import type { Entrance } from "../rpc/server/entrance.ts";
import { type BugReporter, failureOf, type Status } from "../rpc/status.ts";
import {
  type ConnectError,
  END_STREAM,
  envelope,
  errorOf,
  type Format,
  type GetQuery,
  httpStatusOf,
  readQuery,
  requestIn,
  timeoutOf,
  toJsonBytes,
  toProtobuf,
} from "./protocol.ts";

/** A request goes on by so many bytes in so many ms, or ends, as over gRPC (IT3). */
const STALL_MS = 10_000;
const PROGRESS_BYTES = 4 * 1024;

/** Callers whose software comes with this hub's: a field that it does not know is refused, and not dropped (`validation.ts`). */
const MAY_BE_NEWER: ReadonlySet<string> = new Set(["peer", "service", "stranger"]);

/** ExchangeParts are what each exchange needs. */
export interface ExchangeParts {
  readonly entrance: Entrance;
  readonly clock: Clock;
  readonly bugs: BugReporter;
}

/** sendError answers a request that is no call, or whose call failed. */
export function sendError(
  response: ServerResponse,
  status: number,
  error: ConnectError,
  headers: Readonly<Record<string, string>> = {},
): void {
  if (response.headersSent || response.destroyed) return;
  const body = Buffer.from(JSON.stringify(error));
  response.writeHead(status, { ...SAME, "content-type": "application/json", "content-length": body.length, ...headers });
  response.end(response.req.method === "HEAD" ? undefined : body);
}

/** Headers of every answer: nothing is stored on the way, and no browser takes it for anything else than it says. */
const SAME = { "cache-control": "no-store", "x-content-type-options": "nosniff" } as const;

/**
 * Exchange is one call over HTTP: it reads the request, hands it to a DirectCall, and writes what that answers. Nothing of the body is read
 * before it is known that the caller may call.
 */
export class Exchange implements Answers {
  readonly #parts: ExchangeParts;
  readonly #connection: Connection;
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #route: Route;
  #format: Format;
  #call: DirectCall | undefined;
  #stall: Timer | undefined;

  constructor(
    parts: ExchangeParts,
    connection: Connection,
    request: IncomingMessage,
    response: ServerResponse,
    route: Route,
    format: Format,
  ) {
    this.#parts = parts;
    this.#connection = connection;
    this.#request = request;
    this.#response = response;
    this.#route = route;
    this.#format = format;
  }

  /** run makes the call; `query` has its request if it came with GET. */
  async run(tooSoonMs: number, query?: URLSearchParams): Promise<void> {
    const { entrance } = this.#parts;
    const { headers } = this.#request;
    const { value: timeoutMs, problem } = attempt(() => timeoutOf(headerOf(headers["connect-timeout-ms"])));
    const call = entrance.begin(
      this.#route,
      {
        connection: this.#connection,
        authorization: headers.authorization,
        timeoutMs,
        traceparent: headerOf(headers["traceparent"]),
        tracestate: headerOf(headers["tracestate"]),
        tooSoonMs,
      },
      this,
    );
    this.#call = call;
    this.#response.once("close", () => {
      this.#stall?.cancel();
      call.closed();
    });
    if (!(await call.open())) return;
    if (problem !== undefined) return this.#failWith(problem);
    const version = headerOf(headers["connect-protocol-version"]) ?? "1";
    if (version !== "1")
      return call.fail({
        reason: "INVALID_FIELD",
        message: "only version 1 of the Connect protocol is spoken here",
        field: "connect-protocol-version",
      });
    if (query !== undefined) return this.#runQuery(call, query);
    this.#read(call);
  }

  #runQuery(call: DirectCall, query: URLSearchParams): void {
    const read = attempt<GetQuery>(() => readQuery(query, this.#route.method));
    if (read.value === undefined) return this.#failWith(read.problem);
    this.#format = read.value.format;
    if (call.arrived(read.value.message.length)) this.#handOver(call, read.value.message);
  }

  /** read takes the body in, as much as there may be and no slower than it may come. */
  #read(call: DirectCall): void {
    const request = this.#request;
    const { chatter } = this.#connection;
    const { maxMessageBytes, crumbs } = this.#parts.entrance;
    const most = maxMessageBytes + (this.#format.stream ? envelope(0, new Uint8Array()).length : 0);
    const pieces: Buffer[] = [];
    let length = 0;
    if (Number(request.headers["content-length"] ?? 0) > most) return this.#tooLarge(call, maxMessageBytes);
    this.#watch(call, () => length);
    request.on("data", (piece: Buffer) => {
      if (call.over) return;
      if (!chatter.piece(piece.length, 0)) return crumbs(this.#connection);
      length += piece.length;
      if (length > most) return this.#tooLarge(call, maxMessageBytes);
      // A piece may be a small part of what was read with it, all of which it would keep.
      if (call.arrived(piece.length)) pieces.push(Buffer.from(piece));
    });
    request.once("end", () => {
      this.#stall?.cancel();
      chatter.piece(0, 1);
      if (!call.over) this.#handOver(call, Buffer.concat(pieces, length));
    });
    request.on("error", () => undefined);
  }

  #watch(call: DirectCall, length: () => number): void {
    let seen = length();
    const look = (): void => {
      const came = length() - seen;
      if (came < PROGRESS_BYTES) {
        const message = `the request does not arrive: ${came} bytes in ${STALL_MS / 1_000} s, ${length()} altogether, and it is not complete`;
        return call.fail({ reason: "DEADLINE_EXPIRED", message });
      }
      seen = length();
      this.#stall = this.#parts.clock.setTimer(STALL_MS, look);
    };
    this.#stall = this.#parts.clock.setTimer(STALL_MS, look);
  }

  #tooLarge(call: DirectCall, max: number): void {
    call.fail({ reason: "MESSAGE_TOO_LARGE", message: `the message is larger than ${max} bytes`, facts: { max_bytes: String(max) } });
  }

  #handOver(call: DirectCall, body: Buffer): void {
    // JSON takes long to read for its bytes: who sends a lot of it waits, and others are served meanwhile.
    const pause = call.turn();
    if (pause !== undefined) return void pause.then(() => this.#handOver(call, body));
    if (call.over) return;
    const read = attempt(() => this.#protobufOf(call, body));
    if (read.value === undefined) return this.#failWith(read.problem);
    if (this.#format.stream) {
      this.#response.writeHead(200, { ...SAME, "content-type": this.#format.contentType });
      // Else a client hears of a quiet stream with its first message only.
      this.#response.flushHeaders();
    }
    call.run(read.value);
  }

  #protobufOf(call: DirectCall, body: Buffer): Buffer {
    const { json, stream } = this.#format;
    const message = stream ? requestIn(body) : body;
    return json ? toProtobuf(this.#route.method.input, message, !MAY_BE_NEWER.has(call.callerKind)) : message;
  }

  #failWith(error: unknown): void {
    this.#call?.fail(failureOf(error, this.#parts.bugs, { method: this.#route.method.name }));
  }

  encode(bytes: Buffer): Buffer {
    const message = this.#format.json ? toJsonBytes(this.#route.method.output, bytes) : bytes;
    return this.#format.stream ? envelope(0, message) : message;
  }

  write(chunk: Buffer, done: () => void): void {
    const response = this.#response;
    if (!this.#format.stream)
      response.writeHead(200, { ...SAME, "content-type": this.#format.contentType, "content-length": chunk.length });
    response.write(chunk, () => done());
  }

  end(status: Status | undefined): void {
    const response = this.#response;
    this.#stall?.cancel();
    if (!this.#format.stream) {
      if (status === undefined) response.end();
      else sendError(response, httpStatusOf(status.code), errorOf(status), retryAfter(status));
      return;
    }
    if (response.destroyed) return;
    if (!response.headersSent) response.writeHead(200, { ...SAME, "content-type": this.#format.contentType });
    response.end(envelope(END_STREAM, Buffer.from(JSON.stringify(status === undefined ? {} : { error: errorOf(status) }))));
  }

  drop(): void {
    this.#connection.socket.destroy();
  }
}

/** retryAfter tells clients that know no details when to try again. */
function retryAfter(status: Status): Record<string, string> {
  const debug = errorOf(status).details?.find(({ type }) => type === "google.rpc.RetryInfo")?.debug as { retryDelay?: string } | undefined;
  const seconds = Number.parseFloat(debug?.retryDelay ?? "");
  return Number.isFinite(seconds) ? { "retry-after": String(Math.max(1, Math.ceil(seconds))) } : {};
}

/** headerOf is the value of a header that stands once; of one that stands several times Node makes a list. */
function headerOf(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

/** attempt gives what is made, or what is wrong with what it was made of. */
function attempt<T>(make: () => T): { readonly value: T | undefined; readonly problem: FoedusError | undefined } {
  try {
    return { value: make(), problem: undefined };
  } catch (error) {
    if (error instanceof FoedusError) return { value: undefined, problem: error };
    throw error;
  }
}

/** describeMethod says how an RPC is called over HTTP, for whoever called it in another way. */
export function describeMethod(method: DescMethod): string {
  return method.methodKind === "unary" ? "application/json or application/proto" : "application/connect+json or application/connect+proto";
}
