import type { Rate } from "#kernel/bounds/token-bucket.ts";
import { TokenBuckets } from "#kernel/bounds/token-buckets.ts";
import type { Crypto } from "#kernel/crypto.ts";
import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import type { Effect } from "../messages.ts";
import type { PartGround } from "../part.ts";
import type { Members } from "./members.ts";
import type { Candidate } from "./messages.ts";
import { joinBytes } from "./statements.ts";

/** Requests of one peer that are brought into the log: each is an entry that every member stores, for one who may be no member. */
const RATE: Rate = { perSecond: 0.1, burst: 8 };

/** SponsorGround is what it works with. */
export interface SponsorGround {
  readonly federationId: string;
  readonly crypto: Pick<Crypto, "verify">;
  readonly members: Members;
  readonly submit: PartGround["submit"];
}

/** Asking is a request on its way into the log. */
interface Asking {
  readonly incarnation: number;
  /** One with another replica that came meanwhile. */
  next: { readonly candidate: Candidate; readonly signature: Uint8Array } | undefined;
}

/**
 * Sponsor brings the requests of peers into the log: to join, and to come back with another replica.
 *
 * SN1 of each peer one request is on the way at a time; the answer to that is the answer to the same one that came meanwhile, and the newest
 *    with another replica follows it.
 * SN2 nothing comes into the log that is not signed, and of each peer no more than a request in ten seconds, after the first few.
 */
export class Sponsor {
  readonly #ground: SponsorGround;
  /** Peers with a request on its way into the log. */
  readonly #asking = new Map<string, Asking>();
  readonly #rates = new TokenBuckets();

  constructor(ground: SponsorGround) {
    this.#ground = ground;
  }

  /** ask takes a request of a peer, which its session has proved to be who it says. */
  ask(now: Now, peer: string, candidate: Candidate, signature: Uint8Array, out: Effect[]): void {
    const { members, submit } = this.#ground;
    const least = members.nextIncarnation(peer);
    // A member that has this replica only has to begin; another one takes its place (BM2).
    if (members.member(peer)?.incarnation === candidate.incarnation) return this.#answer(peer, undefined, candidate.incarnation, out);
    if (candidate.incarnation < least) return this.#answer(peer, undefined, least, out);
    const before = this.#asking.get(peer);
    if (before !== undefined) {
      if (before.incarnation !== candidate.incarnation) before.next = { candidate, signature };
      return;
    }
    const problem = this.#problem(now, peer, candidate, signature);
    if (problem !== undefined) return this.#answer(peer, problem, candidate.incarnation, out);
    const asking: Asking = { incarnation: candidate.incarnation, next: undefined };
    this.#asking.set(peer, asking);
    submit({ book: "members", command: { kind: "request_join", candidate, signature } }, (outcome, at, after) => {
      this.#asking.delete(peer);
      if (asking.next !== undefined) return this.ask(at, peer, asking.next.candidate, asking.next.signature, after);
      const { incarnation } = candidate;
      if (outcome.kind === "refused") return this.#answer(peer, outcome.failure, incarnation, after);
      const { result } = outcome.applied;
      this.#answer(peer, result.ok ? undefined : result.failure, Math.min(members.nextIncarnation(peer), incarnation), after);
    });
  }

  #problem({ mono }: Now, peer: string, candidate: Candidate, signature: Uint8Array): Failure | undefined {
    const { federationId, crypto } = this.#ground;
    const waitMs = this.#rates.take(peer, RATE, mono);
    if (waitMs > 0) {
      const seconds = Math.ceil(waitMs / 1_000);
      return { reason: "RATE_LIMITED", message: `it has asked often enough lately; ask again in ${seconds} s` };
    }
    if (crypto.verify(candidate.publicKey, joinBytes(federationId, candidate), signature)) return undefined;
    const message = "the request is not signed by the key that is in it; sign it with that key";
    return { reason: "SIGNATURE_INVALID", message, field: "signature" };
  }

  #answer(peer: string, failure: Failure | undefined, incarnation: number, out: Effect[]): void {
    const { federationId } = this.#ground;
    out.push({ kind: "send", peer, early: false, frame: { kind: "join_answer", federationId, failure, incarnation } });
  }
}
