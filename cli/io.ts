import { createInterface, type Interface } from "node:readline";
import type { Writable } from "node:stream";
import { styleText } from "node:util";
import { whenAborted } from "#channel/abort.ts";
import { type Clock, systemClock } from "#channel/clock.ts";
import { printableOutput } from "#kernel/printable.ts";
import { paragraphs } from "./print/text.ts";
import { onHangup, onStop } from "./signals.ts";

/** Style is how a text stands out. */
export type Style = "bold" | "dim" | "green" | "yellow" | "red";

/** Io is everything of the process that a verb may touch; specs of helpers make their own. */
export interface Io {
  /** out writes to stdout and resolves when more may be written. */
  out(text: string): Promise<void>;
  /** note writes to stderr, for people; nothing with `--quiet`. */
  note(text: string): void;
  /** error writes to stderr, always. */
  error(text: string): void;
  /** ask writes a question to stderr and reads one line from stdin; undefined if there is none, or if `stopped` came first. */
  ask(question: string): Promise<string | undefined>;
  /**
   * status keeps a line below all that is written, in place of the one before; "" takes it away. Missing where stdout cannot be written over:
   * it is no terminal, or one with TERM=dumb.
   */
  readonly status?: (text: string) => void;
  /** style colours text for stdout, if stdout is a terminal that wants colours (NO_COLOR, FORCE_COLOR). */
  style(format: Style, text: string): string;
  /** Columns of the terminal; undefined if stdout is none, and then nothing is cut. */
  readonly columns: number | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly clock: Clock;
  /** Aborted by SIGINT, SIGTERM, and when nobody reads stdout any more. */
  readonly stopped: AbortSignal;
  /** onHangup calls back at each SIGHUP, which asks a running hub to look at its files again; once for those that came before. In a terminal it stops instead. */
  onHangup(listener: () => void): void;
}

/** To the beginning of the line, and clear it. */
const OVER = "\r\u001b[K";
/** A line that is longer than the terminal is wide is cut by it, and not broken into two of which only one could be taken away. */
const [UNBROKEN, BROKEN] = ["\u001b[?7l", "\u001b[?7h"];

/** StatusLine is the last line of a terminal, which what is written goes above. */
export class StatusLine {
  readonly #stream: Writable;
  #text = "";

  constructor(stream: Writable) {
    this.#stream = stream;
  }

  /** set writes another line in place of this one. */
  set(text: string): void {
    if (text === this.#text) return;
    this.#text = text;
    this.#stream.write(`${OVER}${this.#drawn()}`);
  }

  /** above writes through `write` where the line was, and the line again below it. */
  above<T>(write: () => T): T {
    if (this.#text === "") return write();
    this.#stream.write(OVER);
    const written = write();
    this.#stream.write(this.#drawn());
    return written;
  }

  #drawn(): string {
    return this.#text === "" ? "" : `${UNBROKEN}${this.#text}${BROKEN}`;
  }
}

/** overwritable tells a terminal on which a line can be written over. */
export function overwritable(stream: Pick<NodeJS.WriteStream, "isTTY" | "columns">, env: Io["env"]): boolean {
  return columnsOf(stream) !== undefined && env["TERM"] !== "dumb";
}

/** Exit code of a second signal, or of a signal while nothing listens to `stopped`. */
const FORCED_EXIT_CODE = 1;

/** writeTo writes and resolves when more may be written, or when nothing more can be: the listener for errors is somebody else's. */
export function writeTo(stream: Writable, text: string): Promise<void> {
  if (stream.write(text)) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      stream.off("drain", done).off("error", done).off("close", done);
      resolve();
    };
    stream.on("drain", done).on("error", done).on("close", done);
  });
}

/** columnsOf is the width of a terminal; undefined if it is none, or one that does not know its width and says 0. */
export function columnsOf(stream: Pick<NodeJS.WriteStream, "isTTY" | "columns">): number | undefined {
  return stream.isTTY && stream.columns > 0 ? stream.columns : undefined;
}

/** processIo is the Io of this process. It takes over SIGINT and SIGTERM: the first stops gracefully, the second exits at once. */
export function processIo(options: { readonly quiet: boolean }): Io {
  const controller = new AbortController();
  const onSignal = (signal: NodeJS.Signals): void => {
    if (controller.signal.aborted) process.exit(FORCED_EXIT_CODE);
    controller.abort(signal);
  };
  onStop(onSignal);
  // `foedus nodes | head` closes the pipe: that is an end, not an error.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    // A terminal that was closed answers EIO.
    if (error.code !== "EPIPE" && error.code !== "EIO") throw error;
    controller.abort("EPIPE");
  });
  // Asked for here, so that writing to it never blocks; when nobody reads it any more, there is nothing to do about it.
  process.stderr.on("error", () => undefined);
  let questions: Questions | undefined;
  const line = new StatusLine(process.stdout);
  const errorOut = (text: string): void => void line.above(() => process.stderr.write(printableOutput(text)));
  return {
    out: (text) => {
      if (controller.signal.reason === "EPIPE") return Promise.resolve();
      return line.above(() => writeTo(process.stdout, printableOutput(text)));
    },
    note: (text) => {
      if (!options.quiet) errorOut(paragraphs(text, columnsOf(process.stderr)));
    },
    error: errorOut,
    ...(overwritable(process.stdout, process.env) ? { status: (text: string) => line.set(printableOutput(text)) } : {}),
    ask: (question) => {
      questions ??= new Questions(controller.signal);
      return questions.ask(question);
    },
    style: (format, text) => styleText(format, text, { stream: process.stdout, validateStream: true }),
    columns: columnsOf(process.stdout),
    env: process.env,
    cwd: process.cwd(),
    clock: systemClock,
    stopped: controller.signal,
    onHangup,
  };
}

/** Questions reads lines from stdin, one for each question; what was typed or piped ahead waits for the next. */
class Questions {
  readonly #lines: Interface;
  readonly #ahead: string[] = [];
  #answer: ((line: string | undefined) => void) | undefined;
  #ended = false;

  constructor(stopped: AbortSignal) {
    // Without `output`: nothing that is typed or pasted is drawn again.
    this.#lines = createInterface({ input: process.stdin, terminal: false });
    this.#lines.on("line", (line) => {
      if (this.#answer === undefined) this.#ahead.push(line);
      else this.#settle(line);
    });
    this.#lines.once("close", () => {
      this.#ended = true;
      this.#settle(undefined);
    });
    whenAborted(stopped, () => this.#lines.close());
  }

  ask(question: string): Promise<string | undefined> {
    process.stderr.write(printableOutput(question));
    const line = this.#ahead.shift();
    if (line !== undefined || this.#ended) return Promise.resolve(line);
    this.#lines.resume();
    return new Promise((resolve) => {
      this.#answer = resolve;
    });
  }

  #settle(line: string | undefined): void {
    const answer = this.#answer;
    this.#answer = undefined;
    // A process that asks nothing more is not kept alive by its stdin.
    if (!this.#ended) this.#lines.pause();
    answer?.(line);
  }
}
