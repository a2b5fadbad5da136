import { join } from "node:path";
import type { Clock, Timer } from "#channel/clock.ts";
import { fail } from "#kernel/error.ts";
import { readText, writeWhole } from "#runtime/files.ts";
import type { Store } from "#runtime/store/port.ts";
import { WITNESS_SPACE } from "../core.ts";

/** WITNESS_FILE is where the number is kept beside the store, in the data folder. */
export const WITNESS_FILE = "coordination.witness";

/** ROTATE_MS is how often the number changes while the hub runs: a backup that is older than that is known as one, ms. */
const ROTATE_MS = 60_000;

interface WitnessFile {
  readonly format: "foedus-coordination-witness-1";
  /** Numbers that the store may hold: the one that it is known to hold, and the one that it is about to. */
  readonly numbers: readonly string[];
}

/** WitnessOptions are what a witness works with. */
export interface WitnessOptions {
  /** Folder of the file; outside of what is put back when the store is restored. */
  readonly folder: string;
  readonly clock: Clock;
  /** number draws one that was never there before. */
  readonly number: () => string;
  /** tell has the core store a number; its output `witnessed` comes back to `settled`. */
  readonly tell: (value: string) => void;
  /** failed is told why the file could not be written; the number stays as it is then. */
  readonly failed: (error: unknown) => void;
}

/**
 * Witness keeps a random number beside the store that the store holds too, so that a store that was put back is known at a start.
 *
 * WN1 the file has the number that the store holds, at any moment of a crash: it is written with the next one before the store is, and
 *    without the last one when the store has it.
 * WN2 the number changes at every start, at every clean stop, and once a minute: a store that was copied before matches no more.
 */
export class Witness {
  readonly #o: WitnessOptions;
  readonly #path: string;
  /** What the store may hold, oldest first: the number that it is known to hold, and those that are on their way. */
  #numbers: string[] = [];
  #timer: Timer | undefined;

  constructor(options: WitnessOptions) {
    this.#o = options;
    this.#path = join(options.folder, WITNESS_FILE);
  }

  /** doubt compares a store that was opened with the file; it says why the store may not be the one that ran last, or undefined. */
  doubt(store: Pick<Store, "get">): string | undefined {
    const bytes = store.get(WITNESS_SPACE, "value");
    const held = bytes === undefined ? undefined : new TextDecoder().decode(bytes);
    this.#numbers = held === undefined ? [] : [held];
    const numbers = this.#read();
    if (held === undefined ? numbers === undefined : numbers?.includes(held) === true) return undefined;
    if (numbers === undefined) return `the file ${WITNESS_FILE} in the data folder is missing, which the store had written beside it`;
    return `the file ${WITNESS_FILE} in the data folder was written by another store, or by this one after it was copied`;
  }

  /** rotate begins to change the number, and goes on doing so. */
  rotate(): void {
    this.#timer?.cancel();
    this.#change();
    this.#timer = this.#o.clock.setTimer(ROTATE_MS, () => this.rotate());
  }

  /** settled takes that the store holds a number. */
  settled(value: string): void {
    this.#numbers.splice(0, Math.max(0, this.#numbers.indexOf(value)));
    this.#write(this.#numbers);
  }

  /** stop changes the number for the last time. */
  stop(): void {
    this.#timer?.cancel();
    this.#change();
  }

  /** pause ends the changes while the store is not there. */
  pause(): void {
    this.#timer?.cancel();
  }

  #change(): void {
    const next = this.#o.number();
    if (!this.#write([...this.#numbers, next])) return;
    this.#numbers.push(next);
    this.#o.tell(next);
  }

  #read(): readonly string[] | undefined {
    try {
      const { format, numbers } = JSON.parse(readText(this.#path)) as Partial<WitnessFile>;
      const isOne = format === "foedus-coordination-witness-1" && Array.isArray(numbers);
      return isOne ? numbers.filter((number) => typeof number === "string") : [];
    } catch (cause) {
      if (cause instanceof SyntaxError) return [];
      if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return undefined;
      throw fail("NOT_CONFIGURED", `the file ${this.#path} cannot be read: make data_dir readable for the user that runs the hub`, {
        cause,
      });
    }
  }

  #write(numbers: readonly string[]): boolean {
    const file: WitnessFile = { format: "foedus-coordination-witness-1", numbers };
    try {
      writeWhole(this.#path, `${JSON.stringify(file)}\n`, 0o600);
      return true;
    } catch (error) {
      this.#o.failed(error);
      return false;
    }
  }
}
