import { showPolicy } from "../members/describe.ts";
import type { Action, Ballot } from "./messages.ts";
import { tallyOf, weightOf } from "./tally.ts";

/** showAction says what an action does, as it stands in a sentence. */
export function showAction(action: Action): string {
  switch (action.kind) {
    case "admit":
      return `let in hub ${action.hubId} with weight ${action.weight}`;
    case "remove":
      return `remove hub ${action.hubId}`;
    case "weigh":
      return `give hub ${action.hubId} weight ${action.weight}`;
    case "assign_role":
      return `give role ${action.role} to hub ${[action.hubId, ...action.standbys].join(", then to ")}`;
    case "confirm_failed":
      return `confirm that hub ${action.hubId} has failed`;
    case "set_policy":
      return `set policy ${action.key} to ${showPolicy(action.value)}`;
    case "allocate": {
      const what = action.agentType === "" ? action.resource : `${action.resource} (${action.agentType})`;
      return `lend ${action.amount} ${what} of hub ${action.owner} to hub ${action.borrower} for ${action.durationMs} ms`;
    }
    case "prioritize":
      return `give ${action.id} priority ${action.priority}`;
  }
}

function describeBallot(ballot: Ballot): string {
  const { opening, votes, result, attestations, early } = ballot;
  const { proposal, eligible, deadline } = opening;
  const { approve, reject, abstain, missing } = tallyOf(eligible, votes);
  const how = result === undefined ? `open until ${deadline}` : `${result} at ${ballot.closedTime}${early ? " (early)" : ""}`;
  const counts = `approve ${approve} reject ${reject} abstain ${abstain} missing ${missing} of ${weightOf(eligible)}`;
  const said = votes.map(({ statement }) => `${statement.hubId} ${statement.vote}`).join(", ");
  return [
    `${proposal.ballotId}  ${proposal.subject}  by ${proposal.proposer}: ${showAction(proposal.action)}`,
    `  ${how}  ${counts}${attestations.length === 0 ? "" : `  attested by ${attestations.map(({ hubId }) => hubId).join(", ")}`}`,
    ...(said === "" ? [] : [`  ${said}`]),
  ].join("\n");
}

/** describeBallots draws a book of ballots. */
export function describeBallots(ballots: readonly Ballot[]): string {
  return ballots.length === 0 ? "no ballots" : ballots.map(describeBallot).join("\n");
}
