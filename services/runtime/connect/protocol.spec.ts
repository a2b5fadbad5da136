import { create, equals, toBinary, toJsonString } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeMessage } from "#channel/messages.ts";
import { ExecuteRequestSchema } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.ts";
import { FoedusError, REASONS } from "#kernel/error.ts";
import { EchoRequestSchema, EchoService } from "../../../test/proto/echo-service.gen.ts";
import { failureToStatus } from "../rpc/status.ts";
import { JSON_DEPTH_MAX, JSON_VALUES_MAX, jsonProblem } from "./json-bounds.ts";
import { envelope, errorOf, formatOf, httpStatusOf, mayGet, readQuery, requestIn, timeoutOf, toJsonBytes, toProtobuf } from "./protocol.ts";

/** depthOf and valuesIn say of a parsed value what jsonProblem has to find in its text. */
const inside = (value: unknown): unknown[] => (typeof value === "object" && value !== null ? Object.values(value) : []);
const depthOf = (value: unknown): number =>
  typeof value === "object" && value !== null ? 1 + Math.max(0, ...inside(value).map(depthOf)) : 0;

describe("the bounds of JSON", () => {
  test("are kept by every text within them, and found in every one beyond", () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 8 }), fc.integer({ min: 0, max: 40 }), (json, wraps) => {
        const text = "[".repeat(wraps) + json + "]".repeat(wraps);
        expect(jsonProblem(Buffer.from(text)) === undefined).toBe(depthOf(JSON.parse(text)) <= JSON_DEPTH_MAX);
      }),
    );
    const list = (values: number): Buffer => Buffer.from(`[${Array.from({ length: values - 1 }, () => "1").join()}]`);
    expect(jsonProblem(list(JSON_VALUES_MAX - 1))).toBeUndefined();
    expect(jsonProblem(list(JSON_VALUES_MAX + 2))).toContain("values");
  });

  test("are looked for in any bytes, and never beyond their end", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void jsonProblem(bytes)));
    for (const text of ['"', '"\\', '{"a\\"', "\\"]) expect(jsonProblem(Buffer.from(text))).toBeUndefined();
  });
});

describe("a message", () => {
  const text = fc.string({ unit: "grapheme-composite", maxLength: 40 }).map((value) => value.toWellFormed());
  const items = fc.array(fc.record({ size: fc.integer({ min: 0, max: 0xffff_ffff }), name: text }), { maxLength: 8 });

  test("is the same after its way as JSON, in both directions", () => {
    fc.assert(
      fc.property(fc.record({ text, items }), (init) => {
        const message = create(EchoRequestSchema, init);
        const bytes = toProtobuf(EchoRequestSchema, Buffer.from(toJsonString(EchoRequestSchema, message)), true);
        expect(equals(EchoRequestSchema, decodeMessage(EchoRequestSchema, bytes) as typeof message, message)).toBe(true);
        const json = toJsonBytes(EchoRequestSchema, toBinary(EchoRequestSchema, message));
        expect(JSON.parse(json.toString())).toEqual(JSON.parse(toJsonString(EchoRequestSchema, message)));
      }),
    );
  });

  test("from any text is protobuf, or refused with a reason, and nothing else is thrown", () => {
    const any = fc.oneof(
      fc.string(),
      fc.json(),
      fc.uint8Array().map((bytes) => Buffer.from(bytes).toString("latin1")),
    );
    fc.assert(
      fc.property(any, fc.boolean(), (json, strict) => {
        try {
          toProtobuf(ExecuteRequestSchema, Buffer.from(json), strict);
        } catch (error) {
          expect(error).toBeInstanceOf(FoedusError);
          expect((error as FoedusError).reason).toMatch(/^(INVALID_FIELD|LIMIT_EXCEEDED)$/);
          expect((error as FoedusError).message).toMatch(/^[^\n\p{Cc}]*$/u);
        }
      }),
      { numRuns: 500 },
    );
  });

  test("with a field that is not known is refused, unless its caller may be newer", () => {
    const json = Buffer.from('{"text":"x","colour":1}');
    expect(() => toProtobuf(EchoRequestSchema, json, true)).toThrow(
      expect.objectContaining({ failure: expect.objectContaining({ field: "colour" }) }),
    );
    expect(toProtobuf(EchoRequestSchema, json, false).length).toBe(3);
  });

  test("of a stream is in one envelope", () => {
    fc.assert(fc.property(fc.uint8Array(), (bytes) => void expect([...requestIn(envelope(0, bytes))]).toEqual([...bytes])));
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 20 }), (bytes) => {
        const whole = bytes.length >= 5 && bytes[0] === 0 && Buffer.from(bytes).readUInt32BE(1) === bytes.length - 5;
        if (!whole) expect(() => requestIn(Buffer.from(bytes))).toThrow(FoedusError);
      }),
    );
  });
});

test("every reason leaves with its code, its HTTP status, and its details in words", () => {
  const seen = new Set<number>();
  for (const reason of REASONS) {
    const status = failureToStatus({ reason, message: "why", field: "a.b", facts: { x: "y" } });
    const { code, message, details = [] } = errorOf(status);
    expect([message, details[0]?.type]).toEqual(["why", ErrorInfoSchema.typeName]);
    expect(details[0]?.debug).toMatchObject({ reason, domain: "foedus", metadata: { x: "y" } });
    expect(code).toMatch(/^[a-z_]+$/);
    expect(httpStatusOf(status.code)).toBeGreaterThanOrEqual(400);
    seen.add(status.code);
  }
  expect(seen.size).toBeGreaterThan(8);
  expect([errorOf({ ...failureToStatus({ reason: "INTERNAL", message: "" }), code: 99 as number as 13 }).code, httpStatusOf(99)]).toEqual([
    "unknown",
    500,
  ]);
});

describe("headers and queries", () => {
  const { echo, count } = EchoService.method;

  test.each([
    ["application/json", true, false],
    ["Application/JSON; charset=UTF-8", true, false],
    ["application/proto", true, false],
    ["application/connect+json", false, true],
    ["application/connect+proto", false, true],
    ["application/json; charset=latin1", false, false],
    ["application/json+x", false, false],
    ["text/json", false, false],
    ["", false, false],
  ])("%j", (type, unary, stream) => {
    expect([formatOf(type, echo) !== undefined, formatOf(type, count) !== undefined]).toEqual([unary, stream]);
  });

  test("a timeout has ten digits at most", () => {
    expect([timeoutOf(undefined), timeoutOf("0"), timeoutOf("9999999999")]).toEqual([undefined, 0, 9_999_999_999]);
    for (const bad of ["", "-1", "1.5", "1e3", "99999999999", " 5"]) expect(() => timeoutOf(bad)).toThrow(FoedusError);
  });

  test("only what has no side effects is called with GET", () => {
    expect([mayGet(echo), mayGet(EchoService.method.reset), mayGet(count)]).toEqual([true, false, false]);
    expect(readQuery(new URLSearchParams("encoding=proto&message="), echo).message.length).toBe(0);
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        const message = Buffer.from(bytes).toString("base64url");
        expect([...readQuery(new URLSearchParams({ encoding: "proto", base64: "1", message }), echo).message]).toEqual([...bytes]);
      }),
    );
  });
});
