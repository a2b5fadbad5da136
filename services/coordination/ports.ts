import type { Crypto } from "#kernel/crypto.ts";
import type { Prng } from "#kernel/prng.ts";
import type { StoredLog } from "./log/engine.ts";
import type { Endpoint } from "./members/messages.ts";
import type { RaftTuning } from "./raft/config.ts";

/** CoordinationGround is what the core is made with: pure functions, numbers, and what it left in its store. */
export interface CoordinationGround {
  readonly hubId: string;
  /** Public halves of this hub's keys: it signs with the first (`crypto.sign`), checkpoints are sealed to the second. */
  readonly publicKey: Uint8Array;
  readonly sealingKey: Uint8Array;
  readonly crypto: Crypto;
  readonly prng: Prng;
  /** Why the store may not be the one that ran last; undefined if it is. */
  readonly doubt?: string | undefined;
  /** Number of this start of the service. */
  readonly life: number;
  /** How often this process had opened the store before; 0 unless that failed. */
  readonly opened?: number;
  /** Where this hub's service is reached. */
  readonly endpoint: () => Endpoint;
  readonly stored: StoredLog;
  readonly tuning: CoordinationTuning;
}

/** SessionView is what is known of sessions with other hubs. */
export interface SessionView {
  /** inContact tells whether there is one with a hub. */
  readonly inContact: (hubId: string) => boolean;
  /** keySaid is the key with which a hub says there that it signs; undefined without a session. */
  readonly keySaid: (hubId: string) => Uint8Array | undefined;
}

/** CoordinationTuning are times and bounds, from the configuration. */
export interface CoordinationTuning {
  readonly raft: Partial<RaftTuning>;
  /** A command waits so long for its decision, ms. */
  readonly patienceMs: number;
  /** Without a quorum for so long, commands are refused at once, ms. */
  readonly graceMs: number;
  /** Heartbeats between members, ms. */
  readonly livenessMs: number;
  /** Agents that this hub has room for (0: it takes part in no rebalancing), and how often it looks whether some should move, ms. */
  readonly agentsMax: number;
  readonly rebalanceMs: number;
}
