import type { Effect, Event } from "../messages.ts";
import type { News } from "./commands.ts";
import { actionText } from "./records.ts";

/** newsEvent is what people are told of something that became known; undefined for what they need not hear of. */
export function newsEvent(news: News, self: string): Event | undefined {
  if (news.book === "members") return memberEvent(news.news, self);
  return news.book === "ballots" ? ballotEvent(news.news) : undefined;
}

const event = (severity: Event["severity"], name: string, message: string, hubId = ""): Event => ({
  kind: "event",
  severity,
  name,
  message,
  hubId,
});

/** evidenceOf is what follows from a proof that a hub broke the protocol: it is counted, told, and, if it is not this hub, held against it. */
export function evidenceOf(hubId: string, what: string, self: string): Effect[] {
  const sentence = `${hubId} broke the protocol: ${what}`;
  const told: Effect[] = [{ kind: "observe", what: "evidence" }, event("error", "evidence", sentence, hubId)];
  return hubId === self ? told : [...told, { kind: "misconduct", hubId, sentence }];
}

function memberEvent(news: Extract<News, { book: "members" }>["news"], self: string): Event | undefined {
  switch (news.kind) {
    case "join_requested":
      return event("info", news.kind, `${news.hubId} asks to join; let it in with foedus federation admit ${news.hubId}`, news.hubId);
    case "admitted":
      return news.hubId === self ? undefined : event("info", news.kind, `${news.hubId} is a member now`, news.hubId);
    case "gone":
      return event("warning", news.kind, `${news.hubId} ${news.removed ? "was removed" : "left"}`, news.hubId);
    case "accused":
      return event(
        "warning",
        news.kind,
        `${news.by} says that ${news.hubId} has failed (${news.accusers} of ${news.needed} needed)`,
        news.hubId,
      );
    case "failed":
      return event("error", news.kind, `${news.hubId} has failed, by the word of a majority of the voters`, news.hubId);
    case "refuted":
      return event("info", news.kind, `${news.hubId} lives`, news.hubId);
    case "role_moved":
      return event("warning", news.kind, `${news.hubId} has the role ${news.role} now (fence ${news.fence})`, news.hubId);
    case "role_vacant":
      return event("error", news.kind, `nobody can have the role ${news.role} at the moment`);
    case "endpoint_moved":
      return news.failover
        ? event("warning", news.kind, `${news.hubId} is reached at its standby now (fence ${news.fence})`, news.hubId)
        : undefined;
    default:
      return undefined;
  }
}

function ballotEvent(news: Extract<News, { book: "ballots" }>["news"]): Event | undefined {
  switch (news.kind) {
    case "opened": {
      const { ballotId, proposer, action } = news.opening.proposal;
      return event("info", news.kind, `${proposer} proposes to ${actionText(action)} (ballot ${ballotId})`, proposer);
    }
    case "decided":
      return event("info", news.kind, `ballot ${news.ballotId} is ${news.result}: ${actionText(news.action)}`);
    case "fruitless":
      return event("warning", news.kind, `ballot ${news.ballotId} was approved and could not be carried out: ${news.message}`);
    default:
      return undefined;
  }
}
