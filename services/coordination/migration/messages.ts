import type { Failure } from "#kernel/error.ts";

/**
 * BOUNDS of migrations. Times are milliseconds, of log time where the book counts them; bytes are bytes of the checkpoint before it is
 * compressed. A test shows that each is kept against whatever a peer sends.
 */
export const BOUNDS = {
  /** Agents of a federation, and of one hub. */
  agents: 20_000,
  agentsPerHub: 2_000,
  /** Migrations that are not committed, those of them that one hub sends or receives, and those that it has asked for. */
  migrations: 1_024,
  migrationsPerHub: 64,
  requestsPerHub: 32,
  /** Committed moves whose source has not released its copy: of one agent, and of one source. */
  unreleasedPerAgent: 8,
  unreleasedPerHub: 128,
  /** Migrations that are not over, committed ones without their release among them. */
  open: 4_096,
  /** Largest checkpoint that two hubs may agree on. */
  checkpointBytes: 256 * 1024 * 1024,
  /** Time for one step: shortest, longest. */
  stepMs: [1_000, 3_600_000],
  /** How long an old name answers with the new one, and how many do; the oldest gives way. */
  redirectMs: 24 * 3_600_000,
  redirects: 20_000,
  /** How long, and how many of, the migrations that are over are kept for people. */
  historyMs: 30 * 24 * 3_600_000,
  history: 1_000,
  /** How long a committed migration waits for the release of the source's copy before it is history without one. */
  releaseMs: 7 * 24 * 3_600_000,
  /** How long the name of an agent whose hub was removed stays taken. */
  lostMs: 30 * 24 * 3_600_000,
  /** Bytes of a reason that people gave. */
  whyBytes: 400,
  /** Dependencies of an agent, and the bytes of one. */
  dependencies: 64,
  dependencyBytes: 256,
  /** Chunks of one checkpoint. */
  chunks: 16_384,
  /** Bytes of a manifest. */
  manifestBytes: 1024 * 1024,
} as const;

/** STEPS of a migration in their order (S1-13). Each is one entry of the log; CONFIRM is the commit point. */
export const STEPS = ["REQUEST", "VALIDATE", "ACCEPT", "PREPARE", "CHECKPOINT", "TRANSFER", "CONFIRM", "RELEASE"] as const;

/** Step is how far a migration has come. */
export type Step = (typeof STEPS)[number];

/** stepAt is the number of a step, from 0. */
export function stepAt(step: Step): number {
  return STEPS.indexOf(step);
}

/** CAUSES are why a migration was aborted. */
export const CAUSES = ["REFUSED", "WITHDRAWN", "PREEMPTED", "LEASE_ENDED", "DEADLINE", "HUB_REMOVED", "CHECKPOINT", "FAILED"] as const;

/** Cause is why a migration was aborted. */
export type Cause = (typeof CAUSES)[number];

/** MigrationCommand is what the payload of a log entry asks of the book. The author of the entry is a hub that has been verified. */
export type MigrationCommand =
  /** The author's hub has an agent. `nodeKey` is its raw Ed25519 public key: claims about where it goes are signed with it. */
  | { readonly kind: "enlist"; readonly agent: string; readonly nodeKey: Uint8Array }
  /** The owner has the agent no more. */
  | { readonly kind: "dismiss"; readonly agent: string; readonly fence: number }
  /** REQUEST, by any hub: the agent with that fence is to go to `to`. `stepMs` is how long each step may take. */
  | {
      readonly kind: "request";
      readonly agent: string;
      readonly fence: number;
      readonly to: string;
      readonly stepMs: number;
      readonly why: string;
    }
  /** VALIDATE, by the source: the agent may go; its checkpoint has at most so many bytes. */
  | { readonly kind: "validate"; readonly transfer: number; readonly bytes: number }
  /**
   * ACCEPT, by the destination: it takes at most so many bytes, sealed to its X25519 key. `until` is the log time at which its room ends:
   * from then on there is no commit.
   */
  | {
      readonly kind: "accept";
      readonly transfer: number;
      readonly bytes: number;
      readonly sealingKey: Uint8Array;
      readonly until: number;
    }
  /** PREPARE, by the destination: the room is taken, durably. */
  | { readonly kind: "prepare"; readonly transfer: number }
  /** CHECKPOINT, by the source: the first round is being sent while the agent goes on. */
  | { readonly kind: "checkpoint"; readonly transfer: number; readonly bytes: number }
  /** TRANSFER, by the source: the agent is frozen, and this is the digest of the manifest of all that it is. */
  | { readonly kind: "transfer"; readonly transfer: number; readonly digest: Uint8Array }
  /** CONFIRM, by the destination, which holds that checkpoint durably: the commit point. `claim` is the agent's signature (claim.ts). */
  | {
      readonly kind: "confirm";
      readonly transfer: number;
      readonly fence: number;
      readonly digest: Uint8Array;
      readonly claim: Uint8Array;
    }
  /** RELEASE, by the source: the agent runs at the destination, and the copy here is deleted. */
  | { readonly kind: "release"; readonly transfer: number }
  /** No move: by the source, the destination or who asked for it, before CONFIRM. */
  | { readonly kind: "abort"; readonly transfer: number; readonly cause: Cause; readonly message: string };

