/** PHASES of a saga, as they are stored. A source is copying, freezing, frozen, moved, discarded; a destination copying, complete, started. */
export const PHASES = ["copying", "freezing", "frozen", "complete", "moved", "started", "discarded"] as const;

/** Phase is how far a saga is. */
export type Phase = (typeof PHASES)[number];

/** SagaIdentity says which migration a saga is for. */
export interface SagaIdentity {
  readonly transfer: number;
  readonly agent: string;
  /** The fence with which the source owns the agent. */
  readonly fence: number;
  readonly from: string;
  readonly to: string;
}

/** SagaRecord is what is stored of a saga; the chunks stand beside it. */
export interface SagaRecord extends SagaIdentity {
  readonly phase: Phase;
  /** Number of the newest manifest. */
  readonly round: number;
  /** The manifest, its signature, and the agent's claim: of the source the final one only. Empty before there is one. */
  readonly manifest: Uint8Array;
  readonly signature: Uint8Array;
  readonly claim: Uint8Array;
}
