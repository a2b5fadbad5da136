import type { Failure } from "#kernel/error.ts";
import type { TraceContext } from "#kernel/trace-context.ts";
import type { Group } from "../audit/open-commands.ts";
import type { Writer } from "../codec/wire.ts";
import type { Timed } from "../deadline-queue.ts";
import type { Entry } from "../journal/journal.ts";
import { RECORD, writeResult } from "../journal/records.ts";
import type { Respond, Result } from "../messages.ts";
import type { Settings } from "../settings.ts";
import type { Executor } from "./executor.ts";
import { Intervals, merged } from "./intervals.ts";
import type { Line, NodeQueue, Standing } from "./lines.ts";

/** RUN are the states of a run: waiting for an executor's credit, given to it, or with an outcome that is kept. */
export const RUN = { WAITING: 0, RUNNING: 1, DONE: 2 } as const;

/** RunSpec is what a run is about. */
export interface RunSpec {
  readonly seq: number;
  readonly nodeId: string;
  readonly capability: string;
  readonly value: Uint8Array;
  readonly idempotent: boolean;
  readonly deadline: number;
  /** How long its outcome is kept if nobody acknowledges it, ms. */
  readonly keepMs: number;
  readonly trace?: TraceContext | undefined;
  /** When it was accepted, mono ms. */
  readonly acceptedAt?: number;
  readonly secret?: boolean;
}

/** Asker is the command of a caller of this hub, which is cancelled by what it runs as. */
export interface Asker {
  run: Run | undefined;
}

/** Run is a command at its owner. Its record is INTENT while it runs and OUTCOME afterwards. */
export class Run implements Entry, Timed, Standing {
  blob = 0;
  recordBytes = 0;
  slot = 0;
  readonly seq: number;
  readonly nodeId: string;
  readonly capability: string;
  value: Uint8Array;
  readonly idempotent: boolean;
  readonly deadline: number;
  readonly keepMs: number;
  /** Exactly one is set: the caller's hub, or the command of a caller of this hub. */
  readonly origin: CallerEpoch | undefined;
  readonly pending: Asker | undefined;
  readonly acceptedAt: number;
  /** Its capability is secret. */
  readonly secret: boolean;
  /** With whom it began, for the audit after a stop. */
  begun: Group | undefined;
  trace: TraceContext | undefined;
  state: 0 | 1 | 2 = RUN.WAITING;
  executor: Executor<Run> | undefined;
  line: Line | undefined;
  queue: NodeQueue | undefined;
  ahead: Standing | undefined;
  behind: Standing | undefined;
  taskId = 0;
  result: Result | undefined;
  /** It was asked again and is idempotent: it may have been started before a restart without leaving a trace. */
  perhaps = false;
  /** Its caller was answered UNKNOWN while it runs. */
  overdue = false;
  /** Its outcome came after that and is to be told. */
  late = false;
  /** Bytes of its outcome while that is kept for its caller's hub. */
  bytes = 0;
  /** What its caller's hub may do was looked at when these two were current: its trust, and what shares let it invoke. */
  trust: number;
  policy = 0;
  /** Its caller has done with it; the outcome is told to nobody. */
  forgotten = false;

  constructor(spec: RunSpec, origin: CallerEpoch | undefined, pending: Asker | undefined) {
    this.seq = spec.seq;
    this.nodeId = spec.nodeId;
    this.capability = spec.capability;
    this.value = spec.value;
    this.idempotent = spec.idempotent;
    this.deadline = spec.deadline;
    this.keepMs = spec.keepMs;
    this.origin = origin;
    this.trust = origin?.book.trust ?? 0;
    this.pending = pending;
    this.trace = spec.trace;
    this.acceptedAt = spec.acceptedAt ?? 0;
    this.secret = spec.secret === true;
  }

  write(writer: Writer): void {
    const { origin, result } = this;
    if (origin === undefined) return;
    writer.uint(result === undefined ? RECORD.INTENT : RECORD.OUTCOME);
    writer.string(origin.book.hubId);
    writer.uint(origin.epoch);
    writer.uint(this.seq);
    writer.uint(this.keepMs);
    if (result !== undefined) writeResult(writer, result);
  }
}

/** Ranges of acknowledged positions that are remembered per epoch. */
const RANGES_MAX = 4_096;

