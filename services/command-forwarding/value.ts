import type { Failure } from "#kernel/error.ts";
import { LIMITS } from "#kernel/limits.ts";
import type { CapabilityInfo } from "./messages.ts";
import { Reader, WireError } from "./wire.ts";

/** Numbers of `foedus.common.v1.ValueType`; the field numbers of `Value.kind` are the same. */
export const VALUE_TYPE = { NONE: 0, BOOL: 1, SINT64: 2, DOUBLE: 3, STRING: 4, BYTES: 5, JSON: 6 } as const;

const TYPE_NAMES = ["no value", "a bool", "an integer", "a double", "a string", "bytes", "json"];

/** VALUE_MAX_BYTES bounds an encoded Value: the longest JSON, its tag and its length. */
export const VALUE_MAX_BYTES = LIMITS.jsonBytes + 4;

/** ParsedValue is what checks need of an encoded Value. `num` is NaN unless it is a number, `text` empty unless a string. */
export interface ParsedValue {
  readonly type: number;
  readonly num: number;
  readonly text: string;
  readonly bytes: number;
}

const NOTHING: ParsedValue = { type: VALUE_TYPE.NONE, num: Number.NaN, text: "", bytes: 0 };

/** zigzag reads a sint64 as a number; beyond 2^53 it is rounded, which is near enough for a range check. */
function zigzag(reader: Reader): number {
  let raw = 0n;
  for (let shift = 0n; ; shift += 7n) {
    const byte = reader.bytes[reader.pos++];
    if (byte === undefined || reader.pos > reader.end || shift > 63n) throw new WireError("number is cut short");
    raw |= BigInt(byte & 0x7f) << shift;
    if (byte < 0x80) break;
  }
  return Number((raw >> 1n) ^ -(raw & 1n));
}

function smallZigzag(reader: Reader): number {
  const byte = reader.bytes[reader.pos] as number;
  if (byte >= 0x80) return zigzag(reader);
  reader.pos++;
  return (byte >>> 1) ^ -(byte & 1);
}

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

function readKind(reader: Reader, tag: number): ParsedValue | undefined {
  switch (tag) {
    case 0x08:
      return { type: VALUE_TYPE.BOOL, num: reader.bool() ? 1 : 0, text: "", bytes: 0 };
    case 0x10:
      return { type: VALUE_TYPE.SINT64, num: smallZigzag(reader), text: "", bytes: 0 };
    case 0x19:
      return { type: VALUE_TYPE.DOUBLE, num: reader.double(), text: "", bytes: 0 };
    case 0x22: {
      const text = reader.string();
      return { type: VALUE_TYPE.STRING, num: Number.NaN, text, bytes: text.length };
    }
    case 0x2a:
      return { type: VALUE_TYPE.BYTES, num: Number.NaN, text: "", bytes: reader.view().length };
    case 0x32:
      return { type: VALUE_TYPE.JSON, num: Number.NaN, text: "", bytes: reader.view().length };
    default:
      reader.skip(tag);
      return undefined;
  }
}

const outOfRange = (message: string): Failure => ({ reason: "VALUE_OUT_OF_RANGE", message, field: "command.value" });

/**
 * checkValue tells what is wrong with a value for a capability, or undefined. An integer is accepted where a double is
 * wanted. A capability without a type takes any value; "no value" is accepted only by such a capability.
 */
export function checkValue(capability: CapabilityInfo, raw: Uint8Array): Failure | undefined {
  const value = parseValue(raw);
  if (value === undefined) return { reason: "INVALID_FIELD", message: "value is not a valid Value", field: "command.value" };
  if (value.bytes > (value.type === VALUE_TYPE.JSON ? LIMITS.jsonBytes : LIMITS.stringBytes)) return outOfRange("value is too long");
  if (value.type === VALUE_TYPE.DOUBLE && Number.isNaN(value.num)) return outOfRange("value is not a number");
  const { type, min, max } = capability;
  if (type === VALUE_TYPE.NONE) return undefined;
  const fits = value.type === type || (type === VALUE_TYPE.DOUBLE && value.type === VALUE_TYPE.SINT64);
  if (!fits) return outOfRange(`${capability.name} takes ${TYPE_NAMES[type] ?? "another type"}, not ${TYPE_NAMES[value.type]}`);
  if (min !== undefined && value.num < min) return outOfRange(`${capability.name} is at least ${min}`);
  if (max !== undefined && value.num > max) return outOfRange(`${capability.name} is at most ${max}`);
  if (!onStep(capability, value.num)) return outOfRange(`${capability.name} goes in steps of ${capability.step}`);
  if (type === VALUE_TYPE.STRING && capability.allowed.length > 0 && !capability.allowed.includes(value.text))
    return outOfRange(`${capability.name} is one of ${capability.allowed.slice(0, 16).join(", ")}`);
  return undefined;
}

/** onStep allows for the rounding of decimal steps such as 0.1. */
function onStep(capability: CapabilityInfo, num: number): boolean {
  const { step } = capability;
  if (step === undefined || step <= 0 || Number.isNaN(num)) return true;
  const steps = (num - (capability.min ?? 0)) / step;
  return Math.abs(steps - Math.round(steps)) < 1e-6;
}
