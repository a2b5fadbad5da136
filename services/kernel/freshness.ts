/** Freshness says how far an answer about another hub's nodes can be trusted to be current. */
export type Freshness = "FRESH" | "STALE" | "UNKNOWN";

/** FreshnessConfig are ages in ms, both inclusive. */
export interface FreshnessConfig {
  readonly freshMs: number;
  readonly staleMs: number;
}

/** DEFAULT_FRESHNESS says FRESH up to 30 s, STALE up to 90 s (three missed heartbeats), then UNKNOWN. */
export const DEFAULT_FRESHNESS: FreshnessConfig = { freshMs: 30_000, staleMs: 90_000 };

/** freshnessOf judges an age in ms; an age that is not known (undefined, NaN) is UNKNOWN. */
export function freshnessOf(ageMs: number | undefined, config: FreshnessConfig = DEFAULT_FRESHNESS): Freshness {
  if (ageMs === undefined || Number.isNaN(ageMs)) return "UNKNOWN";
  if (ageMs <= config.freshMs) return "FRESH";
  return ageMs <= config.staleMs ? "STALE" : "UNKNOWN";
}

/**
 * SOURCE_FRESHNESS is the state key by which whoever speaks for a node says how far its values can be trusted: a gateway may be there while
 * what it speaks for is not. What is told of the node is never fresher than that.
 */
export const SOURCE_FRESHNESS = "source:freshness";

/** SOURCE_STALE is the state key with the names of the values that nothing live has confirmed, a JSON list. */
export const SOURCE_STALE = "source:stale";

/** SOURCE_REFRESH is the capability that asks a node's source for its values anew. */
export const SOURCE_REFRESH = "source:refresh";

const ORDER: readonly unknown[] = ["FRESH", "STALE", "UNKNOWN"] satisfies readonly Freshness[];

/** sourceFreshness is how far a node can be trusted when the way to its hub is as fresh as `link`, and its source says `said`. */
export function sourceFreshness(link: Freshness, said: unknown): Freshness {
  return ORDER[Math.max(ORDER.indexOf(link), ORDER.indexOf(said))] as Freshness;
}
