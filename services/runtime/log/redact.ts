import { FoedusError } from "#kernel/error.ts";

/** Names whose values never reach a log, compared without case, `_` and `-`. */
const SECRET = /^(.*(token|secret|password|passphrase|privatekey)|key|keypem|authorization|pin)$/;

/** REDACTED takes the place of a secret. */
export const REDACTED = "[redacted]";

/** Nesting beyond this is not logged: logs are for facts, not for object graphs. */
const DEEPEST = 6;

/** isSecretName tells whether a field of that name holds a secret. */
export function isSecretName(name: string): boolean {
  return SECRET.test(name.toLowerCase().replace(/[_-]/g, ""));
}

/** redact copies a value for the log: secrets are replaced, errors become plain objects, bytes become their length. */
export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === "bigint") return value.toString();
  if (typeof value !== "object" || value === null) return value;
  if (depth >= DEEPEST) return "[deep]";
  if (value instanceof Error) return errorFields(value, depth);
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (Array.isArray(value)) return value.map((item) => redact(item, depth + 1));
  if (value instanceof Map) return redact(Object.fromEntries(value), depth);
  if (value instanceof Set) return redact([...value], depth);
  const copy: Record<string, unknown> = {};
  for (const [name, item] of Object.entries(value)) copy[name] = isSecretName(name) ? REDACTED : redact(item, depth + 1);
  return copy;
}

function errorFields(error: Error, depth: number): object {
  return {
    type: error.name,
    message: error.message,
    ...(error instanceof FoedusError ? { reason: error.failure.reason, facts: redact(error.failure.facts, depth + 1) } : {}),
    ...("code" in error ? { code: error.code } : {}),
    ...(error.cause === undefined ? {} : { cause: redact(error.cause, depth + 1) }),
    stack: error.stack,
  };
}
