import type { Clock, Timer } from "#channel/clock.ts";
import { Retry } from "#kernel/backoff.ts";
import { FoedusError, type Reason } from "#kernel/error.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { Store } from "#runtime/store/port.ts";
import { AUDIT_LOG } from "../audit/audit.ts";
import { readHead } from "../audit/batch.ts";
import type { AuditSink } from "../ports.ts";

/** Records wait so long for others that go with them, ms. */
const GATHER_MS = 100;
/** Most of one message. */
const COPY_ROWS = 512;
const COPY_BYTES = 256 * 1024;

/** Reasons that lie in what was sent, and not in when. */
const FOR_GOOD: ReadonlySet<Reason> = new Set<Reason>(["INVALID_FIELD", "VALUE_OUT_OF_RANGE", "MESSAGE_TOO_LARGE"]);

/** AuditCopierOptions say where records come from and where they go. */
export interface AuditCopierOptions {
  readonly store: Store;
  readonly sink: AuditSink;
  readonly clock: Clock;
  readonly log: Logger;
  /** onCopied is called with the last record that telemetry has for good. */
  readonly onCopied: (epoch: number, number: number) => void;
}

/**
 * AuditCopier gives telemetry the records of the audit. It reads what is durable, in order, and goes on behind what telemetry says that it
 * has; what comes twice is kept once there. While telemetry is away, records wait in the store.
 */
export class AuditCopier {
  readonly #o: AuditCopierOptions;
  readonly #retry = new Retry({ baseMs: 500, maxMs: 4_000, factor: 2 });
  /** Number from which on rows are read. */
  #from = 0;
  /** Number of the next record, as far as it is known. */
  #next: number;
  #busy = false;
  #again = false;
  #timer: Timer | undefined;
  #stopped = false;

  /** `next` is the number of the record that comes next. */
  constructor(options: AuditCopierOptions, next: number) {
    this.#o = options;
    this.#next = next;
  }

  /** start asks telemetry what it has, and gives it the rest. */
  start(): void {
    this.#arm(0);
  }

  /** written is told that there are records up to `next`, or will be in a moment. */
  written(next: number): void {
    this.#next = next;
    this.#again = true;
    if (!this.#busy) this.#arm(GATHER_MS);
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  #arm(delayMs: number): void {
    if (this.#timer !== undefined || this.#stopped) return;
    const { clock } = this.#o;
    this.#timer = clock.setTimer(Math.max(delayMs, this.#retry.dueAt - clock.mono()), () => {
      this.#timer = undefined;
      void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#busy = true;
    this.#again = false;
    try {
      await this.#copyAll();
      this.#retry.reset();
    } catch (error) {
      this.#o.log.debug({ error }, "telemetry does not take the audit of commands");
      this.#retry.failed(this.#o.clock.mono());
      this.#again = true;
    }
    this.#busy = false;
    // What is written at this moment is read the next time.
    if (this.#again || this.#from < this.#next) this.#arm(GATHER_MS);
  }

  async #copyAll(): Promise<void> {
    if (this.#from === 0) await this.#copy([]);
    for (;;) {
      if (this.#stopped) return;
      const { batches, next } = this.#read();
      if (batches.length === 0) return;
      await this.#copy(batches);
      this.#from = next;
      if (batches.length < COPY_ROWS && next >= this.#next) return;
    }
  }

  #read(): { readonly batches: Uint8Array[]; readonly next: number } {
    const batches: Uint8Array[] = [];
    let bytes = 0;
    let next = this.#from;
    for (const row of this.#o.store.read(AUDIT_LOG, this.#from)) {
      batches.push(row.bytes);
      bytes += row.bytes.length;
      const { first, count } = readHead(row.bytes);
      next = first + count;
      if (batches.length === COPY_ROWS || bytes >= COPY_BYTES) break;
    }
    return { batches, next };
  }

  async #copy(batches: readonly Uint8Array[]): Promise<void> {
    const { sink, log, onCopied } = this.#o;
    try {
      const { epoch, number } = await sink.copy(batches);
      if (!this.#stopped) onCopied(epoch, number);
      if (this.#from === 0) this.#from = 1;
    } catch (error) {
      if (batches.length === 0 || !(error instanceof FoedusError) || !FOR_GOOD.has(error.failure.reason)) throw error;
      // It would be refused each time. What is left out shows in the numbers.
      if (batches.length === 1) return log.error({ err: error }, "telemetry refused a part of the audit of commands");
      for (const batch of batches) await this.#copy([batch]);
    }
  }
}
