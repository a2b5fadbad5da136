import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import { auditRun, auditTurnedAway, beginRun, didNotStart } from "../audit/audited.ts";
import type { Parts } from "../caller/caller.ts";
import { Claims } from "../caller/claims.ts";
import type { Peer } from "../caller/peers.ts";
import type { Pending } from "../caller/pending.ts";
import { keptBytes, unpinned } from "../journal/records.ts";
import {
  type CapabilityInfo,
  type DirectoryChange,
  type Input,
  type InvocationsFrame,
  LEVEL_LIMITED,
  NO_VALUE,
  OUTCOME,
  type ReceivedInvocation,
  type Result,
  type SharePolicy,
  type TaskReport,
  WHOLE,
} from "../messages.ts";
import { checkHops, type Directory, isTarget, type RoutedNode, type Target } from "../route/route.ts";
import { CallerBooks } from "./caller-books.ts";
import { type Executor, Executors } from "./executor.ts";
import { absent, EXPIRED_ON_ARRIVAL, PERHAPS, refused, resultOf, unknown } from "./results.ts";
import { denied, UNTRUSTED, WITHDRAWN } from "./rights.ts";
import { type CallerBook, type CallerEpoch, finishedEpoch, type Parting, RUN, Run } from "./run.ts";

/**
 * OwnerSide runs commands on this hub's nodes, for its own callers and for those of peers.
 *
 * OW1 a name is started at most once: its INTENT is durable before the executor sees it, unless the capability is idempotent.
 * OW2 an INTENT without an outcome after a restart is UNKNOWN; it is not started again.
 * OW3 an outcome is durable before it is told, and kept until the caller's hub acknowledges it or can no longer ask for it.
 * OW4 an unknown name is started only if it cannot have been started before: not below the floor, not acknowledged, no stray
 *    copy of an earlier sending, and not sent under another journal epoch of ours.
 * OW5 what waits for an executor's credit has not started: it expires, is cancelled or is refused as such.
 * OW6 only the current session can start anything.
 * OW7 a peer that proves this journal to be a restored backup is believed, within bounds; its own retries are not run in any case.
 * OW8 of one caller's hub there are at most `epochsPerCaller` journal epochs, `outcomesPerCaller` outcomes and as many bytes of them as
 *    settings say; what is over an epoch that had to go is answered with UNKNOWN, and is not run again.
 * OW9 what waits of another hub starts only if that hub is still trusted with commands, without a break, and a share still lets it invoke this.
 */
export class OwnerSide {
  readonly #p: Parts;
  readonly #directory: Directory;
  readonly executors: Executors<Run>;
  readonly books: CallerBooks;
  readonly #ready = new Set<Executor<Run>>();
  /** Executors that are over while what they were given may not have been handed to them. */
  readonly #parting = new Map<number, Parting>();
  readonly #claims = new Claims();
  #policy: SharePolicy = () => "none";
  /** How often the policy was replaced. */
  #policies = 0;
  epoch = 0;
  #localOpen = 0;

  /** onLocal is told of outcomes of this hub's own callers' commands. */
  onLocal: (now: Now, pending: Pending, result: Result, final: boolean) => void = () => undefined;

  constructor(parts: Parts, directory: Directory) {
    this.#p = parts;
    this.#directory = directory;
    this.books = new CallerBooks(parts);
    this.executors = new Executors(parts.settings.executors, directory.ownNodes);
  }

  /** policy decides what peers may invoke. */
  set policy(policy: SharePolicy) {
    this.#policy = policy;
    this.#policies++;
  }

  /** refusing is set while the store refuses writes: nothing new is started. */
  refusing: Failure | undefined;

  /** localOpen is how many commands of this hub's callers run or wait here. */
  get localOpen(): number {
    return this.#localOpen;
  }

  /** local runs a command of this hub's own callers. */
  local(now: Now, pending: Pending, target: Target): void {
    const { seq, nodeId, capability, value, deadline, trace } = pending;
    const run = new Run(
      { seq, nodeId, capability, value, deadline, idempotent: target.capability.idempotent, keepMs: 0, trace },
      undefined,
      pending,
    );
    pending.run = run;
    this.#localOpen++;
    if (pending.keyed !== undefined) this.#p.journal.add(pending);
    this.#queue(now, run, target.node);
  }

