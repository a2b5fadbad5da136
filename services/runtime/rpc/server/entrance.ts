import type { Caller } from "../call.ts";
import type { Connection, Door } from "../connections/connection.ts";
import type { Answers, DirectCall, Route } from "./direct-call.ts";

/** Arrival is what is known of a call when it arrives. Headers are as they came. */
export interface Arrival {
  readonly connection: Connection;
  readonly authorization: string | undefined;
  readonly timeoutMs: number | undefined;
  readonly traceparent: string | undefined;
  readonly tracestate: string | undefined;
  /** How long its caller should have waited with it, ms, as `begins` said. */
  readonly tooSoonMs: number;
}

/** Entrance is where calls come in that were not made by gRPC. They pass the same interceptors, and count as all others do. */
export interface Entrance {
  /** Bytes of the largest message. */
  readonly maxMessageBytes: number;
  /** listen serves a door at a port, 0 for a free one, and resolves with its number. */
  listen(host: string, port: number, setting: string, door: Door): Promise<number>;
  /** route finds an RPC by its path. */
  route(path: string): Route | undefined;
  /** begins counts a call of a connection: how long its caller should have waited with it, ms. Undefined if the connection was closed for it. */
  begins(connection: Connection): number | undefined;
  /** who is the caller that the certificate of a connection proves; undefined without one, or if that is refused. */
  who(connection: Pick<Connection, "leaf" | "thumbprint">): Caller | undefined;
  /** crumbs ends the connections of whoever sends its requests in far too many pieces. */
  crumbs(connection: Connection): void;
  /** begin makes a call, which is then opened. */
  begin(route: Route, arrival: Arrival, answers: Answers): DirectCall;
}
