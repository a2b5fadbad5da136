import type { Registry } from "prom-client";
import type { Clock } from "#channel/clock.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { RoomLimits } from "../handshakes/rooms.ts";
import type { Identities } from "../server/identities.ts";
import type { Accounts } from "./accounts.ts";
import type { RequestKind } from "./intake.ts";

/** ConnectionLimits bound what clients can take. */
export interface ConnectionLimits extends RoomLimits {
  /** HTTP/2 receive window of a connection that is not a narrow one, in bytes. */
  readonly flowControlWindowBytes: number;
  readonly keepaliveTimeMs: number;
  readonly keepaliveTimeoutMs: number;
}

/** ConnectionOptions are what a table needs beside its limits. */
export interface ConnectionOptions {
  /** unary tells whether a path is that of a unary call, and requests how the requests of one come. */
  readonly unary: (path: string) => boolean;
  readonly requests: (path: string) => RequestKind;
  readonly limits: ConnectionLimits;
  readonly metrics: Registry;
  readonly log: Logger;
  readonly clock: Clock;
  readonly identities: Identities;
  readonly accounts: Accounts;
}
