import type { Clock, Timer } from "../clock.ts";
import type { EventReport, EventSink } from "../events.ts";
import type { Logger, LogLevel } from "./log.ts";

/** How often the same thing is logged, and how often it is an event, ms. */
export const LINE_MS = 1_000;
export const EVENT_MS = 60_000;

/** Keys that are told apart at once. What comes on top shares one, so that inventing keys does not buy lines. */
const KEYS_MAX = 64;
const OTHERS = "(others)";

interface Entry<T> {
  last: T;
  told: number;
  suppressed: number;
}

/**
 * Limited tells of the first `burst` of many alike at once, and of the others once per period, with their number and the last of them. It is
 * for whatever somebody else can cause as often as they like: what they cause costs this hub one line per key and period.
 */
export class Limited<T> {
  readonly #clock: Clock;
  readonly #periodMs: number;
  readonly #tell: (item: T, suppressed: number) => void;
  readonly #burst: number;
  readonly #entries = new Map<string, Entry<T>>();
  #timer: Timer | undefined;

  /** tell is called with the item and how many were left out before it. */
  constructor(clock: Clock, periodMs: number, tell: (item: T, suppressed: number) => void, burst = 1) {
    this.#clock = clock;
    this.#burst = burst;
    this.#periodMs = periodMs;
    this.#tell = tell;
  }

  note(key: string, item: T): void {
    const known = this.#entries.has(key) || this.#entries.size < KEYS_MAX ? key : OTHERS;
    const entry = this.#entries.get(known);
    if (entry === undefined) {
      this.#entries.set(known, { last: item, told: 1, suppressed: 0 });
      this.#timer ??= this.#clock.setTimer(this.#periodMs, () => this.#period());
      return this.#tell(item, 0);
    }
    entry.last = item;
    if (entry.told < this.#burst) {
      entry.told++;
      return this.#tell(item, 0);
    }
    entry.suppressed++;
  }

  /** flush tells what was left out so far, and ends the period. */
  flush(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const entries = [...this.#entries.values()];
    this.#entries.clear();
    for (const { last, suppressed } of entries) if (suppressed > 0) this.#tell(last, suppressed);
  }

  /** period tells the counts. A key that was quiet is forgotten, so that its next occurrence is told at once. */
  #period(): void {
    this.#timer = undefined;
    for (const [key, entry] of this.#entries) {
      const { last, suppressed } = entry;
      if (suppressed === 0) this.#entries.delete(key);
      // What is told now counts for the period that begins.
      entry.told = 1;
      entry.suppressed = 0;
      if (suppressed > 0) this.#tell(last, suppressed);
    }
    if (this.#entries.size > 0) this.#timer = this.#clock.setTimer(this.#periodMs, () => this.#period());
  }
}

/** LimitedLogger writes at most one line per key and second. */
export interface LimitedLogger {
  /** log writes a line. `key` says what counts as the same: a reason, and whoever caused it if those are few. */
  log(level: LogLevel, key: string, fields: object, message: string): void;
  flush(): void;
}

/** limitedLogger limits a Logger; lines that stand for several say in `times` for how many. */
export function limitedLogger(log: Logger, clock: Clock): LimitedLogger {
  const limited = new Limited<{ level: LogLevel; fields: object; message: string }>(
    clock,
    LINE_MS,
    ({ level, fields, message }, suppressed) => log[level](suppressed === 0 ? fields : { ...fields, times: suppressed }, message),
  );
  return {
    log: (level, key, fields, message) => limited.note(`${message} ${key}`, { level, fields, message }),
    flush: () => limited.flush(),
  };
}

/** limitedEvents reports at most one event per key and minute; those that stand for several say in the field `times` for how many. */
export function limitedEvents(sink: EventSink, clock: Clock): { report(key: string, event: EventReport): void; flush(): void } {
  const limited = new Limited<EventReport>(clock, EVENT_MS, (event, suppressed) =>
    sink.report(suppressed === 0 ? event : { ...event, fields: { ...event.fields, times: String(suppressed) } }),
  );
  return { report: (key, event) => limited.note(`${event.kind} ${key}`, event), flush: () => limited.flush() };
}

/** Lines of one message about one peer or caller that are written in a second before the others are counted. */
const LOG_BURST = 10;
/** Events alike, and the time in which they are. */
const HISTORY_BURST = 10;
const HISTORY_MS = 10_000;

/** keyOf says whose a line is: by what others cannot invent. */
function keyOf(message: string, fields: Readonly<Record<string, unknown>>): string {
  return `${message} ${String(fields["service"] ?? "")} ${String(fields["kind"] ?? "")} ${String(fields["peer"] ?? fields["hub"] ?? "")}`;
}

/** limitedLog is a Logger whose warnings and errors cost at most ten lines per message, peer and second, whoever causes them. */
export function limitedLog(log: Logger, clock: Clock): Logger & { flush(): void } {
  const limited = new Limited<(times: number) => void>(clock, LINE_MS, (line, suppressed) => line(suppressed), LOG_BURST);
  const wrap = (inner: Logger, bound: object): Logger => {
    const at = (level: "warn" | "error") => (fields: object, message: string) =>
      limited.note(keyOf(message, { ...bound, ...fields }), (times) => inner[level](times === 0 ? fields : { ...fields, times }, message));
    return {
      debug: (fields, message) => inner.debug(fields, message),
      info: (fields, message) => inner.info(fields, message),
      warn: at("warn"),
      error: at("error"),
      child: (fields) => wrap(inner.child(fields), { ...bound, ...fields }),
    };
  };
  return { ...wrap(log, {}), flush: () => limited.flush() };
}

/**
 * limitedHistory is an EventSink in which warnings and errors of one kind about one peer do not push the history of everything else
 * out: ten in ten seconds are kept, and the others as one with their number.
 */
export function limitedHistory(sink: EventSink, clock: Clock): EventSink & { flush(): void } {
  const limited = new Limited<EventReport>(
    clock,
    HISTORY_MS,
    (event, suppressed) => sink.report(suppressed === 0 ? event : { ...event, fields: { ...event.fields, times: String(suppressed) } }),
    HISTORY_BURST,
  );
  return {
    report: (event) => {
      if (event.severity === "DEBUG" || event.severity === "INFO") return sink.report(event);
      limited.note(`${event.kind} ${event.peer ?? ""}`, event);
    },
    flush: () => limited.flush(),
  };
}
