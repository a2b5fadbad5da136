import type { StoreOp } from "#kernel/core.ts";
import type { Take } from "./asks.ts";

/** WANTED_SPACE is where a hub keeps which of its requests it confirms once something is reserved for them. */
export const WANTED_SPACE = "lease_wanted";

type Rows = Iterable<{ readonly key: string; readonly bytes: Uint8Array }>;
type Out = { push(effect: { readonly kind: "persist"; readonly ops: readonly StoreOp[] }): unknown };

/** Wanted are the requests of this hub that are confirmed when something is reserved for them, whenever that is, by their ids. */
export class Wanted {
  readonly #takes = new Map<string, Take>();

  constructor(stored: Rows) {
    for (const { key, bytes } of stored) this.#takes.set(key, bytes[0] === 1 ? "keep" : "once");
  }

  take(id: string): Take {
    // What a ballot decided is this hub's without its having asked.
    return this.#takes.get(id) ?? (id.startsWith(BALLOT_PREFIX) ? "once" : "no");
  }

  ids(): string[] {
    return [...this.#takes.keys()];
  }

  want(id: string, take: Take, out: Out): void {
    if (take === "no" || this.#takes.get(id) === take) return;
    this.#takes.set(id, take);
    const op: StoreOp = { op: "put", space: WANTED_SPACE, key: id, bytes: Uint8Array.of(take === "keep" ? 1 : 0) };
    out.push({ kind: "persist", ops: [op] });
  }

  forget(id: string, out: Out): void {
    if (!this.#takes.delete(id)) return;
    out.push({ kind: "persist", ops: [{ op: "delete", space: WANTED_SPACE, key: id }] });
  }
}

/** BALLOT_PREFIX begins the ids of requests that a ballot made for their borrower. */
export const BALLOT_PREFIX = "ballot:";
