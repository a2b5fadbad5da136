import { assert } from "#kernel/assert.ts";
import type { StoreOp } from "#kernel/core.ts";
import type { Prng } from "#kernel/prng.ts";
import type { Blob, CommitOutcome, Store } from "#runtime/store/port.ts";
import type { Scheduler } from "../scheduler.ts";
import { Tables } from "./tables.ts";

/** DiskOptions are drawn from the seed of a run. */
export interface DiskOptions {
  readonly minMs: number;
  readonly jitterMs: number;
  /** How often a commit takes `stallMs` more. */
  readonly stallChance: number;
  readonly stallMs: number;
}

/** DiskSabotage is a disk that is not what the store promises. Empty in every run that means it seriously. */
export interface DiskSabotage {
  /** Commits are answered before they are synced, which happens every so many ms (zoo 5). */
  readonly lazySyncMs?: number;
  /** What a crash makes of the batch in flight: a torn one (zoo 3). */
  readonly tear?: (ops: readonly StoreOp[], prng: Prng) => readonly StoreOp[];
}

/**
 * Disk is what the coordination of one hub has its store on; it outlives processes. A commit is durable when it is answered, and until then
 * either may have happened to it. A sync that failed once leaves a hole in the journal: a retry and all that follows seem to succeed and
 * are read back, but are not there after the next start.
 */
export class Disk {
  readonly #scheduler: Scheduler;
  readonly #prng: Prng;
  readonly #o: DiskOptions;
  readonly #sabotage: DiskSabotage;
  /** onSafe is told of what will be there after any crash, in order. */
  readonly #onSafe: (ops: readonly StoreOp[]) => void;
  /** What a process reads, and what survives: the same object unless a sync failed or is late. */
  #seen = new Tables();
  #safe = this.#seen;
  #unsynced: (readonly StoreOp[])[] = [];
  /** A sync failed and the process went on: the end of the journal is behind a hole, and will not be found again. */
  #cursed = false;
  #fault: "full" | undefined;
  #failNextSync = false;
  #healed = false;
  #inFlight: readonly StoreOp[] | undefined;
  #life = 0;
  commits = 0;

  constructor(scheduler: Scheduler, prng: Prng, options: DiskOptions, sabotage: DiskSabotage, onSafe: (ops: readonly StoreOp[]) => void) {
    this.#scheduler = scheduler;
    this.#prng = prng;
    this.#o = options;
    this.#sabotage = sabotage;
    this.#onSafe = onSafe;
    if (sabotage.lazySyncMs !== undefined) {
      this.#safe = new Tables();
      this.#scheduleSync(sabotage.lazySyncMs);
    }
  }

  get busy(): boolean {
    return this.#inFlight !== undefined;
  }

  /** open gives the next process its store. */
  open(): Store {
    const life = ++this.#life;
    const tables = this.#seen;
    return {
      durability: "full",
      commit: (ops) => this.#commit(life, ops),
      logs: () => tables.logNames(),
      read: (log: string, from: number): Iterable<Blob> => tables.read(log, from),
      space: (space) => tables.entries(space),
      get: (space, key) => tables.get(space, key),
      close: () => undefined,
    };
  }

  /** fill makes commits fail for want of room, before anything is written, until it is called with false. */
  fill(full: boolean): void {
    this.#fault = full ? "full" : undefined;
  }

  /** heal ends all trouble of the disk. */
  heal(): void {
    this.#fault = undefined;
    this.#failNextSync = false;
    this.#healed = true;
  }

  /** failSync makes the next commit fail half-way. */
  failSync(): void {
    this.#failNextSync = true;
  }

  /** crash ends the store of the process that died. A process leaves what the system has in memory; a machine only what was synced. */
  crash(what: "process" | "machine"): void {
    this.#life++;
    const batch = this.#inFlight;
    this.#inFlight = undefined;
    this.#failNextSync = false;
    if ((what === "machine" || this.#cursed) && this.#seen !== this.#safe) {
      this.#seen = this.#sabotage.lazySyncMs === undefined ? this.#safe : this.#safe.copy();
      this.#unsynced = [];
    }
    this.#cursed = false;
    if (batch === undefined) return;
    const left = this.#sabotage.tear?.(batch, this.#prng) ?? (this.#prng.chance(0.5) ? batch : []);
    if (left.length > 0) this.#apply(left);
  }

  backup(): Tables {
    return this.#seen.copy();
  }

  /** replace puts another content in the place of all that is there: that of a backup, or nothing. */
  replace(content: Tables): void {
    this.crash("process");
    this.#seen = content;
    this.#safe = this.#sabotage.lazySyncMs === undefined ? content : content.copy();
    this.#unsynced = [];
  }

  #commit(life: number, ops: readonly StoreOp[]): Promise<CommitOutcome> {
    assert(life === this.#life, "commit on a store that is gone");
    assert(this.#inFlight === undefined, "two commits in flight");
    const batch = [...ops];
    this.#inFlight = batch;
    const { minMs, jitterMs, stallChance, stallMs } = this.#o;
    const stalled = !this.#healed && this.#prng.chance(stallChance) ? stallMs : 0;
    return new Promise((resolve) => {
      this.#scheduler.after(minMs + jitterMs * this.#prng.unit() + stalled, () => {
        if (life !== this.#life) return;
        this.#inFlight = undefined;
        resolve(this.#complete(batch));
      });
    });
  }

  #complete(batch: readonly StoreOp[]): CommitOutcome {
    this.commits++;
    if (this.#fault !== undefined) return { ok: false, reason: "full", message: "the disk is full", untouched: true };
    if (this.#failNextSync) return this.#failed(batch);
    const taken = this.#apply(batch);
    return taken === undefined ? { ok: true } : { ok: false, reason: "conflict", message: `position is taken: ${taken}` };
  }

  /** failed: the batch is in memory, the system believes that it is on the disk, and the next process may find it or not. */
  #failed(batch: readonly StoreOp[]): CommitOutcome {
    this.#failNextSync = false;
    if (this.#prng.chance(0.3)) this.#apply(batch);
    else this.#cursed = true;
    return { ok: false, reason: "io", message: "the disk failed to sync" };
  }

  #apply(batch: readonly StoreOp[]): string | undefined {
    if (this.#cursed && this.#seen === this.#safe) this.#safe = this.#seen.copy();
    const taken = this.#seen.apply(batch);
    if (taken !== undefined) return taken;
    if (this.#sabotage.lazySyncMs !== undefined) this.#unsynced.push(batch);
    else if (!this.#cursed) this.#onSafe(batch);
    return undefined;
  }

  #scheduleSync(everyMs: number): void {
    this.#scheduler.after(everyMs, () => {
      for (const batch of this.#unsynced) {
        this.#safe.apply(batch);
        this.#onSafe(batch);
      }
      this.#unsynced = [];
      this.#scheduleSync(everyMs);
    });
  }
}
