import { Retry } from "#kernel/backoff.ts";
import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import type { Effect, Frame, Request } from "./messages.ts";
import type { Part, PartGround, Settled } from "./part.ts";
import type { ResourceBook } from "./resources/book.ts";
import { BORROWER_DEFAULTS, type BorrowerEffect, type BorrowerInput, LeaseBorrower } from "./resources/borrower.ts";
import type { ResourceCommand, ResourceNews, ResourceValue } from "./resources/commands.ts";
import type { LendingAnswer, LendingAsk, Take } from "./resources/desk/asks.ts";
import { Auditor } from "./resources/desk/auditor.ts";
import { FenceGuard } from "./resources/desk/guard.ts";
import { allocationOf, listOf } from "./resources/desk/listing.ts";
import { BALLOT_PREFIX, WANTED_SPACE, Wanted } from "./resources/desk/wanted.ts";
import { EXECUTOR_DEFAULTS, type ExecutorEffect, type ExecutorInput, LeaseExecutor } from "./resources/executor.ts";
import { BORROWER_SPACE, EXECUTOR_SPACE, readAdmissions, readHoldings } from "./resources/kept.ts";
import type { News } from "./state/commands.ts";

/** How the book is read again until that succeeds. */
const READING = { baseMs: 500, maxMs: 10_000, factor: 2 };

/** OPERATORS is under which name this hub's operators act. */
const OPERATORS = "operators";

type Ask<K extends LendingAsk["kind"]> = Extract<LendingAsk, { kind: K }>;

/**
 * Lending is a member's part in lending: its executor stands before what it lends, and its borrower keeps what it has of others.
 *
 * LG1 executor and borrower hear of the book only after a read that was confirmed since the start, or since another state was taken over; what
 *    is told again of the log before that is no news.
 * LG2 an answer that promises something leaves after what executor or borrower must not forget of it.
 * LG3 what was asked for and is to be confirmed is confirmed when it is reserved, also after a restart in between.
 * LG4 a lease is renewed, released or acted under only with the fence in force: whoever names another is told so by the book or the executor.
 */
export class Lending implements Part {
  readonly frames = ["lending"] as const;
  readonly requests = ["lending"] as const;
  readonly #ground: PartGround;
  readonly #hubId: string;
  readonly #book: ResourceBook;
  readonly #executor: LeaseExecutor;
  readonly #borrower: LeaseBorrower;
  readonly #guard: FenceGuard;
  readonly #wanted: Wanted;
  readonly #auditor: Auditor;
  readonly #reading = new Retry(READING);
  #isReading = false;
  #synced = false;
  /** Calls that wait for a confirmation or a release, by request: whoever asks twice is answered twice. */
  readonly #confirming = new Map<string, readonly number[]>();
  readonly #releasing = new Map<string, readonly number[]>();

  constructor(ground: PartGround, now: Now) {
    const { hubId, stored } = ground.ground;
    this.#guard = new FenceGuard(now.mono);
    this.#ground = ground;
    this.#hubId = hubId;
    this.#book = ground.state.books.resources;
    this.#executor = new LeaseExecutor({ hubId, ...EXECUTOR_DEFAULTS }, readAdmissions(stored.space(EXECUTOR_SPACE)));
    this.#borrower = new LeaseBorrower(BORROWER_DEFAULTS, readHoldings(stored.space(BORROWER_SPACE)));
    this.#wanted = new Wanted(stored.space(WANTED_SPACE));
    this.#auditor = new Auditor({
      hubId,
      book: this.#book,
      own: () => ({ runs: this.#executor.report(), uses: this.#borrower.report() }),
      peers: () => ground.state.books.members.members().map((member) => member.hubId),
      inContact: ground.inContact,
    });
  }

