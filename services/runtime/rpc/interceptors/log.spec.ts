import * as grpc from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { Health } from "#gen/grpc/health/v1/health_pb.ts";
import { ManualClock } from "../../../../test/fakes/manual-clock.ts";
import { memoryLogger } from "../../../../test/fakes/memory-logger.ts";
import { ServerCall } from "../server/call-context.ts";
import { logInterceptor } from "./log.ts";

test.each([
  [grpc.status.INTERNAL, "INTERNAL", "error"],
  [grpc.status.DATA_LOSS, "FEED_FORK", "error"],
  // F-31: what became of a command is not known, its caller was told so, and nothing is wrong with this hub.
  [grpc.status.UNKNOWN, "OUTCOME_UNKNOWN", "debug"],
  [grpc.status.UNKNOWN, "", "error"],
  [grpc.status.PERMISSION_DENIED, "ACCESS_DENIED", "warn"],
  [grpc.status.UNAVAILABLE, "SHUTTING_DOWN", "debug"],
  [grpc.status.ABORTED, "SESSION_REPLACED", "debug"],
] as const)("a call that ended with %s %s is logged as %s", (code, reason, level) => {
  const log = memoryLogger();
  const clock = new ManualClock();
  const method = Health.methods[0] as (typeof Health.methods)[0];
  const call = new ServerCall({ entry: { method, rule: {} as never, validated: false }, startedMono: 0, timeoutMs: undefined });
  logInterceptor(log, clock).close?.(call, { code, reason, details: "" });
  expect(log.lines.map((line) => line.level)).toEqual([level]);
});
