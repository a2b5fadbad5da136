import type { Failure } from "#kernel/error.ts";
import type { Block } from "../ports.ts";

/** mostlyNodes tells whether nodes may stand in the payload that they came in: what stays in memory because of them is not much more. */
export function mostlyNodes(blocks: readonly Block[], payloadBytes: number): boolean {
  let bytes = 0;
  for (const block of blocks) if (block.kind === "node_put") bytes += block.node.length;
  return 2 * bytes >= payloadBytes;
}

/** unknownType: where values of a type of a later version stand in the columns is not known here, so that nothing after them can be read. */
export function unknownType(key: string, type: number): Failure {
  const message = "a key has a value type that is not known here; upgrade this side";
  return { reason: "UPGRADE_NEEDED", message, facts: { key, type: String(type) } };
}
