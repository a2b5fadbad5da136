import { pino } from "pino";
import { prettyLine } from "./pretty.ts";
import { redact } from "./redact.ts";
import { type LogSink, openSink, type SinkState } from "./sink.ts";

/** LOG_LEVELS are the levels of a log line, from chatty to grave. */
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
  /** flush resolves when every line so far was handed to the operating system, cannot be, or was not taken in time. */
  flush(): Promise<void>;
  /** reopen opens a log file of that name again, after a rotation. */
  reopen(): void;
  /** close flushes and gives a log file back; no line is written after it. */
  close(): Promise<void>;
  /** sink tells how the output fares. */
  readonly sink: Pick<LogSink, "failing" | "lost">;
}

/** LogOptions say what is logged and where to. */
export interface LogOptions {
  readonly level: LogLevel;
  /** "stdout", "stderr", or the path of a file that is appended to. */
  readonly destination: string;
  /** pretty writes lines for people instead of JSON. */
  readonly pretty?: boolean;
  /** onState is told once when the output begins to fail, and once when it is written again; it must not log. */
  readonly onState?: (state: SinkState) => void;
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
 * createLogger writes without ever blocking the event loop; what waits is written when the process exits. NOT_CONFIGURED if the file
 * cannot be written at all.
 */
export function createLogger(options: LogOptions): RootLogger {
  const sink = openSink(options.destination, options.onState);
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
    reopen: () => sink.reopen(),
    close: () => sink.close(),
    sink,
  };
}

/** silentLogger drops everything. */
export const silentLogger: Logger = makeLogger(
  () => undefined,
  () => false,
);
