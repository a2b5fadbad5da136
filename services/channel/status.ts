import { fromBinary, getOption, hasOption } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";
import { ErrorReasonSchema, rule as ruleOption } from "#gen/foedus/common/v1/error_pb.ts";
import { BadRequestSchema, ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.ts";
import { StatusSchema } from "#gen/google/rpc/status_pb.ts";
import { type Failure, FoedusError, REASONS, type Reason } from "#kernel/error.ts";

/** ERROR_DOMAIN is the domain of every google.rpc.ErrorInfo that this software sends. */
export const ERROR_DOMAIN = "foedus";

const PREFIX = "ERROR_REASON_";
/** DETAILS_KEY is the trailer that carries a google.rpc.Status. */
export const DETAILS_KEY = "grpc-status-details-bin";

/** VIOLATIONS_MAX is how many violations one failure names at most. */
export const VIOLATIONS_MAX = 16;

/** ReasonRule is what the schema says about a reason. */
export interface ReasonRule {
  readonly code: grpc.status;
  readonly retryable: boolean;
  readonly remedy: string;
}

/** FieldViolation is one broken rule of a request. */
export interface FieldViolation {
  readonly field: string;
  readonly message: string;
}

/** RequestFailure is a Failure that may name several fields; `field` is the first of them. */
export interface RequestFailure extends Failure {
  readonly violations?: readonly FieldViolation[];
}

function readRules(): ReadonlyMap<Reason, ReasonRule> {
  const rules = new Map<Reason, ReasonRule>();
  const known = new Set<string>(REASONS);
  for (const value of ErrorReasonSchema.values) {
    const name = value.name.slice(PREFIX.length);
    if (!known.has(name) || !hasOption(value, ruleOption)) continue;
    const { code, retryable, remedy } = getOption(value, ruleOption);
    rules.set(name as Reason, { code, retryable, remedy });
  }
  for (const reason of REASONS) if (!rules.has(reason)) throw new Error(`the schema has no rule for the reason ${reason}`);
  return rules;
}

const RULES = readRules();

/** reasonRule reads the schema's rule of a reason: gRPC code, retry answer and remedy. */
export function reasonRule(reason: Reason): ReasonRule {
  return RULES.get(reason) as ReasonRule;
}

/** isReason tells whether a text is a reason of ours. */
export function isReason(text: string): text is Reason {
  return RULES.has(text as Reason);
}

/** What codes mean that come without our details: from other software, or from grpc-js itself. */
const REASON_OF_CODE: Readonly<Partial<Record<grpc.status, Reason>>> = {
  [grpc.status.CANCELLED]: "CANCELLED",
  [grpc.status.INVALID_ARGUMENT]: "INVALID_FIELD",
  [grpc.status.DEADLINE_EXCEEDED]: "DEADLINE_EXPIRED",
  [grpc.status.ALREADY_EXISTS]: "ALREADY_EXISTS",
  [grpc.status.PERMISSION_DENIED]: "ACCESS_DENIED",
  [grpc.status.RESOURCE_EXHAUSTED]: "OVERLOADED",
  [grpc.status.FAILED_PRECONDITION]: "NOT_CONFIGURED",
  [grpc.status.OUT_OF_RANGE]: "VALUE_OUT_OF_RANGE",
  [grpc.status.UNIMPLEMENTED]: "UPGRADE_NEEDED",
  [grpc.status.UNAVAILABLE]: "PEER_UNREACHABLE",
  [grpc.status.UNAUTHENTICATED]: "UNKNOWN_IDENTITY",
};

/** TLS errors as OpenSSL and Node name them, in words for people. */
const TLS_TEXTS: readonly (readonly [RegExp, Reason, string])[] = [
  [
    /certificate has expired|CERT_HAS_EXPIRED|alert certificate expired/i,
    "CERTIFICATE_EXPIRED",
    "a certificate has expired; renew it and check both clocks",
  ],
  [/CERT_NOT_YET_VALID|not yet valid/i, "CERTIFICATE_EXPIRED", "a certificate is not valid yet; check both clocks"],
  [
    /self.signed certificate|unable to (verify|get)[a-z ]*(certificate|issuer)|DEPTH_ZERO|UNABLE_TO_/i,
    "FOREIGN_CA",
    "the server's certificate is not signed by a CA of that hub",
  ],
  [/alert unknown ca/i, "FOREIGN_CA", "the server does not know the CA of this certificate"],
  [
    /alert (certificate required|bad certificate|handshake failure)|certificate required/i,
    "UNKNOWN_IDENTITY",
    "the server refused this certificate",
  ],
  [/alert protocol version|unsupported protocol/i, "PEER_UNREACHABLE", "the server does not speak TLS 1.3"],
  [
    /wrong version number|packet length|record length/i,
    "PEER_UNREACHABLE",
    "what listens at the address does not speak TLS; check host and port",
  ],
  // In TLS 1.3 a client's certificate is judged after the client is done, and Node's servers close without an alert. grpc-js says no more.
  [
    /Last error: Failed to connect/,
    "PEER_UNREACHABLE",
    "the server closed the connection right after the handshake; it may not admit this certificate (its CA, its dates, a peer that is disabled there) or have too many connections",
  ],
  [
    /disconnected before secure TLS|ECONNRESET|socket hang up/i,
    "PEER_UNREACHABLE",
    "the server closed the connection during the handshake",
  ],
];

/** unavailable explains why there is no connection, and where if the caller may know. */
function unavailable(details: string, address: string | undefined): Failure {
  const where = address ?? "the address";
  for (const [pattern, reason, text] of TLS_TEXTS)
    if (pattern.test(details)) return { reason, message: address === undefined ? text : `at ${address}: ${text}` };
  const message = /ECONNREFUSED/.test(details)
    ? `nothing listens at ${where}`
    : /ENOTFOUND|EAI_AGAIN|Name resolution/i.test(details)
      ? `the host name of ${where} does not resolve`
      : `no connection to ${address ?? "the server"}`;
  return { reason: "PEER_UNREACHABLE", message };
}

/** foreignFailure interprets a status that carries no details of ours. */
function foreignFailure(error: grpc.ServiceError, address: string | undefined): Failure {
  const facts = { grpc_code: grpc.status[error.code] ?? String(error.code) };
  if (error.code === grpc.status.UNAVAILABLE) return { ...unavailable(error.details, address), facts };
  if (error.code === grpc.status.RESOURCE_EXHAUSTED && /larger than/.test(error.details))
    return { reason: "MESSAGE_TOO_LARGE", message: error.details.toLowerCase(), facts };
  const reason = REASON_OF_CODE[error.code] ?? "INTERNAL";
  return { reason, message: error.details === "" ? "the call failed" : error.details, facts };
}

/** readDetails finds our ErrorInfo in the trailers, or answers undefined. */
function readDetails(error: grpc.ServiceError): RequestFailure | undefined {
  const [raw] = error.metadata?.get(DETAILS_KEY) ?? [];
  if (!(raw instanceof Uint8Array)) return undefined;
  let info: { reason: string; domain: string; metadata: Record<string, string> } | undefined;
  const violations: FieldViolation[] = [];
  try {
    for (const detail of fromBinary(StatusSchema, raw).details) {
      const found = anyUnpack(detail, ErrorInfoSchema);
      if (found?.domain === ERROR_DOMAIN) info = found;
      for (const { field, description } of anyUnpack(detail, BadRequestSchema)?.fieldViolations ?? [])
        violations.push({ field, message: description });
    }
  } catch {
    return undefined;
  }
  if (info === undefined || !isReason(info.reason)) return undefined;
  const [first] = violations;
  return {
    reason: info.reason,
    message: error.details,
    ...(Object.keys(info.metadata).length > 0 ? { facts: info.metadata } : {}),
    ...(first === undefined ? {} : { field: first.field }),
    ...(violations.length > 1 ? { violations } : {}),
  };
}

/**
 * serviceErrorToFoedus is how a failed call reaches the caller: always a FoedusError, the gRPC error as its cause. With `address` a failed
 * connection says where.
 */
export function serviceErrorToFoedus(error: grpc.ServiceError, address?: string): FoedusError {
  return new FoedusError(readDetails(error) ?? foreignFailure(error, address), { cause: error });
}

/** hasDetails tells that a server of Foedus said why. */
export function hasDetails(error: grpc.ServiceError): boolean {
  return (error.metadata?.get(DETAILS_KEY).length ?? 0) > 0;
}

/** isServiceError tells a gRPC error from other throwables. */
export function isServiceError(error: unknown): error is grpc.ServiceError {
  return error instanceof Error && typeof Reflect.get(error, "code") === "number" && typeof Reflect.get(error, "details") === "string";
}
