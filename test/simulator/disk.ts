import type { Prng } from "#kernel/prng.ts";
import { MemoryStore } from "../fakes/memory-store.ts";
import type { Scheduler } from "./scheduler.ts";

/** DiskOptions are drawn from the seed of a run. */
export interface DiskOptions {
  readonly durability: "full" | "process";
  readonly commitMinMs: number;
  readonly commitJitterMs: number;
  /** How often the operating system writes back under "process" durability. */
  readonly syncMs: number;
}

/**
 * Disk is what one service of one hub has its store on. It outlives processes: `restart` gives the store that the next process
 * finds. Commits take a while, so that inputs arrive between a commit and its end.
 */
export class Disk {
  readonly #scheduler: Scheduler;
  readonly #prng: Prng;
  readonly #o: DiskOptions;
  store: MemoryStore;
  #backup: MemoryStore | undefined;
  /** Virtual instants until which what was answered survives a loss of power, and at which the backup was taken. */
  syncedAt = 0;
  backedUpAt = -1;
  commits = 0;
  #torn = false;

  constructor(scheduler: Scheduler, prng: Prng, options: DiskOptions) {
    this.#scheduler = scheduler;
    this.#prng = prng;
    this.#o = options;
    this.store = new MemoryStore(this.#options());
    if (options.durability === "process") this.#scheduleSync();
  }

  get durability(): "full" | "process" {
    return this.#o.durability;
  }

  /** full: commits fail for want of room, until something is done about it. */
  full = false;

  /** fill makes commits fail until it is called with undefined. */
  fill(reason: "full" | "io" | undefined): void {
    this.#torn = false;
    this.full = reason === "full";
    this.store.failAll(reason);
  }

  /** tear makes the next commit fail. */
  tear(): void {
    this.store.failAll("io");
    this.#torn = true;
  }

  backup(): void {
    this.#backup = this.store.backup(this.#options());
    this.backedUpAt = this.#scheduler.now;
  }

  /** crash ends the store; what the next process finds depends on what happened. Answers whether acknowledged writes may be missing. */
  crash(what: "process" | "machine" | "restore"): boolean {
    const inFlight = this.#prng.chance(0.5) ? "applied" : "lost";
    if (what === "restore" && this.#backup !== undefined) {
      this.store.crash("process", inFlight, this.#options());
      this.store = this.#backup.crash("process", "lost", this.#options());
      this.#backup = undefined;
      return true;
    }
    this.store = this.store.crash(what === "machine" ? "machine" : "process", inFlight, this.#options());
    return what === "machine" && this.#o.durability === "process";
  }

  #options() {
    const { durability, commitMinMs, commitJitterMs } = this.#o;
    return {
      durability,
      schedule: (complete: () => void) => {
        this.commits++;
        this.#scheduler.after(commitMinMs + commitJitterMs * this.#prng.unit(), () => {
          complete();
          if (this.#torn) this.fill(undefined);
        });
      },
    };
  }

  #scheduleSync(): void {
    this.#scheduler.after(this.#o.syncMs, () => {
      this.store.sync();
      this.syncedAt = this.#scheduler.now;
      this.#scheduleSync();
    });
  }
}
