import type { Clock, Timer } from "#channel/clock.ts";
import { readText, writeWhole } from "#runtime/files.ts";
import type { Logger } from "#runtime/log/log.ts";

/** How long a position is not written yet, ms: what was posted meanwhile is posted again after a crash. */
const WRITE_MS = 1_000;

/** Positions are where each sink goes on after a restart, in a small file beside the stores. */
export class Positions {
  readonly #file: string;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #bySink: Map<string, number>;
  #timer: Timer | undefined;
  #dirty = false;

  constructor(file: string, clock: Clock, log: Logger, sinks: readonly string[]) {
    this.#file = file;
    this.#clock = clock;
    this.#log = log;
    this.#bySink = read(file, log, sinks);
  }

  /** of gives the position of a sink; 0 for one that is new: it gets what happens from now on. */
  of(sink: string): number {
    return this.#bySink.get(sink) ?? 0;
  }

  /** set notes how far a sink has come. */
  set(sink: string, position: number): void {
    if (this.#bySink.get(sink) === position) return;
    this.#bySink.set(sink, position);
    this.#dirty = true;
    this.#timer ??= this.#clock.setTimer(WRITE_MS, () => {
      this.#timer = undefined;
      this.flush();
    });
  }

  /** flush writes what was not written yet. A disk that takes nothing costs repetitions, and no event. */
  flush(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (!this.#dirty) return;
    try {
      writeWhole(this.#file, `${JSON.stringify(Object.fromEntries(this.#bySink))}\n`, 0o600);
      this.#dirty = false;
    } catch (error) {
      this.#log.warn({ error, file: this.#file }, "positions of the webhooks cannot be written; events are posted again after a restart");
    }
  }
}

/** read takes the positions of the sinks that there are; those of sinks that are gone are forgotten. */
function read(file: string, log: Logger, sinks: readonly string[]): Map<string, number> {
  try {
    const stored = new Map(Object.entries(JSON.parse(readText(file)) as Readonly<Record<string, unknown>>));
    const known = sinks.map((sink) => [sink, stored.get(sink)] as const);
    return new Map(known.filter((entry): entry is readonly [string, number] => Number.isSafeInteger(entry[1]) && (entry[1] as number) > 0));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT")
      log.warn({ error, file }, "positions of the webhooks cannot be read; each begins with what happens from now on");
    return new Map();
  }
}
