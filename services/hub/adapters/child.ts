import { type ChildProcess, spawn } from "node:child_process";
import type { Clock } from "#channel/clock.ts";
import { lines } from "./said.ts";

/** ChildOptions say what is run, and who is told. */
export interface ChildOptions {
  readonly clock: Clock;
  readonly command: readonly string[];
  /** Written to its stdin, which stays open until it is stopped: it ends when the hub does. */
  readonly given: string;
  readonly onLine: (line: string) => void;
  /** What it wrote to stderr: its last words, if it broke. */
  readonly onError: (line: string) => void;
  /** Told once, with how it ended. */
  readonly onEnd: (how: string) => void;
}

/** Child is one run of an adapter. */
export class Child {
  readonly #o: ChildOptions;
  readonly #running: ChildProcess;
  #ended = false;
  readonly #gone = Promise.withResolvers<void>();

  constructor(options: ChildOptions) {
    this.#o = options;
    const [program = "", ...args] = options.command;
    // A group of its own: ctrl-c in a terminal stops the hub, and the hub stops it.
    this.#running = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"], detached: true });
    const { stdin, stdout, stderr } = this.#running;
    stdout?.setEncoding("utf8").on("data", lines(options.onLine));
    stderr?.setEncoding("utf8").on("data", lines(options.onError));
    stdin?.on("error", () => undefined);
    stdin?.write(`${options.given}\n`);
    this.#running.once("error", (error) => this.#end(`it could not be started: ${error.message}`));
    this.#running.once("exit", (code, signal) => this.#end(code === null ? `it was ended by ${signal}` : `it ended with ${code}`));
  }

  get pid(): number | undefined {
    return this.#running.pid;
  }

  /** stop asks it to end, and ends it if it has not after `graceMs`. */
  async stop(graceMs: number): Promise<void> {
    if (this.#ended) return;
    this.#running.stdin?.end();
    this.#running.kill("SIGTERM");
    const timer = this.#o.clock.setTimer(graceMs, () => void this.#running.kill("SIGKILL"));
    await this.#gone.promise;
    timer.cancel();
  }

  #end(how: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#gone.resolve();
    this.#o.onEnd(how);
  }
}
