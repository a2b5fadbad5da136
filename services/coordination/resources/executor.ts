import { Retry } from "#kernel/backoff.ts";
import type { Core, Observe, Persist, StoreOp } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import type { LeaseView, ResourceCommand } from "./commands.ts";
import { admissionBytes, EXECUTOR_SPACE, FLOOR_KEY, floorBytes, type StoredAdmissions } from "./kept.ts";
import { LEASES_MAX } from "./rules.ts";

/** ExecutorConfig is the times of an executor, ms. */
export interface ExecutorConfig {
  readonly hubId: string;
  /** The grace of notices (`Rules.graceMs`): a borrower that has not read the book for so long uses nothing. */
  readonly graceMs: number;
  /** How long something may take to stop by itself, and between two attempts to end it by force. */
  readonly killMs: number;
  /** How long a borrower must be gone before what its owner chose for that case is done. */
  readonly disconnectMs: number;
}

/** EXECUTOR_DEFAULTS are the times where nothing else is configured. */
export const EXECUTOR_DEFAULTS = { graceMs: 30_000, killMs: 10_000, disconnectMs: 15_000 };

/** ExecutorInput is what an executor takes. Log times are those of the entry or read that is told of. */
export type ExecutorInput =
  /** What the book has of this hub's leases by a linearizable read, and its highest number (`ResourceBook.fence`). */
  | { readonly kind: "book"; readonly logTime: number; readonly floor: number; readonly leases: readonly LeaseView[] }
  /** News of the book of a lease of this hub, in the order of the log. */
  | { readonly kind: "news"; readonly logTime: number; readonly what: string; readonly lease: LeaseView }
  /** Somebody wants to run something, or act on what runs. */
  | { readonly kind: "admit"; readonly call: number; readonly lease: number; readonly fence: number }
  /** Something runs that was there when the process started. */
  | { readonly kind: "found"; readonly lease: number; readonly fence: number }
  /** Nothing runs under a lease any more. */
  | { readonly kind: "idle"; readonly lease: number }
  | { readonly kind: "connected"; readonly hub: string; readonly up: boolean };

/** ExecutorEffect is what an executor asks for. */
export type ExecutorEffect =
  | Persist
  /** `forMs`: how long the lease is in force here, from now on. */
  | { readonly kind: "admitted"; readonly call: number; readonly agents: readonly string[]; readonly forMs: number }
  | { readonly kind: "refused"; readonly call: number; readonly failure: Failure }
  /** What runs under a lease is told to stop; it is answered by `idle`, also when nothing runs. With `force` it is not asked. */
  | { readonly kind: "stop"; readonly lease: number; readonly force: boolean; readonly why: string }
  /** A command for the log. It need not be answered: what has come of it is seen in the news. */
  | { readonly kind: "propose"; readonly command: ResourceCommand }
  | (Observe & { readonly what: "orphan" | "refused_fence" | "stale_book"; readonly lease: number; readonly fence: number });

/** Why somebody stops, and what follows when nothing runs any more. */
type Phase =
  | { readonly kind: "open" }
  /** `then`: the units go back, or the lease goes on with nothing that runs. */
  | { readonly kind: "stopping"; readonly then: "free" | "open"; readonly why: string; forceAt: number }
  | { readonly kind: "idle"; readonly telling: Retry };

interface Held {
  readonly lease: number;
  /** Undefined of an orphan. */
  view: LeaseView | undefined;
  fence: number;
  /** Its end as this hub measures it. */
  endsAt: number;
  /** When the borrower, too, has measured that its lease is over, if that is known. */
  safeAt: number;
  /** When the units may be given back: nobody can believe that it has them then. */
  freeAt: number;
  /** Somebody was admitted, or may have been. */
  ran: boolean;
  phase: Phase;
}

const NEVER = Number.POSITIVE_INFINITY;

/** How what has stopped is told again, until the book has heard it. */
const TELLING = { baseMs: 2_000, maxMs: 60_000, factor: 2 };

/**
 * LeaseExecutor is what stands before everything of this hub that is lent: nothing runs, and nothing is done to what runs, without its word.
 *
 * RE1 only who names a lease that is live here and the fence that is in force for it is let in.
 * RE2 a fence that is not in force is refused for ever, also after a restart, which is why each admission is durable before it is answered; and
 *    until the book was read by a linearizable read nobody is let in. A book that is older than what this hub has admitted is not believed.
 * RE3 an agent is nobody's before what it did for another lease has stopped.
 * RE4 what runs is stopped when its lease ends by this hub's own monotonic clock, by the log, or by notice, whichever is first: no clock
 *    that is set has a say, and neither the log nor the borrower need be there. What does not stop is stopped by force.
 * RE5 the units go back only after the log has ended the lease (it may have been renewed, and this hub not have heard of it), after nothing runs,
 *    and when the borrower can no longer believe that it has them: it gave them back itself, or its lease is over by this hub's clock, or it
 *    must have read the book meanwhile (RK2). That is said until the book has heard it.
 * RE6 what runs without a lease is an orphan: it is told of, and stopped.
 * RE7 when a borrower is gone for a while, what its owner chose happens: it runs on, it stops, or it is asked back with notice.
 */
