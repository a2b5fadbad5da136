import type { DescField, DescMessage, Message } from "@bufbuild/protobuf";
import { valueOf } from "#channel/field-rules.ts";
import type { RequestFailure } from "#channel/status.ts";
import { validateRequest } from "#channel/validation.ts";
import type { Interceptor } from "./interceptor.ts";

/** Callers whose software comes with this hub's, or later: what they send and this hub does not know would be dropped silently. */
const STRICT: ReadonlySet<string> = new Set(["node", "gateway", "operator"]);

/** Nesting of a request that is looked at; the deepest of ours has six levels. */
const DEPTH_MAX = 16;

/** Fields of a message type that have messages in them. */
const insides = new WeakMap<DescMessage, readonly DescField[]>();

function insideOf(desc: DescMessage): readonly DescField[] {
  let fields = insides.get(desc);
  if (fields === undefined) insides.set(desc, (fields = desc.fields.filter(({ message }) => message !== undefined)));
  return fields;
}

/**
 * unknownField finds a field that the schema does not have, at any depth. Unlike what is signed, which is kept as it came, a request
 * with a field that this hub cannot honour is refused.
 */
export function unknownField(desc: DescMessage, message: Message, path = "", depth = 0): RequestFailure | undefined {
  if (depth > DEPTH_MAX) return undefined;
  const unknown = message.$unknown?.[0];
  if (unknown !== undefined) {
    const where = path === "" ? "" : ` of ${path}`;
    const text = `field ${unknown.no}${where} is not known here; leave it out, or upgrade this hub`;
    return { reason: "INVALID_FIELD", message: text, field: path === "" ? String(unknown.no) : `${path}.${unknown.no}` };
  }
  for (const field of insideOf(desc)) {
    const value = valueOf(message, field);
    if (value === undefined) continue;
    const at = (): string => (path === "" ? field.localName : `${path}.${field.localName}`);
    const within = field.message as DescMessage;
    if (field.fieldKind === "message") {
      const found = unknownField(within, value as Message, at(), depth + 1);
      if (found !== undefined) return found;
      continue;
    }
    const found =
      field.fieldKind === "list" ? unknownInList(within, value as readonly Message[], at, depth) : unknownInMap(within, value, at, depth);
    if (found !== undefined) return found;
  }
  return undefined;
}

function unknownInList(desc: DescMessage, list: readonly Message[], at: () => string, depth: number): RequestFailure | undefined {
  const flat = insideOf(desc).length === 0;
  for (let i = 0; i < list.length; i++) {
    const item = list[i] as Message;
    if (flat && item.$unknown === undefined) continue;
    const found = unknownField(desc, item, `${at()}[${i}]`, depth + 1);
    if (found !== undefined) return found;
  }
  return undefined;
}

function unknownInMap(desc: DescMessage, map: unknown, at: () => string, depth: number): RequestFailure | undefined {
  for (const [key, item] of Object.entries(map as Readonly<Record<string, Message>>)) {
    const found = unknownField(desc, item, `${at()}[${key}]`, depth + 1);
    if (found !== undefined) return found;
  }
  return undefined;
}

/**
 * validationInterceptor refuses requests that break the rules in their schema. Fields that are not in it are refused as well, except
 * from peers and this hub's other services, which may be newer than this one: what both understand is negotiated by package.
 */
export function validationInterceptor(): Interceptor {
  return {
    name: "validation",
    request: (call, message) =>
      (STRICT.has(call.caller.kind) ? unknownField(call.method.input, message) : undefined) ?? validateRequest(call.method.input, message),
  };
}
