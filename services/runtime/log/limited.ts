import type { Clock, Timer } from "#channel/clock.ts";
import type { EventReport, EventSink } from "../events.ts";
import type { Logger, LogLevel } from "./log.ts";

/** LINE_MS is how often the same thing is logged at most, and EVENT_MS how often it is an event, ms. */
export const LINE_MS = 1_000;
export const EVENT_MS = 60_000;

/** Keys that are told apart at once. What comes on top shares one, so that inventing keys does not buy lines. */
const KEYS_MAX = 64;
/** The same where keys are kinds of lines about configured peers: a few dozen for each of many. */
const PEER_KEYS_MAX = 4_096;
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
  readonly #keysMax: number;
  readonly #entries = new Map<string, Entry<T>>();
  #timer: Timer | undefined;

  /** tell is called with the item and how many were left out before it. */
  constructor(clock: Clock, periodMs: number, tell: (item: T, suppressed: number) => void, burst = 1, keysMax = KEYS_MAX) {
    this.#clock = clock;
    this.#burst = burst;
    this.#keysMax = keysMax;
    this.#periodMs = periodMs;
    this.#tell = tell;
  }

  note(key: string, item: T): void {
    const known = this.#entries.has(key) || this.#entries.size < this.#keysMax ? key : OTHERS;
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
      // Who goes on has one line a period, and a burst again after a period without anything.
      entry.told = this.#burst;
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

/** Lines of one message, and events of one kind, about one peer that are told in ten seconds before the others are counted. */
const BURST = 10;
const BURST_MS = 10_000;
/** The same of events about nobody else: what nodes and gateways of this hub cause. */
const OWN_BURST = 100;

/** keyOf says whose a line is: by what others cannot invent. */
function keyOf(message: string, fields: Readonly<Record<string, unknown>>): string {
  return `${message} ${String(fields["service"] ?? "")} ${String(fields["kind"] ?? "")} ${String(fields["peer"] ?? fields["hub"] ?? "")}`;
}

/**
 * limitedLog is a Logger with at most ten lines per message, level and peer in ten seconds, and one in each ten seconds in which that goes on:
 * also of what is no fault, as a session that comes up. Only what is said for debugging is not limited,
 * and what is said after `flush`.
 */
export function limitedLog(log: Logger, clock: Clock): Logger & { flush(): void } {
  const limited = new Limited<(times: number) => void>(clock, BURST_MS, (line, suppressed) => line(suppressed), BURST, PEER_KEYS_MAX);
  let over = false;
  const wrap = (inner: Logger, bound: object): Logger => {
    const at = (level: "info" | "warn" | "error") => (fields: object, message: string) => {
      // The last lines of a process that ends must not leave a timer.
      if (over) return inner[level](fields, message);
      limited.note(`${level} ${keyOf(message, { ...bound, ...fields })}`, (times) =>
        inner[level](times === 0 ? fields : { ...fields, times }, message),
      );
    };
    return {
      debug: (fields, message) => inner.debug(fields, message),
      info: at("info"),
      warn: at("warn"),
      error: at("error"),
      child: (fields) => wrap(inner.child(fields), { ...bound, ...fields }),
    };
  };
  const flush = (): void => {
    over = true;
    limited.flush();
  };
  return { ...wrap(log, {}), flush };
}

/**
 * limitedHistory is an EventSink in which events of one kind and severity about one peer do not push the history of everything else out:
 * ten in ten seconds are kept, and the others as one with their number. Of this hub's own those are a hundred.
 */
export function limitedHistory(sink: EventSink, clock: Clock): EventSink & { flush(): void } {
  const tell = (event: EventReport, suppressed: number): void =>
    sink.report(suppressed === 0 ? event : { ...event, fields: { ...event.fields, times: String(suppressed) } });
  const ofPeers = new Limited<EventReport>(clock, BURST_MS, tell, BURST, PEER_KEYS_MAX);
  const own = new Limited<EventReport>(clock, BURST_MS, tell, OWN_BURST, PEER_KEYS_MAX);
  let over = false;
  return {
    report: (event) => {
      if (over) return sink.report(event);
      const limited = event.peer === undefined && event.severity !== "WARNING" && event.severity !== "ERROR" ? own : ofPeers;
      limited.note(`${event.kind} ${event.severity} ${event.peer ?? ""}`, event);
    },
    flush: () => {
      over = true;
      ofPeers.flush();
      own.flush();
    },
  };
}
