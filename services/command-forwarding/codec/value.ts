import { LIMITS } from "#kernel/bounds/limits.ts";
import type { Failure } from "#kernel/error.ts";
import { checkBytes, decodeText, onStep, VALUE_TYPE, valueFailure } from "#kernel/wire/value.ts";
import { type CapabilityInfo, NO_VALUE, OUTCOME, type Result } from "../messages.ts";
import { Reader, WireError } from "./wire.ts";

const TYPE_NAMES = ["no value", "a bool", "an integer", "a double", "a string", "bytes", "json"];

/** VALUE_MAX_BYTES bounds an encoded Value: the longest JSON, its tag and its length. */
export const VALUE_MAX_BYTES = LIMITS.jsonBytes + 4;

/** ParsedValue is what checks need of an encoded Value. `num` is NaN unless it is a number. */
export interface ParsedValue {
  readonly type: number;
  readonly num: number;
  /** Content of a string, bytes or json. */
  readonly bytes: Uint8Array;
}

const NO_BYTES = new Uint8Array(0);
const NOTHING: ParsedValue = { type: VALUE_TYPE.NONE, num: Number.NaN, bytes: NO_BYTES };

/** parseValue reads an encoded `foedus.common.v1.Value`; the last kind counts, as protobuf has it. Undefined if it is malformed. */
export function parseValue(raw: Uint8Array): ParsedValue | undefined {
  if (raw.length === 0) return NOTHING;
  const reader = new Reader(raw);
  let value = NOTHING;
  try {
    while (!reader.done) value = readKind(reader, reader.tag()) ?? value;
  } catch (error) {
    if (error instanceof WireError) return undefined;
    throw error;
  }
  return value;
}

function number(type: number, num: number): ParsedValue {
  return { type, num, bytes: NO_BYTES };
}

function readKind(reader: Reader, tag: number): ParsedValue | undefined {
  switch (tag) {
    case 0x08:
      return number(VALUE_TYPE.BOOL, reader.bool() ? 1 : 0);
    case 0x10:
      return number(VALUE_TYPE.SINT64, reader.zigzag());
    case 0x19:
      return number(VALUE_TYPE.DOUBLE, reader.double());
    case 0x22:
      return { type: VALUE_TYPE.STRING, num: Number.NaN, bytes: reader.text() };
    case 0x2a:
      return { type: VALUE_TYPE.BYTES, num: Number.NaN, bytes: reader.view() };
    case 0x32:
      return { type: VALUE_TYPE.JSON, num: Number.NaN, bytes: reader.text() };
    default:
      // One of its fields in the clothes of another type is no field of a later version: others do not read it.
      if (tag >>> 3 <= VALUE_TYPE.JSON) throw new WireError("a field has the wrong wire type");
      reader.skip(tag);
      return undefined;
  }
}

/** problemOf tells what is wrong with a value, whatever it is for: the same for arguments, results, and state. */
function problemOf(raw: Uint8Array, value: ParsedValue | undefined, field: string): Failure | undefined {
  // What a later version adds to a Value goes on as it came, so that all of it counts.
  if (raw.length > VALUE_MAX_BYTES) return valueFailure("TOO_LONG", field);
  if (value === undefined) return { reason: "INVALID_FIELD", message: "value is not a valid Value", field };
  if (value.type === VALUE_TYPE.DOUBLE) return Number.isNaN(value.num) ? valueFailure("NOT_A_NUMBER", field) : undefined;
  const problem = value.type < VALUE_TYPE.STRING ? undefined : checkBytes(value.type, value.bytes, true);
  return problem === undefined ? undefined : valueFailure(problem, field);
}

/** checkResult tells what is wrong with the value of a result; nothing for none. */
function checkResult(raw: Uint8Array): Failure | undefined {
  return raw.length === 0 ? undefined : problemOf(raw, parseValue(raw), "result.value");
}

const outOfRange = (message: string): Failure => ({ reason: "VALUE_OUT_OF_RANGE", message, field: "command.value" });

/**
 * checkValue tells what is wrong with a value for a capability, or undefined. An integer is accepted where a double is
 * wanted. A capability without a type takes any value; "no value" is accepted only by such a capability.
 */
export function checkValue(capability: CapabilityInfo, raw: Uint8Array): Failure | undefined {
  const value = parseValue(raw);
  const problem = problemOf(raw, value, "command.value");
  if (problem !== undefined || value === undefined) return problem;
  const { type, min, max } = capability;
  if (type === VALUE_TYPE.NONE) return undefined;
  const fits = value.type === type || (type === VALUE_TYPE.DOUBLE && value.type === VALUE_TYPE.SINT64);
  if (!fits) return outOfRange(`${capability.name} takes ${TYPE_NAMES[type] ?? "another type"}, not ${TYPE_NAMES[value.type]}`);
  if (min !== undefined && value.num < min) return outOfRange(`${capability.name} is at least ${min}`);
  if (max !== undefined && value.num > max) return outOfRange(`${capability.name} is at most ${max}`);
  if (!stands(capability, value.num)) return outOfRange(`${capability.name} goes in steps of ${capability.step}`);
  if (type === VALUE_TYPE.STRING && capability.allowed.length > 0 && !capability.allowed.includes(decodeText(value.bytes) ?? ""))
    return outOfRange(`${capability.name} is one of ${capability.allowed.slice(0, 16).join(", ")}`);
  return undefined;
}

function stands({ step, min }: CapabilityInfo, num: number): boolean {
  return step === undefined || step <= 0 || Number.isNaN(num) || onStep(num, step, min ?? 0);
}

/**
 * sound gives a result whose value every reader can read: in what an executor or a peer says, a value that is malformed, too long, no text
 * or no JSON would end the stream of everybody it is carried to. It ran all the same.
 */
export function sound(result: Result): Result {
  const problem = checkResult(result.value);
  if (problem === undefined) return result;
  const message = `it ran, and answered with a value that is not taken: ${problem.message}`;
  const outcome = result.outcome === OUTCOME.DONE ? OUTCOME.FAILED : result.outcome;
  return { outcome, value: NO_VALUE, failure: result.failure ?? { reason: "EXECUTOR_FAILED", message, field: "result.value" } };
}