  /**
   * invocations takes a caller's message on the current session. Cancels in it count before anything of it is started. What
   * comes late on another session is not looked at: its sender asked again, and the answer to that must be the last word (OW6).
   */
  invocations(now: Now, peer: Peer, frame: InvocationsFrame): void {
    const book = this.books.book(peer.hubId);
    const known = this.#knowsJournal(now, peer.hubId, frame);
    const caller = frame.epoch >= book.epochFloor ? book.epoch(frame.epoch) : finishedEpoch(book, frame.epoch);
    this.books.acks(caller, frame);
    for (const item of frame.items) this.#invocation(now, peer, book, caller, known, item);
    for (const seq of frame.cancels) {
      const run = caller.runs.get(seq);
      if (run !== undefined) this.cancel(now, run);
    }
    this.books.forgetEpochs(book);
  }

  /** cancel gives a run up: at once if it waits, else its executor is told and the caller learns that it came too late. */
  cancel(now: Now, run: Run): void {
    if (run.state === RUN.DONE || run.overdue) return;
    if (run.state === RUN.WAITING)
      return this.#complete(now, run, refused({ reason: "CANCELLED", message: "cancelled before it was started" }));
    this.#p.outbox.push({ kind: "cancel-task", executor: (run.executor as Executor<Run>).id, taskId: run.taskId });
    this.#overdue(now, run, { reason: "CANCELLED", message: "cancelled too late: it was started, and its outcome is not known" });
  }

  /** due is called at a run's deadline, at the end of the wait for a late report, and when an outcome need not be kept longer. */
  due(now: Now, run: Run): void {
    if (run.state === RUN.DONE) return this.books.age(run);
    if (run.state === RUN.WAITING) {
      const failure: Failure = { reason: "DEADLINE_EXPIRED", message: "deadline passed before it was started" };
      return this.#complete(now, run, { outcome: OUTCOME.EXPIRED, value: NO_VALUE, failure });
    }
    if (run.overdue) return this.#complete(now, run, run.result ?? unknown("the executor never answered"));
    this.#p.outbox.push({ kind: "cancel-task", executor: (run.executor as Executor<Run>).id, taskId: run.taskId });
    this.#overdue(now, run, { reason: "OUTCOME_UNKNOWN", message: "deadline passed after it was started" });
  }

  reports(now: Now, executor: Executor<Run>, reports: readonly TaskReport[]): void {
    for (const report of reports) {
      const run = executor.running.get(report.taskId);
      if (run !== undefined) this.#complete(now, run, resultOf(report));
    }
    if (executor.lines.waiting > 0) this.#ready.add(executor);
  }

  attach(now: Now, input: Extract<Input, { readonly kind: "attach" }>): void {
    const { executor: id, name, scope, offer, part = WHOLE, replaces = [] } = input;
    const { outbox } = this.#p;
    const attached = this.executors.attach(id, name, scope, offer, part, replaces);
    // The older one keeps its place until its end is told.
    if (attached !== undefined && "reason" in attached) return outbox.push({ kind: "detach", executor: id, failure: attached });
    // Without a sweep for each: there may be many, and what waits to be given up is not theirs.
    if (part.first) for (const older of replaces) this.#forgetExecutor(now, older, id, this.executors.get(id));
    if (attached === undefined) return;
    const { executor, accepted, refused: refusals, replaced } = attached;
    if (part.last) {
      outbox.push({ kind: "attached", executor: id, nodes: executor.nodes, refused: refusals });
      outbox.push({ kind: "observe", what: { event: "executor", executor: name, state: "attached", nodes: executor.nodes } });
    }
    for (const old of replaced) {
      outbox.push({
        kind: "detach",
        executor: old.id,
        failure: { reason: "SESSION_REPLACED", message: "a newer executor serves the same nodes" },
      });
      this.#forgetExecutor(now, old.id, undefined, executor);
    }
    this.sweep();
    this.#online(accepted.filter((nodeId) => this.#known(nodeId)));
  }

  /** gone ends an executor: what it ran is UNKNOWN; what waited for it, or was never handed to it, goes elsewhere. */
  gone(now: Now, id: number): void {
    this.#forgetExecutor(now, id);
    this.sweep();
  }

