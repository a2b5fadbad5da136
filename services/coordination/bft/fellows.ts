import type { ReplicaId } from "../log/engine.ts";
import type { Decisions } from "./decisions.ts";
import type { Settings } from "./options.ts";

/**
 * Fellows are the replicas that this one listens to, and tells where it is: the members of its log; and, until its own log has it as a member,
 * those of whom it was told when it came in. By then the members that it knows, the founders at first, may all have gone.
 */
export class Fellows {
  readonly #settings: Settings;
  readonly #decisions: Decisions;

  constructor(settings: Settings, decisions: Decisions) {
    this.#settings = settings;
    this.#decisions = decisions;
  }

  /** told are the voters of whom it was told, as long as they count. */
  get told(): readonly ReplicaId[] {
    const { introduced = [], self } = this.#settings;
    return this.#isIn(self) ? [] : introduced;
  }

  has(replica: ReplicaId): boolean {
    return this.#isIn(replica) || this.told.includes(replica);
  }

  /** others are all but this replica, each once. */
  get others(): ReplicaId[] {
    const { voters, learners } = this.#decisions.head.membership;
    return [...new Set([...voters, ...learners, ...this.told])].filter((replica) => replica !== this.#settings.self);
  }

  #isIn(replica: ReplicaId): boolean {
    const { voters, learners } = this.#decisions.head.membership;
    return voters.includes(replica) || learners.includes(replica);
  }
}
