import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { failureFromProto } from "#channel/failure.ts";
import { decodeMessage } from "#channel/messages.ts";
import {
  AttachExecutorRequestSchema,
  AttachExecutorResponseSchema,
  ExecuteStreamRequestSchema,
  ExecuteStreamResponseSchema,
} from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import {
  type SessionFrame,
  type SessionRequest,
  SessionRequestSchema,
  SessionResponseSchema,
} from "#gen/foedus/command_forwarding/v1alpha1/session_pb.ts";
import { ValueSchema } from "#gen/foedus/common/v1/value_pb.ts";
import { LIMITS } from "#kernel/bounds/limits.ts";
import type { Failure, Reason } from "#kernel/error.ts";
import { type Answer, type Command, type Invocation, NO_VALUE, NUMBER_END, type Outcome, type Reply } from "../messages.ts";
import {
  checkFrame,
  decodeInvocations,
  encodeInvocations,
  encodeResults,
  installSessionDecoder,
  invocationsIn,
  resultsIn,
  valueBytes,
  valueOf,
} from "./codec.ts";
import { decodeReports, decodeTaskFrame, encodeReports, encodeTasks } from "./executor-codec.ts";
import { decodeStreamRequest, decodeStreamResponse, encodeStreamRequest, encodeStreamResponse } from "./stream-codec.ts";
import { parseValue } from "./value.ts";
import { Reader, WireError, Writer } from "./wire.ts";

const uint = fc.oneof(fc.integer({ min: 0, max: 300 }), fc.maxSafeNat());
/** Epochs and positions. */
const position = fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: NUMBER_END - 1 }));
const text = fc
  .oneof(
    fc.string({ unit: "binary", maxLength: 12 }),
    fc.string({ unit: "binary", maxLength: 300 }),
    fc.stringMatching(/^[a-z0-9-]{0,60}$/),
  )
  .map((t) => t.toWellFormed());
const small = fc.integer({ min: 0, max: 3_600_000 });
type Kind = NonNullable<MessageInitShape<typeof ValueSchema>["kind"]>;
const kind: fc.Arbitrary<Kind> = fc.oneof(
  fc.boolean().map((value): Kind => ({ case: "boolValue", value })),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map((value): Kind => ({ case: "intValue", value })),
  fc.double({ noNaN: true }).map((value): Kind => ({ case: "doubleValue", value })),
  text.map((value): Kind => ({ case: "stringValue", value })),
  fc.uint8Array({ maxLength: 200 }).map((value): Kind => ({ case: "bytesValue", value })),
  fc.json().map((value): Kind => ({ case: "jsonValue", value })),
);
const value = fc.option(kind, { nil: undefined }).map((k) => (k === undefined ? NO_VALUE : valueBytes(create(ValueSchema, { kind: k }))));
const failure: fc.Arbitrary<Failure | undefined> = fc
  .option(
    fc.record({
      reason: fc.constantFrom<Reason>("NODE_OFFLINE", "OUTCOME_UNKNOWN", "CANCELLED", "EXECUTOR_FAILED"),
      message: text,
      field: fc.constantFrom("", "command.value"),
    }),
    { nil: undefined },
  )
  .map((f) => (f === undefined ? undefined : { reason: f.reason, message: f.message, ...(f.field === "" ? {} : { field: f.field }) }));
const outcome = fc.constantFrom<Outcome[]>(1, 2, 3, 4, 5);
const result = fc.record({ outcome, value, failure });
const word = text.filter((t) => t !== "");
const hops = fc.array(word, { maxLength: 8 });

const invocation: fc.Arbitrary<Invocation> = fc.record({
  seq: position,
  nodeId: word,
  capability: word,
  value,
  deadline: small,
  retry: fc.boolean(),
  hops,
});
const answer: fc.Arbitrary<Answer> = fc.record({ seq: position, result, late: fc.boolean() });
const head = fc.record({ epoch: position, ackedBelow: position, ownerEpoch: position, ownerPosition: position });
const name = fc.option(fc.record({ hubId: text, epoch: uint, seq: uint }), { nil: undefined });
const command: fc.Arbitrary<Command> = fc.record({
  corr: uint,
  hubId: text,
  nodeId: text,
  capability: text,
  value,
  timeoutMs: small,
  key: text,
  hops,
});
const reply: fc.Arbitrary<Reply> = fc.record({
  kind: fc.constant("reply" as const),
  client: uint,
  corr: uint,
  result,
  name,
  durationMs: fc.double({ min: 0, max: 1e9, noNaN: true }),
  replayed: fc.boolean(),
});

