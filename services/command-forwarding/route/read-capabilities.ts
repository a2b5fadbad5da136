import type { CapabilityInfo } from "../messages.ts";
import type { TableNode } from "../ports.ts";

/** Memory for capabilities that were read, bytes. The registry has them encoded, and is charged for that; this copy is not. */
const READ_BYTES = 16 * 1024 * 1024;
/** About what things take in memory, bytes. */
const COST = { node: 256, capability: 256, allowed: 48 } as const;

function costOf(capabilities: readonly CapabilityInfo[]): number {
  let cost: number = COST.node;
  for (const { name, allowed } of capabilities) {
    cost += COST.capability + 2 * name.length;
    for (const text of allowed) cost += COST.allowed + 2 * text.length;
  }
  return cost;
}

interface Read {
  readonly byName: ReadonlyMap<string, CapabilityInfo>;
  readonly cost: number;
}

/**
 * ReadCapabilities are the capabilities of the nodes that commands asked for last. Beyond their room the oldest ones are read again when a
 * command wants them; those of a node that was replaced are never found again, because another node stands in its place.
 */
export class ReadCapabilities {
  readonly #read = new Map<TableNode, Read>();
  #bytes = 0;

  /** bytes is about what they take in memory. */
  get bytes(): number {
    return this.#bytes;
  }

  /** of answers the capabilities of a node by name; `read` reads them if they are not here. */
  of(node: TableNode, read: (node: TableNode) => readonly CapabilityInfo[]): ReadonlyMap<string, CapabilityInfo> {
    const known = this.#read.get(node);
    if (known !== undefined) return known.byName;
    const all = read(node);
    const cost = costOf(all);
    // One alone may be larger than the room: it would else be read for each command.
    for (const oldest of this.#read.keys()) {
      if (this.#bytes + cost <= READ_BYTES) break;
      this.drop(oldest);
    }
    const byName = new Map(all.map((capability) => [capability.name, capability]));
    this.#read.set(node, { byName, cost });
    this.#bytes += cost;
    return byName;
  }

  /** drop gives up what was read of a node. */
  drop(node: TableNode): void {
    const read = this.#read.get(node);
    if (read === undefined) return;
    this.#read.delete(node);
    this.#bytes -= read.cost;
  }
}
