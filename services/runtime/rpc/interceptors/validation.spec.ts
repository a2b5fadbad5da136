import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { describe, expect, test } from "vitest";
import { needsValidation } from "#channel/validation.ts";
import { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { SessionControlSchema } from "#gen/foedus/common/v1/session_pb.ts";
import { SERVICES } from "../../../../test/tidy/schema.ts";
import { unknownField } from "./validation.ts";

test("streams of frames are known as such, so that no frame is checked twice or counted as a call", () => {
  const hot = SERVICES.flatMap(({ methods }) => methods).filter((method) => !needsValidation(method));
  expect(new Set(hot.map(({ name }) => name))).toEqual(new Set(["Session", "UpdateState", "AttachExecutor", "HostAgents"]));
  expect(hot.filter(({ name }) => name === "Session")).toHaveLength(4);
});

/** withUnknown is a message followed by a field 500 that no schema here has. */
const withUnknown = (bytes: Uint8Array): Uint8Array =>
  Buffer.concat([bytes, new BinaryWriter().tag(500, WireType.Varint).uint32(1).finish()]);

describe("fields that a request has and its schema has not", () => {
  test("are found at the top, and named with what to do", () => {
    const node = fromBinary(NodeSchema, withUnknown(toBinary(NodeSchema, create(NodeSchema, { nodeId: "a" }))));
    expect(unknownField(NodeSchema, node)).toEqual({
      reason: "INVALID_FIELD",
      message: "field 500 is not known here; leave it out, or upgrade this hub",
      field: "500",
    });
  });

  test("are found in lists and in a oneof, with their path", () => {
    const node = create(NodeSchema, { nodeId: "a", capabilities: [{ name: "x" }, { name: "y" }] });
    const { $unknown } = fromBinary(NodeSchema, withUnknown(new Uint8Array(0)));
    if ($unknown !== undefined) node.capabilities[1]!.$unknown = $unknown;
    expect(unknownField(NodeSchema, node)?.field).toBe("capabilities[1].500");
    const control = create(SessionControlSchema, { frame: { case: "ping", value: { n: 1n } } });
    if ($unknown !== undefined && control.frame.case === "ping") control.frame.value.$unknown = $unknown;
    expect(unknownField(SessionControlSchema, control)?.field).toBe("ping.500");
  });

  test("are not seen where there are none", () => {
    expect(
      unknownField(NodeSchema, create(NodeSchema, { nodeId: "a", labels: { case: "x", value: "y" }, capabilities: [{ name: "x" }] })),
    ).toBeUndefined();
  });
});
