import { create } from "@bufbuild/protobuf";
import { createValidator } from "@bufbuild/protovalidate";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  LivenessAckSchema,
  LivenessNackSchema,
  LivenessPingRequestSchema,
  LivenessPingSchema,
} from "#gen/foedus/coordination/v1alpha1/liveness_pb.ts";
import { frameProblem, type LivenessFrame, PAUSE_MAX, SUSPECTS_MAX } from "../liveness/frames.ts";
import { INCARNATION_MAX } from "../liveness/settings.ts";
import { type LivenessBody, livenessFromBytes, livenessFromProto, livenessToBytes, livenessToProto } from "./liveness.ts";

const hub = fc.stringMatching(/^[a-z0-9](?:[a-z0-9-]{0,20}[a-z0-9])?$/).filter((id) => id !== "sender");
const nonce = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
const head = {
  incarnation: fc.integer({ min: 1, max: INCARNATION_MAX }),
  seq: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
  pauseMs: fc.integer({ min: 0, max: PAUSE_MAX }),
  nonce,
};
const suspects = fc.uniqueArray(fc.record({ hub, incarnation: fc.integer({ min: 0, max: INCARNATION_MAX }) }), {
  maxLength: SUSPECTS_MAX,
  selector: (suspect) => suspect.hub,
});
const frame: fc.Arbitrary<LivenessFrame> = fc.oneof(
  fc.record({ kind: fc.constant("ping" as const), ...head, suspects }),
  fc.record({ kind: fc.constant("ack" as const), ...head, suspects, subject: fc.oneof(fc.constant(""), hub) }),
  fc.record({ kind: fc.constant("ping_req" as const), ...head, subject: hub }),
  fc.record({ kind: fc.constant("nack" as const), ...head, subject: hub }),
);

const validator = createValidator();
const violations = (body: LivenessBody): string | undefined => {
  const schema = {
    livenessPing: LivenessPingSchema,
    livenessAck: LivenessAckSchema,
    livenessPingRequest: LivenessPingRequestSchema,
    livenessNack: LivenessNackSchema,
  }[body.case];
  const result = validator.validate(schema as typeof LivenessPingSchema, body.value as never);
  return result.kind === "valid" ? undefined : result.kind;
};

test("D-19 a frame of a detector comes back from the wire as it was, and neither the schema nor the check refuses it", () => {
  fc.assert(
    fc.property(frame, (sent) => {
      const body = livenessToProto(sent);
      expect(violations(body)).toBeUndefined();
      expect(frameProblem("sender", sent)).toBeUndefined();
      expect(livenessFromProto(livenessFromBytes(body.case, livenessToBytes(body)))).toEqual(sent);
    }),
  );
});

test("D-19 whatever bytes come, reading them ends in a frame or an error, and what the check then accepts the schema accepts", () => {
  const kind = fc.constantFrom<LivenessBody["case"][]>("livenessPing", "livenessAck", "livenessPingRequest", "livenessNack");
  const mangled = fc.tuple(frame, fc.nat(), fc.nat(255)).map(([sent, at, byte]) => {
    const bytes = livenessToBytes(livenessToProto(sent)).slice();
    bytes[at % bytes.length] = byte;
    return bytes;
  });
  fc.assert(
    fc.property(kind, fc.oneof(fc.uint8Array({ maxLength: 200 }), mangled), (which, bytes) => {
      let body: LivenessBody;
      try {
        body = livenessFromBytes(which, bytes);
      } catch {
        return;
      }
      const read = livenessFromProto(body);
      if (frameProblem("sender", read) === undefined) expect(violations(livenessToProto(read))).toBeUndefined();
    }),
    { numRuns: 500 },
  );
});

test("D-19 a frame without a head is refused", () => {
  const body: LivenessBody = { case: "livenessPing", value: create(LivenessPingSchema, { nonce: 1n }) };
  expect(violations(body)).toBe("invalid");
  expect(frameProblem("sender", livenessFromProto(body))).toContain("incarnation");
});
