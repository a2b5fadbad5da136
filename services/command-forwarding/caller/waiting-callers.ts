import { unreachable } from "#kernel/assert.ts";
import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import { auditRefused } from "../audit/audited.ts";
import { type Command, NO_VALUE, OUTCOME, type Result } from "../messages.ts";
import type { Parts } from "./caller.ts";
import { repetitionOf } from "./idempotency.ts";
import { type Keyed, NOBODY, nameOf, type Pending, UNARY_CLIENT } from "./pending.ts";
import { UnaryCallers } from "./unary-callers.ts";

/** WaitingCallers keeps who waits for which command, and answers those of which no command comes. */
export class WaitingCallers {
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
    if (keyed !== undefined) this.#p.keys.begin(keyed, pending);
  }

  /** waitsNoMore forgets what a client waited for. */
  waitsNoMore(client: number, corr: number): void {
    this.#waits.get(client)?.delete(corr);
    if (client === UNARY_CLIENT) this.unary.give(corr);
  }

  /** repeat answers a command whose key is in use, now or when the command that it stands for has its outcome. */
  repeat(now: Now, client: number, waits: Map<number, Pending>, command: Command, keyed: Keyed, fingerprint: Uint8Array): void {
    const repetition = repetitionOf(keyed, fingerprint);
    const { corr, trace } = command;
    switch (repetition.kind) {
      case "refused":
        auditRefused(this.#p, now, keyed.principal, command, repetition.failure, false);
        return this.refuse(client, command, repetition.failure);
      case "replay": {
        const { result } = repetition;
        const { epoch, seq, durationMs } = keyed;
        const name = { hubId: this.#p.hubId, epoch, seq };
        return this.#p.outbox.push({ kind: "reply", client, corr, result, name, durationMs, replayed: true, keyed: true, trace });
      }
      case "join": {
        const { pending } = repetition;
        waits.set(corr, pending);
        pending.joined ??= [];
        pending.joined.push({ client, corr, startedAt: now.mono, trace });
        return;
      }
      default:
        return unreachable(repetition);
    }
  }

  /** refuse answers a command that was not accepted, of which the audit has been told. */
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