/** CallerEpoch is what the owner keeps for one journal epoch of one caller's hub. Its record is FLOOR. */
export class CallerEpoch implements Entry {
  blob = 0;
  recordBytes = 0;
  readonly book: CallerBook;
  readonly epoch: number;
  readonly runs = new Map<number, Run>();
  /** Names below are finished: they are never run. */
  floor = 0;
  /** Finished names above the floor. In memory only: an old frame does not survive a restart. */
  readonly settled = new Intervals(RANGES_MAX);
  /** Greatest position seen: first sendings come in order, so a lower one is a stray copy. */
  maxSeen = -1;
  /** Effect of the running step. */
  respond: Respond | undefined;

  constructor(book: CallerBook, epoch: number) {
    this.book = book;
    this.epoch = epoch;
  }

  /**
   * settle notes pairs [from, to) of finished names, and answers the positions of those that are kept here. Whatever the pairs are, that
   * takes one pass over what is kept, or over the numbers if they are fewer: a frame may repeat a long pair thousands of times.
   */
  settle(pairs: readonly number[]): number[] {
    const found: number[] = [];
    const ranges = merged(pairs);
    this.settled.addAll(ranges);
    let width = 0;
    for (let i = 0; i < ranges.length; i += 2) width += (ranges[i + 1] as number) - (ranges[i] as number);
    if (width > this.runs.size) {
      const acked = new Intervals(ranges.length);
      acked.addAll(ranges);
      for (const seq of this.runs.keys()) if (acked.has(seq)) found.push(seq);
      return found;
    }
    for (let i = 0; i < ranges.length; i += 2)
      for (let seq = ranges[i] as number; seq < (ranges[i + 1] as number); seq++) if (this.runs.has(seq)) found.push(seq);
    return found;
  }

  write(writer: Writer): void {
    writer.uint(RECORD.FLOOR);
    writer.string(this.book.hubId);
    writer.uint(this.epoch);
    writer.uint(this.floor);
    writer.uint(this.book.epochFloor);
  }
}

/** CallerBook is what the owner keeps for one caller's hub. */
export class CallerBook {
  readonly hubId: string;
  readonly epochs = new Map<number, CallerEpoch>();
  /** Epochs below are finished as a whole. */
  epochFloor = 0;
  /** How often it lost the trust that commands need. */
  trust = 0;
  /** Runs and outcomes held, over all epochs. */
  kept = 0;
  /** Bytes of the outcomes among them. */
  keptBytes = 0;
  /** Those that have no outcome yet, and the bytes of their values. */
  open = 0;
  openBytes = 0;

  constructor(hubId: string) {
    this.hubId = hubId;
  }

  /** refusal tells why another of its commands, with a value of so many bytes, may not be started; undefined if it may. */
  refusal({ pendingPerPeer, pendingBytesPerPeer, outcomesPerCaller, outcomeBytesPerCaller }: Settings, bytes: number): Failure | undefined {
    if (this.open >= pendingPerPeer) return { reason: "OVERLOADED", message: `${pendingPerPeer} commands of ${this.hubId} are pending` };
    if (this.openBytes + bytes > pendingBytesPerPeer)
      return { reason: "OVERLOADED", message: `${this.openBytes} bytes of commands of ${this.hubId} are pending` };
    return (
      this.#outcomesFull("outcomes_per_caller", "outcomes", this.kept, outcomesPerCaller) ??
      this.#outcomesFull("outcome_bytes_per_caller", "bytes of outcomes", this.keptBytes, outcomeBytesPerCaller)
    );
  }

  #outcomesFull(limit: string, what: string, used: number, max: number): Failure | undefined {
    if (used < max) return undefined;
    const message = `${used} ${what} of ${this.hubId} are not acknowledged; at most ${max} may be`;
    return { reason: "LIMIT_EXCEEDED", message, facts: { limit, max: String(max) } };
  }

  epoch(epoch: number): CallerEpoch {
    let known = this.epochs.get(epoch);
    if (known === undefined) this.epochs.set(epoch, (known = new CallerEpoch(this, epoch)));
    return known;
  }

  /** newest is the highest epoch known of that hub, 0 for none. */
  newest(): number {
    let newest = 0;
    for (const epoch of this.epochs.keys()) newest = Math.max(newest, epoch);
    return newest;
  }
}

/** finishedEpoch stands for an epoch that is over: every name of it is below its floor. */
export function finishedEpoch(book: CallerBook, epoch: number): CallerEpoch {
  const caller = new CallerEpoch(book, epoch);
  caller.floor = Number.MAX_SAFE_INTEGER;
  return caller;
}

/** Parting is an executor that is over, with what waited for it and who takes its place. */
export interface Parting {
  readonly executor: Executor<Run>;
  heir: Executor<Run> | undefined;
  readonly waiting: Run[];
}
