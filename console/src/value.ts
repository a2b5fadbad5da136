import type { Capability, Value } from "./types.ts";

/** Parsed is what was typed as a value of a capability, or what is wrong with it. */
export type Parsed = { readonly value: Value | undefined } | { readonly problem: string };

const INT_MAX = 2n ** 63n - 1n;
const TEXT_BYTES = 4_096;
const JSON_BYTES = 16_384;

/** numberOf is a number of the schema; undefined for none, and for what is none. */
export function numberOf(bound: number | string | undefined): number | undefined {
  const number = bound === undefined ? Number.NaN : Number(bound);
  return Number.isFinite(number) ? number : undefined;
}

/** rangeText says what a capability takes; empty if anything. */
export function rangeText({ min, max, step, unit, allowed }: Capability): string {
  if ((allowed?.length ?? 0) > 0) return "";
  const [least, most, by] = [numberOf(min), numberOf(max), numberOf(step)];
  const parts = [
    least !== undefined && most !== undefined ? `${least} to ${most}` : "",
    least !== undefined && most === undefined ? `at least ${least}` : "",
    least === undefined && most !== undefined ? `at most ${most}` : "",
    by === undefined ? "" : `in steps of ${by}`,
  ].filter((part) => part !== "");
  return parts.length === 0 ? "" : `${parts.join(", ")}${unit === undefined || unit === "" ? "" : ` ${unit}`}`;
}

function withinRange(number: number, { min, max }: Capability): string | undefined {
  const [least, most] = [numberOf(min), numberOf(max)];
  if (least !== undefined && number < least) return `must be at least ${least}`;
  if (most !== undefined && number > most) return `must be at most ${most}`;
  return undefined;
}

function integer(text: string, capability: Capability): Parsed {
  if (!/^[+-]?\d{1,20}$/.test(text)) return { problem: "must be a whole number" };
  const number = BigInt(text.replace(/^\+/, ""));
  if (number > INT_MAX || number < -INT_MAX - 1n) return { problem: "does not fit into 64 bits" };
  const problem = withinRange(Number(number), capability);
  return problem === undefined ? { value: { intValue: String(number) } } : { problem };
}

function double(text: string, capability: Capability): Parsed {
  const number = text === "" ? Number.NaN : Number(text);
  if (!Number.isFinite(number)) return { problem: "must be a number" };
  const problem = withinRange(number, capability);
  return problem === undefined ? { value: { doubleValue: number } } : { problem };
}

function json(text: string): Parsed {
  try {
    JSON.parse(text);
  } catch {
    return { problem: "must be JSON" };
  }
  return tooLong(text, JSON_BYTES) ?? { value: { jsonValue: text } };
}

function tooLong(text: string, most: number): Parsed | undefined {
  return new TextEncoder().encode(text).length > most ? { problem: `must have at most ${most} bytes` } : undefined;
}

/** Digits of bytes are hexadecimal, two for each. */
function bytes(text: string): Parsed {
  const digits = text.replaceAll(/[\s:]/g, "");
  if (!/^(?:[0-9a-f]{2})*$/i.test(digits)) return { problem: "must be bytes in hexadecimal, two digits each" };
  if (digits.length / 2 > TEXT_BYTES) return { problem: `must have at most ${TEXT_BYTES} bytes` };
  const codes = (digits.match(/../g) ?? []).map((pair) => Number.parseInt(pair, 16));
  return { value: { bytesValue: btoa(String.fromCharCode(...codes)) } };
}

/** parsed reads what was typed for a capability. The hub decides; this only spares the way there. */
export function parsed(capability: Capability, text: string): Parsed {
  const { type, allowed = [] } = capability;
  switch (type) {
    case "VALUE_TYPE_BOOL":
      return text === "true" || text === "false" ? { value: { boolValue: text === "true" } } : { problem: "must be true or false" };
    case "VALUE_TYPE_SINT64":
      return integer(text.trim(), capability);
    case "VALUE_TYPE_DOUBLE":
      return double(text.trim(), capability);
    case "VALUE_TYPE_STRING":
      if (allowed.length > 0 && !allowed.includes(text)) return { problem: "must be one of the allowed values" };
      return tooLong(text, TEXT_BYTES) ?? { value: { stringValue: text } };
    case "VALUE_TYPE_BYTES":
      return bytes(text);
    case "VALUE_TYPE_JSON":
      return json(text);
    default:
      return { value: undefined };
  }
}
