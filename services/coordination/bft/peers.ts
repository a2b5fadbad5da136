import type { Now } from "#kernel/instant.ts";
import type { ReplicaId } from "../log/engine.ts";
import type { Members } from "./members.ts";
import type { Settings } from "./options.ts";
import type { Turn } from "./turn.ts";

/** What was heard of a replica. */
interface Heard {
  /** `mono` instant at which it last said anything, and at which it last was at no later height than this one. */
  at: number;
  level: number;
  /** The height that it last said it decides on. */
  height: number;
  /** When it was last sent something for which a short frame had asked. */
  readonly answered: Map<string, number>;
}

/** Kinds of answers to short frames that are kept apart, each of which a peer gets once in a while. */
const ANSWERS_MAX = 32;

/** Replicas of which it is noted that they cannot be reached. */
const DOWN_MAX = 1_024;

/** Peers notes when other replicas were heard, for the age of reads, for hints, and to bound what a short frame can cause. */
export class Peers {
  readonly #settings: Settings;
  readonly #heard = new Map<ReplicaId, Heard>();
  readonly #down = new Set<ReplicaId>();

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  reachable(replica: ReplicaId, up: boolean): void {
    if (up) this.#down.delete(replica);
    else if (this.#down.size < DOWN_MAX) this.#down.add(replica);
  }

  /** status notes that a replica said where it is. */
  status({ now }: Turn, replica: ReplicaId, height: number, own: number): void {
    const heard = this.#of(replica);
    heard.at = now.mono;
    heard.height = height;
    if (height <= own) heard.level = now.mono;
  }

  /** ahead is a replica that said that it decides on a later height, if there is one. */
  ahead(height: number): ReplicaId | undefined {
    for (const [replica, heard] of this.#heard) if (heard.height > height && !this.#down.has(replica)) return replica;
    return undefined;
  }

  /** mayAnswer tells whether a replica may have this kind of answer now, and notes that it gets it. */
  mayAnswer({ now }: Turn, replica: ReplicaId, what: string): boolean {
    const { answered } = this.#of(replica);
    const at = answered.get(what);
    if (at !== undefined && now.mono - at < this.#settings.limits.resendMs / 2) return false;
    answered.delete(what);
    answered.set(what, now.mono);
    if (answered.size > ANSWERS_MAX) answered.delete(answered.keys().next().value as string);
    return true;
  }

  /** lost tells whether so many are known to be unreachable that no quorum is left. */
  lost(members: Members): boolean {
    return !members.isQuorum(members.replicas.filter((replica) => !this.#down.has(replica)).length);
  }

  /** quorum tells whether a quorum was heard lately. */
  quorum({ mono }: Now, members: Members): boolean {
    const since = mono - 3 * this.#settings.limits.resendMs;
    return !this.lost(members) && members.isQuorum(this.#instants(members, "at").filter((at) => at >= since).length);
  }

  /** ageMs is how long ago a quorum, this replica among it, was at no later height than this replica. */
  ageMs({ mono }: Now, members: Members): number | undefined {
    const instants = this.#instants(members, "level").sort((a, b) => b - a);
    const at = instants.find((_, i) => members.isQuorum(i + 1));
    return at === undefined ? undefined : Math.max(0, mono - at);
  }

  forget(isMember: (replica: ReplicaId) => boolean): void {
    for (const replica of this.#heard.keys()) if (!isMember(replica)) this.#heard.delete(replica);
    for (const replica of this.#down) if (!isMember(replica)) this.#down.delete(replica);
  }

  #instants(members: Members, what: "at" | "level"): number[] {
    const { self } = this.#settings;
    const found = members.replicas.map((replica) =>
      replica === self ? Number.POSITIVE_INFINITY : (this.#heard.get(replica)?.[what] ?? NEVER),
    );
    return found.filter((at) => at > NEVER);
  }

  #of(replica: ReplicaId): Heard {
    let heard = this.#heard.get(replica);
    if (heard === undefined) this.#heard.set(replica, (heard = { at: NEVER, level: NEVER, height: 0, answered: new Map() }));
    return heard;
  }
}

const NEVER = Number.NEGATIVE_INFINITY;
