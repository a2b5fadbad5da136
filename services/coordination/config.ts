import * as z from "zod";

const ms = (min: number, max: number, fallback: number, description: string) =>
  z.int().min(min).max(max).default(fallback).meta({ unit: "ms", description });

/** coordinationConfig is the configuration of this service. */
export const coordinationConfig = z
  .strictObject({
    election_ms: ms(
      50,
      60_000,
      300,
      "a voter that hears no leader for this long, and up to as long again by chance, asks for votes; the same at all hubs of a federation, and at least five times the round trip between them",
    ),
    heartbeat_ms: ms(10, 10_000, 60, "how often a leader that has nothing to say is heard; a fifth of election_ms or less"),
    decision_timeout_ms: ms(100, 600_000, 10_000, "a command waits so long for its decision"),
    quorum_grace_ms: ms(100, 600_000, 3_000, "without a quorum for so long, commands are refused at once; an election takes less"),
    liveness_ms: ms(
      100,
      30_000,
      1_000,
      "how often members hear each other; a member that is silent for some three of these, and cannot be reached through others either, is accused",
    ),
    agents_max: z.int().min(0).max(1_000).default(0).meta({
      unit: "agents",
      description:
        "agents that this hub has room for: those of hubs that are fuller move here by themselves, up to four fifths of it, and its own to hubs that are emptier. It bounds nothing else. 0: agents move only when someone says so",
    }),
    rebalance_ms: ms(
      1_000,
      86_400_000,
      300_000,
      "how often a hub with agents_max looks whether some of its agents should move; an agent stays where it is for three of these at the least",
    ),
    lease_reads: z.boolean().default(false).meta({
      description:
        "the leader answers reads without asking the others while it was heard lately: faster, and right only while the clocks of all hubs run alike",
    }),
    snapshot_entries: z.int().min(100).max(1_000_000).default(10_000).meta({
      unit: "entries",
      description: "entries of the log after which a snapshot takes their place",
    }),
    witness: z.boolean().default(true).meta({
      description:
        "keep a number beside the store that shows at a start whether the store was restored from a backup; a hub that was restored takes part as another replica",
    }),
  })
  .refine(({ election_ms, heartbeat_ms }) => heartbeat_ms * 3 <= election_ms, {
    path: ["heartbeat_ms"],
    message: "heartbeat_ms must be a third of election_ms or less, or every delay begins an election",
  })
  .prefault({});

/** CoordinationConfig is the configuration of this service. */
export type CoordinationConfig = z.infer<typeof coordinationConfig>;
