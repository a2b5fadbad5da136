import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import { type Command, NO_VALUE, OUTCOME, type Result } from "../messages.ts";
import { UnaryCallers } from "../shell/unary-callers.ts";
import type { Parts } from "./caller.ts";
import { sameBytes } from "./idempotency.ts";
import { type Keyed, NOBODY, nameOf, type Pending, UNARY_CLIENT } from "./pending.ts";

/** Callers that may wait for one running command by its idempotency key, beside the one that sent it. */
const JOINED_MAX = 64;

/** Clients keeps who waits for which command, and answers those of which no command comes. */
export class Clients {
  readonly #p: Parts;
  readonly #giveUp: (now: Now, pending: Pending) => void;
  readonly #waits = new Map<number, Map<number, Pending>>();
  readonly unary: UnaryCallers;

  /** `giveUp` cancels a command that nobody waits for any more. */
  constructor(parts: Parts, giveUp: (now: Now, pending: Pending) => void) {
    this.#p = parts;
    this.#giveUp = giveUp;
    this.unary = new UnaryCallers(parts.settings.pendingPerClient);
  }

  /** of is what a client waits for, by its own numbers. */
  of(client: number): Map<number, Pending> {
    let waits = this.#waits.get(client);
    if (waits === undefined) this.#waits.set(client, (waits = new Map()));
    return waits;
  }

  /** wait notes that a client waits for a command that was accepted. */
  wait(client: number, waits: Map<number, Pending>, command: Command, pending: Pending, keyed: Keyed | undefined): void {
    pending.client = client;
    waits.set(command.corr, pending);
    if (keyed === undefined) return;
    keyed.epoch = pending.epoch;
    keyed.seq = pending.seq;
    keyed.pending = pending;
    pending.keyed = keyed;
    this.#p.keys.add(keyed);
  }

  /** waitsNoMore forgets what a client waited for. */
  waitsNoMore(client: number, corr: number): void {
    this.#waits.get(client)?.delete(corr);
    if (client === UNARY_CLIENT) this.unary.give(corr);
  }

  /** join answers a command whose key is in use: the stored answer, the running one's, or a conflict (IK1). */
  join(now: Now, client: number, waits: Map<number, Pending>, command: Command, keyed: Keyed, fingerprint: Uint8Array): void {
    if (!sameBytes(keyed.fingerprint, fingerprint)) {
      const message = "the idempotency key was used with another payload";
      return this.refuse(client, command, { reason: "IDEMPOTENCY_CONFLICT", message, field: "command.idempotency_key" });
    }
    const name = { hubId: this.#p.hubId, epoch: keyed.epoch, seq: keyed.seq };
    const result = keyed.result ?? (keyed.pending?.answered === true ? keyed.pending.result : undefined);
    const { corr, trace } = command;
    if (result !== undefined)
      return this.#p.outbox.push({
        kind: "reply",
        client,
        corr,
        result,
        name,
        durationMs: keyed.durationMs,
        replayed: true,
        keyed: true,
        trace,
      });
    const pending = keyed.pending as Pending;
    if ((pending.joined?.length ?? 0) >= JOINED_MAX)
      return this.refuse(client, command, { reason: "OVERLOADED", message: `${JOINED_MAX} callers wait for this idempotency key` });
    waits.set(corr, pending);
    pending.joined ??= [];
    pending.joined.push({ client, corr, startedAt: now.mono, trace });
  }

  /** refuse answers a command that was not accepted. */
  refuse(client: number, command: Command, failure: Failure): void {
    const result: Result = { outcome: OUTCOME.REJECTED, value: NO_VALUE, failure };
    const { corr, trace } = command;
    this.#p.outbox.push({ kind: "reply", client, corr, result, name: undefined, durationMs: 0, replayed: false, trace });
  }

  /** cancel is what a client asks for: the command goes on if others wait for it. */
  cancel(now: Now, client: number, corr: number): void {
    const pending = this.#waits.get(client)?.get(corr);
    if (pending === undefined) return;
    const own = pending.joined?.find((waiter) => waiter.client === client && waiter.corr === corr);
    const others = pending.joined?.filter((waiter) => waiter !== own) ?? [];
    const primary = pending.client === client && pending.corr === corr;
    if (!primary || others.length > 0) {
      this.#leave(pending, client, corr);
      this.waitsNoMore(client, corr);
      const failure: Failure = { reason: "CANCELLED", message: "cancelled; the command goes on for another caller" };
      const result: Result = { outcome: OUTCOME.UNKNOWN, value: NO_VALUE, failure };
      return this.#p.outbox.push({
        kind: "reply",
        client,
        corr,
        result,
        name: nameOf(this.#p.hubId, pending),
        durationMs: now.mono - pending.startedAt,
        replayed: false,
        trace: primary ? pending.trace : own?.trace,
      });
    }
    this.#giveUp(now, pending);
  }

  /** gone: a caller that is gone takes its commands with it, except those with a key: it may come back and ask. */
  gone(now: Now, client: number): void {
    const waits = this.#waits.get(client);
    this.#waits.delete(client);
    for (const [corr, pending] of waits ?? []) {
      if (client === UNARY_CLIENT) this.unary.give(corr);
      this.#leave(pending, client, corr);
      if (pending.keyed === undefined) this.#giveUp(now, pending);
    }
  }

  #leave(pending: Pending, client: number, corr: number): void {
    if (pending.client === client && pending.corr === corr) pending.client = NOBODY;
    else pending.joined = pending.joined?.filter((waiter) => waiter.client !== client || waiter.corr !== corr);
  }
}
