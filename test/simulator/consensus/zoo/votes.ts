// Rows about votes, terms and leaders.

import { Election } from "../../../../services/coordination/raft/follow/election.ts";
import type { VoteRequest } from "../../../../services/coordination/raft/frames.ts";
import { Leadership } from "../../../../services/coordination/raft/lead/leadership.ts";
import { Replication } from "../../../../services/coordination/raft/lead/replication.ts";
import { Transfer } from "../../../../services/coordination/raft/lead/transfer.ts";
import { HARD } from "../../../../services/coordination/raft/state/pen.ts";
import type { Replica } from "../../../../services/coordination/raft/state/replica.ts";
import { type Mutant, momentsOf } from "./mutant.ts";

/** Clears its vote when it stops being a candidate. */
class ForgetfulElection extends Election {
  readonly #mine: Replica;

  constructor(...args: ConstructorParameters<typeof Election>) {
    super(...args);
    this.#mine = args[0];
  }

  override onRequest(from: string, frame: VoteRequest): void {
    const r = this.#mine;
    if (r.standing === "follower" && r.vote === r.self) r.vote = undefined;
    super.onRequest(from, frame);
  }
}

/** Takes a question whether it would vote for a sign of a leader. */
class RefreshedElection extends Election {
  readonly #mine: Replica;

  constructor(...args: ConstructorParameters<typeof Election>) {
    super(...args);
    this.#mine = args[0];
  }

  override onRequest(from: string, frame: VoteRequest): void {
    super.onRequest(from, frame);
    if (frame.pre) this.#mine.heardAt = this.#mine.now.mono;
  }
}

/** Campaigns without asking first, and is voted for by those that hear a leader. */
class RashElection extends Election {
  override timeout(): void {
    super.takeOver();
  }
}

/** Votes for whoever comes with the word of a leader, whatever log it has. */
class ObedientElection extends Election {
  override onRequest(from: string, frame: VoteRequest): void {
    super.onRequest(from, frame.transfer ? { ...frame, lastIndex: 2 ** 40, lastTerm: 2 ** 40 } : frame);
  }
}

/** Tells the other to take over at once, however much it lacks. */
class HastyTransfer extends Transfer {
  readonly #mine: Replica;

  constructor(...args: ConstructorParameters<typeof Transfer>) {
    super(...args);
    this.#mine = args[0];
  }

  override onAnswer(): void {
    if (this.to !== undefined) this.#mine.send(this.to, { type: "transfer_now", term: this.#mine.term });
  }
}

/** Leads on although it is no voter any more. */
class ClingingLeadership extends Leadership {
  override get isOver(): boolean {
    return false;
  }
}

/** Leads on although it hears nobody. */
class DeafReplication extends Replication {
  override get quorumUntil(): number {
    return Number.POSITIVE_INFINITY;
  }
}

/** CROWDED are elections in which several ask at the same time, and votes take a while to be durable. */
const CROWDED = {
  options: {
    spares: 0,
    disk: { minMs: 5, jitterMs: 25, stallChance: 0, stallMs: 0 },
    moments: momentsOf({ vote: 0.15, lead: 0.5 }),
  },
  tuning: { electionMs: 60, heartbeatMs: 15 },
} satisfies Partial<Mutant>;

/** VOTES are the rows about votes, terms and leaders. */
export const VOTES: readonly Mutant[] = [
  {
    row: "1",
    what: "a vote is answered before it is durable",
    seed: 3,
    by: "vote",
    faults: ["crash", "power", "loss"],
    ...CROWDED,
    bend: () => ({
      output: (effects) => {
        const votes = effects.flatMap((e) => (e.kind === "send" && e.frame.type === "vote_answer" ? [{ ...e, early: true }] : []));
        return [...votes, ...effects.filter((e) => e.kind !== "send" || e.frame.type !== "vote_answer")];
      },
    }),
  },
  {
    row: "2",
    what: "stepping down in a term clears the vote",
    seed: 16,
    by: "hard state",
    faults: ["loss", "crash"],
    ...CROWDED,
    parts: { Election: ForgetfulElection },
  },
  {
    row: "3",
    what: "entries are durable before their term, by a torn write",
    seed: 7,
    by: "crash",
    says: "the log is of a later term than the stored one",
    faults: ["crash", "power", "partition", "stall"],
    around: {
      disk: {
        tear: (ops, prng) => (prng.chance(0.5) ? ops.filter((op) => op.op !== "put" || op.key !== HARD) : prng.chance(0.5) ? ops : []),
      },
    },
  },
  {
    row: "10",
    what: "a refused prevote does not bring its sender into the higher term",
    seed: 18,
    by: "liveness",
    voters: 3,
    faults: ["transfer", "partition", "wipe"],
    options: { operatorMs: 300, troubleMs: 500, cutMs: 2_000, chaosMs: 10_000, thinkMs: 8, moments: momentsOf({ vote: 0.4 }) },
    tuning: { transferMs: 100 },
    bend: () => ({
      input: (input) =>
        input.kind === "frame" && input.frame.type === "vote_answer" && input.frame.pre && !input.frame.granted ? [] : [input],
    }),
  },
  {
    row: "11",
    what: "a prevote counts as contact with a leader",
    seed: 1,
    by: "liveness",
    parts: { Election: RefreshedElection },
  },
  {
    row: "12",
    what: "who was removed comes back with a higher term and is voted for",
    seed: 12,
    by: "stability",
    faults: ["members", "partition", "crash"],
    options: { operatorMs: 300 },
    parts: { Election: RashElection },
  },
  {
    row: "19",
    what: "leadership is handed to who is behind, and its word counts more than the log",
    seed: 2,
    by: "leader completeness",
    faults: ["transfer", "partition", "loss", "reorder"],
    parts: { Election: ObedientElection, Transfer: HastyTransfer },
  },
  {
    row: "20",
    what: "a leader that removed itself leads on",
    seed: 1,
    by: "membership",
    faults: ["members"],
    parts: { Leadership: ClingingLeadership },
  },
  {
    row: "25",
    what: "a leader that no quorum hears leads on",
    seed: 1,
    by: "liveness",
    voters: 5,
    faults: ["partial", "partition"],
    options: { partialAfter: "quorum-loss" },
    parts: { Replication: DeafReplication },
  },
];