  /** forgetExecutor ends an executor, one that `next` comes after; `heir` is whose offer its nodes wait for. */
  #forgetExecutor(now: Now, id: number, heir?: number, next?: Executor<Run>): void {
    const executor = this.executors.detach(id, heir);
    this.#p.outbox.push({ kind: "tell-undelivered", executor: id });
    if (executor === undefined) return;
    const { name, nodes } = executor;
    this.#part(now, executor, next);
    this.#p.outbox.push({ kind: "observe", what: { event: "executor", executor: name, state: "detached", nodes } });
  }

  /** sweep gives up some of what is no longer offered. The core comes back for the rest. */
  sweep(): void {
    const orphans = this.executors.sweep();
    if (orphans.length > 0) this.#p.outbox.push({ kind: "presence", nodeIds: orphans, online: false });
  }

  /**
   * directory takes changes of the directory. Executors make only nodes online that this hub has: of those that were offered before they were
   * registered it is told now.
   */
  directory(changes: readonly DirectoryChange[]): void {
    const appeared: string[] = [];
    for (const change of changes) {
      const came = change.kind === "came" || (change.kind === "put" && change.hubId === this.#p.hubId && !this.#known(change.nodeId));
      if (came && this.executors.serves(change.nodeId)) appeared.push(change.nodeId);
      this.#directory.apply(change);
    }
    this.#online(appeared);
  }

  #known(nodeId: string): boolean {
    return this.#directory.node(this.#p.hubId, nodeId) !== undefined;
  }

  #online(nodeIds: readonly string[]): void {
    if (nodeIds.length > 0) this.#p.outbox.push({ kind: "presence", nodeIds, online: true });
  }

  setHandler(now: Now, present: boolean): void {
    const old = this.executors.setHandler(present);
    if (old !== undefined) this.#abandon(now, old);
  }

  /** dispatch gives waiting runs to executors that have credit; called at the end of every step. None is started after its deadline. */
  dispatch(now: Now): void {
    for (const executor of this.#ready) {
      if (executor.awaits > 0) continue;
      for (let run = executor.lines.next(); run !== undefined; run = executor.lines.next()) {
        const withdrawn = this.#withdrawn(run);
        if (run.deadline > now.mono && withdrawn === undefined) {
          this.#start(now, executor, run);
          continue;
        }
        executor.lines.over(run, true);
        if (withdrawn === undefined) this.due(now, run);
        else this.#complete(now, run, refused(withdrawn));
      }
    }
    this.#ready.clear();
  }

  /** onRestored is called when a peer says that our journal was restored from a backup, and is believed; the core opens a new epoch. */
  onRestored: (now: Now, hubId: string) => void = () => undefined;

  /**
   * knowsJournal tells whether a frame's sender knows this journal: its epoch, and no position that is not there yet. Such a position
   * is the word of one peer, and the new epoch that it calls for costs all the others, so it is believed within bounds (OW7).
   */
  #knowsJournal(now: Now, hubId: string, { ownerEpoch, ownerPosition }: InvocationsFrame): boolean {
    if (ownerEpoch !== this.epoch) return false;
    if (ownerPosition <= this.#p.journal.position) return true;
    if (this.#claims.believe(hubId, now.mono)) this.onRestored(now, hubId);
    return false;
  }

  #invocation(now: Now, peer: Peer, book: CallerBook, caller: CallerEpoch, knowsJournal: boolean, item: ReceivedInvocation): void {
    const known = caller.runs.get(item.seq);
    if (known !== undefined) {
      if (known.result !== undefined && (known.state === RUN.DONE || known.overdue))
        this.#p.outbox.answer(caller, item.seq, known.result, false, item.trace);
      return;
    }
    // First sendings come in order and once: anything else is a stray copy, and whoever sent it asks again with retry.
    if (!item.retry && item.seq <= caller.maxSeen) return;
    const lost = item.retry && !knowsJournal;
    if (item.seq < caller.floor || caller.settled.has(item.seq) || lost) {
      const why = lost ? "the owner's journal is another one than when it was sent" : "the owner knows nothing of it any more";
      return this.#p.outbox.answer(caller, item.seq, unknown(why), false, item.trace);
    }
    // Asked again it is no second command, and with no time left it only asks what became of one (CA7).
    const asks = item.retry && (item.timeoutMs === 0 || item.seq <= caller.maxSeen);
    caller.maxSeen = Math.max(caller.maxSeen, item.seq);
    // Had it been started before a restart of this hub, its INTENT would be here. An idempotent command leaves none.
    const perhaps = item.retry && this.#capability(item.nodeId, item.capability)?.idempotent !== false;
    const target = this.#admit(peer, book, item);
    const { seq, nodeId, capability, value, trace } = item;
    if (!isTarget(target) || item.timeoutMs === 0) {
      const result = perhaps ? PERHAPS : isTarget(target) ? EXPIRED_ON_ARRIVAL : refused(target);
      if (!asks) auditTurnedAway(this.#p, now, caller, item, result, this.#capability(nodeId, capability)?.secret === true);
      return this.#p.outbox.answer(caller, seq, result, false, trace);
    }
    const timeoutMs = Math.min(item.timeoutMs, this.#p.settings.maxTimeoutMs);
    const deadline = now.mono + timeoutMs;
    const keepMs = timeoutMs + this.#p.settings.keepMs;
    const { idempotent, secret = false } = target.capability;
    const spec = { seq, nodeId, capability, value: unpinned(value), deadline, idempotent, keepMs, trace, acceptedAt: now.mono, secret };
    const run = new Run(spec, caller, undefined);
    run.perhaps = perhaps;
    run.policy = this.#policies;
    caller.runs.set(seq, run);
    book.kept++;
    book.open++;
    book.openBytes += value.length;
    this.#queue(now, run, target.node);
  }

  #capability(nodeId: string, capability: string): CapabilityInfo | undefined {
    return this.#directory.node(this.#p.hubId, nodeId)?.capabilities.get(capability);
  }

  /** admit checks at the owner what the caller's hub checked already, and what only the owner knows: the share's invoke rules. */
  #admit(peer: Peer, book: CallerBook, item: ReceivedInvocation): Target | Failure {
    const { settings, hubId } = this.#p;
    if (this.refusing !== undefined) return this.refusing;
    if (peer.level < LEVEL_LIMITED) return UNTRUSTED;
    const full = book.refusal(settings, item.value.length);
    if (full !== undefined) return full;
    const node = this.#directory.node(hubId, item.nodeId);
    // The policy is asked in any case: a node that its share does not show is answered like one that does not exist, after as much work.
    const denial = denied(this.#policy, peer.hubId, item.nodeId, item.capability);
    if (node === undefined) return { reason: "NODE_NOT_FOUND", message: `no node ${item.nodeId}` };
    if (denial !== undefined) return denial;
    return checkHops(item.hops, hubId) ?? this.#directory.check(node, item.capability, item.value);
  }

  /** withdrawn tells why a run that waited may not start any more (OW9). */
  #withdrawn(run: Run): Failure | undefined {
    const { origin } = run;
    if (origin === undefined) return undefined;
    if (run.trust !== origin.book.trust) return WITHDRAWN;
    return run.policy === this.#policies ? undefined : denied(this.#policy, origin.book.hubId, run.nodeId, run.capability);
  }

  /** withdraw refuses what waits of a hub from which the trust that commands need was taken back, and may be there again. */
  withdraw(now: Now, hubId: string): void {
    const book = this.books.callers.get(hubId);
    if (book === undefined) return;
    book.trust++;
    for (const { runs } of book.epochs.values())
      for (const run of [...runs.values()]) if (run.state === RUN.WAITING) this.#complete(now, run, refused(WITHDRAWN));
  }

  #queue(now: Now, run: Run, node: RoutedNode | undefined): void {
    const executor = this.executors.pick(run.nodeId, run.capability);
    if (executor === undefined)
      return this.#complete(now, run, refused(this.#directory.placed(this.#p.hubId, run.nodeId, absent(run, node))));
    run.executor = executor;
    executor.lines.enter(run, run.origin?.book.hubId ?? (run.pending as Pending).principal, run.origin !== undefined);
    this.#ready.add(executor);
    this.#p.deadlines.add(run, run.deadline);
  }

  #start(now: Now, executor: Executor<Run>, run: Run): void {
    run.state = RUN.RUNNING;
    run.taskId = executor.start(run);
    if (!run.idempotent && run.origin !== undefined) this.#p.journal.add(run);
    const { nodeId, capability, value, deadline, taskId, trace } = run;
    const callerHubId = run.origin?.book.hubId ?? this.#p.hubId;
    const fence = this.#directory.places.fence(this.#p.hubId, nodeId);
    const task = { taskId, nodeId, capability, value, deadline, callerHubId, trace };
    this.#p.outbox.task(executor.id, fence === 0 ? task : { ...task, agentFence: fence }, beginRun(this.#p, now, run));
  }

  /** overdue answers UNKNOWN while it runs; a report may still correct it once. */
  #overdue(now: Now, run: Run, failure: Failure): void {
    run.overdue = true;
    run.result = { outcome: OUTCOME.UNKNOWN, value: NO_VALUE, failure };
    this.#p.deadlines.add(run, Math.max(now.mono, run.deadline) + this.#p.settings.lateMs);
    if (run.origin !== undefined) this.#p.outbox.answer(run.origin, run.seq, run.result, false, run.trace);
    else this.onLocal(now, run.pending as Pending, run.result, false);
  }

  /**
   * complete ends a run. That it did not start is kept in memory only: a question that is already on its way must get the same
   * answer, and none outlives this process (OW6).
   */
  #complete(now: Now, run: Run, outcome: Result): void {
    const result = run.perhaps && run.state === RUN.WAITING ? PERHAPS : outcome;
    this.#p.deadlines.remove(run);
    const started = run.state === RUN.RUNNING;
    const { executor } = run;
    if (executor !== undefined) {
      if (started) executor.running.delete(run.taskId);
      executor.lines.over(run, started);
      if (executor.lines.waiting > 0) this.#ready.add(executor);
    }
    run.state = RUN.DONE;
    const { value } = run;
    if (run.origin !== undefined) run.origin.book.openBytes -= value.length;
    run.value = NO_VALUE;
    this.#p.outbox.push({ kind: "observe", what: { event: "owned", outcome: result.outcome } });
    if (run.origin === undefined) {
      this.#localOpen--;
      this.onLocal(now, run.pending as Pending, result, true);
      return;
    }
    const { origin } = run;
    origin.book.open--;
    run.late = run.overdue && result.outcome !== OUTCOME.UNKNOWN;
    const tell = !run.forgotten && (!run.overdue || run.late);
    run.result = result;
    if (tell) this.#p.outbox.answer(origin, run.seq, result, run.late, run.trace);
    run.trace = undefined;
    auditRun(this.#p, now, run, value, result, started || run.blob !== 0 || !didNotStart(result.outcome));
    if (run.forgotten) return this.books.forget(origin, run);
    run.bytes = keptBytes(result);
    origin.book.keptBytes += run.bytes;
    // What was taken back has left its intent behind: without its outcome it would be UNKNOWN after a restart.
    if (started || run.blob !== 0) this.#p.journal.add(run);
    this.#p.deadlines.add(run, now.mono + run.keepMs);
  }

  /** takeBack makes a run wait again that its executor has never seen, unless its caller was told that it is UNKNOWN. */
  #takeBack(executor: Executor<Run>, taskId: number): Run[] {
    const run = executor.running.get(taskId);
    if (run === undefined || run.overdue) return [];
    executor.running.delete(taskId);
    executor.lines.over(run, true);
    run.state = RUN.WAITING;
    return [run];
  }

  /**
   * part ends an executor. What it was given may still be on its way out, behind a record that is not durable, and is then handed to
   * nobody: whether it was is asked behind all of that (PROTOCOL X7). What waited for it waits until then, so that it stays in order.
   */
  #part(now: Now, executor: Executor<Run>, heir: Executor<Run> | undefined): void {
    for (const parting of this.#parting.values()) {
      if (parting.heir !== executor) continue;
      parting.heir = heir;
      if (heir !== undefined) heir.awaits++;
      parting.waiting.push(...executor.lines.drain());
    }
    if (executor.running.size === 0) return this.#requeue(now, executor.lines.drain());
    if (heir !== undefined) heir.awaits++;
    this.#parting.set(executor.id, { executor, heir, waiting: executor.lines.drain() });
  }

  /** undelivered is told what of an executor that is over was never handed to it. All else that it was given is UNKNOWN. */
  undelivered(now: Now, id: number, tasks: readonly number[]): void {
    const parting = this.#parting.get(id);
    if (parting === undefined) return;
    this.#parting.delete(id);
    const { executor, heir, waiting } = parting;
    const back = tasks.flatMap((taskId) => this.#takeBack(executor, taskId));
    this.#abandon(now, executor);
    // Before all that came for the heir since.
    const since = heir?.lines.drain() ?? [];
    if (heir !== undefined) heir.awaits--;
    this.#requeue(now, [...back, ...waiting.filter(({ state }) => state === RUN.WAITING), ...since]);
  }

  #abandon(now: Now, executor: Executor<Run>): void {
    for (const run of [...executor.running.values()]) this.#complete(now, run, unknown("the executor went away after it was started"));
    this.#requeue(now, executor.lines.drain());
  }

  #requeue(now: Now, runs: readonly Run[]): void {
    for (const run of runs) {
      run.executor = undefined;
      this.#queue(now, run, this.#directory.node(this.#p.hubId, run.nodeId));
    }
  }
}
