import type { DescMessage, DescMethod, Message } from "@bufbuild/protobuf";
import { type RequestFailure, VIOLATIONS_MAX } from "../status.ts";
import { brokenRules, compileRules } from "./field-rules.ts";
import type { Interceptor } from "./interceptor.ts";

/**
 * validateRequest checks a message against the rules in its schema (buf.validate); INVALID_FIELD names every broken field. Messages of the
 * types in `opaque` are not looked into.
 */
export function validateRequest(schema: DescMessage, message: Message, opaque?: ReadonlySet<string>): RequestFailure | undefined {
  const violations = brokenRules(schema, message, opaque);
  const [first] = violations;
  if (first === undefined) return undefined;
  return {
    reason: "INVALID_FIELD",
    message: violations.map(({ field, message: what }) => `${field}: ${what}`).join("; "),
    field: first.field,
    ...(violations.length > 1 ? { violations: violations.slice(0, VIOLATIONS_MAX) } : {}),
  };
}

/** carriesFrames tells messages of session and ingest streams: a frame is what they are (`oneof frame`), or all that they have in them. */
export function carriesFrames({ oneofs, fields }: DescMessage): boolean {
  return oneofs.some(({ name }) => name === "frame") || fields.some(({ name, message }) => name === "frame" && message !== undefined);
}

/** needsValidation tells whether the server checks the requests of an RPC. Streams of frames are hot: their handlers check what they need. */
export function needsValidation(method: DescMethod): boolean {
  return !carriesFrames(method.input);
}

/** warmUp compiles the rules of a request type at start-up: a bad rule fails there. */
export function warmUp(method: DescMethod): void {
  compileRules(method.input);
}

/** Callers whose software comes with this hub's, or later: what they send and this hub does not know would be dropped silently. */
const STRICT: ReadonlySet<string> = new Set(["node", "gateway", "operator"]);

/** Nesting of a request that is looked at; the deepest of ours has six levels. */
const DEPTH_MAX = 16;

/**
 * unknownField finds a field that the schema does not have, at any depth. Unlike what is signed, which is kept as it came, a request
 * with a field that this hub cannot honour is refused.
 */
export function unknownField(value: unknown, path = "", depth = 0): RequestFailure | undefined {
  if (typeof value !== "object" || value === null || depth > DEPTH_MAX || ArrayBuffer.isView(value)) return undefined;
  const [unknown] = (value as Partial<Message>).$unknown ?? [];
  if (unknown !== undefined) {
    const where = path === "" ? "" : ` of ${path}`;
    const message = `field ${unknown.no}${where} is not known here; leave it out, or upgrade this hub`;
    return { reason: "INVALID_FIELD", message, field: path === "" ? String(unknown.no) : `${path}.${unknown.no}` };
  }
  for (const [name, item] of Object.entries(value)) {
    if (typeof item !== "object" || item === null || name === "$unknown") continue;
    // A oneof is { case, value }: its field has the name of the case.
    const oneof = "case" in item && "value" in item ? (item as { readonly case?: string; readonly value?: unknown }) : undefined;
    const at = Array.isArray(value) ? `${path}[${name}]` : [path, oneof?.case ?? name].filter((part) => part !== "").join(".");
    const found = unknownField(oneof === undefined ? item : oneof.value, at, depth + 1);
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
      (STRICT.has(call.caller.kind) ? unknownField(message) : undefined) ?? validateRequest(call.method.input, message),
  };
}
