import type { Registry } from "prom-client";
import type { Clock } from "#channel/clock.ts";
import type { Entropy } from "#channel/entropy.ts";
import { type FoedusError, fail } from "#kernel/error.ts";
import type { EventSink, LinkCounters } from "../events.ts";
import type { Logger } from "../log/log.ts";
import type { ServiceBinding } from "../rpc/call.ts";
import type { Store } from "../store/port.ts";
import type { Tracer } from "../trace/tracer.ts";
import type { DriverOptions } from "./driver.ts";

/** Platform is what the runtime gives to every service: each impure thing, once. */
export interface Platform {
  readonly hubId: string;
  readonly clock: Clock;
  readonly entropy: Entropy;
  readonly log: Logger;
  readonly metrics: Registry;
  /** events goes to telemetry, wherever it runs. */
  readonly events: EventSink;
  /** incarnation is the boot counter of this process: it rises with every start. */
  readonly incarnation: number;
  /** packages are the proto packages this software speaks, for Hello and SessionOpen. */
  readonly packages: readonly string[];
  /** software is the version, for people. */
  readonly software: string;
  /** dataDir is this hub's folder for files that are not stores (keys). */
  readonly dataDir: string;
  /** mailbox overrides the bounds of every service's mailbox; tests fill small ones. */
  readonly mailbox?: Pick<DriverOptions<never, never>, "mailboxCapacity" | "maxWaiting">;
  /** tracer records spans; undefined while tracing is off, which costs nothing. */
  readonly tracer?: Tracer | undefined;
  /** store opens the one SQLite file of a service; `flush` as for SqliteOptions. */
  store(service: string, flush?: "loop" | "pool"): Store;
}

/** Readiness of a module: false readies nothing, and says why. It never depends on a peer (D-6). */
export interface Readiness {
  readonly ready: boolean;
  readonly reason?: string;
}

/** ServiceModule is a service as the composition root sees it. */
export interface ServiceModule {
  readonly name: string;
  /** bindings are the gRPC services with their handlers; the hub serves them. */
  readonly bindings: readonly ServiceBinding[];
  start(): Promise<void>;
  readiness(): Readiness;
  /** describe is what `/statusz` shows: readable, stable text. */
  describe(): string;
  /** links are the counters of this service's links, if it has any. */
  links?(): readonly LinkCounters[];
  /** stop ends sessions, finishes in-flight work within `graceMs`, commits and marks a clean stop. It rejects if not all of it is durable. */
  stop(graceMs: number): Promise<void>;
}

/** notDurable is what a stop rejects with whose last commits did not reach the disk. */
export function notDurable(module: string): FoedusError {
  return fail("STORE_UNAVAILABLE", `${module} stopped, and its store did not take all that it was given last`);
}
