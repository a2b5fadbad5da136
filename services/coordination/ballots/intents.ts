import type { Failure } from "#kernel/error.ts";
import type { Members } from "../members/members.ts";
import type { Founding } from "../members/messages.ts";
import type { Request } from "../messages.ts";
import type { LogCommand } from "../state/commands.ts";
import type { BallotDesk } from "./desk.ts";
import type { Action } from "./messages.ts";

/** Intent is a request that becomes a command of the log. */
export type Intent = Extract<Request, { readonly kind: "change" | "propose" | "vote" | "admit" | "remove" }>;

/** Intents make of what people want the command that brings it about. */
export class Intents {
  readonly #hubId: string;
  readonly #founding: Founding;
  readonly #members: Members;
  readonly #desk: BallotDesk;

  constructor(hubId: string, founding: Founding, members: Members, desk: BallotDesk) {
    this.#hubId = hubId;
    this.#founding = founding;
    this.#members = members;
    this.#desk = desk;
  }

  /** commandOf gives the command, or why there is none. */
  commandOf(intent: Intent): LogCommand | Failure {
    switch (intent.kind) {
      case "change":
        return intent.command;
      case "propose":
        return this.#propose(intent.action, intent.reasoning, intent.durationMs);
      case "vote": {
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
    const join = this.#members.dump().joins.find(({ candidate }) => candidate.hubId === hubId);
    if (join === undefined) {
      const message = `${hubId} has not asked to join; its operator does that with foedus federation join ${this.#founding.federationId} --via ${this.#hubId}`;
      return { reason: "PEER_NOT_FOUND", message, field: "hub_id" };
    }
    const { incarnation, publicKey } = join.candidate;
    const action = { kind: "admit", hubId, incarnation, publicKey, weight } as const;
    return this.#byWord ? { book: "members", command: action } : this.#propose(action);
  }

  #remove(hubId: string): LogCommand {
    const action = { kind: "remove", hubId } as const;
    const isFounder = this.#founding.founders.some((founder) => founder.hubId === hubId);
    return this.#byWord && !isFounder ? { book: "members", command: action } : this.#propose(action);
  }

  get #byWord(): boolean {
    const { admission, founders } = this.#founding;
    return admission === "founder" && founders.some(({ hubId }) => hubId === this.#hubId);
  }
}
