import type { StoreOp } from "#kernel/core.ts";
import type { Committed, EngineEffect, LogStatus, Membership, ReplicaId } from "../../../services/coordination/log/engine.ts";
import type { Violation } from "../oracle.ts";
import type { Scheduler } from "../scheduler.ts";
import { type Applied, type Command, digestOf, membershipText, type RegisterApp } from "./app.ts";
import { Canon } from "./canon.ts";
import type { Subject } from "./subject.ts";
import { LogView } from "./views.ts";

/** Life is one process of a replica, as the checkers see it. */
export interface Life {
  readonly replica: ReplicaId;
  /** What it has asked its store for. */
  readonly view: LogView;
  committed: number;
  term: number;
  role: string;
  /** The term in which it leads, or led; it learns that this is over in the middle of a step. */
  leads: number;
}

/** Entries that one replica may hold behind its snapshot. */
const MOST_ENTRIES = 3_000;

/**
 * Invariants are what must hold after every event, whoever is broken:
 * one leader per term; what is committed is on the disks of a quorum of the members in force, learners not counted; a leader has all that
 * was committed; logs that agree on an entry agree on all before it; what replicas apply is the same, in content and in state; terms and
 * votes never go back and no replica says two things under one pledge; one change of membership in flight; bounded memory.
 */
export class Invariants<F> {
  readonly violations: Violation[] = [];

  readonly canon: Canon;
  readonly #subject: Subject<F>;
  readonly #scheduler: Scheduler;
  readonly #safe = new Map<ReplicaId, LogView>();
  readonly #leaders = new Map<number, ReplicaId>();
  readonly #pledges = new Map<string, string>();
  /** Every entry that was ever stored: what is in it, and the term before it. */
  readonly #entries = new Map<string, { readonly digest: number; readonly before: number | undefined }>();
  /** Positions at which leaders wrote memberships in the newest term. */
  readonly #changes = new Map<number, ReplicaId>();
  leaderChanges = 0;

  constructor(subject: Subject<F>, scheduler: Scheduler, founding: Membership) {
    this.#subject = subject;
    this.#scheduler = scheduler;
    this.canon = new Canon(founding);
  }

