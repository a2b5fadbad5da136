import type { Crypto } from "#kernel/crypto.ts";
import type { Failure } from "#kernel/error.ts";
import type { Prng } from "#kernel/prng.ts";
import type { LogInstant } from "../log/book.ts";
import type { Members } from "../members/members.ts";
import type { Ballots } from "./ballots.ts";
import { type Action, BALLOT_LIMITS, type BallotCommand, type BallotNews, SUBJECT_OF, type Vote } from "./messages.ts";
import { closingBytes, voteBytes } from "./statements.ts";

/** DeskGround is what a hub's own ballots and votes are made with. */
export interface DeskGround {
  readonly hubId: string;
  readonly crypto: Pick<Crypto, "sign">;
  readonly prng: Prng;
  readonly members: Members;
  readonly ballots: Ballots;
  /** at is the position of the log that was applied last. */
  readonly at: () => LogInstant;
}

/**
 * BallotDesk writes this hub's own proposals, votes and attestations, each signed over what the log says at this moment.
 *
 * BD1 a hub attests the votes of a ballot only as its own copy of the log has them.
 */
export class BallotDesk {
  readonly #ground: DeskGround;

  constructor(ground: DeskGround) {
    this.#ground = ground;
  }

  /** propose makes the command that opens a ballot, with an id of its own. */
  propose(action: Action, reasoning: string, durationMs: number): BallotCommand {
    const { hubId, prng } = this.#ground;
    const unique = `-${prng.u32().toString(36)}${prng.u32().toString(36)}`;
    // The name may be cut, what makes the id this ballot's may not.
    const ballotId = hubId.slice(0, BALLOT_LIMITS.id - unique.length) + unique;
    return { kind: "propose", ballotId, subject: SUBJECT_OF[action.kind], action, reasoning, durationMs };
  }

  /** vote makes and signs this hub's vote. */
  vote(ballotId: string, vote: Vote, reasoning: string): BallotCommand | Failure {
    const { hubId, crypto, ballots, members } = this.#ground;
    const ballot = ballots.ballot(ballotId);
    if (ballot === undefined || ballot.result !== undefined) {
      const message =
        ballot === undefined
          ? `there is no ballot ${ballotId}; foedus federation ballot lists them`
          : `ballot ${ballotId} is ${ballot.result}`;
      return { reason: "BALLOT_CLOSED", message, field: "ballot_id" };
    }
    const own = ballot.opening.eligible.find((voter) => voter.hubId === hubId);
    const [key, member] = [members.key(hubId), members.member(hubId)];
    if (own === undefined || key === undefined || member === undefined)
      return {
        reason: "NOT_A_VOTER",
        message: `this hub has no vote in ballot ${ballotId}: it was no member with a weight when it opened`,
      };
    const { index: asOfIndex, time: asOfTime } = this.#ground.at();
    const { federationId } = ballot.opening;
    // The replica that is in force now: it may have been replaced since the ballot opened.
    const { weight } = own;
    const { incarnation } = member;
    const openingDigest = ballots.digestOf(ballot);
    const said = { openingDigest, incarnation, vote, weight, keySerial: key.serial, asOfIndex, asOfTime, reasoning };
    return { kind: "vote", ballotId, ...said, signature: crypto.sign(voteBytes({ federationId, ballotId, hubId, ...said })) };
  }

  /** onNews gives what this hub has to say when something became known: it votes for what it proposed, and attests votes (BD1). */
  onNews(news: BallotNews): BallotCommand | undefined {
    const { hubId, crypto, ballots, members } = this.#ground;
    if (news.kind === "opened" && news.opening.proposal.proposer === hubId) {
      const vote = this.vote(news.opening.proposal.ballotId, "APPROVE", "");
      return "reason" in vote ? undefined : vote;
    }
    if (news.kind !== "decided" || news.attest.length === 0) return undefined;
    const key = members.key(hubId);
    const { index: asOfIndex } = this.#ground.at();
    const closing = key === undefined ? undefined : ballots.closing(news.ballotId, hubId, key.serial, asOfIndex);
    const eligible = ballots.ballot(news.ballotId)?.opening.eligible.some((voter) => voter.hubId === hubId) === true;
    if (key === undefined || closing === undefined || !eligible) return undefined;
    return { kind: "attest", ballotId: news.ballotId, keySerial: key.serial, asOfIndex, signature: crypto.sign(closingBytes(closing)) };
  }
}
