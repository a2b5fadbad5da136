import type { Now } from "#kernel/instant.ts";
import type { Effect } from "../../messages.ts";
import { BOUNDS } from "../messages.ts";
import type { AskReply, AskSpec } from "./messages.ts";

/** UNDER_WAY is how many asks there can be: the moves of a hub, with a few each, and copies that are to be deleted. */
export const UNDER_WAY = 4 * (BOUNDS.migrationsPerHub + BOUNDS.unreleasedPerHub) + BOUNDS.agentsPerHub;

/** Then is called with the answer to an ask. */
export type Then = (reply: AskReply, now: Now, out: Effect[]) => void;

interface Pending {
  readonly key: string;
  readonly spec: AskSpec;
  readonly then: Then;
  /** Host that has it, and under which number; undefined while there is none. */
  host: number | undefined;
  ask: number;
}

/**
 * Asks are what is wanted of programs and has no answer yet.
 *
 * AK1 an ask is under way once; when its program is gone it waits for who takes its place.
 * AK2 of too many asks the newest is dropped: whoever wants it asks again.
 * AK3 only the program that was asked answers, and once.
 */
export class Asks {
  readonly #pending = new Map<string, Pending>();
  readonly #byNumber = new Map<number, Pending>();
  #next = 1;

  /** want asks for something under a key, unless it is under way. `host` is who can do it at the moment. */
  want(key: string, spec: AskSpec, then: Then, host: number | undefined, out: Effect[]): void {
    const before = this.#pending.get(key);
    if (before === undefined && this.#pending.size >= UNDER_WAY) return;
    if (before !== undefined && before.host !== undefined && before.host === host) return;
    if (before !== undefined) this.#byNumber.delete(before.ask);
    const pending: Pending = { key, spec, then, host: undefined, ask: 0 };
    this.#pending.set(key, pending);
    this.#send(pending, host, out);
  }

  /** place sends what waits for a program, now that another one may be there. */
  place(hostOf: (spec: AskSpec) => number | undefined, out: Effect[]): void {
    for (const pending of this.#pending.values()) if (pending.host === undefined) this.#send(pending, hostOf(pending.spec), out);
  }

  /** gone notes that a program answers nothing any more. */
  gone(host: number): void {
    for (const pending of this.#pending.values()) {
      if (pending.host !== host) continue;
      this.#byNumber.delete(pending.ask);
      pending.host = undefined;
    }
  }

  replied(now: Now, host: number, ask: number, reply: AskReply, out: Effect[]): void {
    const pending = this.#byNumber.get(ask);
    if (pending === undefined || pending.host !== host) return;
    this.#byNumber.delete(ask);
    this.#pending.delete(pending.key);
    pending.then(reply, now, out);
  }

  /** drop gives up all asks whose key begins so. */
  drop(prefix: string): void {
    for (const [key, { ask }] of this.#pending)
      if (key.startsWith(prefix)) {
        this.#byNumber.delete(ask);
        this.#pending.delete(key);
      }
  }

  describe(): string {
    return [...this.#pending.values()].map(({ key, host }) => `${key}${host === undefined ? " (no program)" : ""}`).join(", ");
  }

  #send(pending: Pending, host: number | undefined, out: Effect[]): void {
    if (host === undefined) return;
    pending.host = host;
    pending.ask = this.#next++;
    this.#byNumber.set(pending.ask, pending);
    out.push({ kind: "agent", effect: { kind: "ask", host, ask: pending.ask, spec: pending.spec } });
  }
}
