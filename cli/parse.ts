import { create } from "@bufbuild/protobuf";
import { type Value, ValueSchema, ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { isHubId } from "#kernel/hub-id.ts";
import { type NodeName, parseNodeText } from "#kernel/node-name.ts";
import { own } from "#kernel/own.ts";
import { VALUE_KEY } from "#kernel/wire/text-forms.ts";
import { usage } from "./exit.ts";

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, min: 60_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** parseDuration reads "500ms", "10s", "2m", "1h", "90d"; a bare number is seconds. Throws CliError (usage). Gives ms. */
export function parseDuration(text: string): number {
  const [, number = "", unit = "s"] = /^(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)?$/.exec(text.trim()) ?? [];
  const ms = Number(number) * (own(UNIT_MS, unit) ?? 0);
  if (number === "" || !Number.isFinite(ms) || ms <= 0)
    throw usage(`"${text}" is not a duration`, "Write for example 500ms, 10s, 2m or 1h.");
  return ms;
}

/** parseCount reads a whole number of at least `least`. Throws CliError (usage). */
export function parseCount(text: string, least = 1): number {
  const n = text.trim() === "" ? Number.NaN : Number(text);
  if (!Number.isSafeInteger(n) || n < least) throw usage(`"${text}" is not a number of ${least} or more`, "Write for example 20.");
  return n;
}

/** parseNode reads `hub/node` or a bare `node`. Throws CliError (usage). */
export function parseNode(text: string): NodeName {
  const name = parseNodeText(text);
  if (name === undefined) throw usage(`"${text}" is not the name of a node`, "Write hub/node, or only the node id if one hub has it.");
  return name;
}

/** parseWord reads one of some words, and gives what it stands for; `what` is that in the message. Throws CliError (usage). */
export function parseWord<T>(words: Readonly<Record<string, T>>, word: string, what: string): T {
  const found = own(words, word);
  if (found === undefined) throw usage(`"${word}" is no ${what}`, `Say one of ${Object.keys(words).join(", ")}.`);
  return found;
}

/** parseHub reads the id of a hub. Throws CliError (usage). */
export function parseHub(text: string): string {
  if (!isHubId(text)) throw usage(`"${text}" is not the id of a hub`, "A hub id is 1 to 63 of a-z, 0-9 and hyphens, for example home-1.");
  return text;
}

/** parseFederation reads the id of a federation. Throws CliError (usage). */
export function parseFederation(text: string): string {
  if (!isHubId(text))
    throw usage(`"${text}" is not the id of a federation`, "An id is 1 to 63 of a-z, 0-9 and hyphens, for example street.");
  return text;
}

/** parseValueKey reads the key of an agreed value. Throws CliError (usage). */
export function parseValueKey(text: string): string {
  if (!VALUE_KEY.test(text))
    throw usage(
      `"${text}" is not the key of a value`,
      "A key has letters, digits and . _ / : - only, and begins with a letter or digit, for example street/speed-limit.",
    );
  return text;
}

/** parseLabel collects `key=value` options. Throws CliError (usage). */
export function parseLabel(text: string, labels: Readonly<Record<string, string>> = {}): Record<string, string> {
  const at = text.indexOf("=");
  if (at < 1) throw usage(`"${text}" is not a label`, "Write key=value.");
  return { ...labels, [text.slice(0, at)]: text.slice(at + 1) };
}

/** collect gathers the values of an option that may be given several times. */
export function collect(text: string, list: readonly string[] = []): string[] {
  return [...list, text];
}

const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;
const TRUE = new Set(["true", "on", "yes", "1"]);
const FALSE = new Set(["false", "off", "no", "0"]);

/**
 * parseValue reads a value of a capability's type: true/false/on/off/yes/no/1/0, a whole number, a number, any text,
 * bytes as 0x… or base64, or JSON. Throws CliError (usage). Range and allowed values are the owner's to judge.
 */
export function parseValue(text: string, type: ValueType, what: string): Value {
  const wrong = (expected: string): never => {
    throw usage(`"${text}" is not a value of ${what}`, `Give ${expected}.`);
  };
  switch (type) {
    case ValueType.BOOL: {
      const word = text.toLowerCase();
      if (!TRUE.has(word) && !FALSE.has(word)) return wrong("true or false");
      return create(ValueSchema, { kind: { case: "boolValue", value: TRUE.has(word) } });
    }
    case ValueType.SINT64: {
      const value = /^[+-]?\d{1,19}$/.test(text.trim()) ? BigInt(text.trim().replace(/^\+/, "")) : undefined;
      if (value === undefined || value < INT64_MIN || value > INT64_MAX) return wrong("a whole number");
      return create(ValueSchema, { kind: { case: "intValue", value } });
    }
    case ValueType.DOUBLE: {
      const value = Number(text);
      if (text.trim() === "" || Number.isNaN(value)) return wrong("a number");
      return create(ValueSchema, { kind: { case: "doubleValue", value } });
    }
    case ValueType.BYTES:
      return create(ValueSchema, { kind: { case: "bytesValue", value: parseBytes(text) ?? wrong("bytes as 0x… or base64") } });
    case ValueType.JSON:
      if (!isJson(text)) return wrong("JSON");
      return create(ValueSchema, { kind: { case: "jsonValue", value: text } });
    case ValueType.STRING:
      return create(ValueSchema, { kind: { case: "stringValue", value: text } });
    default:
      throw usage(`${what} takes no value`, "Leave the value out.");
  }
}

function parseBytes(text: string): Uint8Array<ArrayBuffer> | undefined {
  if (/^0x(?:[0-9a-fA-F]{2})*$/.test(text)) return Uint8Array.from(Buffer.from(text.slice(2), "hex"));
  if (/^[A-Za-z0-9+/]*={0,2}$/.test(text) && text.length % 4 === 0) return Uint8Array.from(Buffer.from(text, "base64"));
  return undefined;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
