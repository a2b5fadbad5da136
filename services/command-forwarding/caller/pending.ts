import type { TraceContext } from "#kernel/trace-context.ts";
import type { Group } from "../audit/open-commands.ts";
import type { Writer } from "../codec/wire.ts";
import type { DeadlineQueue, Timed } from "../deadline-queue.ts";
import type { Entry } from "../journal/journal.ts";
import { KEPT_BYTES_MAX, RECORD, unpinned, writeResult, writeTexts } from "../journal/records.ts";
import type { Command, CommandName, Result } from "../messages.ts";
import type { Line, NodeQueue, Standing } from "../owner/lines.ts";
import type { Run } from "../owner/run.ts";
import type { PendingRooms } from "./pending-rooms.ts";

/** NOBODY is the client number of nobody: the caller is gone, or was there before a restart. */
export const NOBODY = 0;
/** UNARY_CLIENT is the client number of all unary calls together. */
export const UNARY_CLIENT = 1;

/** Waiter is a caller that joined a command by its idempotency key. */
export interface Waiter {
  readonly client: number;
  readonly corr: number;
  readonly startedAt: number;
  readonly trace: TraceContext | undefined;
}

/** Pending is a command of this hub's callers that has no final outcome. Its record says all that a retry after a restart needs. */
export class Pending implements Entry, Timed {
  blob = 0;
  recordBytes = 0;
  slot = 0;
  /** Its name, from when it leaves this hub. Positions begin at 1. */
  epoch: number;
  seq: number;
  readonly hubId: string;
  readonly nodeId: string;
  readonly capability: string;
  value: Uint8Array;
  readonly timeoutMs: number;
  readonly hops: readonly string[];
  /** Mono ms of acceptance and deadline; wall ms of the deadline, for a restart. */
  readonly startedAt: number;
  readonly deadline: number;
  readonly deadlineWall: number;
  /** Journal epoch of the owner when it was sent first. */
  ownerEpoch: number;
  client: number;
  corr: number;
  joined: Waiter[] | undefined;
  /** In memory only: after a restart nobody waits for it, and its trace ends there. */
  trace: TraceContext | undefined;
  keyed: Keyed | undefined;
  /** Set while it runs on this hub. */
  run: Run | undefined;
  /** It is from before a restart: its outcome is asked for, and nothing is started by that. */
  recovered = false;
  /** Set while it stands in the queue to its owner. */
  waiting: Waiting | undefined;
  /** Callers were answered UNKNOWN, and a late report may still correct it once. */
  answered = false;
  /** Where it is counted, for whom; undefined for one from before a restart, whose caller is not known any more. */
  rooms: PendingRooms | undefined;
  principal = "";
  /** Its capability is secret. */
  secret = false;
  /** With whom it began, for the audit after a stop. */
  begun: Group | undefined;
  /** The outcome, final or so far. */
  result: Result | undefined;
  durationMs = 0;

  constructor(
    name: { epoch: number; seq: number },
    hubId: string,
    command: Command,
    at: { startedAt: number; deadline: number; deadlineWall: number; timeoutMs: number; ownerEpoch: number; hops: readonly string[] },
  ) {
    this.epoch = name.epoch;
    this.seq = name.seq;
    this.hubId = hubId;
    this.nodeId = command.nodeId;
    this.capability = command.capability;
    this.value = unpinned(command.value);
    this.hops = at.hops;
    this.timeoutMs = at.timeoutMs;
    this.startedAt = at.startedAt;
    this.deadline = at.deadline;
    this.deadlineWall = at.deadlineWall;
    this.ownerEpoch = at.ownerEpoch;
    this.client = NOBODY;
    this.corr = command.corr;
    this.trace = command.trace;
  }

  /** named: it has left this hub, or runs here. What has no name cannot have been started. */
  get named(): boolean {
    return this.seq !== 0;
  }

  /** acceptedWall is the date of its acceptance, which a restart does not change. */
  get acceptedWall(): number {
    return Math.max(0, Math.floor(this.deadlineWall - this.timeoutMs));
  }

  /** rename gives it the name under which it leaves. */
  rename(epoch: number, seq: number, ownerEpoch: number): void {
    this.epoch = epoch;
    this.seq = seq;
    this.ownerEpoch = ownerEpoch;
    if (this.keyed === undefined) return;
    this.keyed.epoch = epoch;
    this.keyed.seq = seq;
  }

  /** count takes the room that it needs until it has its outcome. */
  count(rooms: PendingRooms, principal: string): void {
    this.rooms = rooms;
    this.principal = principal;
    rooms.add(principal, this.nodeId, this.value.length);
  }