  violate(checker: string, text: string, kind: Violation["kind"] = "correctness"): void {
    if (this.violations.length < 50) this.violations.push({ checker, kind, text, at: this.#scheduler.now });
  }

  /** birth begins a life of a replica with what is safe on its disk. */
  birth(replica: ReplicaId): Life {
    const view = this.#viewOf(replica).copy();
    return { replica, view, committed: 0, term: view.term, role: "", leads: 0 };
  }

  safeView(replica: ReplicaId): LogView {
    return this.#viewOf(replica);
  }

  /** safe: operations will survive any crash. */
  safe(replica: ReplicaId, ops: readonly StoreOp[]): void {
    const view = this.#viewOf(replica);
    for (const op of ops) for (const fact of this.#subject.factsOf(op)) view.take(fact);
  }

  /** effect sees what an engine asks for, before any gate. */
  effect(life: Life, effect: EngineEffect<F>): void {
    if (effect.kind === "persist") for (const op of effect.ops) this.#persisted(life, op);
    else if (effect.kind === "role") this.#role(life, effect.role, effect.term);
    else if (effect.kind === "committed") for (const entry of effect.entries) this.#committed(life, entry, effect.entries[0] as Committed);
    else if (effect.kind === "evidence")
      this.violate("blame", `${life.replica} blames ${effect.against}, which is honest, for ${effect.what}`);
    else if (effect.kind === "observe" && effect.what.startsWith("bad_"))
      this.violate("blame", `${life.replica} takes a frame of ${effect.replica} for bad: ${effect.what}`);
    else if (effect.kind === "install") life.committed = Math.max(life.committed, effect.snapshot.index);
  }

  /** sent sees what leaves a replica, behind the gates. */
  sent(replica: ReplicaId, to: ReplicaId, frame: F): void {
    for (const { by, key, value } of this.#subject.pledgesOf(frame, replica, to)) {
      const at = `${by ?? replica} ${key}`;
      const before = this.#pledges.get(at);
      if (before === undefined) this.#pledges.set(at, value);
      else if (before !== value) this.violate("vote", `${replica} said ${before} and then ${value} about ${key}`);
    }
  }

  /** applied sees the state of an application after each position, and after a load. */
  applied(life: Life, app: RegisterApp, entry: Committed | undefined, done: readonly (Command & Applied)[]): void {
    const state = app.state();
    const index = app.applied;
    const { canon } = this;
    if (entry !== undefined && index === canon.length + 1) {
      const { term, time } = entry;
      canon.add(
        { index, term, time, digest: digestOf(entry), chain: app.chain, state, by: life.replica, under: life.term },
        entry,
        done,
        this.#scheduler.now,
      );
      return;
    }
    if (index === 0) return;
    const decided = canon.at(index);
    if (decided === undefined) this.violate("state", `${life.replica} has a state of position ${index}, which nobody decided`);
    else if (decided.chain !== app.chain || decided.state !== state)
      this.violate("state", `${life.replica} and ${decided.by} have different states at position ${index}`);
  }

  /** stepped looks at a replica after each step. */
  stepped(life: Life, status: LogStatus): void {
    if (this.#subject.oneLeader && status.term < life.term)
      this.violate("term", `${life.replica} went back from term ${life.term} to ${status.term}`);
    life.term = status.term;
    if (status.committed < life.committed)
      this.violate("commit", `${life.replica} went back from commit ${life.committed} to ${status.committed}`);
    if (status.role === "leader" && this.#subject.oneLeader && !isVoter(status.membership, life.replica))
      this.violate("membership", `${life.replica} leads in term ${status.term}, and is no voter any more`);
    if (life.view.size > MOST_ENTRIES) this.violate("memory", `${life.replica} keeps ${life.view.size} entries behind its snapshot`);
  }

  #viewOf(replica: ReplicaId): LogView {
    let view = this.#safe.get(replica);
    if (view === undefined) {
      view = new LogView();
      this.#safe.set(replica, view);
    }
    return view;
  }

  #persisted(life: Life, op: StoreOp): void {
    const { replica, view } = life;
    for (const fact of this.#subject.factsOf(op)) {
      if (fact.kind === "hard") {
        if (fact.term < view.term) this.violate("hard state", `${replica} stores term ${fact.term} after ${view.term}`);
        if (fact.term === view.term && view.vote !== undefined && fact.vote !== view.vote)
          this.violate("hard state", `${replica} stores vote ${fact.vote} after ${view.vote} in term ${fact.term}`);
      } else if (fact.kind === "cut") this.#cutting(life, fact.from);
      else if (fact.kind === "entry") this.#entry(life, fact.index, fact.term, fact.digest, fact.membership);
      view.take(fact);
    }
  }

  #cutting({ replica, view, committed }: Life, from: number): void {
    if (from <= committed && from <= view.last)
      this.violate("truncation", `${replica} cuts its log from ${from} with ${committed} committed`);
  }

  #entry(life: Life, index: number, term: number, digest: number, membership: boolean): void {
    const { replica, view } = life;
    const before = view.termOf(index - 1);
    const key = `${index} ${term}`;
    const known = this.#entries.get(key);
    if (known === undefined) this.#entries.set(key, { digest, before });
    else if (known.digest !== digest) this.violate("log matching", `${replica} has another entry at ${index} in term ${term}`);
    else if (known.before !== before && before !== undefined && known.before !== undefined)
      this.violate("log matching", `${replica} has term ${before} before ${index} in term ${term}, where another has ${known.before}`);
    if (before !== undefined && before > term)
      this.violate("log matching", `${replica} writes term ${term} at ${index} behind term ${before}`);
    const decided = this.canon.at(index);
    if (decided !== undefined && index <= life.committed && decided.term !== term)
      this.violate("durability", `${replica} overwrites position ${index}, which is committed`);
    if (membership && life.leads === term) this.#change(life, index, term);
  }

  /** change: a leader writes a membership; no other may be undecided in its log. */
  #change(life: Life, index: number, term: number): void {
    if (life.committed > 0 && this.canon.at(life.committed)?.term !== term)
      this.violate("membership", `${life.replica} writes a membership at ${index} before it has decided anything in term ${term}`);
    for (const open of this.#openChanges(life)) {
      if (open < index) this.violate("membership", `${life.replica} writes a membership at ${index} while that at ${open} is not decided`);
    }
    this.#changes.set(index, life.replica);
  }

