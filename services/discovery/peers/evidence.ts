import type { Evidence, Level } from "../messages.ts";

/** EvidenceConfig says how much is needed. */
export interface EvidenceConfig {
  /** Methods that must hold (S4-3). */
  readonly minimumEvidence: number;
  /** How long a check counts, ms (S4-3). */
  readonly verificationPeriodMs: number;
}

/** EvidenceFacts is what is known of a peer. */
export interface EvidenceFacts {
  /** Wall ms of the last handshake under the peer's own bundle; 0 for none. */
  readonly certificateAtWall: number;
  /** How many CA certificates the operator pinned to it, and when the configuration was last read. */
  readonly pinnedCas: number;
  readonly pinnedAtWall: number;
}

const NAMES = ["none", "MINIMAL", "LIMITED", "FULL"] as const;

/** levelName is a level for people. */
export function levelName(level: number): string {
  return NAMES[level as Level] ?? String(level);
}

/** weigh looks at every method (S4-2). A handshake older than the verification period no longer counts (S4-3). */
export function weigh(facts: EvidenceFacts, nowWall: number, config: EvidenceConfig): Evidence[] {
  const { certificateAtWall, pinnedCas, pinnedAtWall } = facts;
  const fresh = certificateAtWall > 0 && nowWall - certificateAtWall < config.verificationPeriodMs;
  const detail = fresh
    ? "a handshake proved possession of a certificate under the hub's own CA"
    : certificateAtWall === 0
      ? "no handshake yet"
      : "the last handshake is older than the verification period";
  return [
    { method: "certificate", valid: fresh, detail, checkedAtWall: certificateAtWall },
    {
      method: "operator-pin",
      valid: pinnedCas > 0,
      detail: `${pinnedCas} CA certificate${pinnedCas === 1 ? "" : "s"} pinned by configuration`,
      checkedAtWall: pinnedAtWall,
    },
  ];
}

/** Decision is a level and one sentence that says how it came about. */
export interface Decision {
  readonly level: Level;
  readonly sentence: string;
}

/**
 * decide gives the level: nothing without a handshake; discovery only while less than the needed methods hold; else what the
 * operator's ceiling allows; and no more than discovery for a peer of which it is proved that it broke a protocol (S1-33).
 */
export function decide(evidence: readonly Evidence[], ceiling: Level, config: EvidenceConfig, misconduct?: string): Decision {
  const decision = byEvidence(evidence, ceiling, config);
  if (misconduct === undefined || decision.level <= 1) return decision;
  return { level: 1, sentence: `MINIMAL: ${misconduct}; an operator gives the trust back` };
}

function byEvidence(evidence: readonly Evidence[], ceiling: Level, config: EvidenceConfig): Decision {
  const holding = evidence.filter(({ valid }) => valid).map(({ method }) => method);
  const shown = holding.length === 0 ? "none" : holding.join(", ");
  const count = `${holding.length} of ${config.minimumEvidence} needed methods hold (${shown})`;
  if (!holding.includes("certificate")) {
    const why = evidence.find(({ method }) => method === "certificate")?.detail ?? "no handshake yet";
    return { level: 0, sentence: `none: ${why}` };
  }
  if (holding.length < config.minimumEvidence)
    return { level: Math.min(1, ceiling) as Level, sentence: `${levelName(Math.min(1, ceiling))}: only ${count}` };
  return { level: ceiling, sentence: `${levelName(ceiling)}: ${count} and the operator's ceiling is ${levelName(ceiling)}` };
}
