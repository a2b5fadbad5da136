import { pino } from "pino";
import { prettyLine } from "./pretty.ts";
import { redact } from "./redact.ts";

/** Levels of a log line, from chatty to grave. */
export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;

/** LogLevel is how grave a line is. */
export type LogLevel = (typeof LOG_LEVELS)[number];

/**
 * Logger writes one JSON line per call. `message` is a constant; what varies goes into `fields`, so that lines can be counted
 * and searched. Secrets (see `redact.ts`) never reach the output; errors are written with their cause and, for a FoedusError, reason.
 */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  /** child adds `fields` to each of its lines. */
  child(fields: object): Logger;
}

/** RootLogger owns the output; only the composition root holds it. */
export interface RootLogger extends Logger {
  /** setLevel changes the threshold of this logger and of all its children while running. */
  setLevel(level: LogLevel): void;
  /** flush resolves when every line so far was handed to the operating system, or cannot be. */
  flush(): Promise<void>;
}

/** LogOptions say what is logged and where to. */
export interface LogOptions {
  readonly level: LogLevel;
  /** "stdout", "stderr", or the path of a file that is appended to. */
  readonly destination: string;
  /** pretty writes lines for people instead of JSON. */
  readonly pretty?: boolean;
}

type Write = (level: LogLevel, fields: object, message: string) => void;

/** makeLogger builds a Logger over one write function; `enabled` is asked first, so that a silent level costs nothing. */
export function makeLogger(write: Write, enabled: (level: LogLevel) => boolean, bound: object = {}): Logger {
  const at = (level: LogLevel) => (fields: object, message: string) => {
    if (enabled(level)) write(level, { ...bound, ...fields }, message);
  };
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: (fields) => makeLogger(write, enabled, { ...bound, ...fields }),
  };
}

/**
 * createLogger writes through pino's asynchronous destination: a slow pipe never blocks the event loop, and what is buffered
 * is flushed when the process exits.
 */
export function createLogger(options: LogOptions): RootLogger {
  const sink = openSink(options.destination);
  const stream = { write: (line: string): void => sink.write(options.pretty ? prettyLine(line) : line) };
  const formatters = { level: (label: string) => ({ level: label }) };
  const out = pino({ level: "debug", base: null, timestamp: pino.stdTimeFunctions.isoTime, messageKey: "message", formatters }, stream);
  let threshold = LOG_LEVELS.indexOf(options.level);
  const logger = makeLogger(
    (level, fields, message) => out[level](redact(fields) as object, message),
    (level) => LOG_LEVELS.indexOf(level) >= threshold,
  );
  return {
    ...logger,
    setLevel: (level) => {
      threshold = LOG_LEVELS.indexOf(level);
    },
    flush: () => sink.flush(),
  };
}

/** openSink counts bytes in and out, because the destination's own flush does not wait when it writes without a minimum length. */
function openSink(destination: string): { write(text: string): void; flush(): Promise<void> } {
  const dest = destination === "stdout" ? 1 : destination === "stderr" ? 2 : destination;
  const sink = pino.destination({ dest, sync: false, mkdir: true });
  let taken = 0;
  let written = 0;
  let waiters: { readonly until: number; readonly done: () => void }[] = [];
  const settle = (all: boolean): void => {
    const ready = waiters.filter((w) => all || w.until <= written);
    waiters = waiters.filter((w) => !ready.includes(w));
    for (const w of ready) w.done();
  };
  sink.on("write", (bytes: number) => {
    written += bytes;
    settle(false);
  });
  // A log that cannot be written (full disk, closed pipe) must not take the hub down; nobody waits for it then.
  sink.on("error", () => settle(true));
  return {
    write(text) {
      taken += Buffer.byteLength(text);
      sink.write(text);
    },
    flush: () => (taken <= written ? Promise.resolve() : new Promise((done) => waiters.push({ until: taken, done }))),
  };
}

/** silentLogger drops everything. */
export const silentLogger: Logger = makeLogger(
  () => undefined,
  () => false,
);
