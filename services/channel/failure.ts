import { create } from "@bufbuild/protobuf";
import { ErrorReason, ErrorReasonSchema, FailureSchema, type Failure as ProtoFailure } from "#gen/foedus/common/v1/error_pb.ts";
import type { Failure, Reason } from "#kernel/error.ts";
import { isReason } from "./status.ts";

const PREFIX = "ERROR_REASON_";
/** What another hub says goes into logs and events; ours are shorter. */
const TEXT_MAX_CHARS = 512;

const NUMBERS = new Map<string, ErrorReason>(
  ErrorReasonSchema.values.map((value) => [value.name.slice(PREFIX.length), value.number as ErrorReason]),
);

/** failureToProto writes a Failure for a frame or a per-item answer. Its facts stay here. */
export function failureToProto(failure: Failure): ProtoFailure {
  const { reason, message, field = "" } = failure;
  return create(FailureSchema, { reason: NUMBERS.get(reason) ?? ErrorReason.INTERNAL, message, field });
}

/** failureFromProto reads a Failure; a reason that this version does not know becomes INTERNAL with its number in the facts. */
export function failureFromProto(failure: ProtoFailure): Failure {
  const name = ErrorReasonSchema.value[failure.reason]?.name.slice(PREFIX.length) ?? "";
  const known = isReason(name);
  const reason: Reason = known ? name : "INTERNAL";
  const field = failure.field === "" ? {} : { field: failure.field.slice(0, TEXT_MAX_CHARS) };
  return {
    reason,
    message: failure.message.slice(0, TEXT_MAX_CHARS),
    ...field,
    ...(known ? {} : { facts: { reason: String(failure.reason) } }),
  };
}
