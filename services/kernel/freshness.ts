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
