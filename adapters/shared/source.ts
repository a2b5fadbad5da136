import { type NodeInit, SOURCE_FRESHNESS, SOURCE_REFRESH, SOURCE_STALE, VALUE_TYPE } from "../../clients/typescript/index.ts";
import type { Shown } from "./standing.ts";

type CapabilityInit = NonNullable<NodeInit["capabilities"]>[number];

/** CAPABILITIES_MAX is how many capabilities a node may have beside those of its source. */
export const CAPABILITIES_MAX = 512 - 3;

/** Names that a hub is told at once. */
const STALE_TOLD = 100;

/** sourceCapabilities are what each node of an adapter has besides its own: how far its values can be trusted, and a way to ask for them. */
export function sourceCapabilities(refreshes: boolean): CapabilityInit[] {
  const own: CapabilityInit[] = [
    {
      name: SOURCE_FRESHNESS,
      type: VALUE_TYPE.STRING,
      readable: true,
      allowed: ["FRESH", "STALE", "UNKNOWN"],
      description: "How far the values of this node can be trusted: STALE until its source has confirmed each, UNKNOWN while it is away.",
    },
    { name: SOURCE_STALE, type: VALUE_TYPE.JSON, readable: true, description: "Names of the values that are not confirmed." },
  ];
  if (!refreshes) return own;
  const refresh: CapabilityInit = {
    name: SOURCE_REFRESH,
    type: VALUE_TYPE.STRING,
    invocable: true,
    idempotent: true,
    description: "Asks the device for the value of this name.",
  };
  return [...own, refresh];
}

/** shownAs are the state values that say how current a node is. */
export function shownAs({ freshness, stale }: Shown): readonly (readonly [key: string, value: string])[] {
  return [
    [SOURCE_FRESHNESS, freshness],
    [SOURCE_STALE, JSON.stringify(stale.slice(0, STALE_TOLD))],
  ];
}
