import { type SetValue, VALUE_TYPE, type ValueType } from "../../clients/typescript/index.ts";

/** STRING_MAX_BYTES and JSON_MAX_BYTES are the longest values that a hub takes. */
export const STRING_MAX_BYTES = 4 * 1024;
export const JSON_MAX_BYTES = 16 * 1024;

/** How deep a value may be nested. */
const DEPTH_MAX = 16;

/** Unreadable is why a value that came from outside is none. */
export interface Unreadable {
  readonly problem: string;
}

/** isUnreadable tells a problem from a value. */
export function isUnreadable(value: unknown): value is Unreadable {
  return typeof value === "object" && value !== null && "problem" in value;
}

/** Literal is an integer of JSON that a double cannot hold: its digits are kept. */
class Literal {
  readonly digits: string;

  constructor(digits: string) {
    this.digits = digits;
  }

  toJSON(): unknown {
    return (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(this.digits);
  }
}

type Reviver = (key: string, value: unknown, context: { readonly source?: string }) => unknown;

const keepDigits: Reviver = (_key, value, { source = "" }) =>
  typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(source) ? new Literal(source) : value;

/** parseJson reads JSON text. Integers beyond 2^53 keep their digits; they are told by `readValue`. */
export function parseJson(text: string): unknown {
  try {
    // Only what can have such an integer pays for it.
    return /\d{16}/.test(text) ? JSON.parse(text, keepDigits as (key: string, value: unknown) => unknown) : JSON.parse(text);
  } catch {
    return { problem: "the payload is not JSON" } satisfies Unreadable;
  }
}

/** isTree tells an object from all else that JSON has. */
export function isTree(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Literal);
}

function deeper(value: unknown, left: number): boolean {
  if (typeof value !== "object" || value === null || value instanceof Literal) return false;
  if (left === 0) return true;
  return Object.values(value).some((item) => deeper(item, left - 1));
}

function number(value: unknown): number | Unreadable {
  if (value instanceof Literal) return { problem: `${value.digits.slice(0, 24)} is an integer that a double cannot hold` };
  const read = typeof value === "string" && /^\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*$/i.test(value) ? Number(value) : value;
  if (typeof read !== "number" || !Number.isFinite(read)) return { problem: "the value is not a finite number" };
  return read;
}

function text(value: unknown): string | Unreadable {
  if (typeof value !== "string" && typeof value !== "number" && typeof value !== "boolean" && !(value instanceof Literal))
    return { problem: "the value is not a text" };
  const read = (value instanceof Literal ? value.digits : String(value)).toWellFormed();
  if (Buffer.byteLength(read) > STRING_MAX_BYTES) return { problem: `the value has more than ${STRING_MAX_BYTES} bytes` };
  return read;
}

function json(value: unknown): string | Unreadable {
  if (deeper(value, DEPTH_MAX)) return { problem: `the value is nested deeper than ${DEPTH_MAX} levels` };
  const read = JSON.stringify(value).toWellFormed();
  if (Buffer.byteLength(read) > JSON_MAX_BYTES) return { problem: `the value has more than ${JSON_MAX_BYTES} bytes` };
  return read;
}

/** readValue is a value of JSON as a state of a type has it. */
export function readValue(type: ValueType, value: unknown): SetValue | Unreadable {
  switch (type) {
    case VALUE_TYPE.BOOL:
      return typeof value === "boolean" ? value : { problem: "the value is not true or false" };
    case VALUE_TYPE.DOUBLE:
      return number(value);
    case VALUE_TYPE.JSON:
      return json(value);
    default:
      return text(value);
  }
}
