import { LIMITS } from "../bounds/limits.ts";
import type { Failure } from "../error.ts";
import { isJson } from "./json.ts";

/** VALUE_TYPE are the numbers of `foedus.common.v1.ValueType`; the field numbers of `Value.kind` are the same. */
export const VALUE_TYPE = { NONE: 0, BOOL: 1, SINT64: 2, DOUBLE: 3, STRING: 4, BYTES: 5, JSON: 6 } as const;

/** ValueType is the number of a value type; 0 is none. */
export type ValueType = (typeof VALUE_TYPE)[keyof typeof VALUE_TYPE];

/** TEXT_LIMIT is the most bytes of a value, by type. */
export const TEXT_LIMIT = [0, 0, 0, 0, LIMITS.stringBytes, LIMITS.stringBytes, LIMITS.jsonBytes] as const;

/** ValueProblem is what is wrong with a value, whatever the capability. */
export type ValueProblem = "TOO_LONG" | "NOT_UTF8" | "NOT_JSON" | "NOT_A_NUMBER";

/** VALUE_PROBLEM_TEXT says it to people. */
export const VALUE_PROBLEM_TEXT: Readonly<Record<ValueProblem, string>> = {
  TOO_LONG: "the value is too long",
  NOT_UTF8: "the text is not UTF-8",
  NOT_JSON: "the value is not JSON (RFC 8259)",
  NOT_A_NUMBER: "the value is not a number",
};

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** decodeText reads UTF-8; undefined for what is none. */
export function decodeText(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

/**
 * checkBytes is the one check of STRING, BYTES and JSON, for every door: state in columns, state by name, arguments and results of
 * commands. `utf8` is true for what is known to be UTF-8.
 */
export function checkBytes(type: number, bytes: Uint8Array, utf8 = false): ValueProblem | undefined {
  if (bytes.length > (TEXT_LIMIT[type] ?? 0)) return "TOO_LONG";
  if (type === VALUE_TYPE.BYTES) return undefined;
  if (utf8 && type === VALUE_TYPE.STRING) return undefined;
  if (!utf8 && decodeText(bytes) === undefined) return "NOT_UTF8";
  return type === VALUE_TYPE.JSON && !isJson(bytes) ? "NOT_JSON" : undefined;
}

/** Exponent bits of a double's high word. */
const EXPONENT = 0x7ff0_0000;

/** isNaNWords tells whether two words are a double that is not a number. Infinities are numbers. */
export function isNaNWords(low: number, high: number): boolean {
  return (high & EXPONENT) === EXPONENT && ((high & 0xf_ffff) !== 0 || low !== 0);
}

/** Parts of a step by which a number may miss it, near zero; and what rounding makes of larger ones: a few units in the last place. */
const STEP_SLACK = 1e-6;
const ROUNDING = 2 ** -51;

/**
 * onStep tells whether a number stands on a step of that size from `min`. Decimal steps such as 0.001 are no binary numbers: what is
 * allowed for rounding grows with the number, so that a time in seconds with milliseconds is on its step too.
 */
export function onStep(num: number, step: number, min: number): boolean {
  if (!Number.isFinite(num)) return false;
  const steps = (num - min) / step;
  const slack = STEP_SLACK + ((Math.abs(num) + Math.abs(min)) / step) * ROUNDING;
  return !Number.isFinite(steps) || Math.abs(steps - Math.round(steps)) <= slack;
}

/** valueFailure makes a Failure of a problem. */
export function valueFailure(problem: ValueProblem, field: string): Failure {
  return { reason: "VALUE_OUT_OF_RANGE", message: VALUE_PROBLEM_TEXT[problem], field };
}
