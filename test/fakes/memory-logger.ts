import { type Logger, type LogLevel, makeLogger } from "#runtime/log/log.ts";
import { redact } from "#runtime/log/redact.ts";

/** LogLine is one collected line. */
export interface LogLine {
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** memoryLogger keeps its lines, redacted as the real one does. */
export function memoryLogger(): Logger & { readonly lines: LogLine[] } {
  const lines: LogLine[] = [];
  const logger = makeLogger(
    (level, fields, message) => void lines.push({ level, message, fields: redact(fields) as Record<string, unknown> }),
    () => true,
  );
  return { ...logger, lines };
}
