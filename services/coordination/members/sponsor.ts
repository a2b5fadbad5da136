import type { Failure } from "#kernel/error.ts";
import type { Effect } from "../messages.ts";
import type { PartGround } from "../part.ts";
import type { Members } from "./members.ts";
import type { Candidate } from "./messages.ts";

/** SponsorGround is what it works with. */
export interface SponsorGround {
  readonly federationId: string;
  readonly members: Members;
  readonly submit: PartGround["submit"];
}

/**
 * Sponsor brings the requests of peers into the log: to join, and to come back with another replica.
 *
 * SN1 of each peer one request is on the way at a time; the answer to that is the answer to those that came meanwhile.
 */
export class Sponsor {
  readonly #ground: SponsorGround;
  readonly #asking = new Set<string>();

  constructor(ground: SponsorGround) {
    this.#ground = ground;
  }

  /** ask takes a request of a peer, which its session has proved to be who it says. */
  ask(peer: string, candidate: Candidate, signature: Uint8Array, out: Effect[]): void {
    const { members, submit } = this.#ground;
    const least = members.nextIncarnation(peer);
    // A member that has this replica only has to begin; another one takes its place (BM2).
    if (members.member(peer)?.incarnation === candidate.incarnation) return this.#answer(peer, undefined, candidate.incarnation, out);
    if (candidate.incarnation < least) return this.#answer(peer, undefined, least, out);
    if (this.#asking.has(peer)) return;
    this.#asking.add(peer);
    submit({ book: "members", command: { kind: "request_join", candidate, signature } }, (outcome, _now, after) => {
      this.#asking.delete(peer);
      const { incarnation } = candidate;
      if (outcome.kind === "refused") return this.#answer(peer, outcome.failure, incarnation, after);
      const { result } = outcome.applied;
      this.#answer(peer, result.ok ? undefined : result.failure, Math.min(members.nextIncarnation(peer), incarnation), after);
    });
  }

  #answer(peer: string, failure: Failure | undefined, incarnation: number, out: Effect[]): void {
    const { federationId } = this.#ground;
    out.push({ kind: "send", peer, early: false, frame: { kind: "join_answer", federationId, failure, incarnation } });
  }
}
