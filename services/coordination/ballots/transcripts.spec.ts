import { describe, expect, test } from "vitest";
import { checkTranscript, type Step } from "../../../test/datadriven/index.ts";
import { candidateOf, FederationBooks, joinOf } from "../../../test/fakes/federation-books.ts";
import type { Outcome } from "../log/book.ts";
import type { Engine, MemberNews } from "../members/messages.ts";
import { verifyCertificate } from "./certificate.ts";
import type { Action, BallotNews, Vote } from "./messages.ts";

/** shown is news on one line. */
function shown(item: MemberNews | BallotNews): string {
  switch (item.kind) {
    case "opened":
      return `opened ${item.opening.proposal.ballotId} until ${item.opening.deadline}`;
    case "decided":
      return `decided ${item.ballotId} ${item.result}${item.early ? " early" : ""}${item.attest.length > 0 ? ", to be attested" : ""}`;
    case "endpoint_moved":
      return `endpoint_moved ${item.hubId} to ${item.endpoint.host} fence ${item.fence}`;
    default:
      return Object.values(item)
        .map((value) => (typeof value === "object" ? JSON.stringify(value) : String(value)))
        .join(" ");
  }
}

/** actionOf reads an action from the words of a step. */
function actionOf(books: FederationBooks, [what = "", id = "", value = ""]: readonly string[]): Action {
  const number = Number(value);
  switch (what) {
    case "admit": {
      const { hubId, incarnation, publicKey } = candidateOf(id);
      return { kind: "admit", hubId, incarnation, publicKey, weight: number || 1 };
    }
    case "remove":
      return { kind: "remove", hubId: id };
    case "weigh":
      return { kind: "weigh", hubId: id, weight: number };
    case "policy":
      return { kind: "set_policy", key: id, value: { kind: "int", value: number }, basis: books.members.policies.version(id) };
    case "role":
      return { kind: "assign_role", role: id, hubId: value, standbys: [] };
    default:
      return { kind: "prioritize", id: id || "job-1", priority: 50 };
  }
}

/** Play is one transcript. */
class Play {
  #books = new FederationBooks([]);

  run({ words, args }: Step): string {
    const told = this.#books.news.length;
    const [verb = "", ...rest] = words;
    const answer = this.#act(verb, rest, args);
    if (typeof answer === "string") return answer;
    const news = this.#books.news.slice(verb === "found" ? 0 : told).map(shown);
    if (answer !== undefined && !answer.ok) return [...news, `${answer.failure.reason}: ${answer.failure.message}`].join("\n");
    return news.length === 0 ? "ok" : news.join("\n");
  }

  #act(verb: string, rest: readonly string[], args: Step["args"]): Outcome<unknown, unknown> | string | undefined {
    const books = this.#books;
    const [first = "", second = "", third = ""] = rest;
    const later = Number(args["later"] ?? 0);
    switch (verb) {
      case "found":
        this.#books = new FederationBooks(rest, { engine: (args["engine"] ?? "raft") as Engine });
        return undefined;
      case "join":
        return books.member(first, joinOf(candidateOf(first)), later);
      case "leave":
        return books.member(first, { kind: "leave" }, later);
      case "ready":
        return books.member(first, { kind: "ready", incarnation: books.members.member(first)?.incarnation ?? 1 });
      case "replace":
        return books.member(first, { kind: "replace", incarnation: Number(second) });
      case "rotate":
        return books.rotate(first, second, (books.members.key(first)?.serial ?? 1) + 1);
      case "accuse":
        return books.member(first, { kind: "accuse", hubId: second, life: Number(args["life"] ?? 0) }, later);
      case "refute":
        return books.member(first, { kind: "refute", life: Number(args["life"] ?? 1) }, later);
      case "propose":
        return books.propose(first, second, actionOf(books, rest.slice(2)));
      case "vote":
        return books.vote(first, second, third as Vote, later);
      case "withdraw":
        return books.ballot(second, { kind: "withdraw", ballotId: first });
      case "attest":
        return books.attest(first, second);
      case "wait":
        books.instant(Number(first));
        return undefined;
      case "wanted":
        return books.wanted();
      case "members":
        return books.members.describe();
      case "ballots":
        return books.ballots.describe();
      case "verify":
        return this.#verify(first);
      default:
        throw new Error(`${verb} is no step`);
    }
  }

  #verify(ballotId: string): string {
    const bytes = this.#books.ballots.certificate(ballotId);
    const trusted = this.#books.members.trustedKeys();
    if (typeof bytes === "string" || trusted === undefined) return String(bytes);
    return verifyCertificate(bytes, { kind: "keys", trusted }, this.#books.crypto).sentence;
  }
}

describe("transcripts of books", () => {
  test.each([
    ["ballots", 30],
    ["../members/testdata/members", 30],
  ])("%s", async (name, steps) => {
    const play = new Play();
    const path = name.includes("/") ? `${import.meta.dirname}/${name}.txt` : `${import.meta.dirname}/testdata/${name}.txt`;
    expect(await checkTranscript(path, (step) => play.run(step))).toBeGreaterThanOrEqual(steps);
  });
});