/** one is the message of which there is one. */
function one([message, ...more]: readonly Buffer[]): Buffer {
  expect(more).toEqual([]);
  return message as Buffer;
}

const big = (n: number): bigint => BigInt(n);
const plain = (bytes: Uint8Array): number[] => [...bytes];

installSessionDecoder();

describe("hand-written wire format against the generated code", () => {
  test("a session's Invocations", () => {
    fc.assert(
      fc.property(
        head,
        fc.array(invocation, { maxLength: 8 }),
        fc.array(position, { maxLength: 6 }),
        fc.array(position, { maxLength: 6 }),
        (h, items, acks, cancels) => {
          const [bytes = Buffer.alloc(0), ...more] = encodeInvocations(h, acks, items, cancels, 0);
          expect(more).toEqual([]);
          const { frame } = fromBinary(SessionRequestSchema, bytes);
          if (frame?.frame.case !== "invocations") throw new Error("not invocations");
          const got = frame.frame.value;
          expect([got.epoch, got.ackedBelow, got.ownerEpoch, got.ownerPosition]).toEqual(
            [h.epoch, h.ackedBelow, h.ownerEpoch, h.ownerPosition].map(big),
          );
          expect([got.acks, got.cancels]).toEqual([acks.map(big), cancels.map(big)]);
          expect(
            got.invocations.map((i) => [i.seq, i.nodeId, i.capability, plain(valueBytes(i.value)), i.timeoutMs, i.retry, i.hops]),
          ).toEqual(items.map((i) => [big(i.seq), i.nodeId, i.capability, plain(i.value), i.deadline, i.retry, i.hops]));
          // The other way round: what the generated code writes is read by hand.
          const back = decodeMessage(
            SessionResponseSchema,
            toBinary(SessionResponseSchema, create(SessionResponseSchema, { frame })),
          ) as SessionRequest;
          if (back.frame?.frame.case !== "invocations") throw new Error("not invocations");
          const read = invocationsIn(back.frame.frame.value);
          expect({ ...read, items: read.items.map((i) => ({ ...i, value: plain(i.value) })) }).toEqual({
            ...h,
            acks,
            cancels,
            items: items.map(({ deadline, ...i }) => ({ ...i, value: plain(i.value), timeoutMs: deadline })),
          });
        },
      ),
      { numRuns: 300 },
    );
  });

  test("a session's Results", () => {
    fc.assert(
      fc.property(
        fc.record({ epoch: position, ownerEpoch: position, ownerPosition: position }),
        fc.array(answer, { maxLength: 8 }),
        (h, items) => {
          const [bytes = Buffer.alloc(0)] = encodeResults(h, items);
          const { frame } = fromBinary(SessionResponseSchema, bytes);
          if (frame?.frame.case !== "results") throw new Error("not results");
          const got = frame.frame.value;
          expect([got.epoch, got.ownerEpoch, got.ownerPosition]).toEqual([big(h.epoch), big(h.ownerEpoch), big(h.ownerPosition)]);
          expect(
            got.results.map((r) => [
              r.seq,
              r.outcome,
              plain(valueBytes(r.value)),
              r.failure === undefined ? undefined : failureFromProto(r.failure),
              r.late,
            ]),
          ).toEqual(items.map((i) => [big(i.seq), i.result.outcome, plain(i.result.value), i.result.failure, i.late]));
          const back = decodeMessage(
            SessionRequestSchema,
            toBinary(SessionRequestSchema, create(SessionRequestSchema, { frame })),
          ) as SessionRequest;
          if (back.frame?.frame.case !== "results") throw new Error("not results");
          expect(JSON.stringify(resultsIn(back.frame.frame.value))).toBe(
            JSON.stringify({ epoch: h.epoch, ownerEpoch: h.ownerEpoch, ownerPosition: h.ownerPosition, items }),
          );
        },
      ),
      { numRuns: 300 },
    );
  });

  test("common frames of a session are left to the generated code", () => {
    const bytes = toBinary(
      SessionRequestSchema,
      create(SessionRequestSchema, { frame: { frame: { case: "control", value: { frame: { case: "ping", value: { n: 7n } } } } } }),
    );
    expect((decodeMessage(SessionRequestSchema, bytes) as SessionRequest).frame?.frame).toMatchObject({
      case: "control",
      value: { frame: { case: "ping", value: { n: 7n } } },
    });
  });

  test("callers' streams, both halves", () => {
    fc.assert(
      fc.property(
        fc.array(command, { maxLength: 5 }),
        fc.array(uint, { maxLength: 5 }),
        fc.array(reply, { minLength: 1, maxLength: 5 }),
        (commands, cancels, replies) => {
          const request = one(encodeStreamRequest(commands, cancels));
          const got = fromBinary(ExecuteStreamRequestSchema, request);
          expect(
            got.commands.map(({ corr, command: c }) => [
              corr,
              c?.target?.hubId,
              c?.target?.nodeId,
              c?.capability,
              plain(valueBytes(c?.value)),
              c?.timeoutMs,
              c?.idempotencyKey,
              c?.hops,
            ]),
          ).toEqual(commands.map((c) => [big(c.corr), c.hubId, c.nodeId, c.capability, plain(c.value), c.timeoutMs, c.key, c.hops]));
          const read = decodeStreamRequest(toBinary(ExecuteStreamRequestSchema, got));
          expect(JSON.stringify(read)).toBe(JSON.stringify({ commands, cancels }));
          const response = one(encodeStreamResponse(replies));
          const results = fromBinary(ExecuteStreamResponseSchema, response).results;
          expect(results.map(({ corr, result: r }) => [corr, r?.outcome, r?.name?.seq, r?.durationMs, r?.replayed])).toEqual(
            replies.map((r) => [
              big(r.corr),
              r.result.outcome,
              r.name === undefined ? undefined : big(r.name.seq),
              r.durationMs,
              r.replayed,
            ]),
          );
          const back = decodeStreamResponse(toBinary(ExecuteStreamResponseSchema, create(ExecuteStreamResponseSchema, { results })));
          expect(JSON.stringify(back)).toBe(
            JSON.stringify(
              replies.map(({ corr, result: r, name: n, durationMs, replayed }) => ({ corr, result: r, name: n, durationMs, replayed })),
            ),
          );
        },
      ),
      { numRuns: 300 },
    );
  });

  test("executors' streams, both halves", () => {
    const task = fc.record({ taskId: uint, nodeId: text, capability: text, value, deadline: small, callerHubId: text, agentFence: uint });
    fc.assert(
      fc.property(
        fc.array(task, { minLength: 1, maxLength: 5 }),
        fc.array(fc.record({ taskId: uint, value, failure }), { minLength: 1, maxLength: 5 }),
        (tasks, reports) => {
          const frame = decodeTaskFrame(
            toBinary(AttachExecutorResponseSchema, fromBinary(AttachExecutorResponseSchema, one(encodeTasks(tasks, 0)))),
          );
          expect(JSON.stringify(frame)).toBe(
            JSON.stringify({
              kind: "tasks",
              tasks: tasks.map(({ taskId, nodeId, capability, value: v, deadline, callerHubId, agentFence }) => ({
                taskId,
                nodeId,
                capability,
                value: v,
                timeoutMs: deadline,
                callerHubId,
                agentFence,
              })),
            }),
          );
          const back = decodeReports(
            toBinary(AttachExecutorRequestSchema, fromBinary(AttachExecutorRequestSchema, one(encodeReports(reports)))),
          );
          expect(JSON.stringify(back)).toBe(JSON.stringify(reports));
        },
      ),
      { numRuns: 300 },
    );
  });

  test("many commands are split into frames below the limit, and none is lost", () => {
    const items = Array.from(
      { length: 300 },
      (_, seq): Invocation => ({
        seq,
        nodeId: "n",
        capability: "c",
        value: valueBytes(create(ValueSchema, { kind: { case: "stringValue", value: "x".repeat(4_000) } })),
        deadline: 1_000,
        retry: false,
        hops: [],
      }),
    );
    const frames = encodeInvocations({ epoch: 1, ackedBelow: 0, ownerEpoch: 1, ownerPosition: 0 }, [1, 2], items, [299], 0);
    expect(frames.length).toBeGreaterThan(4);
    expect(Math.max(...frames.map((frame) => frame.length))).toBeLessThanOrEqual(LIMITS.frameBytes);
    const values = frames.map((bytes) => {
      const { frame } = fromBinary(SessionRequestSchema, bytes);
      if (frame?.frame.case !== "invocations") throw new Error("not invocations");
      return frame.frame.value;
    });
    expect(values.flatMap((v) => v.invocations.map((i) => Number(i.seq)))).toEqual(items.map((i) => i.seq));
    expect(values.map((v) => v.cancels.length)).toEqual([...values.slice(1).map(() => 0), 1]);
  });

  test("a frame is read beside fields of a later version, and one that comes in pieces is refused, not misread", () => {
    installSessionDecoder();
    const [plain] = encodeInvocations({ epoch: 1, ackedBelow: 1, ownerEpoch: 0, ownerPosition: 0 }, [], [], [7], 0) as [Buffer];
    const later = Buffer.from([0x98, 0x06, 0x01]);
    const read = (bytes: Uint8Array) => (decodeMessage(SessionRequestSchema, bytes) as SessionRequest).frame as SessionFrame;
    const beside = read(Buffer.concat([later, plain, later]));
    expect(checkFrame(beside)).toBeUndefined();
    expect(invocationsIn(beside.frame.value as never).cancels).toEqual([7]);
    // Protobuf puts the pieces of a message together: the second one says nothing about which frame it is.
    const pieces = read(Buffer.concat([plain, Buffer.from([0x0a, 0x00])]));
    expect(checkFrame(pieces)).toMatchObject({ reason: "INVALID_FIELD", field: "frame" });
  });

  test("a Value is read as the generated code reads it", () => {
    fc.assert(
      fc.property(kind, (k) => {
        const raw = valueBytes(create(ValueSchema, { kind: k }));
        const parsed = parseValue(raw);
        const want = valueOf(raw)?.kind;
        if (want?.case === "intValue") expect(parsed?.num).toBe(Number(want.value));
        else if (want?.case === "doubleValue") expect(parsed?.num).toBe(want.value);
        else if (want?.case === "boolValue") expect(parsed?.num).toBe(want.value ? 1 : 0);
        else if (want?.case === "jsonValue" || want?.case === "stringValue")
          expect(new TextDecoder().decode(parsed?.bytes)).toBe(want.value);
        else expect(parsed?.bytes).toEqual(new Uint8Array(want?.value ?? []));
      }),
      { numRuns: 500 },
    );
  });

  test("no bytes make a reader do anything but answer or throw WireError", () => {
    const tries: ((bytes: Uint8Array) => unknown)[] = [decodeStreamRequest, decodeStreamResponse, decodeReports];
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        for (const read of tries) {
          try {
            read(bytes);
          } catch (error) {
            expect(error).toBeInstanceOf(WireError);
          }
        }
        parseValue(bytes);
      }),
      { numRuns: 2_000 },
    );
  });

  test("numbers up to 2^53 - 1 survive, larger ones are refused", () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (n) => {
        const writer = new Writer(4);
        writer.uint(n);
        expect(new Reader(writer.take()).uint()).toBe(n);
      }),
    );
    expect(() => new Reader(new Uint8Array([255, 255, 255, 255, 255, 255, 255, 255, 127])).uint()).toThrow(WireError);
  });

  test("text is checked to its last byte, however long it is and whatever it ends with", () => {
    for (const length of [1, 47, 48, 49, 64, 1_023, 1_024, 1_025, 4_096]) {
      const good = toBinary(ValueSchema, create(ValueSchema, { kind: { case: "stringValue", value: `${"x".repeat(length - 1)}\u00e9` } }));
      expect(parseValue(good)?.bytes).toHaveLength(length + 1);
      const bad = good.slice();
      bad[bad.length - 1] = 0x78;
      expect(parseValue(bad), `${length}`).toBeUndefined();
    }
  });
});

test("S-4 a frame of empty invocations is refused at the first of them", () => {
  const bytes = new Uint8Array(240_000);
  for (let i = 0; i < bytes.length; i += 2) bytes[i] = 0x1a;
  expect(() => decodeInvocations(new Reader(bytes))).toThrow("names no node or capability");
});
