import type { Membership } from "../log/engine.ts";

/** ValueId is the hash of a batch in hexadecimal (64 characters), or `NIL`. */
export type ValueId = string;

/** NIL is the vote for no value. */
export const NIL: ValueId = "";

/** GENESIS stands for the decision before the first. */
export const GENESIS: ValueId = "0".repeat(64);

/** NO_ROUND is the round of what relies on none. */
export const NO_ROUND = -1;

/** STEP are the two votes of a round, as they are numbered on the wire. */
export const STEP = { PREVOTE: 1, PRECOMMIT: 2 } as const;

/** Step is one of them. */
export type Step = (typeof STEP)[keyof typeof STEP];

/** BFT_BOUNDS are what may be in a frame. The schema states the same. */
export const BFT_BOUNDS = {
  /** Members that decide. */
  votersMax: 30,
  votersMin: 4,
  /** Members that only get what was decided: as many as a federation has members. */
  learnersMax: 256,
  /** Heights are below this. */
  heights: 2 ** 48,
  /** Rounds are below this. */
  rounds: 2 ** 30,
  /** Bytes of a part of a value, and of a chunk of a snapshot: with its framing it fits into a frame. */
  partBytes: 192 * 1024,
  /** Parts of one value. */
  parts: 64,
  /** Votes in one frame. */
  votes: 64,
  /** Bytes of a payload that travels ahead of its proposal. */
  payloadBytes: 192 * 1024,
  /** Bytes of a proof. */
  proofBytes: 4 * 1024,
  /** Bytes of the state in a snapshot. */
  stateBytes: 256 * 1024 * 1024,
  /** Characters of the name of a replica, and of a federation. */
  nameLength: 96,
} as const;

/** Vote is what one member says in one step of one round. */
export interface Vote {
  readonly height: number;
  readonly round: number;
  readonly step: Step;
  readonly value: ValueId;
  /**
   * Prevotes for a value: the round whose polka for that value the voter relies on, NO_ROUND for none. An honest voter that has precommitted
   * another value in a round names one that is not below it. NO_ROUND in all other votes.
   */
  readonly relies: number;
  /** Index of the voter among the sorted voters of the height. */
  readonly voter: number;
  /** Ed25519, 64 bytes. */
  readonly signature: Uint8Array;
}

/** Proposal is what the proposer of a round says: the value, and the round whose polka makes it valid, if it was proposed before. */
export interface Proposal {
  readonly height: number;
  readonly round: number;
  readonly value: ValueId;
  /** Bytes of the value. */
  readonly size: number;
  readonly validRound: number;
  readonly signature: Uint8Array;
}

/** CertifiedVote is one vote of a certificate, which has the rest. */
export interface CertifiedVote {
  readonly voter: number;
  readonly relies: number;
  readonly signature: Uint8Array;
}

/** Certificate is more than two thirds of the votes of one step for one value (a polka is of prevotes, a commit of precommits). */
export interface Certificate {
  readonly height: number;
  readonly round: number;
  readonly step: Step;
  readonly value: ValueId;
  /** By voter, ascending. */
  readonly votes: readonly CertifiedVote[];
}

/** Manifest is what members sign of the state at a position, so that who joins need not replay the log. */
export interface Manifest {
  readonly index: number;
  readonly term: number;
  readonly time: number;
  /** Id of the value that was decided at `index`. */
  readonly previous: ValueId;
  /** In force from `index` + 1 on; its voters sign. */
  readonly membership: Membership;
  /** Hash of the state. */
  readonly digest: Uint8Array;
  readonly size: number;
}

/** Attestation is a signature of one voter under a manifest. */
export interface Attestation {
  readonly voter: number;
  readonly signature: Uint8Array;
}

/** BftFrame is what replicas say to each other. */
export type BftFrame =
  /** `bytes` is the value if it fits into one part, else empty: parts follow. */
  | { readonly kind: "proposal"; readonly proposal: Proposal; readonly bytes: Uint8Array }
  | {
      readonly kind: "part";
      readonly height: number;
      readonly value: ValueId;
      readonly index: number;
      readonly count: number;
      readonly bytes: Uint8Array;
    }
  /** Votes of one height, of any voters: of the sender, or a certificate that a round was left (votes of f+1 members in later rounds). */
  | { readonly kind: "votes"; readonly height: number; readonly votes: readonly Vote[] }
  | { readonly kind: "certificate"; readonly certificate: Certificate }
  /** A payload, or the marker of a read, for whoever proposes next. */
  | { readonly kind: "payload"; readonly marker: boolean; readonly bytes: Uint8Array }
  /** Where the sender is: the height it decides on, its round, and what it decided before. */
  | { readonly kind: "status"; readonly height: number; readonly round: number; readonly previous: ValueId }
  /** The value, whole. */
  | { readonly kind: "want"; readonly height: number; readonly value: ValueId }
  | { readonly kind: "evidence"; readonly proof: Uint8Array }
  | { readonly kind: "attest"; readonly index: number; readonly digest: Uint8Array; readonly signature: Uint8Array }
  | { readonly kind: "snapshot"; readonly manifest: Manifest; readonly attestations: readonly Attestation[] }
  | { readonly kind: "fetch"; readonly index: number; readonly chunk: number }
  | { readonly kind: "chunk"; readonly index: number; readonly chunk: number; readonly bytes: Uint8Array };
