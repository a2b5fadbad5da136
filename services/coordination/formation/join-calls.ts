import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import type { Effect, Standing } from "../messages.ts";

/** A call waits so long for what the asked member says, ms; the request itself goes on. */
const ANSWER_MS = 5_000;

/** JoinAnswer is what a member said to the request to be let in: nothing yet, that it is before the members, or no. */
export type JoinAnswer = "none" | "taken" | Failure;

/**
 * JoinCalls are calls of an operator who wants this hub let into a federation, and who is told what the member says that was asked.
 *
 * JC1 each ends: with the member's answer, with the end of the way, or after a while as it stands then.
 */
export class JoinCalls {
  readonly #until = new Map<number, number>();

  wait(now: Now, call: number): void {
    this.#until.set(call, now.mono + ANSWER_MS);
  }

  /** cancel notes that nobody waits for a call any more. */
  cancel(call: number): void {
    this.#until.delete(call);
  }

  /** look ends the calls that wait no longer. */
  look(now: Now, standing: Standing, answer: JoinAnswer, out: Effect[]): void {
    for (const [call, until] of this.#until) {
      if (standing === "joining" && answer === "none" && now.mono < until) continue;
      this.#until.delete(call);
      if (standing !== "member" && typeof answer === "object") out.push({ kind: "refused", call, failure: answer });
      else out.push({ kind: "standing", call, standing });
    }
  }

  deadline(): number | undefined {
    const [first] = this.#until.values();
    return first;
  }
}