/** AgentRecord is who owns an agent. The pair (owner, fence) is what makes an effect of the agent valid; no other hub may run it. */
export interface AgentRecord {
  readonly agent: string;
  readonly owner: string;
  readonly fence: number;
  readonly nodeKey: Uint8Array;
  /** Log time since which the owner has it. */
  readonly since: number;
  /** The owner's hub was removed from the federation: nobody may run it, and its name stays taken for `BOUNDS.lostMs`. */
  readonly lost: boolean;
}

/** STATUSES of a migration. A committed one is over for the agent and open for the source's copy. */
export const STATUSES = ["open", "committed", "released", "aborted"] as const;

/** MigrationStatus is whether a migration is over, and how. */
export type MigrationStatus = (typeof STATUSES)[number];

/** Migration is a migration as the log has it. */
export interface Migration {
  /** Number that is never used again, also for an aborted one. */
  readonly transfer: number;
  readonly agent: string;
  /** The fence with which the source owns it; CONFIRM makes it one more. */
  readonly fence: number;
  readonly from: string;
  readonly to: string;
  /** Hub that asked for it. */
  readonly by: string;
  readonly why: string;
  readonly step: Step;
  readonly status: MigrationStatus;
  readonly stepMs: number;
  /** Log time at which it is aborted if it is still at this step; when committed, at which it is history. */
  readonly deadline: number;
  /** Log times of the steps that were made, in order. */
  readonly times: readonly { readonly at: number }[];
  /** Bytes that source and destination agreed on: the smaller of what both said; 0 before. */
  readonly bytes: number;
  /** X25519 key of the destination; empty before ACCEPT. */
  readonly sealingKey: Uint8Array;
  readonly until: number;
  /** Digest of the manifest; empty before TRANSFER. */
  readonly digest: Uint8Array;
  /** Claim of the agent; empty before CONFIRM. */
  readonly claim: Uint8Array;
  /** Position in the log at which it changed last. */
  readonly index: number;
  /** Why it was aborted. */
  readonly cause: Cause | undefined;
  readonly message: string;
}

/** Claim is what an agent says by its node key when it leaves: with this checkpoint it goes there, and has this fence from then on. */
export interface Claim {
  readonly agent: string;
  readonly from: string;
  readonly to: string;
  /** The fence at the destination. */
  readonly fence: number;
  readonly transfer: number;
  /** Digest of the manifest of the checkpoint. */
  readonly digest: Uint8Array;
}

/** MigrationAnswer is what the author of a command is answered. */
export interface MigrationAnswer {
  readonly agent: string;
  readonly fence: number;
  /** 0 for commands that are about an agent only. */
  readonly transfer: number;
}

/** MigrationNews is what becomes known by a command or with time. */
export type MigrationNews =
  | { readonly kind: "owner"; readonly agent: string; readonly owner: string; readonly fence: number }
  | { readonly kind: "gone"; readonly agent: string; readonly owner: string }
  | { readonly kind: "step"; readonly migration: Migration };

/** Redirect is an old name that answers with the new one. */
export interface Redirect {
  readonly hub: string;
  readonly agent: string;
  readonly until: number;
}

/** MigrationData is the whole state of the book: agents by name, migrations by number, redirects and history in the order in which they go. */
export interface MigrationData {
  readonly transfers: number;
  readonly fences: number;
  readonly agents: readonly AgentRecord[];
  readonly open: readonly Migration[];
  readonly history: readonly Migration[];
  readonly redirects: readonly Redirect[];
}

/** moved is what a command for an agent gets at a hub that has it no more. Programs read `facts.hub` and ask there. */
export function moved(agent: string, hub: string, fence: number): Failure {
  return {
    reason: "MOVED",
    message: `the agent ${agent} has moved to ${hub}; send the command there`,
    facts: { hub, agent, fence: String(fence) },
  };
}
