import { type PlainValue, VALUE_TYPE } from "../../clients/typescript/index.ts";
import { shown, TEXT_MAX } from "./text.ts";

/** ShownValue is a value as JSON has it. What JSON has not is text: integers beyond 2^53, infinities, bytes in base64, and JSON itself. */
export type ShownValue = string | number | boolean | null;

/** TYPE_NAMES are the types of values, as tools name them. */
export const TYPE_NAMES = ["none", "bool", "int", "number", "text", "bytes", "json"] as const;

/** TypeName is one of them. */
export type TypeName = (typeof TYPE_NAMES)[number];

/** typeName names a type of the schema. */
export function typeName(type: number): TypeName {
  return TYPE_NAMES[type] ?? "none";
}

/** shownValue writes a value so that a model may see it. */
export function shownValue(value: PlainValue | undefined): ShownValue {
  switch (typeof value) {
    case "undefined":
      return null;
    case "boolean":
      return value;
    case "number":
      return Number.isFinite(value) ? value : String(value);
    case "bigint":
      return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : String(value);
    case "string":
      return shown(value, TEXT_MAX.value);
    default:
      return value instanceof Uint8Array ? shown(Buffer.from(value).toString("base64"), TEXT_MAX.value) : shown(value.json, TEXT_MAX.value);
  }
}

/** GivenValue is what a caller may give for a value. */
export type GivenValue = string | number | boolean | readonly unknown[] | Readonly<Record<string, unknown>>;

/** Taken is a value of a capability's type, or why what was given is none. */
export type Taken = { readonly value: PlainValue | undefined; readonly problem?: undefined } | { readonly problem: string };

const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;

/** take reads what a caller gave as a value of a capability's type. Length, range and allowed values are judged by the hub's own rules (`valueProblem`). */
export function take(given: GivenValue | undefined, type: number): Taken {
  // A capability without a type takes anything, and nothing.
  if (type === VALUE_TYPE.NONE) return typeof given === "object" ? jsonOf(given) : { value: given };
  if (given === undefined) return { problem: `the capability needs a value of type ${typeName(type)}; give \`value\`` };
  switch (type) {
    case VALUE_TYPE.BOOL:
      return typeof given === "boolean" ? { value: given } : { problem: "the value must be true or false" };
    case VALUE_TYPE.SINT64:
      return integerOf(given);
    case VALUE_TYPE.DOUBLE:
      return typeof given === "number" ? { value: given } : { problem: "the value must be a number" };
    case VALUE_TYPE.STRING:
      return typeof given === "string" ? { value: given } : { problem: "the value must be text" };
    case VALUE_TYPE.BYTES:
      return bytesOf(given);
    case VALUE_TYPE.JSON:
      return jsonOf(given);
    default:
      return { problem: "the capability has a type that this version does not know; upgrade foedus" };
  }
}

function integerOf(given: GivenValue): Taken {
  const problem = "the value must be a whole number of 64 bits; write one beyond 2^53 as text";
  if (typeof given === "number") return Number.isSafeInteger(given) ? { value: BigInt(given) } : { problem };
  if (typeof given !== "string" || !/^-?\d{1,19}$/.test(given)) return { problem };
  const value = BigInt(given);
  return value < INT64_MIN || value > INT64_MAX ? { problem } : { value };
}

function bytesOf(given: GivenValue): Taken {
  if (typeof given !== "string" || given.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(given))
    return { problem: "the value must be bytes in base64" };
  return { value: Uint8Array.from(Buffer.from(given, "base64")) };
}

/** canonical writes JSON so that the same value is the same text, whatever the order of its members: a repeated call is recognised by it. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

/** valueText writes a value whole, so that different values have different texts. */
export function valueText(value: PlainValue | undefined): string | undefined {
  if (value === undefined) return undefined;
  if (value instanceof Uint8Array) return `bytes ${Buffer.from(value).toString("base64")}`;
  return typeof value === "object" ? `json ${value.json}` : `${typeof value} ${String(value)}`;
}

function jsonOf(given: GivenValue): Taken {
  try {
    // A text is JSON as it stands; all else is written as JSON.
    const json = typeof given === "string" ? given : canonical(given);
    JSON.parse(json);
    return { value: { json } };
  } catch {
    return { problem: "the value must be JSON: an object, a list, or JSON text" };
  }
}