  /** uncount gives that back. */
  uncount(): void {
    this.rooms?.give(this.principal, this.nodeId, this.value.length);
    this.rooms = undefined;
  }

  write(writer: Writer): void {
    writer.uint(RECORD.SUBMIT);
    writer.uint(this.epoch);
    writer.uint(this.seq);
    writer.string(this.hubId);
    writer.string(this.nodeId);
    writer.string(this.capability);
    writer.bytes(this.value);
    writer.uint(this.timeoutMs);
    writer.uint(Math.ceil(this.deadlineWall));
    writer.uint(this.ownerEpoch);
    writeTexts(writer, this.hops);
    const { keyed } = this;
    writer.string(keyed === undefined ? "" : keyed.id);
    if (keyed === undefined) return;
    writer.bytes(keyed.fingerprint);
    writer.uint(keyed.expiresWall);
  }
}

/** nameOf writes a pending command's name; undefined if it has none yet. */
export function nameOf(ownHubId: string, { named, epoch, seq }: Pending): CommandName | undefined {
  return named ? { hubId: ownHubId, epoch, seq } : undefined;
}

/** Keyed is an idempotency key in use: the name it stands for, the payload that it was used with, and the outcome if there is one. */
export class Keyed implements Entry {
  blob = 0;
  recordBytes = 0;
  /** Principal and key as one text. */
  readonly id: string;
  readonly fingerprint: Uint8Array;
  /** The end of its life, which begins anew with its outcome. */
  expiresWall: number;
  /** When this process forgets it, mono ms: the date may be set meanwhile. */
  expiresMono: number;
  /** When its outcome came; 0 if that is not known: there is none, or the version before stored it. */
  outcomeWall = 0;
  /** When it may be given up, mono ms, once it has an outcome. */
  mayGoAt = 0;
  epoch = 0;
  seq = 0;
  /** Set until there is an outcome. */
  pending: Pending | undefined;
  result: Result | undefined;
  durationMs = 0;
  /** Neighbours among the keys of its principal that have an outcome, the oldest outcome first. */
  older: Keyed | undefined;
  newer: Keyed | undefined;
  /** Bytes that it counts for. While its command runs that is what its outcome may come to at most. */
  bytes: number;

  constructor(id: string, fingerprint: Uint8Array, expires: { readonly wall: number; readonly mono: number }) {
    this.id = id;
    this.fingerprint = fingerprint;
    this.expiresWall = Math.ceil(expires.wall);
    this.expiresMono = expires.mono;
    this.bytes = keyBytes(id) + KEPT_BYTES_MAX;
  }

  /** key is the key as its caller gave it. */
  get key(): string {
    return this.id.slice(this.id.indexOf("\n") + 1);
  }

  /** principal is whose key it is. */
  get principal(): string {
    return this.id.slice(0, this.id.indexOf("\n"));
  }

  write(writer: Writer): void {
    if (this.result === undefined) return;
    writer.uint(RECORD.KEYED);
    writer.uint(this.epoch);
    writer.uint(this.seq);
    writer.string(this.id);
    writer.bytes(this.fingerprint);
    writer.uint(this.outcomeWall > 0 ? OUTCOME_DATE + this.outcomeWall : this.expiresWall);
    writeResult(writer, this.result);
  }
}

/**
 * OUTCOME_DATE is added to the date of an outcome, which is stored with it: the end of a life says nothing when lives are made longer. What
 * is less is the end of a life as the version before stored it, for which these dates are far ahead: it keeps such keys for a whole life.
 */
export const OUTCOME_DATE = 2 ** 42;

/** Bytes of a key in memory without its texts and its outcome: objects, the entries of two maps and the fingerprint, measured. */
const KEY_OVERHEAD = 576;

/** keyBytes is what a key takes in memory without its outcome. */
export function keyBytes(id: string): number {
  return KEY_OVERHEAD + 2 * id.length;
}

/** Waiting is a command that stands in the queue to its owner. */
export class Waiting implements Standing {
  readonly pending: Pending;
  readonly nodeId: string;
  /** It was sent on an earlier session, and is to be asked again. */
  readonly again: boolean;
  line: Line | undefined;
  queue: NodeQueue | undefined;
  ahead: Standing | undefined;
  behind: Standing | undefined;

  constructor(pending: Pending, again: boolean) {
    this.pending = pending;
    this.nodeId = pending.nodeId;
    this.again = again;
  }
}

/** Deadlines are the one queue of everything that falls due. */
export type Deadlines = DeadlineQueue<Pending | Run>;
