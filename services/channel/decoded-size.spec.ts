import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { create, type DescMessage, fromBinary, toBinary } from "@bufbuild/protobuf";
import { afterEach, describe, expect, test } from "vitest";
import { ExecuteStreamRequestSchema } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { SessionRequestSchema } from "#gen/foedus/command_forwarding/v1alpha1/session_pb.ts";
import { CapabilitySchema, NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ListPeersResponseSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import {
  ListNodesResponseSchema,
  RegisterNodeRequestSchema,
  RegisterNodesRequestSchema,
  RegistrySyncService,
  UpdateStateRequestSchema,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { ReportEventsRequestSchema } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { FoedusError } from "#kernel/error.ts";
import { toServiceDefinition } from "#runtime/rpc/definition.ts";
import { boundDecoded, checkDecoded, DECODED_MAX, decodedSize, scanRequest } from "./decoded-size.ts";
import { decodeAnswer, decodeMessage, Malformed, Sealed } from "./messages.ts";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;
const MIB = 1024 * 1024;

/** times repeats a field: its tag, its length and what is in it. */
function times(count: number, unit: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(count * unit.length);
  for (let i = 0; i < count; i++) bytes.set(unit, i * unit.length);
  return bytes;
}

/** inside puts bytes into a field of a message. */
function inside(field: number, bytes: Uint8Array): Uint8Array {
  const { length } = bytes;
  return Uint8Array.from([(field << 3) | 2, (length & 0x7f) | 0x80, ((length >> 7) & 0x7f) | 0x80, length >> 14, ...bytes]);
}

const kept: { message?: unknown } = {};
afterEach(() => {
  kept.message = undefined;
});

/** A function of its own, so that no register of the test holds the message of the case before. */
function decode(desc: DescMessage, bytes: Uint8Array): void {
  kept.message = fromBinary(desc, bytes);
}

function used(): number {
  for (let i = 0; i < 3; i++) collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

const DENSE: readonly (readonly [string, DescMessage, Uint8Array])[] = [
  ["nodes", RegisterNodesRequestSchema, times(5_000, [0x0a, 0])],
  ["capabilities of a node", NodeSchema, times(5_000, [0x3a, 0])],
  ["short texts", CapabilitySchema, times(5_000, [0x52, 3, 0x61, 0x62, 0x63])],
  [
    "labels",
    NodeSchema,
    toBinary(NodeSchema, create(NodeSchema, { labels: Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`${i}`, ""])) })),
  ],
  ["records", ListNodesResponseSchema, times(5_000, [0x0a, 0])],
  ["peers, which have many fields", ListPeersResponseSchema, times(5_000, [0x0a, 0])],
  ["events", ReportEventsRequestSchema, times(5_000, [0x12, 0])],
  ["fields that nobody knows", NodeSchema, times(5_000, [0xf8, 0x3f, 0])],
  ["fields that nobody knows, empty", NodeSchema, times(5_000, [0xfa, 0x3f, 0])],
  ["numbers of 64 bits", ExecuteStreamRequestSchema, inside(2, times(5_000, [0xff, 0xff, 3]))],
];

describe("A2 what a message takes once it is decoded is known before", () => {
  test.each(DENSE)("%s", (_, desc, bytes) => {
    for (let i = 0; i < 3; i++) decode(desc, bytes);
    kept.message = undefined;
    const before = used();
    decode(desc, bytes);
    const taken = used() - before;
    expect(decodedSize(desc, bytes)).toBeGreaterThan(taken * 0.8);
  });

  test("pages and registrations as long as they get, of the smallest nodes and capabilities there are, are not refused", () => {
    const capabilities = Array.from({ length: 512 }, () => create(CapabilitySchema, { name: "a", type: 1 }));
    const many = toBinary(NodeSchema, create(NodeSchema, { nodeId: "a", kind: 1, capabilities }));
    const few = toBinary(NodeSchema, create(NodeSchema, { nodeId: "a", kind: 1, labels: { a: "b" } }));
    for (const node of [many, few]) {
      const field = [0x0a, ...(node.length < 128 ? [node.length] : [(node.length & 0x7f) | 0x80, node.length >> 7]), ...node];
      expect(() => checkDecoded(RegisterNodesRequestSchema, times(Math.floor(LIMITS.messageBytes / field.length), field))).not.toThrow();
    }
  });
});

