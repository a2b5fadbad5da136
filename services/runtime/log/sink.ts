import { close, constants, fstatSync, lstatSync, openSync, write, writeSync } from "node:fs";
import { dirname } from "node:path";
import { isatty } from "node:tty";
import { systemClock, type Timer } from "#channel/clock.ts";
import { FoedusError, fail } from "#kernel/error.ts";
import { own } from "#kernel/own.ts";
import { makeFolder } from "#runtime/files.ts";

/** SinkState is told once when a log begins to fail, and once when it is written again. */
export interface SinkState {
  /** What the system says, e.g. "ENOSPC"; undefined: it is written again. */
  readonly code: string | undefined;
  /** One sentence. */
  readonly text: string;
}

/** LogSink is where lines go. Nothing of it throws or waits without an end. */
export interface LogSink {
  write(text: string): void;
  /** reopen opens the file of that name again, after a rotation; the old one is kept if that fails. */
  reopen(): void;
  /** flush resolves when every line so far was handed to the operating system, cannot be, or was not taken in time. */
  flush(): Promise<void>;
  /** close flushes and gives the file back. */
  close(): Promise<void>;
  /** Code of the failure that it is in. */
  readonly failing: string | undefined;
  /** Lines that were never written. */
  readonly lost: number;
}

/** Bytes that wait for a slow or failing output; lines on top are counted as lost. */
const QUEUE_MAX_BYTES = 4 * 1024 * 1024;
/** Bytes of one write. */
const CHUNK_BYTES = 64 * 1024;
/** A slow reader is tried again soon, a failing disk seldom. */
const BUSY_RETRY_MS = 20;
const FAILED_RETRY_MS = 1_000;
/** What a stop gives an output that does not take its lines. */
const FLUSH_MAX_MS = 1_000;
/** Tries at the process's exit, when nothing can wait. */
const EXIT_TRIES = 10;

const isBusy = (code: string | undefined): boolean => code === "EAGAIN" || code === "EBUSY";

const FIXES: Readonly<Record<string, string>> = {
  EACCES: "this user may not write there",
  EPERM: "this user may not write there",
  EROFS: "the file system is read-only",
  EISDIR: "it is a folder",
  ENOTDIR: "a part of the path is a file",
  ENOENT: "the folder does not exist and cannot be made",
  ENXIO: "it is a pipe that nobody reads",
  ENOSPC: "the disk is full",
  ELOOP: "it is a symbolic link, which it was not when the hub started",
};

/** isLink tells whether a path is a symbolic link: then somebody who configured it wants it to be followed. */
function isLink(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;
}

/**
 * openLogFile opens a file to append to, and makes its folder. NOT_CONFIGURED with a sentence if nothing can be written there. Without
 * `follow` a symbolic link is refused: whoever may write in the folder could have the hub write into any file of its own.
 */
function openLogFile(path: string, follow: boolean): number {
  try {
    makeFolder(dirname(path));
    // Without O_NONBLOCK a pipe that nobody reads would hold the whole process.
    const links = follow ? 0 : constants.O_NOFOLLOW;
    const fd = openSync(path, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK | links, 0o640);
    if (!fstatSync(fd).isDirectory()) return fd;
    throw fail("NOT_CONFIGURED", "it is a folder");
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
    const why = cause instanceof FoedusError ? cause.message : (own(FIXES, code) ?? code);
    throw fail("NOT_CONFIGURED", `cannot open the log ${path}: ${why}; correct log.destination, or make the folder writable for the hub`, {
      cause,
    });
  }
}

/** Sinks with lines that are still to be written when the process ends at once. */
const open = new Set<FileSink>();
let exitWatched = false;

/** A rotation that failed, after which the old file is written on. */
const NOT_REOPENED = "EREOPEN";

/** FileSink writes to a file descriptor without ever blocking the event loop. */
class FileSink implements LogSink {
  readonly #path: string | undefined;
  /** It was a symbolic link at the start, and may be one after a rotation. */
  readonly #link: boolean;
  readonly #onState: (state: SinkState) => void;
  #fd: number;
  #queue: Buffer[] = [];
  #queued = 0;
  #lost = 0;
  /** Lines lost since the failure began. */
  #lostBefore = 0;
  #busy = false;
  /** Files that a rotation replaced while they were written to. */
  #stale: number[] = [];
  #retry: Timer | undefined;
  #failing: string | undefined;
  #waiters: (() => void)[] = [];

  constructor(path: string | undefined, fd: number, onState: (state: SinkState) => void) {
    this.#path = path;
    this.#link = path !== undefined && isLink(path);
    this.#fd = fd;
    this.#onState = onState;
    open.add(this);
  }

  get failing(): string | undefined {
    return this.#failing;
  }

  get lost(): number {
    return this.#lost;
  }

