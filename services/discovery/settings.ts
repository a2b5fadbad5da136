import type { BackoffConfig } from "#kernel/backoff.ts";
import type { EvidenceConfig } from "./peers/evidence.ts";

/** CoreConfig shapes the core. Times are ms. */
export interface CoreConfig extends EvidenceConfig {
  readonly hubId: string;
  /** Version of the discovery package that we speak. */
  readonly packageName: string;
  readonly backoff: BackoffConfig;
  /** Services whose sessions with a peer of level LIMITED or more must stand, beside those that report by themselves. */
  readonly expects: readonly string[];
  /** A new leaf is offered to peers after this long, so that several leaves share one Hello. */
  readonly leafDelayMs: number;
  /** While a link is not operational although Hello was answered, Hello is said again this often: its endpoints may have changed. */
  readonly reintroduceMs: number;
  /** Wall ms before which a clock cannot be right. */
  readonly releasedAtWall: number;
  readonly clockRetryMs: number;
  /** Skew of a peer's clock from which on it is reported. */
  readonly skewWarnMs: number;
}
