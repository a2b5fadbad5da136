import type { Crypto } from "#kernel/crypto.ts";
import { Ballots } from "../ballots/ballots.ts";
import { isMemberAction } from "../ballots/electorate.ts";
import type { BallotNews, BallotsDump } from "../ballots/messages.ts";
import type { LogInstant, Outcome } from "../log/book.ts";
import { Members } from "../members/members.ts";
import type { MemberNews, MembersDump } from "../members/messages.ts";
import { MigrationBook } from "../migration/book.ts";
import type { MigrationData, MigrationNews } from "../migration/messages.ts";
import { ResourceBook } from "../resources/book.ts";
import type { ResourceNews } from "../resources/commands.ts";
import type { ResourceDump } from "../resources/lending/dump.ts";
import type { ValuesDump } from "../values/messages.ts";
import { ValuesBook } from "../values/values-book.ts";
import type { LogCommand, News } from "./commands.ts";
import { carryOutLending, isLendingAction, lendingActionProblem } from "./lending-actions.ts";

/** BooksData is all that the books hold, as plain sorted data. */
export interface BooksData {
  readonly members: MembersDump;
  readonly ballots: BallotsDump;
  readonly values: ValuesDump;
  readonly resources: ResourceDump;
  readonly migration: MigrationData;
}

/** Result is what became of a command. */
export type Result = Outcome<unknown, never> | { readonly ok: true; readonly value: unknown };

/**
 * Books are all that the entries of a log are about, and how one book tells the others what concerns them.
 *
 * FB1 what a ballot approved is carried out at the position at which it was decided, or never: then that becomes known with the reason.
 * FB2 a hub that goes takes no part in anything from that position on; one that has failed lends nothing until it lives again.
 */
export class Books {
  readonly members: Members;
  readonly ballots: Ballots;
  readonly values = new ValuesBook();
  readonly resources = new ResourceBook();
  readonly migration: MigrationBook;

  constructor(crypto: Crypto) {
    this.members = new Members(crypto);
    this.ballots = new Ballots(this.members, crypto, (action) => lendingActionProblem(this.resources, action));
    this.migration = new MigrationBook(crypto);
  }

  /** due is the log time at which something happens by itself; undefined for never. */
  due(): number | undefined {
    const times = [this.members.due(), this.ballots.due(), this.resources.due(), this.migration.due()].filter((time) => time !== undefined);
    return times.length === 0 ? undefined : Math.min(...times);
  }

  /** expire does what is due, in a fixed order: what a ballot decides may need members as they are then. */
  expire(at: LogInstant, news: News[]): void {
    const isDue = ({ due }: { readonly due: number | undefined }): boolean => due !== undefined && due <= at.time;
    if (isDue({ due: this.members.due() })) this.#tellMembers(at, this.members.expire(at), news);
    if (isDue({ due: this.ballots.due() })) this.#tellBallots(at, this.ballots.expire(at), news);
    if (isDue({ due: this.resources.due() })) tellResources(this.resources.expire(at), news);
    if (isDue({ due: this.migration.due() })) tellMigration(this.migration.expire(at), news);
  }

  /** apply carries out one command of a hub. */
  apply(at: LogInstant, author: string, command: LogCommand, news: News[]): Result {
    switch (command.book) {
      case "clock":
        return { ok: true, value: undefined };
      case "members": {
        const outcome = this.members.apply(at, author, command.command);
        if (outcome.ok) this.#tellMembers(at, outcome.news, news);
        return plain(outcome);
      }
      case "ballots": {
        const outcome = this.ballots.apply(at, author, command.command);
        if (outcome.ok) this.#tellBallots(at, outcome.news, news);
        return plain(outcome);
      }
      case "values": {
        const outcome = this.values.apply(at, author, command.command);
        if (outcome.ok) for (const one of outcome.news) news.push({ book: "values", news: one });
        return plain(outcome);
      }
      case "resources": {
        const outcome = this.resources.apply(at, author, command.command);
        if (outcome.ok) tellResources(outcome.news, news);
        return plain(outcome);
      }
      case "migration": {
        const outcome = this.migration.apply(at, author, command.command);
        if (outcome.ok) tellMigration(outcome.news, news);
        return plain(outcome);
      }
    }
  }

  dump(): BooksData {
    return {
      members: this.members.dump(),
      ballots: this.ballots.dump(),
      values: this.values.dump(),
      resources: this.resources.dump(),
      migration: this.migration.dump(),
    };
  }

  load({ members, ballots, values, resources, migration }: BooksData): void {
    this.members.load(members);
    this.ballots.load(ballots);
    this.values.load(values);
    this.resources.load(resources);
    this.migration.load(migration);
  }

  describe(): string {
    return [this.members, this.ballots, this.values, this.resources, this.migration].map((book) => book.describe()).join("\n");
  }

  #tellMembers(at: LogInstant, told: readonly MemberNews[], news: News[]): void {
    for (const one of told) {
      news.push({ book: "members", news: one });
      if (one.kind === "failed" || one.kind === "refuted")
        tellResources(this.resources.setAbsent(at, one.hubId, one.kind === "failed"), news);
      if (one.kind === "gone") {
        tellResources(this.resources.remove(at, one.hubId), news);
        tellMigration(this.migration.removed(at, one.hubId), news);
      }
    }
  }

  #tellBallots(at: LogInstant, told: readonly BallotNews[], news: News[]): void {
    for (const one of told) {
      news.push({ book: "ballots", news: one });
      if (one.kind !== "decided" || one.result !== "APPROVED") continue;
      if (isLendingAction(one.action)) {
        const lent = carryOutLending(this.resources, at, one.ballotId, one.action);
        if (lent.ok) tellResources(lent.news, news);
        else news.push({ book: "ballots", news: { kind: "fruitless", ballotId: one.ballotId, message: lent.failure.message } });
      }
      if (!isMemberAction(one.action)) continue;
      const outcome = this.members.carryOut(at, one.ballotId, one.action);
      if (outcome.ok) this.#tellMembers(at, outcome.news, news);
      else news.push({ book: "ballots", news: { kind: "fruitless", ballotId: one.ballotId, message: outcome.failure.message } });
    }
  }
}

function tellResources(told: readonly ResourceNews[], news: News[]): void {
  for (const one of told) news.push({ book: "resources", news: one });
}

function tellMigration(told: readonly MigrationNews[], news: News[]): void {
  for (const one of told) news.push({ book: "migration", news: one });
}

function plain(outcome: Outcome<unknown, unknown>): Result {
  return outcome.ok ? { ok: true, value: outcome.value } : outcome;
}
