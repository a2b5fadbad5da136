import type { Membership } from "../log/engine.ts";
import { introducedOf, sameVoters } from "../members/introduction.ts";
import type { Members } from "../members/members.ts";
import type { Effect } from "../messages.ts";
import { type Begun, remembering } from "./record.ts";

/**
 * VoterRecord keeps what is stored of a federation up to date with who its voters are: a hub that comes back with an empty log knows from
 * that whose word to take for the state (BC4), and one whose store fell back who may give it another number (WB4). As long as its log has not
 * come to where it was let in, it was told of newer ones than the log has.
 */
export class VoterRecord {
  #begun: Begun;

  constructor(begun: Begun) {
    this.#begun = begun;
  }

  /** begun is the federation, with the voters that are known. */
  get begun(): Begun {
    return this.#begun;
  }

  /** look takes who the voters are, as the log of this replica says, in which it is a member. */
  look(membership: Pick<Membership, "voters">, members: Pick<Members, "key">, out: Effect[]): void {
    const voters = introducedOf(membership, members);
    if (voters.length === 0 || sameVoters(voters, this.#begun.voters)) return;
    this.#begun = { ...this.#begun, voters };
    out.push({ kind: "persist", ops: [remembering(this.#begun)] });
  }
}
