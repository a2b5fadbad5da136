import type { Registry } from "prom-client";
import type { Clock } from "#runtime/clock.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { Identities } from "../server/identities.ts";
import type { Accounts } from "./accounts.ts";
import type { ConnectionLimits } from "./connections.ts";
import type { RequestKind } from "./intake.ts";

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