  #openChanges(life: Life): number[] {
    return [...this.#changes].flatMap(([index, by]) =>
      by === life.replica && index > life.committed && life.view.at(index) !== undefined ? [index] : [],
    );
  }

  #role(life: Life, role: string, term: number): void {
    if (role === "leader" && life.role !== "leader") this.leaderChanges++;
    life.role = role;
    if (role !== "leader" || !this.#subject.oneLeader) return;
    const other = this.#leaders.get(term);
    if (other !== undefined && other !== life.replica) this.violate("leader", `${other} and ${life.replica} both lead in term ${term}`);
    this.#leaders.set(term, life.replica);
    life.leads = term;
    this.#changes.clear();
    for (let index = life.view.snapshot.index + 1; index <= this.canon.length; index++) {
      const decided = this.canon.at(index);
      if (decided === undefined || decided.under >= term || life.view.holds(index, decided.term)) continue;
      this.violate("leader completeness", `${life.replica} leads in term ${term} without position ${index}, committed in ${decided.under}`);
      return;
    }
  }

  #committed(life: Life, entry: Committed, first: Committed): void {
    const { replica } = life;
    const { index, term, time } = entry;
    if (index <= life.committed) this.violate("order", `${replica} commits ${index} twice in one life`);
    else if (life.committed > 0 && index !== life.committed + 1)
      this.violate("order", `${replica} commits ${index} after ${life.committed}`);
    life.committed = index;
    const before = this.canon.at(index - 1);
    if (before !== undefined && (before.time > time || (this.#subject.oneLeader && before.term > term)))
      this.violate("order", `position ${index} has an older time or term than the one before it`);
    const decided = this.canon.at(index);
    if (decided !== undefined) {
      if (decided.digest !== digestOf(entry))
        this.violate(
          "state",
          `${replica} commits something else than ${decided.by} did at position ${index} (terms ${term} and ${decided.term}, times ${time} and ${decided.time})`,
        );
      return;
    }
    if (this.#subject.oneLeader) this.#quorum(replica, entry, first);
    if (entry.membership !== undefined) this.#joint(entry, entry.membership);
  }

  /** quorum: an entry may be committed by the members in force before the batch, or before the position itself. */
  #quorum(replica: ReplicaId, { index, term }: Committed, first: Committed): void {
    const candidates = [this.canon.inForce(first.index - 1), this.canon.inForce(index - 1)];
    if (candidates.some((membership) => this.#stored(membership, index, term))) return;
    const { voters, outgoing } = candidates[1] as Membership;
    const holders = [...new Set([...voters, ...outgoing])].filter((id) => this.#viewOf(id).holds(index, term));
    this.violate(
      "durability",
      `${replica} commits position ${index} of term ${term}, which is only on the disks of ${holders.join(", ") || "nobody"} of ${membershipText(candidates[1] as Membership)}`,
    );
  }

  #stored({ voters, outgoing }: Membership, index: number, term: number): boolean {
    const has = (ids: readonly ReplicaId[]): boolean =>
      ids.length === 0 || ids.filter((id) => this.#viewOf(id).holds(index, term)).length >= this.#subject.enough(ids.length);
    return has(voters) && has(outgoing);
  }

  /** joint: two memberships that follow each other share their quorums. */
  #joint({ index }: Committed, next: Membership): void {
    const before = this.canon.inForce(index - 1);
    const same = (a: readonly string[], b: readonly string[]): boolean => a.join() === b.join();
    if (same(before.voters, next.voters) && same(before.outgoing, next.outgoing)) return;
    const enters = before.outgoing.length === 0 && next.outgoing.length > 0 && same(next.outgoing, before.voters);
    const leaves = before.outgoing.length > 0 && next.outgoing.length === 0 && same(next.voters, before.voters);
    if (!enters && !leaves && this.#subject.oneLeader)
      this.violate("membership", `position ${index} goes from ${membershipText(before)} to ${membershipText(next)} without a joint step`);
  }
}

function isVoter({ voters, outgoing }: Membership, replica: ReplicaId): boolean {
  return voters.includes(replica) || outgoing.includes(replica);
}
