import type { StoreOp } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import type { CommandEffect, Result } from "../messages.ts";
import { NO_VALUE, OUTCOME } from "../messages.ts";
import type { Settings } from "../settings.ts";
import { type AuditRecord, BatchWriter, readHead, WAY, type Way } from "./batch.ts";
import { type Begun, OpenCommands } from "./open-commands.ts";
import { Refusals } from "./refusals.ts";
import { Row, Rows } from "./rows.ts";
import { SecretNames } from "./secret-names.ts";

/** AUDIT_LOG is the log of batches of records in the service's store, each at the number of its first record. */
export const AUDIT_LOG = "audit";

/** Rows that are trimmed in one go: a delete costs as much as an append. */
const TRIM_ROWS = 64;

/** Audited is a command of which a record is kept. `secret`: its capability says that its values are. */
export interface Audited {
  readonly way: Way;
  readonly caller: string;
  readonly hub: string;
  readonly nodeId: string;
  readonly capability: string;
  readonly value: Uint8Array;
  readonly secret: boolean;
  readonly epoch: number;
  readonly seq: number;
  readonly key: string;
}

/**
 * Audit is who did what: a record of each command that was accepted or refused, in the transaction of the journal that its outcome rests on.
 *
 * WW1 records are numbered one by one, over all starts; a start writes them under an epoch of its own, which is higher than those before.
 * WW2 a command has one record, when its outcome is final. A command that is in the journal gets it in the transaction in which the journal
 *    notes the outcome: whatever crashes, there is neither none nor a second one.
 * WW3 nobody is told the outcome of a command that is in no journal before its record is durable, while the store takes any.
 * WW4 refusals that are in no journal are kept at a bounded rate; those without a record are counted, and the count is a record.
 * WW5 the value of a secret capability is in no record, nor is what was said about it; of others so many bytes.
 * WW6 records are kept until telemetry has them, and while they fit into `auditBytes`; the oldest go first, and the numbers show it.
 */
