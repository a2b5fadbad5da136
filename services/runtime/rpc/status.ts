import { create, toBinary } from "@bufbuild/protobuf";
import { type Any, anyPack } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";
import type { Entropy } from "#channel/entropy.ts";
import {
  DETAILS_KEY,
  ERROR_DOMAIN,
  type FieldViolation,
  type ReasonRule,
  type RequestFailure,
  reasonRule,
  VIOLATIONS_MAX,
} from "#channel/status.ts";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "#gen/google/rpc/error_details_pb.ts";
import { StatusSchema } from "#gen/google/rpc/status_pb.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import type { Logger } from "#runtime/log/log.ts";

/** Status details travel as an HTTP/2 header, whose size clients bound at 16 KiB; these keep them well below. */
const MESSAGE_MAX_CHARS = 1024;
const DEFAULT_RETRY_DELAY_MS = 1000;

/** Status is what grpc-js sends at the end of a call. */
export interface Status {
  readonly code: grpc.status;
  readonly details: string;
  readonly metadata: grpc.Metadata;
}

/**
 * PlainStatus is thrown by handlers of protocols that are not ours (grpc.health, grpc.reflection) where their
 * specification demands a bare code.
 */
export class PlainStatus extends Error {
  readonly code: grpc.status;
  constructor(code: grpc.status, message: string) {
    super(message);
    this.name = "PlainStatus";
    this.code = code;
  }
}

/** fieldViolations lists the fields that a failure names. */
function fieldViolations(failure: RequestFailure): readonly FieldViolation[] {
  if (failure.violations !== undefined) return failure.violations.slice(0, VIOLATIONS_MAX);
  return failure.field === undefined ? [] : [{ field: failure.field, message: failure.message }];
}

/** retryDelayMs is when a caller may try again: `facts.retry_after_ms`, or one second. */
function retryDelayMs(failure: Failure): number {
  const given = Number(failure.facts?.["retry_after_ms"]);
  return Number.isFinite(given) && given >= 0 ? given : DEFAULT_RETRY_DELAY_MS;
}

function detailsOf(failure: RequestFailure, rule: ReasonRule): Any[] {
  const metadata = { ...failure.facts };
  const details = [anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason: failure.reason, domain: ERROR_DOMAIN, metadata }))];
  const violations = fieldViolations(failure);
  if (violations.length > 0) {
    const fieldViolations = violations.map(({ field, message }) => ({ field, description: message }));
    details.push(anyPack(BadRequestSchema, create(BadRequestSchema, { fieldViolations })));
  }
  if (rule.retryable) {
    const delayMs = retryDelayMs(failure);
    const retryDelay = { seconds: BigInt(Math.floor(delayMs / 1000)), nanos: Math.floor(delayMs % 1000) * 1_000_000 };
    details.push(anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay })));
  }
  return details;
}

/** failureToStatus is how a Failure leaves: the reason's code, the message, and google.rpc details (AIP-193). */
export function failureToStatus(failure: RequestFailure): Status {
  const rule = reasonRule(failure.reason);
  // grpc-js passes the text through encodeURI, which throws for lone surrogates.
  const details = failure.message.slice(0, MESSAGE_MAX_CHARS).toWellFormed();
  const status = create(StatusSchema, { code: rule.code, message: details, details: detailsOf(failure, rule) });
  const metadata = new grpc.Metadata();
  metadata.set(DETAILS_KEY, Buffer.from(toBinary(StatusSchema, status)));
  return { code: rule.code, details, metadata };
}

/** BugReporter logs unknown exceptions under an ID; only the ID leaves the process. */
export interface BugReporter {
  readonly ids: Pick<Entropy, "id">;
  readonly log: Logger;
}

/** failureOf makes a Failure of anything thrown. What is not a FoedusError is a bug: INTERNAL with an id, its text only in the log. */
export function failureOf(error: unknown, bugs: BugReporter, where: object = {}): RequestFailure {
  if (error instanceof FoedusError) return error.failure;
  const id = bugs.ids.id();
  bugs.log.error({ ...where, error_id: id, err: error }, "unexpected error in a handler");
  return { reason: "INTERNAL", message: `internal error ${id}`, facts: { error_id: id } };
}

/** errorToStatus is `failureOf` and `failureToStatus` in one; a PlainStatus keeps its code. */
export function errorToStatus(error: unknown, bugs: BugReporter, where: object = {}): Status {
  if (error instanceof PlainStatus) return { code: error.code, details: error.message, metadata: new grpc.Metadata() };
  return failureToStatus(failureOf(error, bugs, where));
}

/** serviceErrorOf gives a PlainStatus the shape that it has after a way over the network. */
export function serviceErrorOf({ code, message }: PlainStatus): grpc.ServiceError {
  return Object.assign(new Error(message), { code, details: message, metadata: new grpc.Metadata() });
}
