import type { Crypto } from "#kernel/crypto.ts";
import type { Membership, ReplicaId } from "../log/engine.ts";
import { type ProposerRule, roundRobin } from "./members.ts";
import type { KeysOf } from "./proof/certificate.ts";
import type { KeyOf, Verifier } from "./proof/signed.ts";

/** BFT_LIMITS are times and bounds of a BFT log unless its configuration says otherwise. Times in ms. */
export const BFT_LIMITS = {
  /** How long round 0 waits for a proposal, and for more votes once more than two thirds are there. */
  proposeMs: 1_000,
  voteMs: 500,
  /** What each further round waits longer, and the most that a round waits: after a halt the log goes on within this. */
  proposeMoreMs: 500,
  voteMoreMs: 250,
  timeoutMaxMs: 30_000,
  /** How often a replica says where it is, and repeats what it said in this round. */
  resendMs: 1_000,
  /** A value whose time is further ahead of the own clock than this gets no prevote. */
  aheadMs: 10_000,
  /** Bytes of the payloads of one batch, and how many they are. A larger batch is invalid. */
  batchBytes: 1024 * 1024,
  batchPayloads: 4_096,
  /** Payloads that wait: of this hub, and of each other replica. */
  ownWaiting: 4_096,
  ownWaitingBytes: 16 * 1024 * 1024,
  peerWaiting: 1_024,
  peerWaitingBytes: 4 * 1024 * 1024,
  /** Frames of the next height that wait, per peer, and their bytes. */
  nextFrames: 24,
  nextBytes: 2 * 1024 * 1024,
  /** Heights whose votes are kept after the decision, for evidence. */
  pastHeights: 4,
  /** Heights that are sent ahead to a replica that catches up. */
  catchUp: 16,
  /** A snapshot is made at every height that this divides; 0 for none. */
  snapshotEvery: 256,
  /** Decided heights that are kept behind a snapshot. */
  keepHeights: 64,
  /** Proofs that are kept of one hub. */
  proofsPerHub: 16,
} as const;

/** BftLimits is the shape of BFT_LIMITS with the values open. */
export type BftLimits = { readonly [K in keyof typeof BFT_LIMITS]: number };

/** BftOptions are what a BFT engine is given. */
export interface BftOptions {
  readonly self: ReplicaId;
  /** Id of the federation: in all that is signed. */
  readonly federation: string;
  readonly crypto: Crypto;
  readonly keyOf: KeyOf;
  /** keysOf are all keys with which a hub is known to sign statements about states, of one who was away: the newest it cannot know; else that of keyOf. */
  readonly keysOf?: KeysOf;
  /** Voters that a hub was told of when it came in, whose word counts until it has a state of its own. */
  readonly introduced?: readonly ReplicaId[];
  /** check tells whether a payload may be decided. Pure, the same at every hub. */
  readonly check: (payload: Uint8Array) => boolean;
  /** checkMembership tells whether the log, as it is decided so far, calls for this membership. Pure, the same at every hub. */
  readonly checkMembership: (membership: Membership) => boolean;
  /** due is the log time at which the application needs a height though nobody has a payload, or undefined. */
  readonly due?: () => number | undefined;
  /** The membership that the log was founded with. */
  readonly membership: Membership;
  readonly limits?: Partial<BftLimits>;
  /** roundRobin by default. */
  readonly proposer?: ProposerRule;
  /**
   * What this replica does on seeing a vote with its own signature that it did not cast: another copy of it is at work, or it was restored
   * from a backup. "stop", the default: it signs nothing any more, and rejoins as another replica.
   */
  readonly onCopy?: "stop" | "go on";
}

/** Settings are options with everything filled in. */
export interface Settings extends BftOptions {
  readonly limits: BftLimits;
  readonly proposer: ProposerRule;
  readonly verifier: Verifier;
  readonly keysOf: KeysOf;
}

/** settingsOf fills in what options leave out. */
export function settingsOf(options: BftOptions): Settings {
  const { federation, crypto, keyOf } = options;
  const keysOf = (replica: ReplicaId): readonly Uint8Array[] => {
    const key = keyOf(replica);
    return key === undefined ? [] : [key];
  };
  return {
    keysOf,
    ...options,
    limits: { ...BFT_LIMITS, ...options.limits },
    proposer: options.proposer ?? roundRobin,
    verifier: { federation, crypto, keyOf },
  };
}
