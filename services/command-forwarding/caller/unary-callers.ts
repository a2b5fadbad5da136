import { Room } from "#kernel/bounds/room.ts";
import type { Failure } from "#kernel/error.ts";

/**
 * UnaryCallers bound the unary calls that wait for an outcome. They are one client of the core, so that without a part for each caller
 * one of them, with nodes of several peers or by joining keys, takes the calls of all the others.
 */
export class UnaryCallers {
  readonly room: Room;
  readonly #callers = new Map<number, string>();

  constructor(max: number) {
    this.room = new Room({ limit: "pending_unary", max, lends: true, reason: "OVERLOADED" });
  }

  /** refusal tells why a caller may not have another call. */
  refusal(principal: string, own: boolean): Failure | undefined {
    return this.room.refusal(principal, 0, own);
  }

  add(corr: number, principal: string): void {
    this.#callers.set(corr, principal);
    this.room.add(principal, 0);
  }

  /** give takes a call out again; one that was not added, or is out already, changes nothing. */
  give(corr: number): void {
    const principal = this.#callers.get(corr);
    if (principal === undefined) return;
    this.#callers.delete(corr);
    this.room.give(principal, 0);
  }
}
