import * as grpc from "@grpc/grpc-js";
import type { Reason } from "#kernel/error.ts";
import type { ServerCall } from "./call-context.ts";

/** Codes that say that a call was refused, with what they most often stand for. */
const REFUSED: ReadonlyMap<number, Reason> = new Map<number, Reason>([
  [grpc.status.PERMISSION_DENIED, "ACCESS_DENIED"],
  [grpc.status.UNAUTHENTICATED, "TOKEN_INVALID"],
  [grpc.status.INVALID_ARGUMENT, "INVALID_FIELD"],
  [grpc.status.RESOURCE_EXHAUSTED, "RATE_LIMITED"],
]);

/** tellRefused tells who wants to know that a call was refused before its handler began, by whatever protocol it came. */
export function tellRefused(call: ServerCall, { code, details }: { readonly code: number; readonly details: string }): void {
  const reason = REFUSED.get(code);
  if (reason !== undefined && !call.handled && call.identified) call.entry.refused?.(call.caller, { reason, message: details });
}
