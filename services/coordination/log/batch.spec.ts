import { create } from "@bufbuild/protobuf";
import { createValidator } from "@bufbuild/protovalidate";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { LogProposeSchema } from "#gen/foedus/coordination/v1alpha1/session_pb.ts";
import { ProtoWriter } from "#kernel/wire/proto-writer.ts";
import { feedKeyOf, simCrypto } from "../../../test/simulator/crypto.ts";
import { RAFT_TUNING } from "../raft/config.ts";
import { type AuthorBatch, BATCH_BYTES, BATCH_COMMANDS, COMMAND_BYTES, FEDERATION_ID_BYTES, readBatch, writeBatch } from "./batch.ts";

const crypto = simCrypto("a");
const BATCH: AuthorBatch = {
  federation: new Uint8Array(FEDERATION_ID_BYTES).fill(7),
  author: "a",
  incarnation: 2,
  session: 3,
  first: 12,
  commands: [Uint8Array.of(1), new Uint8Array(), Uint8Array.of(2, 3)],
};
const batchOf = (more: Partial<AuthorBatch>): AuthorBatch => ({ ...BATCH, ...more });

/** rawBatch writes fields as they are given, whatever the limits say. */
function rawBatch(body: ProtoWriter, signature = new Uint8Array(64)): Uint8Array {
  return new ProtoWriter().bytes(1, body.finish()).bytes(2, signature).finish();
}

const body = (more: Partial<AuthorBatch> = {}): ProtoWriter => {
  const { federation, author, incarnation, session, first, commands } = batchOf(more);
  const writer = new ProtoWriter().bytes(1, federation).text(2, author).uint(3, session).uint(4, first);
  for (const command of commands) writer.item(5, command);
  return writer.uint(6, incarnation);
};

const arbitrary = fc.record({
  federation: fc.uint8Array({ minLength: FEDERATION_ID_BYTES, maxLength: FEDERATION_ID_BYTES }),
  author: fc.constantFrom("a", "hub-2", "x".repeat(63)),
  incarnation: fc.integer({ min: 1, max: 2 ** 48 }),
  session: fc.integer({ min: 1, max: 2 ** 48 }),
  first: fc.integer({ min: 1, max: 2 ** 48 }),
  commands: fc.array(fc.uint8Array({ maxLength: 40 }), { minLength: 1, maxLength: 20 }),
});

describe("a batch", () => {
  test("comes back as it was written, with the bytes that were signed", () => {
    fc.assert(
      fc.property(arbitrary, (batch) => {
        const read = readBatch(writeBatch(batch, crypto));
        expect(read.batch).toEqual(batch);
        expect(crypto.verify(feedKeyOf("a"), read.signed, read.signature)).toBe(true);
        expect(crypto.verify(feedKeyOf("b"), read.signed, read.signature)).toBe(false);
      }),
    );
  });

  test("PROTOCOL G5 one changed byte anywhere makes it unreadable, or its signature wrong", () => {
    fc.assert(
      fc.property(arbitrary, fc.nat(), fc.integer({ min: 1, max: 255 }), (batch, at, change) => {
        const bytes = writeBatch(batch, crypto);
        bytes[at % bytes.length]! ^= change;
        try {
          const { signed, signature } = readBatch(bytes);
          expect(crypto.verify(feedKeyOf("a"), signed, signature)).toBe(false);
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
        }
      }),
    );
  });

  test("bytes that are none are refused by an error, and by nothing else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        try {
          readBatch(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
        }
      }),
    );
  });

  test("the largest one that limits allow is read", () => {
    const size = BATCH_BYTES / BATCH_COMMANDS;
    const commands = Array.from({ length: BATCH_COMMANDS }, () => new Uint8Array(size));
    expect(readBatch(writeBatch(batchOf({ commands }), crypto)).batch.commands).toHaveLength(BATCH_COMMANDS);
  });

  test.each<[string, Uint8Array]>([
    ["nothing", new Uint8Array()],
    ["no signature", new ProtoWriter().bytes(1, body().finish()).finish()],
    ["a short signature", rawBatch(body(), new Uint8Array(63))],
    ["a long signature", rawBatch(body(), new Uint8Array(65))],
    ["no federation", rawBatch(body({ federation: new Uint8Array() }))],
    ["a short federation", rawBatch(body({ federation: new Uint8Array(15) }))],
    ["a long federation", rawBatch(body({ federation: new Uint8Array(17) }))],
    ["no author", rawBatch(body({ author: "" }))],
    ["an author that is no hub id", rawBatch(body({ author: "A b" }))],
    ["an author that is too long", rawBatch(body({ author: "a".repeat(64) }))],
    ["session 0", rawBatch(body({ session: 0 }))],
    ["number 0", rawBatch(body({ first: 0 }))],
    ["numbers above 2^53", rawBatch(body({ first: Number.MAX_SAFE_INTEGER }))],
    ["no commands", rawBatch(body({ commands: [] }))],
    ["too many commands", rawBatch(body({ commands: Array.from({ length: BATCH_COMMANDS + 1 }, () => new Uint8Array()) }))],
    ["a command that is too long", rawBatch(body({ commands: [new Uint8Array(COMMAND_BYTES + 1)] }))],
    ["too many bytes", rawBatch(body({ commands: Array.from({ length: 3 }, () => new Uint8Array(COMMAND_BYTES)) }))],
  ])("with %s is refused", (_what, bytes) => {
    expect(() => readBatch(bytes)).toThrow();
  });

  test("keeps nothing of the buffer that it was read from", () => {
    const bytes = writeBatch(BATCH, crypto);
    const { signed, signature, batch } = readBatch(bytes);
    bytes.fill(0);
    expect(batch).toEqual(BATCH);
    expect(crypto.verify(feedKeyOf("a"), signed, signature)).toBe(true);
  });

  test.each([BATCH_COMMANDS, 2, 1_000])(
    "a batch of as many bytes as there may be, of %i commands, is taken by an engine and fits into a frame",
    (count) => {
      const commands = Array.from({ length: count }, () => new Uint8Array(Math.floor(BATCH_BYTES / count)));
      const most = { author: "x".repeat(63), incarnation: 2 ** 48, session: 2 ** 48, first: 2 ** 48 };
      const bytes = writeBatch(batchOf({ ...most, commands }), crypto);
      expect(readBatch(bytes).batch.commands).toHaveLength(count);
      expect(bytes.length).toBeLessThanOrEqual(RAFT_TUNING.payloadBytes);
      const propose = create(LogProposeSchema, { federation: BATCH.federation, payload: bytes });
      expect(createValidator().validate(LogProposeSchema, propose).kind).toBe("valid");
    },
  );
});
