import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";
import { describe, expect, test } from "vitest";
import { type RequestFailure, reasonRule, serviceErrorToFoedus } from "#channel/status.ts";
import { ErrorReasonSchema } from "#gen/foedus/common/v1/error_pb.ts";
import { RetryInfoSchema } from "#gen/google/rpc/error_details_pb.ts";
import { StatusSchema } from "#gen/google/rpc/status_pb.ts";
import { FoedusError, REASONS } from "#kernel/error.ts";
import { memoryLogger } from "../../../test/fakes/memory-logger.ts";
import { failureOf, failureToStatus } from "./status.ts";

const received = ({ code, details, metadata }: Pick<grpc.StatusObject, "code" | "details" | "metadata">): grpc.ServiceError =>
  Object.assign(new Error(details), { code, details, metadata });
const foreign = (code: grpc.status, details: string) =>
  serviceErrorToFoedus(received({ code, details, metadata: new grpc.Metadata() })).failure;

describe("failures on the wire", () => {
  test("the kernel's reasons and the schema's are the same list", () => {
    const schema = ErrorReasonSchema.values.slice(1).map(({ name }) => name.replace("ERROR_REASON_", ""));
    expect(schema).toEqual([...REASONS]);
  });

  test.each(REASONS)("%s goes there and back with its code, retry answer and remedy", (reason) => {
    const rule = reasonRule(reason);
    const failure: RequestFailure = { reason, message: "what is wrong", field: "a.b[0]", facts: { n: "1" } };
    const status = failureToStatus(failure);
    expect(status.code).toBe(rule.code);
    expect(rule.code).toBeGreaterThan(0);
    expect(rule.remedy).toMatch(/\.$/);
    expect(serviceErrorToFoedus(received(status)).failure).toEqual(failure);
    const { details } = fromBinary(StatusSchema, status.metadata.get("grpc-status-details-bin")[0] as Buffer);
    expect(details.some((detail) => anyUnpack(detail, RetryInfoSchema) !== undefined)).toBe(rule.retryable);
  });

  test("the retry delay is the failure's own", () => {
    const status = failureToStatus({ reason: "RATE_LIMITED", message: "slow down", facts: { retry_after_ms: "1500" } });
    const { details } = fromBinary(StatusSchema, status.metadata.get("grpc-status-details-bin")[0] as Buffer);
    const [retry] = details.flatMap((detail) => anyUnpack(detail, RetryInfoSchema) ?? []);
    expect(retry?.retryDelay).toMatchObject({ seconds: 1n, nanos: 500_000_000 });
  });

  test("text that HTTP/2 could not carry is mended and bounded", () => {
    const { details } = failureToStatus({ reason: "INTERNAL", message: `\ud800${"x".repeat(5000)}` });
    expect(details).toHaveLength(1024);
    expect(() => encodeURI(details)).not.toThrow();
  });

  test("a bug leaves as an id", () => {
    const log = memoryLogger();
    const failure = failureOf(new TypeError("secret"), { ids: { id: () => "id0" }, log });
    expect(failure).toEqual({ reason: "INTERNAL", message: "internal error id0", facts: { error_id: "id0" } });
    expect(log.lines).toMatchObject([{ level: "error", fields: { error_id: "id0" } }]);
  });
});

describe("statuses of others", () => {
  test.each([
    [
      grpc.status.UNAVAILABLE,
      "No connection established. Last error: connect ECONNREFUSED 127.0.0.1:1",
      "PEER_UNREACHABLE",
      "nothing listens at the address",
    ],
    [
      grpc.status.UNAVAILABLE,
      "Name resolution failed for target dns:x",
      "PEER_UNREACHABLE",
      "the host name of the address does not resolve",
    ],
    [grpc.status.UNAVAILABLE, "Connection dropped", "PEER_UNREACHABLE", "no connection to the server"],
    [
      grpc.status.UNAVAILABLE,
      "Last error: unable to verify the first certificate",
      "FOREIGN_CA",
      "the server's certificate is not signed by a CA of that hub",
    ],
    [
      grpc.status.UNAVAILABLE,
      "Last error: certificate has expired",
      "CERTIFICATE_EXPIRED",
      "a certificate has expired; renew it and check both clocks",
    ],
    [grpc.status.UNAVAILABLE, "tlsv13 alert certificate required", "UNKNOWN_IDENTITY", "the server refused this certificate"],
    [grpc.status.DEADLINE_EXCEEDED, "Deadline exceeded after 1s", "DEADLINE_EXPIRED", "Deadline exceeded after 1s"],
    [grpc.status.CANCELLED, "Cancelled on client", "CANCELLED", "Cancelled on client"],
    [
      grpc.status.RESOURCE_EXHAUSTED,
      "Received message larger than max (9 vs 8)",
      "MESSAGE_TOO_LARGE",
      "received message larger than max (9 vs 8)",
    ],
    [grpc.status.RESOURCE_EXHAUSTED, "quota", "OVERLOADED", "quota"],
    [grpc.status.UNIMPLEMENTED, "no such method", "UPGRADE_NEEDED", "no such method"],
    [grpc.status.DATA_LOSS, "", "INTERNAL", "the call failed"],
  ])("code %i %j is %s", (code, details, reason, message) => {
    expect(foreign(code, details)).toEqual({ reason, message, facts: { grpc_code: grpc.status[code] } });
  });

  test("the gRPC error stays as the cause, and broken details do no harm", () => {
    const metadata = new grpc.Metadata();
    metadata.set("grpc-status-details-bin", Buffer.from([0xff, 0xff]));
    const cause = received({ code: grpc.status.INTERNAL, details: "x", metadata });
    const error = serviceErrorToFoedus(cause);
    expect(error).toBeInstanceOf(FoedusError);
    expect(error.cause).toBe(cause);
    expect(error.failure.reason).toBe("INTERNAL");
  });
});