export class Audit {
  readonly open = new OpenCommands();
  readonly #settings: Settings;
  readonly #secrets: SecretNames;
  readonly #refusals: Refusals;
  readonly #batch = new BatchWriter();
  /** Batches of this step that are full already. */
  #full: { readonly first: number; readonly count: number; readonly bytes: Uint8Array }[] = [];
  readonly #rows = new Rows();
  #next = 1;
  #urgent = false;
  /** Epoch of this start. */
  epoch = 0;
  /** While the store refuses, refusals are only counted: nothing may pile up in front of it. */
  refusing = false;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#secrets = new SecretNames(settings.auditSecrets);
    this.#refusals = new Refusals(settings.auditRefusalsPerSecond, settings.auditRefusalsBurst);
  }

  /** next is the number that the next record gets. */
  get next(): number {
    return this.#next;
  }

  /** waiting is how many bytes of records telemetry has not got yet. */
  get waitingBytes(): number {
    return this.#rows.bytes;
  }

  /** urgent: there is something that must be durable before this step's answers leave. Other records wait for the journal. */
  get urgent(): boolean {
    return this.#urgent || this.open.dirty;
  }

  /** deadline is when something is to be told, mono ms. */
  get deadline(): number | undefined {
    if (this.refusing) return undefined;
    const { ripensAt } = this.open;
    const { tellAt } = this.#refusals;
    return ripensAt === undefined || (tellAt !== undefined && tellAt < ripensAt) ? tellAt : ripensAt;
  }

  /** restore reads back what is stored, and answers what had begun when the hub stopped. */
  restore(
    rows: Iterable<{ readonly seq: number; readonly bytes: Uint8Array }>,
    open: Iterable<{ readonly seq: number; readonly bytes: Uint8Array }>,
  ): Begun {
    for (const { bytes } of rows) {
      const { epoch, first, count } = readHead(bytes);
      this.#rows.push(new Row(epoch, first, count, bytes.length));
      this.#next = first + count;
    }
    return this.open.restore(open);
  }

  /** ended keeps the final outcome of a command that is in the journal (WW2). `later`: the journal notes it later. */
  ended(now: Now, command: Audited, result: Result, durationMs: number, later: boolean): void {
    this.#add(now, command, result.outcome, result.failure, durationMs);
    if (!later) this.#urgent = true;
  }

  /** refused keeps that a command was not started, of which the journal knows nothing (WW4). */
  refused(now: Now, command: Audited, outcome: number, failure: Failure | undefined, durationMs: number): void {
    const { way, caller } = command;
    if (this.refusing || !this.#refusals.admit(caller, now.mono)) return this.#refusals.leaveOut(way, caller, now.mono);
    this.#add(now, command, outcome, failure, durationMs);
    this.#urgent = true;
  }

  /** denied keeps that a caller was refused before its commands were read, so many times. */
  denied(now: Now, caller: string, failure: Failure, times: number): void {
    this.refused(now, { ...NOBODYS, caller }, OUTCOME.REJECTED, failure, 0);
    if (times > 1) this.#refusals.leaveOut(WAY.NONE, caller, now.mono, times - 1);
  }

  /** tell writes down how many refusals were left out, once that is due. */
  tell(now: Now): void {
    if (this.refusing) return;
    this.open.ripen(now.mono);
    const { tellAt } = this.#refusals;
    if (tellAt === undefined || tellAt > now.mono) return;
    for (const { way, caller, count } of this.#refusals.take()) {
      this.#write({ ...NO_RECORD, way, wallMs: wallOf(now), caller, suppressed: count });
      this.#urgent = true;
    }
  }

  /** flush makes what was kept durable, with the rest of the step. */
  flush(out: CommandEffect[]): void {
    this.open.flush(out);
    this.#urgent = false;
    this.#close();
    if (this.#full.length === 0) return;
    const ops: StoreOp[] = [];
    for (const { first, count, bytes } of this.#full) {
      this.#rows.push(new Row(this.epoch, first, count, bytes.length));
      ops.push({ op: "append", log: AUDIT_LOG, seq: first, bytes });
    }
    this.#full = [];
    const below = this.#rows.fit(this.#settings.auditBytes, TRIM_ROWS);
    if (below > 0) ops.push({ op: "trim", log: AUDIT_LOG, below });
    out.push({ kind: "persist", ops }, { kind: "observe", what: { event: "audited", next: this.#next } });
  }

  /**
   * copied is told what telemetry has for good: rows that it has go when the next ones are written. An epoch that is newer than this one comes
   * from a store that was lost, and a clock that was set back since.
   */
  copied(epoch: number, number: number): void {
    if (epoch > this.epoch) this.epoch = epoch + 1;
    this.#rows.copied(epoch, number);
  }

  #add(now: Now, command: Audited, outcome: number, failure: Failure | undefined, durationMs: number): void {
    const { value } = command;
    const hidden = command.secret || this.#secrets.has(command.capability);
    const { auditValueBytes } = this.#settings;
    const whole = value.length <= auditValueBytes;
    this.#write({
      way: command.way,
      outcome,
      wallMs: wallOf(now),
      durationMs,
      caller: command.caller,
      hub: command.hub,
      node: command.nodeId,
      capability: command.capability,
      value: hidden ? NO_VALUE : whole ? value : value.subarray(0, auditValueBytes),
      valueBytes: hidden || whole ? 0 : value.length,
      hidden: hidden && value.length > 0,
      reason: failure?.reason ?? "",
      // An executor may well repeat there what it was given.
      message: hidden ? "" : (failure?.message ?? ""),
      nameEpoch: command.epoch,
      nameNumber: command.seq,
      key: command.key,
      suppressed: 0,
    });
  }

  #write(record: AuditRecord): void {
    this.#batch.add(record);
    if (this.#batch.full) this.#close();
  }

  #close(): void {
    const { count } = this.#batch;
    if (count === 0) return;
    const first = this.#next;
    this.#next += count;
    this.#full.push({ first, count, bytes: this.#batch.take(this.epoch, first) });
  }
}

function wallOf(now: Now): number {
  return Math.max(0, Math.floor(now.wall));
}

const NOBODYS: Audited = {
  way: WAY.NONE,
  caller: "",
  hub: "",
  nodeId: "",
  capability: "",
  value: NO_VALUE,
  secret: false,
  epoch: 0,
  seq: 0,
  key: "",
};

const NO_RECORD: AuditRecord = {
  way: WAY.NONE,
  outcome: 0,
  wallMs: 0,
  durationMs: 0,
  caller: "",
  hub: "",
  node: "",
  capability: "",
  value: NO_VALUE,
  valueBytes: 0,
  hidden: false,
  reason: "",
  message: "",
  nameEpoch: 0,
  nameNumber: 0,
  key: "",
  suppressed: 0,
};
