import { type DescMessage, type DescMethod, fromBinary, fromJsonString, type JsonValue, toBinary, toJson } from "@bufbuild/protobuf";
import { isFieldError } from "@bufbuild/protobuf/reflect";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { asBuffer, isRequestStream } from "#channel/messages.ts";
import { DETAILS_KEY } from "#channel/status.ts";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "#gen/google/rpc/error_details_pb.ts";
import { StatusSchema } from "#gen/google/rpc/status_pb.ts";
import { fail } from "#kernel/error.ts";
import { own } from "#kernel/own.ts";
import { printable } from "#kernel/printable.ts";
import type { Status } from "../rpc/status.ts";
import { jsonProblem } from "./json-bounds.ts";

/**
 * The Connect protocol (https://connectrpc.com/docs/protocol), as far as it is text and bytes. It is written here and not taken from
 * @connectrpc/connect because requests have to be bounded before they are parsed, and must reach the handlers of gRPC through its
 * interceptors; that library's client is what the tests of this folder call with.
 */

/** Codes as Connect spells them, and the HTTP status of each, by the number of gRPC. */
const CODES: Readonly<Record<number, readonly [string, number]>> = {
  1: ["canceled", 499],
  2: ["unknown", 500],
  3: ["invalid_argument", 400],
  4: ["deadline_exceeded", 504],
  5: ["not_found", 404],
  6: ["already_exists", 409],
  7: ["permission_denied", 403],
  8: ["resource_exhausted", 429],
  9: ["failed_precondition", 400],
  10: ["aborted", 409],
  11: ["out_of_range", 400],
  12: ["unimplemented", 501],
  13: ["internal", 500],
  14: ["unavailable", 503],
  15: ["data_loss", 500],
  16: ["unauthenticated", 401],
};
const UNKNOWN = ["unknown", 500] as const;

/** httpStatusOf is the HTTP status of a gRPC code. */
export function httpStatusOf(code: number): number {
  return (CODES[code] ?? UNKNOWN)[1];
}

/** ConnectError is an error as Connect writes it. */
export interface ConnectError {
  readonly code: string;
  readonly message: string;
  readonly details?: readonly { readonly type: string; readonly value: string; readonly debug?: JsonValue }[];
}

/** Types of details that are written in words, too. */
const KNOWN: Readonly<Record<string, DescMessage>> = Object.fromEntries(
  [ErrorInfoSchema, BadRequestSchema, RetryInfoSchema].map((schema) => [schema.typeName, schema]),
);

/** errorOf writes the status of a call as Connect does: the details of gRPC, each in base64 and in words. */
export function errorOf({ code, details: message, metadata }: Status): ConnectError {
  const [raw] = metadata.get(DETAILS_KEY);
  const details = raw instanceof Uint8Array ? fromBinary(StatusSchema, raw).details : [];
  return {
    code: (CODES[code] ?? UNKNOWN)[0],
    message,
    ...(details.length === 0 ? {} : { details: details.map(({ typeUrl, value }) => detailOf(typeUrl.split("/").at(-1) ?? "", value)) }),
  };
}

function detailOf(type: string, bytes: Uint8Array): { type: string; value: string; debug?: JsonValue } {
  const schema = own(KNOWN, type);
  const value = asBuffer(bytes).toString("base64").replace(/=+$/, "");
  return schema === undefined ? { type, value } : { type, value, debug: toJson(schema, fromBinary(schema, bytes)) };
}

/** Format is how the messages of a call are written. */
export interface Format {
  readonly json: boolean;
  /** Messages come in envelopes, and the call ends with one that says how. */
  readonly stream: boolean;
  readonly contentType: string;
}

/** formatNamed gives the format of an RPC for "json" or "proto". */
export function formatNamed(name: string, { methodKind }: DescMethod): Format | undefined {
  if (name !== "json" && name !== "proto") return undefined;
  const stream = methodKind !== "unary";
  return { json: name === "json", stream, contentType: `application/${stream ? "connect+" : ""}${name}` };
}

const CONTENT_TYPE = /^application\/(connect\+)?(json|proto)(?:\s*;\s*charset="?utf-8"?)?$/i;

/** formatOf reads a content type; undefined for one that the RPC is not called with. */
export function formatOf(contentType: string, method: DescMethod): Format | undefined {
  const match = CONTENT_TYPE.exec(contentType.trim());
  const format = match === null ? undefined : formatNamed((match[2] ?? "").toLowerCase(), method);
  return format?.stream === (match?.[1] !== undefined) ? format : undefined;
}

/** mayGet tells whether an RPC may be called with GET: it has one request and one answer, and changes nothing. */
export function mayGet(method: DescMethod): boolean {
  return method.methodKind === "unary" && method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
}

