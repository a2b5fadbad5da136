import type { Shared } from "#kernel/bounds/holdings.ts";
import { Room, type RoomUse } from "#kernel/bounds/room.ts";
import type { Failure } from "#kernel/error.ts";

/** PendingRooms bound the commands that wait for an outcome in one direction: a part for each caller, and a part for each node. */
export class PendingRooms {
  readonly #callers: Room;
  readonly #nodes: Room;

  /** `limit` is the name of the bound. */
  constructor(limit: string, max: number, maxBytes?: number) {
    const bytes = maxBytes === undefined ? {} : { maxBytes };
    // It passes by itself, so that trying again later is right: OVERLOADED. And a lone gateway may have what nobody else needs.
    this.#callers = new Room({ limit, max, ...bytes, lends: true, reason: "OVERLOADED" });
    this.#nodes = new Room({ limit, max, ...bytes, lends: true, reason: "OVERLOADED", per: "per_node" });
  }

  /** refusal tells why a caller may not have another command for a node under way. `own`: it is one of those who operate this hub. */
  refusal(principal: string, own: boolean, nodeId: string, bytes: number): Failure | undefined {
    return this.#callers.refusal(principal, bytes, own) ?? this.#nodes.refusal(nodeId, bytes, own);
  }

  add(principal: string, nodeId: string, bytes: number): void {
    this.#callers.add(principal, bytes);
    this.#nodes.add(nodeId, bytes);
  }

  give(principal: string, nodeId: string, bytes: number): void {
    this.#callers.give(principal, bytes);
    this.#nodes.give(nodeId, bytes);
  }

  use(): RoomUse[] {
    return this.#callers.use();
  }

  /** shared is which callers hold how much; of commands for the nodes of this hub also which nodes. */
  shared(): { readonly callers: Shared; readonly nodes: Shared } {
    const nodes = this.#nodes.shared();
    return { callers: this.#callers.shared(), nodes: { ...nodes, what: `${nodes.what} by node` } };
  }
}