export class LeaseExecutor implements Core<ExecutorInput, ExecutorEffect> {
  readonly #config: ExecutorConfig;
  readonly #held = new Map<number, Held>();
  /** When a hub that is not connected will have been gone for long enough; never, once that was seen to. */
  readonly #goneAt = new Map<string, number>();
  #floor: number;
  #synced = false;

  constructor(config: ExecutorConfig, stored: StoredAdmissions) {
    this.#config = config;
    this.#floor = stored.floor;
    for (const { lease, fence } of stored.admissions) this.#held.set(lease, held(lease, fence, true));
  }

  step(now: Now, input: ExecutorInput, out: ExecutorEffect[]): void {
    switch (input.kind) {
      case "book":
        this.#book(now, input, out);
        break;
      case "news":
        if (this.#synced) this.#news(now, input, out);
        break;
      case "admit":
        this.#admit(now, input, out);
        break;
      case "found":
        this.#found(now, input, out);
        break;
      case "idle":
        this.#idle(input.lease);
        break;
      case "connected":
        this.#connected(now, input.hub, input.up);
        break;
    }
    this.tick(now, out);
  }

  tick(now: Now, out: ExecutorEffect[]): void {
    for (const [hub, goneAt] of this.#goneAt) if (now.mono >= goneAt) this.#gone(now, hub, out);
    const stopped: number[] = [];
    for (const item of [...this.#held.values()]) {
      const { phase } = item;
      if (phase.kind === "idle" && item.view === undefined && this.#synced) this.#drop(item, out);
      else if (phase.kind === "open" && item.ran && now.mono >= item.endsAt) this.#stop(now, item, "open", "its lease has ended here", out);
      else if (phase.kind === "stopping" && now.mono >= phase.forceAt) {
        phase.forceAt = now.mono + this.#config.killMs;
        out.push({ kind: "stop", lease: item.lease, force: true, why: phase.why });
      } else if (phase.kind === "idle" && this.#synced && now.mono >= Math.max(phase.telling.dueAt, item.freeAt)) {
        if (stopped.length === LEASES_MAX) continue;
        phase.telling.failed(now.mono);
        stopped.push(item.lease);
      }
    }
    if (stopped.length > 0) out.push({ kind: "propose", command: { kind: "stopped", leases: stopped.sort((a, b) => a - b) } });
  }

  deadline(): number | undefined {
    let due = NEVER;
    for (const goneAt of this.#goneAt.values()) due = Math.min(due, goneAt);
    for (const { phase, endsAt, freeAt, ran } of this.#held.values()) {
      if (phase.kind === "open") due = Math.min(due, ran ? endsAt : NEVER);
      else if (phase.kind === "stopping") due = Math.min(due, phase.forceAt);
      else if (this.#synced) due = Math.min(due, Math.max(phase.telling.dueAt, freeAt));
    }
    return due === NEVER ? undefined : due;
  }

  describe(): string {
    const rows = [...this.#held.values()]
      .sort((a, b) => a.lease - b.lease)
      .map(
        ({ lease, fence, view, phase, ran }) => `  ${lease} fence=${fence} ${view?.borrower ?? "orphan"} ${phase.kind}${ran ? " ran" : ""}`,
      );
    return [`floor=${this.#floor}${this.#synced ? "" : " not synced"}`, ...rows].join("\n");
  }

  /** knows tells whether it has heard of a lease with this fence, or of one that was given out later. */
  knows(lease: number, fence: number): boolean {
    return this.#held.has(lease) || fence <= this.#floor;
  }

  /** holds tells whether something runs, or may run, under this lease with this fence. */
  holds(lease: number, fence: number): boolean {
    return this.#held.get(lease)?.fence === fence;
  }

  /** report is what runs or may run here, for the audit (RB12). */
  report(): { readonly lease: number; readonly fence: number; readonly ran: boolean; readonly orphan: boolean }[] {
    return [...this.#held.values()]
      .map(({ lease, fence, ran, view }) => ({ lease, fence, ran, orphan: this.#synced && view === undefined }))
      .sort((a, b) => a.lease - b.lease);
  }

  #book(now: Now, input: Extract<ExecutorInput, { kind: "book" }>, out: ExecutorEffect[]): void {
    if (input.floor < this.#floor) {
      out.push({ kind: "observe", what: "stale_book", lease: 0, fence: input.floor });
      return;
    }
    this.#synced = true;
    this.#raise(input.floor, out);
    const named = new Set(input.leases.map(({ lease }) => lease));
    for (const view of input.leases) {
      if (view.state === "reserved") continue;
      // What is not known from the store may have run all the same: a restored backup forgets.
      const item = this.#held.get(view.lease) ?? held(view.lease, view.fence, true);
      this.#held.set(view.lease, item);
      this.#see(now, item, view, input.logTime, false);
      if (view.state === "ended") this.#ended(now, item, view, out);
    }
    for (const item of [...this.#held.values()]) {
      if (named.has(item.lease)) continue;
      if (item.ran) this.#orphaned(now, item, out);
      else this.#drop(item, out);
    }
  }

  #news(now: Now, { what, lease: view, logTime }: Extract<ExecutorInput, { kind: "news" }>, out: ExecutorEffect[]): void {
    const known = this.#held.get(view.lease);
    switch (what) {
      case "live": {
        if (known !== undefined || view.fence <= this.#floor) return;
        const item = held(view.lease, view.fence, false);
        this.#held.set(view.lease, item);
        this.#see(now, item, view, logTime, true);
        this.#raise(view.fence, out);
        // Who is gone already has as long as who goes now.
        if (this.#goneAt.get(view.borrower) === NEVER) this.#goneAt.set(view.borrower, now.mono + this.#config.disconnectMs);
        return;
      }
      case "renewed":
      case "noticed":
        if (known !== undefined) this.#see(now, known, view, logTime, true);
        return;
      case "refenced":
        if (known === undefined) return;
        known.view = view;
        known.fence = view.fence;
        this.#raise(view.fence, out);
        if (known.ran) out.push(persist(admission(known.lease, view.fence)));
        return;
      case "ended":
        if (known !== undefined) this.#ended(now, known, view, out);
        return;
      case "freed":
        if (known !== undefined) this.#freed(now, known, out);
    }
  }

  /**
   * see takes what the book says of a lease; its end is measured from now on, in durations. That is no sooner than the borrower's only if it is
   * of the entry that made it so (`exact`): log time may have been set since.
   */
  #see(now: Now, item: Held, view: LeaseView, logTime: number, exact: boolean): void {
    item.view = view;
    item.fence = view.fence;
    item.endsAt = now.mono + Math.max(0, view.endsAt - logTime);
    item.safeAt = exact ? item.endsAt : NEVER;
  }

  #ended(now: Now, item: Held, view: LeaseView, out: ExecutorEffect[]): void {
    item.view = view;
    const gaveBack = view.end === "released" || view.end === "stopped";
    item.freeAt = gaveBack ? now.mono : Math.min(Math.max(item.safeAt, now.mono), now.mono + this.#config.graceMs);
    if (item.phase.kind === "open" || (item.phase.kind === "stopping" && item.phase.then === "open"))
      this.#stop(now, item, "free", `its lease has ended: ${view.end}`, out);
  }

  #stop(now: Now, item: Held, then: "free" | "open", why: string, out: ExecutorEffect[]): void {
    if (!item.ran) {
      if (then === "free") item.phase = { kind: "idle", telling: new Retry(TELLING) };
      return;
    }
    if (item.phase.kind === "stopping") {
      item.phase = { ...item.phase, then, why };
      return;
    }
    item.phase = { kind: "stopping", then, why, forceAt: now.mono + this.#config.killMs };
    out.push({ kind: "stop", lease: item.lease, force: false, why });
  }

  #idle(lease: number): void {
    const item = this.#held.get(lease);
    if (item === undefined || item.phase.kind !== "stopping") return;
    item.ran = false;
    item.phase = item.phase.then === "open" ? { kind: "open" } : { kind: "idle", telling: new Retry(TELLING) };
  }

  #admit(now: Now, { call, lease, fence }: Extract<ExecutorInput, { kind: "admit" }>, out: ExecutorEffect[]): void {
    const item = this.#held.get(lease);
    const failure = this.#refusal(now, item, fence);
    if (failure !== undefined || item === undefined) {
      if (failure?.reason === "FENCE_STALE") out.push({ kind: "observe", what: "refused_fence", lease, fence });
      out.push({ kind: "refused", call, failure: failure ?? OVER });
      return;
    }
    if (!item.ran) out.push(persist(admission(lease, fence)));
    item.ran = true;
    out.push({ kind: "admitted", call, agents: item.view?.agents ?? [], forMs: item.endsAt - now.mono });
  }

  #refusal(now: Now, item: Held | undefined, fence: number): Failure | undefined {
    if (!this.#synced) return NOT_SYNCED;
    if (item?.view === undefined) return fence <= this.#floor ? STALE : OVER;
    if (item.fence !== fence) return STALE;
    if (item.view.state !== "live" || item.phase.kind !== "open" || now.mono >= item.endsAt) return OVER;
    const { agents } = item.view;
    for (const other of this.#held.values())
      if (other !== item && other.ran && other.view?.agents.some((agent) => agents.includes(agent))) return BUSY;
    return undefined;
  }

  #found(now: Now, { lease, fence }: Extract<ExecutorInput, { kind: "found" }>, out: ExecutorEffect[]): void {
    const item = this.#held.get(lease) ?? held(lease, fence, true);
    this.#held.set(lease, item);
    item.ran = true;
    if (!this.#synced) return;
    if (item.view === undefined) this.#orphaned(now, item, out);
    else if (item.fence !== fence) this.#stop(now, item, "open", "it runs under an old fence", out);
    else if (item.phase.kind === "idle") {
      item.phase = { kind: "open" };
      this.#stop(now, item, "free", "its lease has ended", out);
    }
  }

  #orphaned(now: Now, item: Held, out: ExecutorEffect[]): void {
    item.view = undefined;
    item.endsAt = NEVER;
    item.freeAt = 0;
    if (item.phase.kind === "stopping") return;
    out.push({ kind: "observe", what: "orphan", lease: item.lease, fence: item.fence });
    item.phase = { kind: "open" };
    this.#stop(now, item, "free", "it runs without a lease", out);
  }

  #connected(now: Now, hub: string, up: boolean): void {
    if (up) this.#goneAt.delete(hub);
    else if (!this.#goneAt.has(hub)) this.#goneAt.set(hub, now.mono + this.#config.disconnectMs);
  }

  #gone(now: Now, hub: string, out: ExecutorEffect[]): void {
    let next = NEVER;
    for (const item of this.#held.values()) {
      if (item.view?.borrower !== hub || item.phase.kind !== "open") continue;
      const { onDisconnect } = item.view;
      if (onDisconnect === "stop") this.#stop(now, item, "open", `${hub} is not connected`, out);
      if (onDisconnect !== "hand_back" || item.view.notice !== undefined) continue;
      out.push({ kind: "propose", command: { kind: "reclaim", lease: item.lease, graceMs: this.#config.graceMs } });
      // The log may not have heard it.
      next = now.mono + this.#config.disconnectMs;
    }
    this.#goneAt.set(hub, next);
  }

  /** raise notes the highest fence that was seen: a book that knows of none so high is older than this hub. */
  #raise(floor: number, out: ExecutorEffect[]): void {
    if (floor <= this.#floor) return;
    this.#floor = floor;
    out.push(persist({ op: "put", space: EXECUTOR_SPACE, key: FLOOR_KEY, bytes: floorBytes(floor) }));
  }

  #freed(now: Now, item: Held, out: ExecutorEffect[]): void {
    // It was said that nothing runs: what does is an orphan.
    if (item.ran) this.#orphaned(now, item, out);
    else this.#drop(item, out);
  }

  #drop(item: Held, out: ExecutorEffect[]): void {
    this.#held.delete(item.lease);
    out.push(persist({ op: "delete", space: EXECUTOR_SPACE, key: String(item.lease) }));
  }
}

const NOT_SYNCED: Failure = {
  reason: "TOO_STALE",
  message: "this hub has not read the federation's log since it started; retry in a moment",
};
const STALE: Failure = {
  reason: "FENCE_STALE",
  message: "the fence is not the one in force; stop what runs under it and read the lease again",
};
const OVER: Failure = { reason: "LEASE_OVER", message: "the lease is over here, or is not known yet; read the lease again" };
const BUSY: Failure = {
  reason: "NO_CAPACITY",
  message: "an agent of the lease has not yet stopped what it did for another; retry in a moment",
};

function held(lease: number, fence: number, ran: boolean): Held {
  return { lease, view: undefined, fence, endsAt: NEVER, safeAt: NEVER, freeAt: 0, ran, phase: { kind: "open" } };
}

function admission(lease: number, fence: number): StoreOp {
  return { op: "put", space: EXECUTOR_SPACE, key: String(lease), bytes: admissionBytes(fence) };
}

function persist(op: StoreOp): Persist {
  return { kind: "persist", ops: [op] };
}
