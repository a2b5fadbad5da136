import type { Clock, Timer } from "#channel/clock.ts";
import type { Failure } from "#kernel/error.ts";
import type { Connection } from "../connections/connection.ts";
import type { ServerCall } from "./call-context.ts";
import type { Identities } from "./identities.ts";

/** How often certificates are compared with the time, ms. */
const LOOK_MS = 1_000;

/** LongLivedOptions are what decides whether a caller may stay. */
export interface LongLivedOptions {
  readonly identities: Identities;
  readonly clock: Clock;
  /** onRefused is told of each connection whose caller is no longer admitted, once its calls have their status. */
  readonly onRefused: (connection: Connection, failure: Failure) => void;
}

/**
 * LongLived are the calls that live as long as a connection. Who calls was decided when they began; here it is decided again when the
 * authority changes and when the certificate ends, because a stream that is never asked again outlives its right to be there (S-6).
 */
export class LongLived {
  readonly #o: LongLivedOptions;
  readonly #calls = new Set<ServerCall>();
  #version: number;
  #timer: Timer | undefined;

  constructor(options: LongLivedOptions) {
    this.#o = options;
    this.#version = options.identities.authority.version();
  }

  [Symbol.iterator](): Iterator<ServerCall> {
    return this.#calls.values();
  }

  add(call: ServerCall): void {
    if (!call.entry.rule.longLived) return;
    this.#calls.add(call);
    this.#arm();
  }

  remove(call: ServerCall): void {
    if (this.#calls.delete(call) && this.#calls.size === 0) this.stop();
  }

  /** recheck ends every call whose caller is no longer admitted, with the reason, and answers how many those were. */
  recheck(): number {
    const { identities } = this.#o;
    this.#version = identities.authority.version();
    return this.#endThose(({ leaf, thumbprint }) => {
      if (leaf === undefined) return undefined;
      const answer = identities.admission(leaf, thumbprint);
      return "caller" in answer ? undefined : { ...answer.failure, facts: { ...answer.failure.facts, check: answer.refusedBy } };
    });
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #arm(): void {
    this.#timer ??= this.#o.clock.setTimer(LOOK_MS, () => {
      this.#timer = undefined;
      this.#look();
      if (this.#calls.size > 0) this.#arm();
    });
  }

  /** look costs one comparison per call while nothing has changed. */
  #look(): void {
    if (this.#o.identities.authority.version() !== this.#version) return void this.recheck();
    const now = this.#o.clock.wall();
    for (const call of this.#calls) if (call.identified && now >= call.caller.notAfterWall) return void this.recheck();
  }

  #endThose(failureOf: (connection: Connection) => Failure | undefined): number {
    const refused = new Map<Connection, Failure>();
    let ended = 0;
    for (const call of [...this.#calls]) {
      const { connection } = call;
      // A call that is not identified yet is about to be.
      const failure = connection === undefined || !call.identified ? undefined : failureOf(connection);
      if (connection === undefined || failure === undefined) continue;
      refused.set(connection, failure);
      call.expire(failure);
      ended++;
    }
    for (const [connection, failure] of refused) this.#o.onRefused(connection, failure);
    return ended;
  }
}
