import { hubOf, type LogStatus } from "../log/engine.ts";
import type { Members } from "./members.ts";
import type { Engine } from "./messages.ts";

/** AcquaintanceGround is what it looks at. */
export interface AcquaintanceGround {
  readonly engine: Engine;
  readonly hubId: string;
  readonly members: Pick<Members, "member" | "members">;
  readonly membership: () => LogStatus["membership"];
}

/**
 * Acquaintance tells whose frames of the log a replica takes that may not check them itself: with Raft members do not lie, and whoever else
 * has a session may.
 *
 * AQ1 a hub is known if the state or the membership in force here has it, or if one that is known named it when it greeted: who was away while
 *    others were let in learns of them by those who were there before.
 * AQ2 a replica without a vote that is in contact with nobody whom it knows takes frames of whoever says that it belongs to the federation: it
 *    was let in by others, who have left since or are not there.
 */
export class Acquaintance {
  readonly #ground: AcquaintanceGround;
  /** Hubs in contact that say that they belong to the federation, with those whom they know as members. */
  readonly #fellows = new Map<string, ReadonlySet<string>>();
  #isWider = false;

  constructor(ground: AcquaintanceGround) {
    this.#ground = ground;
  }

  /** met takes what a peer of this federation says; undefined when its session is gone, or it belongs to another one. */
  met(peer: string, named: readonly string[] | undefined): void {
    if (named === undefined) this.#fellows.delete(peer);
    else this.#fellows.set(peer, new Set(named));
  }

  /** named are the members of whom a member is told (AQ1). */
  named(peer: string): readonly string[] {
    const { members } = this.#ground;
    return this.#isTrusting && members.member(peer) !== undefined ? members.members().map(({ hubId }) => hubId) : [];
  }

  /** widened notes that others keep the log now: those in contact are to be told who the members are. */
  widened(): void {
    this.#isWider = this.#isTrusting;
  }

  /** isWider tells, once, that this is so since it was last asked. */
  isWider(): boolean {
    const isWider = this.#isWider;
    this.#isWider = false;
    return isWider;
  }

  /** takes tells whether frames of a peer's replica are to be looked at. */
  takes(peer: string): boolean {
    if (!this.#isTrusting || this.#isKnown(peer)) return true;
    if (!this.#fellows.has(peer)) return false;
    const known = [...this.#fellows.keys()].filter((fellow) => this.#isKnown(fellow));
    return known.length === 0 ? !this.#hasVote : this.#isNamed(peer, known);
  }

  /** Who is named by one that is known is known as well (AQ1). */
  #isNamed(peer: string, known: string[]): boolean {
    const left = new Set(this.#fellows.keys());
    for (let fellow = known.pop(); fellow !== undefined; fellow = known.pop()) {
      if (!left.delete(fellow)) continue;
      const named = this.#fellows.get(fellow) as ReadonlySet<string>;
      if (named.has(peer)) return true;
      for (const other of left) if (named.has(other)) known.push(other);
    }
    return false;
  }

  /** The other engine believes what is signed, and nobody's word. */
  get #isTrusting(): boolean {
    return this.#ground.engine === "raft";
  }

  #isKnown(hub: string): boolean {
    const { members, membership } = this.#ground;
    if (members.member(hub) !== undefined) return true;
    const { voters, outgoing, learners } = membership();
    return [voters, outgoing, learners].some((list) => list.some((replica) => hubOf(replica) === hub));
  }

  get #hasVote(): boolean {
    const { hubId, membership } = this.#ground;
    const { voters, outgoing } = membership();
    return [voters, outgoing].some((list) => list.some((replica) => hubOf(replica) === hubId));
  }
}