/** varint is the encoding of a length. */
function varint(value: number): number[] {
  return value < 128 ? [value] : [(value & 0x7f) | 0x80, ...varint(value >>> 7)];
}

/** wrongType puts bytes into the first field, with the wire type of a number. */
function wrongType(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from([0x08, ...varint(bytes.length), ...bytes]);
}

/** beyond is a record of four bytes in which a node says that it has so many. */
function beyond(length: number): Uint8Array {
  return Uint8Array.from([0x0a, 4, 0x12, ...varint(length), ...times(MIB / 2, [0x3a, 0])]);
}

/** LONG is a number of more bytes than one that is read may have. */
const LONG = [...times(12, [0x80]), 0];

/** A megabyte of nothing, for each door. */
const EMPTY: readonly (readonly [string, DescMessage, Uint8Array])[] = [
  ["empty nodes", RegisterNodesRequestSchema, times(MIB / 2, [0x0a, 0])],
  ["a node of empty capabilities", RegisterNodesRequestSchema, inside(1, times(MIB / 2, [0x3a, 0]))],
  ["empty events", ReportEventsRequestSchema, times(MIB / 2, [0x12, 0])],
  ["a frame of empty invocations", SessionRequestSchema, inside(1, inside(2, times(MIB / 2, [0x1a, 0])))],
  ["fields that nobody knows", SessionRequestSchema, times(350_000, [0xf8, 0x3f, 0])],
];

describe("A2 a megabyte of empty messages is refused before it becomes a hundred", () => {
  const refused = { failure: { reason: "LIMIT_EXCEEDED", facts: { limit: "decoded_bytes", max: String(DECODED_MAX) } } };

  test.each(EMPTY)("%s", (_, desc, bytes) => {
    let error: unknown;
    const before = process.memoryUsage().heapUsed;
    try {
      decodeMessage(desc, bytes);
    } catch (caught) {
      error = caught;
    }
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(4 * MIB);
    expect(error).toMatchObject(refused);
    expect(new Sealed(desc, bytes).open()).toMatchObject({ error: refused });
  });

  const empty = times(MIB / 2 - 16, [0x0a, 0]);
  test.each<[string, DescMessage, Uint8Array]>([
    ["behind a length of more than 32 bits", RegisterNodesRequestSchema, Uint8Array.from([0x0a, 0x80, 0x80, 0x80, 0x80, 0x10, ...empty])],
    ["in a message that is longer than the one that it is in", ListNodesResponseSchema, beyond(MIB)],
    ["in a message that is longer than there are bytes", ListNodesResponseSchema, beyond(2 * MIB)],
    ["in a message with the tag of a number", RegisterNodesRequestSchema, wrongType(times(MIB / 2, [0x3a, 0]))],
    ["behind a number with the tag of a text", NodeSchema, Uint8Array.from([0x12, 0xff, 0xff, 0x3f, ...times(MIB / 2, [0x3a, 0])])],
    ["behind a number that nobody knows, of any length", RegisterNodesRequestSchema, Uint8Array.from([0xf8, 0x3f, ...LONG, ...empty])],
    [
      "behind a label that is longer than its entry",
      NodeSchema,
      Uint8Array.from([0x42, 2, 0x0a, 3, 6, 6, 6, ...times(MIB / 2 - 16, [0x3a, 0])]),
    ],
    ["behind a group that nobody knows", RegisterNodesRequestSchema, Uint8Array.from([0xfb, 0x3f, 0xfc, 0x3f, ...empty])],
  ])("%s", (_, desc, bytes) => {
    expect(() => decodeMessage(desc, bytes)).toThrow(expect.objectContaining({ failure: expect.objectContaining(refused.failure) }));
  });

  test("as a request, and as the answer to one", () => {
    const { requestDeserialize } = toServiceDefinition(RegistrySyncService)["registerNodes"]!;
    expect(requestDeserialize(Buffer.from(times(MIB / 2, [0x0a, 0])))).toBeInstanceOf(Malformed);
    expect(decodeAnswer(RegistrySyncService.method.listNodes, times(MIB / 2, [0x0a, 0]))).toMatchObject({ error: refused });
  });

  test("what is malformed, cut short or nested without end is left to the decoder, which refuses it", () => {
    for (const bytes of [times(MIB / 8, [0xff]), times(100_000, [0x0a, 0xff, 0xff, 0x7f]), times(100_000, [0x0b]), times(100_000, [0x0c])])
      expect(() => decodeMessage(NodeSchema, bytes)).toThrow(FoedusError);
    expect(decodedSize(UpdateStateRequestSchema, new Uint8Array(0))).toBeLessThan(1024);
  });
});