  call(now: Now, call: number, request: Request, out: Effect[]): void {
    if (request.kind !== "lending") return;
    const { ask } = request;
    switch (ask.kind) {
      case "command":
        return this.#submit(now, call, ask.command, ask.take);
      case "request":
        return this.#request(now, call, ask, out);
      case "confirm":
        return this.#confirm(now, call, ask, out);
      case "renew":
        return this.#renew(now, call, ask);
      case "release":
        return this.#release(now, call, ask, out);
      case "check":
        return this.#check(now, call, ask, out);
      case "audit":
        return this.#ground.read((failure, at, then) => {
          if (failure !== undefined) return void then.push({ kind: "refused", call, failure });
          this.#auditor.begin(at, call, then);
        });
      case "list":
        return this.#list(now, call, ask, out);
    }
  }

  frame(now: Now, peer: string, frame: Frame, out: Effect[]): void {
    if (frame.kind !== "lending" || this.#ground.state.books.members.member(peer) === undefined) return;
    this.#auditor.frame(now, peer, frame.frame, out);
  }

  onNews(now: Now, { book, news }: News, out: Effect[], logTime: number): void {
    if (book !== "resources" || !this.#synced) return;
    if (news.kind === "request") this.#requestNews(now, news, out);
    if (news.kind !== "lease") return;
    const { what, lease } = news;
    if (lease.owner === this.#hubId) this.#execute(now, { kind: "news", what, lease, logTime }, out);
    if (lease.borrower === this.#hubId) this.#borrow(now, { kind: "news", what, lease }, out);
  }

  onReplaced(now: Now, out: Effect[]): void {
    this.#synced = false;
    this.#sync(now, out);
  }

  contact(now: Now, hub: string, up: boolean, out: Effect[]): void {
    this.#execute(now, { kind: "connected", hub, up }, out);
  }

  tick(now: Now, out: Effect[]): void {
    if (!this.#synced && !this.#isReading && this.#reading.due(now.mono)) this.#sync(now, out);
    for (const lease of this.#guard.idle(now)) this.#execute(now, { kind: "idle", lease }, out);
    if ((this.#executor.deadline() ?? Number.POSITIVE_INFINITY) <= now.mono) {
      const effects: ExecutorEffect[] = [];
      this.#executor.tick(now, effects);
      this.#executorEffects(now, effects, out);
    }
    if ((this.#borrower.deadline() ?? Number.POSITIVE_INFINITY) <= now.mono) {
      const effects: BorrowerEffect[] = [];
      this.#borrower.tick(now, effects);
      this.#borrowerEffects(now, effects, out);
    }
    this.#auditor.tick(now, out);
  }

  deadline(): number | undefined {
    const never = Number.POSITIVE_INFINITY;
    const sync = this.#synced || this.#isReading ? never : this.#reading.dueAt;
    const parts = [this.#executor, this.#borrower, this.#guard, this.#auditor].map((part) => part.deadline() ?? never);
    const due = Math.min(sync, ...parts);
    return due === never ? undefined : due;
  }

  describe(): string {
    return [`lending${this.#synced ? "" : " not synced"}`, this.#executor.describe(), this.#borrower.describe()].join("\n");
  }

  /** sync reads the book as of now for the executor, and looks what has become of what is wanted (LG1, LG3). */
  #sync(now: Now, _out: Effect[]): void {
    this.#isReading = true;
    this.#reading.failed(now.mono);
    this.#ground.read((failure, at, out) => {
      this.#isReading = false;
      if (failure !== undefined) return;
      this.#reading.reset();
      this.#synced = true;
      const leases = this.#book.leases({ owner: this.#hubId });
      const { time } = this.#ground.state.at;
      this.#execute(at, { kind: "book", logTime: time, floor: this.#book.fence(), leases }, out);
      for (const hub of new Set(leases.map(({ borrower }) => borrower)))
        if (!this.#ground.inContact(hub)) this.#execute(at, { kind: "connected", hub, up: false }, out);
      for (const id of this.#wanted.ids()) {
        const request = this.#book.request(this.#hubId, id);
        if (request === undefined) this.#wanted.forget(id, out);
        else this.#requestNews(at, { kind: "request", request }, out);
      }
    });
  }

  #requestNews(now: Now, { request }: Extract<ResourceNews, { kind: "request" }>, out: Effect[]): void {
    const { borrower, id, state, terms } = request;
    if (borrower !== this.#hubId) return;
    if (state === "over") this.#wanted.forget(id, out);
    if (state !== "reserved") return;
    const take = this.#wanted.take(id);
    if (take === "no") return;
    this.#borrow(now, { kind: "take", id, durationMs: take === "keep" ? terms.durationMs : 0 }, out);
    this.#wanted.forget(id, out);
  }

  #submit(now: Now, call: number, command: ResourceCommand, take: Take): void {
    const { mono } = now;
    this.#ground.submit({ book: "resources", command }, (outcome, at, out) => {
      const value = valueOf(outcome);
      if ("reason" in value) return void out.push({ kind: "refused", call, failure: value });
      if (value.kind === "answer" && value.answer.request.borrower === this.#hubId) return this.#accepted(at, call, value, take, out);
      if (value.kind === "lease") {
        const { lease, remainingMs } = value;
        if (command.kind === "renew") this.#borrow(at, { kind: "renewed", askedAt: mono, lease, remainingMs }, out);
        return answer(out, call, {
          kind: "lease",
          allocation: { lease, remainingMs, usableMs: this.#borrower.usableMs(at, lease.lease) },
        });
      }
      answer(out, call, value);
    });
  }

  #request(_now: Now, call: number, { command, take }: Ask<"request">, out: Effect[]): void {
    if (command.id.startsWith(BALLOT_PREFIX)) return void out.push({ kind: "refused", call, failure: ID_OF_BALLOT });
    this.#wanted.want(command.id, take, out);
    this.#ground.submit({ book: "resources", command }, (outcome, at, then) => {
      const value = valueOf(outcome);
      if ("reason" in value) {
        // Whoever knows nothing of the outcome asks again with the same id.
        if (value.reason !== "OUTCOME_UNKNOWN" && this.#book.request(this.#hubId, command.id) === undefined)
          this.#wanted.forget(command.id, then);
        return void then.push({ kind: "refused", call, failure: value });
      }
      if (value.kind === "answer") this.#accepted(at, call, value, take, then);
    });
  }

  /** accepted answers a request of this hub: at once, or when what is reserved was confirmed. */
  #accepted(now: Now, call: number, value: Extract<ResourceValue, { kind: "answer" }>, take: Take, out: Effect[]): void {
    const { request, status } = value.answer;
    if (take !== "no" && status !== "accepted") this.#wanted.want(request.id, take, out);
    if (status !== "accepted" || take === "no" || request.state !== "reserved") return answer(out, call, value);
    this.#confirm(now, call, { kind: "confirm", id: request.id, take }, out);
  }

  #confirm(now: Now, call: number, { id, take }: Ask<"confirm">, out: Effect[]): void {
    const request = this.#book.request(this.#hubId, id);
    if (request === undefined || request.state === "over") {
      const why = request === undefined ? "there is none" : request.why;
      const message = `request ${id} of this hub cannot be confirmed: ${why}; make another`;
      return void out.push({ kind: "refused", call, failure: { reason: "NEGOTIATION_OVER", message, field: "id" } });
    }
    if (request.state === "waiting" || request.state === "negotiating") {
      this.#wanted.want(id, take, out);
      const message = `request ${id} is ${request.state}; it is confirmed as soon as something is reserved for it`;
      return void out.push({ kind: "refused", call, failure: { reason: "NO_CAPACITY", message, field: "id" } });
    }
    const lease = this.#book.lease(request.lease);
    if (request.state === "confirmed" && lease !== undefined) return this.#answerLease(now, call, id, out);
    this.#wanted.forget(id, out);
    this.#confirming.set(id, [...(this.#confirming.get(id) ?? []), call]);
    this.#borrow(now, { kind: "take", id, durationMs: take === "keep" ? request.terms.durationMs : 0 }, out);
  }

  #answerLease(now: Now, call: number, id: string, out: Effect[]): void {
    const request = this.#book.request(this.#hubId, id);
    const lease = request === undefined ? undefined : this.#book.lease(request.lease);
    if (lease === undefined) return void out.push({ kind: "refused", call, failure: overOf(id) });
    answer(out, call, { kind: "lease", allocation: allocationOf(lease, this.#ground.state.at.time, this.#borrower, now) });
  }

  #renew(now: Now, call: number, { lease, fence, durationMs }: Ask<"renew">): void {
    this.#submit(now, call, { kind: "renew", lease, fence, durationMs }, "no");
  }

  #release(now: Now, call: number, { lease, fence }: Ask<"release">, out: Effect[]): void {
    const view = this.#book.lease(lease);
    const own = view !== undefined && view.borrower === this.#hubId && view.fence === fence && this.#borrower.has(view.id);
    // What is not this hub's to release, the book refuses, with the reason.
    if (!own) return this.#submit(now, call, { kind: "release", lease, fence }, "no");
    this.#releasing.set(view.id, [...(this.#releasing.get(view.id) ?? []), call]);
    this.#borrow(now, { kind: "give_back", id: view.id }, out);
  }

  #check(now: Now, call: number, { lease, fence, done, by }: Ask<"check">, out: Effect[]): void {
    if (done) {
      if (this.#executor.holds(lease, fence)) this.#guard.done(now, lease, by);
      return answer(out, call, { kind: "done" });
    }
    if (!this.#synced || this.#executor.knows(lease, fence)) return this.#execute(now, { kind: "admit", call, lease, fence }, out, by);
    // It may have been decided a moment ago, and not be known here.
    this.#ground.read((failure, at, then) => {
      if (failure !== undefined) return void then.push({ kind: "refused", call, failure });
      this.#execute(at, { kind: "admit", call, lease, fence }, then, by);
    });
  }

  #list(now: Now, call: number, { what }: Ask<"list">, out: Effect[]): void {
    const { ageMs } = this.#ground.log();
    if (ageMs === undefined) return void out.push({ kind: "refused", call, failure: UNKNOWN_AGE });
    answer(out, call, listOf(what, this.#book, this.#ground.state.at.time, Math.ceil(ageMs), this.#borrower, now));
  }

  #execute(now: Now, input: ExecutorInput, out: Effect[], by = OPERATORS): void {
    const effects: ExecutorEffect[] = [];
    this.#executor.step(now, input, effects);
    this.#executorEffects(now, effects, out, input.kind === "admit" ? input.lease : 0, by);
  }

  #executorEffects(now: Now, effects: readonly ExecutorEffect[], out: Effect[], asked = 0, by = OPERATORS): void {
    for (const effect of effects)
      switch (effect.kind) {
        case "persist":
          out.push(effect);
          break;
        case "observe":
          out.push({ kind: "observe", what: `lending_${effect.what}` });
          break;
        case "refused":
          out.push({ kind: "refused", call: effect.call, failure: effect.failure });
          break;
        case "admitted": {
          const validMs = this.#guard.admitted(now, asked, by, effect.forMs);
          answer(out, effect.call, { kind: "admitted", agents: effect.agents, validMs });
          break;
        }
        case "stop":
          this.#guard.stop(now, effect.lease);
          break;
        case "propose":
          this.#ground.submit({ book: "resources", command: effect.command });
      }
  }

  #borrow(now: Now, input: BorrowerInput, out: Effect[]): void {
    const effects: BorrowerEffect[] = [];
    this.#borrower.step(now, input, effects);
    this.#borrowerEffects(now, effects, out);
  }

  #borrowerEffects(now: Now, effects: readonly BorrowerEffect[], out: Effect[]): void {
    for (const effect of effects)
      switch (effect.kind) {
        case "persist":
          out.push(effect);
          break;
        case "propose":
          this.#propose(effect.call, effect.command);
          break;
        case "read":
          this.#ground.read((failure, at, then) => {
            if (failure === undefined)
              this.#borrow(at, { kind: "read", call: effect.call, leases: this.#book.leases({ borrower: this.#hubId }) }, then);
          });
          break;
        case "usable":
          break;
        case "stop":
          // Who uses it asks its owner's executor before each act, so nothing is used once that is refused: nobody need be waited for.
          this.#borrow(now, { kind: "idle", id: effect.id }, out);
          break;
        case "gone":
          this.#gone(effect.id, effect.why, out);
      }
  }

  #propose(call: number, command: ResourceCommand): void {
    this.#ground.submit({ book: "resources", command }, (outcome, now, out) => {
      const value = valueOf(outcome);
      if ("reason" in value) {
        const unknown = value.reason === "OUTCOME_UNKNOWN";
        this.#borrow(now, unknown ? { kind: "unknown", call } : { kind: "failed", call, failure: value }, out);
      } else if (value.kind === "lease")
        this.#borrow(now, { kind: "answered", call, lease: value.lease, remainingMs: value.remainingMs }, out);
      if (command.kind === "confirm") this.#confirmed(now, command.id, value, out);
    });
  }

  #confirmed(now: Now, id: string, value: ResourceValue | Failure, out: Effect[]): void {
    const calls = this.#confirming.get(id) ?? [];
    this.#confirming.delete(id);
    for (const call of calls)
      if ("reason" in value) out.push({ kind: "refused", call, failure: value });
      else this.#answerLease(now, call, id, out);
  }

  /** gone answers who released something. */
  #gone(id: string, why: string, out: Effect[]): void {
    const releasing = this.#releasing.get(id) ?? [];
    this.#releasing.delete(id);
    for (const call of releasing) answer(out, call, { kind: "done" });
    out.push({ kind: "event", severity: "info", name: "lease_over", message: `what request ${id} had is over: ${why}`, hubId: "" });
  }
}

const UNKNOWN_AGE: Failure = {
  reason: "TOO_STALE",
  message: "this hub does not know yet whether it has all that it had before it started; it will when a quorum is in contact",
};

const ID_OF_BALLOT: Failure = {
  reason: "INVALID_FIELD",
  message: `ids that begin with ${BALLOT_PREFIX} are those of requests that a ballot makes; use another id`,
  field: "id",
};

function overOf(id: string): Failure {
  return { reason: "LEASE_OVER", message: `what request ${id} had is over already; make another`, field: "id" };
}

function answer(out: Effect[], call: number, value: LendingAnswer): void {
  out.push({ kind: "lent", call, answer: value });
}

/** valueOf is what the book said to a command, or why there is nothing. */
function valueOf(outcome: Settled): ResourceValue | Failure {
  if (outcome.kind === "refused") return outcome.failure;
  const { result } = outcome.applied;
  return result.ok ? (result.value as ResourceValue) : result.failure;
}