/** mayCall tells whether an RPC may be called over HTTP at all: those that stream requests need gRPC. */
export function mayCall(method: DescMethod): boolean {
  return !isRequestStream(method);
}

/** timeoutOf reads `Connect-Timeout-Ms`. */
export function timeoutOf(header: string | undefined): number | undefined {
  if (header === undefined) return undefined;
  if (/^\d{1,10}$/.test(header)) return Number(header);
  throw fail("INVALID_FIELD", "Connect-Timeout-Ms is no number of at most ten digits", { field: "connect-timeout-ms" });
}

/** Head of an envelope: its flags, and the length of what is in it. */
const HEAD_BYTES = 5;
/** END_STREAM marks the envelope that says how a stream ended. */
export const END_STREAM = 2;

/** envelope wraps one message of a stream. */
export function envelope(flags: number, bytes: Uint8Array): Buffer {
  const wrapped = Buffer.allocUnsafe(HEAD_BYTES + bytes.length);
  wrapped.writeUInt8(flags);
  wrapped.writeUInt32BE(bytes.length, 1);
  wrapped.set(bytes, HEAD_BYTES);
  return wrapped;
}

/** requestIn takes the one request of a server stream out of its envelope. */
export function requestIn(body: Buffer): Buffer {
  const whole = body.length >= HEAD_BYTES && body.length === HEAD_BYTES + body.readUInt32BE(1);
  if (!whole)
    throw fail("INVALID_FIELD", "the body is not one message in an envelope: a byte 0, its length in four bytes, and the message");
  if (body[0] !== 0) throw fail("INVALID_FIELD", "the message is compressed; send it as it is");
  return body.subarray(HEAD_BYTES);
}

/** GetQuery is a call with GET, as its query says it. */
export interface GetQuery {
  readonly format: Format;
  readonly message: Buffer;
}

/** readQuery reads the query of a GET. */
export function readQuery(query: URLSearchParams, method: DescMethod): GetQuery {
  const format = formatNamed(query.get("encoding") ?? "", method);
  if (format === undefined) throw fail("INVALID_FIELD", "the query needs encoding=json or encoding=proto", { field: "encoding" });
  const version = query.get("connect");
  if (version !== null && version !== "v1") throw fail("INVALID_FIELD", "only connect=v1 is spoken here", { field: "connect" });
  if ((query.get("compression") ?? "identity") !== "identity")
    throw fail("INVALID_FIELD", "the message is compressed; send it as it is", { field: "compression" });
  const message = query.get("message");
  if (message === null)
    throw fail("INVALID_FIELD", "the query has no message; a request without fields is message={}", { field: "message" });
  const base64 = query.get("base64") === "1";
  if (base64 && !/^[A-Za-z0-9+/_-]*={0,2}$/.test(message)) throw fail("INVALID_FIELD", "the message is not base64", { field: "message" });
  return { format, message: Buffer.from(message, base64 ? "base64" : "utf8") };
}

const UTF8 = new TextDecoder("utf-8", { fatal: true });
/** Characters of the parser's own sentences that are told: what somebody sent stands in them. */
const TOLD_CHARS = 200;

/** toProtobuf gives the protobuf bytes of a request that came as JSON; `strict` refuses fields that the schema does not have. */
export function toProtobuf(schema: DescMessage, json: Buffer, strict: boolean): Buffer {
  const problem = jsonProblem(json);
  if (problem !== undefined) throw fail("LIMIT_EXCEEDED", problem, { facts: { limit: "json" } });
  if (json.length === 0) throw fail("INVALID_FIELD", "the body is empty; a request without fields is {}");
  try {
    // Keys that come twice are refused: JSON.parse would take the last of them, and what stands before it another.
    return asBuffer(toBinary(schema, fromJsonString(schema, UTF8.decode(json), { ignoreUnknownFields: !strict })));
  } catch (cause) {
    const field = fieldOf(cause as Error);
    throw fail("INVALID_FIELD", `the JSON is no valid request: ${told(cause)}`, { ...(field === undefined ? {} : { field }), cause });
  }
}

/** fieldOf is the field at fault, if the parser says one: that of the schema, or the key that is not in it. */
function fieldOf({ cause, message }: Error): string | undefined {
  if (isFieldError(cause)) return cause.field().name;
  const key = /: key "(.{1,64})" is unknown$/.exec(message)?.[1];
  return key === undefined ? undefined : printable(key.toWellFormed());
}

function told(error: unknown): string {
  const { message } = error as Error;
  return printable(message.slice(0, TOLD_CHARS).toWellFormed());
}

/** toJsonBytes gives the JSON of a message whose protobuf bytes are known. */
export function toJsonBytes(schema: DescMessage, bytes: Uint8Array): Buffer {
  return Buffer.from(JSON.stringify(toJson(schema, fromBinary(schema, bytes))));
}