/** What a request is refused with before it is decoded. */
function refusal(
  desc: DescMessage,
  bytes: Uint8Array,
): { readonly reason: string; readonly message: string; readonly field?: string } | undefined {
  try {
    scanRequest(desc, bytes);
    return undefined;
  } catch (error) {
    return (error as FoedusError).failure as never;
  }
}

describe("S-4 a request with more in it than its rules allow is refused before it is decoded", () => {
  const capabilities = times(60_000, [0x3a, 0]);

  test("a list, with its path", () => {
    const node = Buffer.concat([inside(1, Buffer.from("n")), capabilities]);
    const request = Buffer.concat([inside(1, inside(1, Buffer.from("first"))), inside(1, node)]);
    expect(refusal(RegisterNodesRequestSchema, request)).toEqual({
      reason: "INVALID_FIELD",
      message: "nodes[1].capabilities: must have at most 512 items",
      field: "nodes[1].capabilities",
    });
  });

  test("a map", () => {
    const labels = times(1_000, [0x42, 0]);
    const tag = NodeSchema.fields.find(({ name }) => name === "labels")!.number;
    for (let i = 0; i < labels.length; i += 2) labels[i] = (tag << 3) | 2;
    expect(refusal(NodeSchema, labels)?.message).toBe("labels: must have at most 32 entries");
  });

  test("a message that comes in pieces, which would be put together", () => {
    const pieces = Buffer.concat(Array.from({ length: 200 }, () => inside(1, times(500, [0x3a, 0]))));
    expect(refusal(RegisterNodeRequestSchema, pieces)).toMatchObject({ reason: "INVALID_FIELD", message: "node: must come once" });
  });

  test("and not one that has as much as it may, whatever stands beside it", () => {
    const request = create(RegisterNodesRequestSchema, {
      nodes: Array.from({ length: 40 }, (_, i) => ({
        nodeId: `n${i}`,
        capabilities: Array.from({ length: 512 }, (_, j) => ({ name: `c${j}`, allowed: ["a", "b"] })),
        labels: Object.fromEntries(Array.from({ length: 32 }, (_, j) => [`l${j}`, "x"])),
      })),
      order: { group: new Uint8Array(16), n: 3n, incarnation: 1n },
    });
    expect(refusal(RegisterNodesRequestSchema, toBinary(RegisterNodesRequestSchema, request))).toBeUndefined();
  });

  test("what a type may take can be bounded further", () => {
    const request = toBinary(
      ReportEventsRequestSchema,
      create(ReportEventsRequestSchema, { events: Array.from({ length: 64 }, () => ({ text: "x".repeat(100) })) }),
    );
    expect(refusal(ReportEventsRequestSchema, request)).toBeUndefined();
    boundDecoded(ReportEventsRequestSchema, 4_096);
    try {
      expect(refusal(ReportEventsRequestSchema, request)?.reason).toBe("LIMIT_EXCEEDED");
    } finally {
      boundDecoded(ReportEventsRequestSchema, DECODED_MAX);
    }
  });
});
