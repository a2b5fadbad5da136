import type { Answer, Effect } from "../messages.ts";
import type { PartGround, Settled } from "../part.ts";
import type { BallotDesk } from "./desk.ts";
import type { BallotNews, BallotValue } from "./messages.ts";

type Changed = Extract<Answer, { readonly kind: "changed" }>;

/**
 * Openings see to what this hub itself has to say in ballots, and keep back the answer to who opened one here.
 *
 * OV1 who opens a ballot is answered when this hub's own vote counts, with the result if the vote has decided it. If nothing is known of the
 *    vote in time, the ballot is said to be open.
 */
export class Openings {
  readonly #desk: Pick<BallotDesk, "onNews">;
  readonly #submit: PartGround["submit"];
  /** Answers that wait, by ballots in which this hub's own vote is on its way. */
  readonly #voting = new Map<string, readonly Changed[]>();

  constructor(desk: Pick<BallotDesk, "onNews">, submit: PartGround["submit"]) {
    this.#desk = desk;
    this.#submit = submit;
  }

  /** onNews says what this hub has to say when something became known of a ballot. */
  onNews(news: BallotNews): void {
    const command = this.#desk.onNews(news);
    if (command?.kind !== "vote") return command && this.#submit({ book: "ballots", command });
    const { ballotId } = command;
    this.#voting.set(ballotId, []);
    this.#submit({ book: "ballots", command }, (outcome, _now, out) => this.#settle(ballotId, outcome, out));
  }

  /** holds keeps an answer back if this hub's vote in its ballot is on its way. */
  holds(answer: Changed): boolean {
    const { ballotId = "" } = (answer.value ?? {}) as Partial<BallotValue>;
    const waiting = this.#voting.get(ballotId);
    if (waiting !== undefined) this.#voting.set(ballotId, [...waiting, answer]);
    return waiting !== undefined;
  }

  /** cancel forgets a call that nobody waits for any more. */
  cancel(call: number): void {
    for (const [ballotId, waiting] of this.#voting)
      this.#voting.set(
        ballotId,
        waiting.filter((answer) => answer.call !== call),
      );
  }

  #settle(ballotId: string, outcome: Settled, out: Effect[]): void {
    const voted = outcome.kind === "applied" && outcome.applied.result.ok ? outcome.applied : undefined;
    const newer = voted?.result.ok === true ? { index: voted.at.index, value: voted.result.value, early: false } : {};
    for (const answer of this.#voting.get(ballotId) ?? []) out.push({ ...answer, ...newer });
    this.#voting.delete(ballotId);
  }
}
