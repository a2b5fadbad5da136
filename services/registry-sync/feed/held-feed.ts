import type { StoreReader } from "../ports.ts";
import { readMeta } from "../table/stored-records.ts";

/** feedProblem says why a store is not one from which a hub's feed can go on; undefined if it is. */
export function feedProblem(reader: Pick<StoreReader, "get">, hub: string): string | undefined {
  if (readMeta(reader, "boot") !== undefined) return undefined;
  return `this installation has no feed of ${hub}: restore a backup of its data folder here, or bring the other one back`;
}
