import type { Failure } from "#kernel/error.ts";
import { sameBytes } from "#kernel/wire/shape.ts";
import type { Members } from "../members/members.ts";
import type { Founding } from "../members/messages.ts";
import type { Request } from "../messages.ts";
import type { SessionView } from "../ports.ts";
import type { Books } from "../state/books.ts";
import type { LogCommand } from "../state/commands.ts";
import type { BallotDesk } from "./desk.ts";
import type { Action } from "./messages.ts";

/** Intent is a request that becomes a command of the log. */
export type Intent = Extract<Request, { readonly kind: "change" | "propose" | "vote" | "admit" | "remove" }>;

/**
 * Intents make of what people want the command that brings it about.
 *
 * NM1 this hub lets nobody in under the name of a hub that says itself, on its own session, that it has another key: who brings a request of
 *    another hub may have made it up.
 */
export class Intents {
  readonly #hubId: string;
  readonly #founding: Founding;
  readonly #members: Members;
  readonly #ballots: Books["ballots"];
  readonly #desk: BallotDesk;
  readonly #keySaid: SessionView["keySaid"];

  constructor(
    hubId: string,
    founding: Founding,
    { members, ballots }: Pick<Books, "members" | "ballots">,
    desk: BallotDesk,
    keySaid: SessionView["keySaid"],
  ) {
    this.#hubId = hubId;
    this.#founding = founding;
    this.#members = members;
    this.#ballots = ballots;
    this.#desk = desk;
    this.#keySaid = keySaid;
  }

  /** commandOf gives the command, or why there is none. */
  commandOf(intent: Intent): LogCommand | Failure {
    switch (intent.kind) {
      case "change":
        return intent.command;
      case "propose":
        return this.#propose(intent.action, intent.reasoning, intent.durationMs);
      case "vote": {
        const action = intent.vote === "APPROVE" ? this.#ballots.ballot(intent.ballotId)?.opening.proposal.action : undefined;
        const problem = action?.kind === "admit" ? this.#nameProblem(action.hubId, action.publicKey) : undefined;
        if (problem !== undefined) return problem;
        const command = this.#desk.vote(intent.ballotId, intent.vote, intent.reasoning);
        return "reason" in command ? command : { book: "ballots", command };
      }
      case "admit":
        return this.#admit(intent.hubId, intent.weight);
      case "remove":
        return this.#remove(intent.hubId);
    }
  }

  #propose(action: Action, reasoning = "", durationMs = 0): LogCommand {
    return { book: "ballots", command: this.#desk.propose(action, reasoning, durationMs) };
  }

  /** admit lets in a hub that asked: by this founder's word where the founding entry says so, else by a ballot. */
  #admit(hubId: string, weight: number): LogCommand | Failure {
    const requests = this.#members.dump().joins.filter(({ candidate }) => candidate.hubId === hubId);
    const join = requests.find(({ candidate }) => this.#nameProblem(hubId, candidate.publicKey) === undefined) ?? requests[0];
    if (join === undefined) {
      const message = `${hubId} has not asked to join; its operator does that with foedus federation join ${this.#founding.federationId} --via ${this.#hubId}`;
      return { reason: "PEER_NOT_FOUND", message, field: "hub_id" };
    }
    const { incarnation, publicKey } = join.candidate;
    const problem = this.#nameProblem(hubId, publicKey, join.sponsor);
    if (problem !== undefined) return problem;
    const action = { kind: "admit", hubId, incarnation, publicKey, weight } as const;
    return this.#byWord ? { book: "members", command: action } : this.#propose(action);
  }

  /** nameProblem says why a request is not that of the hub whose name it has (NM1). */
  #nameProblem(hubId: string, publicKey: Uint8Array, sponsor = "a member"): Failure | undefined {
    const said = this.#keySaid(hubId);
    if (said === undefined || sameBytes(said, publicKey)) return undefined;
    const message = `the request of ${hubId} that ${sponsor} brought has another key than ${hubId} says itself: somebody else made it. Ask ${sponsor}, and let ${hubId} ask again through this hub`;
    return { reason: "IDENTITY_MISMATCH", message, field: "hub_id" };
  }

  #remove(hubId: string): LogCommand {
    const action = { kind: "remove", hubId } as const;
    return this.#byWord && !this.#isFounder(hubId) ? { book: "members", command: action } : this.#propose(action);
  }

  get #byWord(): boolean {
    return this.#founding.admission === "founder" && this.#isFounder(this.#hubId);
  }

  /** A founder that left and was let in again is one no more. */
  #isFounder(hubId: string): boolean {
    return this.#members.member(hubId)?.admittedBy === "founding";
  }
}
