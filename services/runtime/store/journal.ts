import { close, fdatasync, openSync } from "node:fs";
import type { CommitOutcome } from "./port.ts";

/** How a file is synced: as `fdatasync` does it. */
type Sync = (file: number, done: (error: Error | null) => void) => void;

/**
 * Journal syncs the write-ahead log of an SQLite file beside the event loop, so that it goes on while the disk writes. SQLite itself (NORMAL)
 * syncs the log when it begins it anew and before it moves it into the file, so that what is in the file never runs ahead of it.
 *
 * JO1 a commit is answered when a sync has ended that began after it.
 * JO2 after a sync that failed every answer is that failure: the system may have dropped the pages, and a later sync proves nothing.
 */
export class Journal {
  readonly #file: number;
  readonly #sync: Sync;
  #pending = 0;
  #closing = false;
  #failure: CommitOutcome | undefined;

  /**
   * `path` is the write-ahead log, which exists while SQLite holds its file exclusively. SQLite's locks are on the file, not on the log.
   * Errors: those of opening it. `sync` is fdatasync, but where a test lets a disk fail.
   */
  constructor(path: string, sync: Sync = fdatasync) {
    this.#sync = sync;
    this.#file = openSync(path, "r+");
  }

  /** failure is the outcome of the sync that failed, if one did. */
  get failure(): CommitOutcome | undefined {
    return this.#failure;
  }

  /** sync answers when what was written before is durable. */
  sync(): Promise<CommitOutcome> {
    this.#pending++;
    return new Promise((resolve) =>
      this.#sync(this.#file, (error) => {
        this.#pending--;
        if (error !== null) this.#failure ??= { ok: false, reason: "io", message: `the store cannot sync what it wrote: ${error.message}` };
        if (this.#closing) this.#close();
        resolve(this.#failure ?? { ok: true });
      }),
    );
  }

  /** close gives the file back, once no sync uses it any more: its number would be that of another file. */
  close(): void {
    this.#closing = true;
    this.#close();
  }

  #close(): void {
    if (this.#pending === 0) close(this.#file, () => undefined);
  }
}
