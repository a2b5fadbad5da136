import type { DescMessage, DescMethod, Message } from "@bufbuild/protobuf";
import { brokenRules, compileRules } from "./field-rules.ts";
import { type RequestFailure, VIOLATIONS_MAX } from "./status.ts";

/**
 * validateRequest checks a message against the rules in its schema (buf.validate); INVALID_FIELD names the broken fields, the first
 * sixteen of them. Messages of the types in `opaque` are not looked into.
 */
export function validateRequest(schema: DescMessage, message: Message, opaque?: ReadonlySet<string>): RequestFailure | undefined {
  const violations = brokenRules(schema, message, opaque, VIOLATIONS_MAX);
  const [first] = violations;
  if (first === undefined) return undefined;
  return {
    reason: "INVALID_FIELD",
    message: violations.map(({ field, message: what }) => `${field}: ${what}`).join("; "),
    field: first.field,
    ...(violations.length > 1 ? { violations } : {}),
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