  write(text: string): void {
    const line = Buffer.from(text);
    if (this.#queued + line.length > QUEUE_MAX_BYTES || this.#fd < 0) {
      this.#lost++;
      return;
    }
    this.#queue.push(line);
    this.#queued += line.length;
    if (this.#retry === undefined) this.#pump();
  }

  reopen(): void {
    if (this.#path === undefined || this.#fd < 0) return;
    let fd: number;
    try {
      fd = openLogFile(this.#path, this.#link);
    } catch (error) {
      this.#failed(NOT_REOPENED, (error as Error).message);
      return;
    }
    // A write that is under way keeps its file until it is done.
    if (this.#busy) this.#stale.push(this.#fd);
    else close(this.#fd, () => undefined);
    this.#fd = fd;
    this.#retry?.cancel();
    this.#retry = undefined;
    this.#pump();
  }

  flush(): Promise<void> {
    // What is under way is waited for also after a rotation that failed: the old file goes on.
    if (this.#queue.length === 0 || (this.#failing !== undefined && !this.#busy)) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = systemClock.setTimer(FLUSH_MAX_MS, resolve);
      this.#waiters.push(() => {
        timer.cancel();
        resolve();
      });
    });
  }

  async close(): Promise<void> {
    await this.flush();
    this.#retry?.cancel();
    open.delete(this);
    const fd = this.#fd;
    this.#fd = -1;
    if (this.#path !== undefined && fd >= 0 && !this.#busy) await new Promise<void>((done) => close(fd, () => done()));
  }

  /** last writes what is left when the process exits at once: nothing can wait any more. */
  last(): void {
    if (this.#failing !== undefined && this.#failing !== NOT_REOPENED) return;
    // The first is being written, and a thread that is at it ends with the process only after it.
    let rest = Buffer.concat(this.#busy ? this.#queue.slice(1) : this.#queue);
    this.#queue = [];
    for (let tries = 0; rest.length > 0 && tries < EXIT_TRIES; ) {
      try {
        rest = rest.subarray(writeSync(this.#fd, rest));
      } catch (error) {
        if (!isBusy((error as NodeJS.ErrnoException).code)) return;
        tries++;
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, BUSY_RETRY_MS);
      }
    }
  }

  #pump(): void {
    if (this.#busy || this.#fd < 0) return;
    if (this.#queue.length === 0) {
      for (const done of this.#waiters.splice(0)) done();
      return;
    }
    const chunk = this.#take();
    this.#busy = true;
    write(this.#fd, chunk, (error, bytes) => {
      this.#busy = false;
      for (const fd of this.#stale.splice(0)) close(fd, () => undefined);
      if (this.#fd < 0) return;
      if (error !== null) return this.#later(error);
      this.#written(chunk, bytes);
      this.#pump();
    });
  }

  /** take joins lines into one write; they stay in the queue until they are written. */
  #take(): Buffer {
    if (this.#queue.length === 1) return this.#queue[0] as Buffer;
    let bytes = 0;
    let n = 0;
    while (n < this.#queue.length && bytes < CHUNK_BYTES) bytes += (this.#queue[n++] as Buffer).length;
    const chunk = Buffer.concat(this.#queue.splice(0, n));
    this.#queue.unshift(chunk);
    return chunk;
  }

  #written(chunk: Buffer, bytes: number): void {
    this.#queued -= bytes;
    if (bytes === chunk.length) this.#queue.shift();
    else this.#queue[0] = chunk.subarray(bytes);
    if (this.#failing === undefined) return;
    this.#failing = undefined;
    const lost = this.#lost - this.#lostBefore;
    this.#onState({ code: undefined, text: `the log ${this.#name} is written again${lost > 0 ? `; ${lost} lines are missing` : ""}` });
  }

  #later(error: NodeJS.ErrnoException): void {
    const code = error.code ?? error.message;
    const busy = isBusy(code);
    if (!busy) this.#failed(code, `the log ${this.#name} cannot be written: ${own(FIXES, code) ?? code}; the hub goes on without it`);
    this.#retry = systemClock.setTimer(busy ? BUSY_RETRY_MS : FAILED_RETRY_MS, () => {
      this.#retry = undefined;
      this.#pump();
    });
  }

  #failed(code: string, text: string): void {
    const first = this.#failing === undefined;
    this.#failing = code;
    for (const done of this.#waiters.splice(0)) done();
    if (!first) return;
    this.#lostBefore = this.#lost;
    this.#onState({ code, text });
  }

  get #name(): string {
    return this.#path ?? (this.#fd === 1 ? "on stdout" : "on stderr");
  }
}

/**
 * openSink opens "stdout", "stderr" or a file; NOT_CONFIGURED if a file cannot be written. `onState` is told when it fails later: a log
 * that cannot be written (full disk, reader gone) takes nothing else down.
 */
export function openSink(destination: string, onState: (state: SinkState) => void = () => undefined): LogSink {
  const fd = destination === "stdout" ? 1 : destination === "stderr" ? 2 : undefined;
  if (!exitWatched) {
    exitWatched = true;
    onExit(() => {
      for (const sink of open) sink.last();
    });
  }
  return new FileSink(fd === undefined ? destination : undefined, fd ?? openLogFile(destination, true), onState);
}

/** onExit calls back when the process ends, by whatever way. */
function onExit(callback: () => void): void {
  process.once("exit", callback);
}

/** tellStderr says something on stderr, for what the log itself cannot tell. Whoever does not read it misses it. */
export function tellStderr(text: string): void {
  try {
    writeSync(2, `${text}\n`);
  } catch {
    // Then nobody is told: there is no further place.
  }
}

/** isTerminal tells whether a destination is a terminal, where people read. */
export function isTerminal(destination: string): boolean {
  return (destination === "stdout" && isatty(1)) || (destination === "stderr" && isatty(2));
}
