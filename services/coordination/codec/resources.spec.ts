import { fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ResourceBookDumpSchema, ResourceCommandSchema } from "#gen/foedus/coordination/v1alpha1/resources_pb.ts";
import { Prng } from "#kernel/prng.ts";
import { WireError } from "#kernel/wire/proto-reader.ts";
import { Drive } from "../../../test/lending/drive.ts";
import { coders, INFERENCE, offer, quota, want } from "../../../test/lending/parts.ts";
import { amountsOf } from "../resources/amounts.ts";
import { ResourceBook } from "../resources/book.ts";
import { commandProblem } from "../resources/check.ts";
import { DEFAULT_POLICY, type ResourceCommand } from "../resources/commands.ts";
import { decodeResourceDump, encodeResourceDump } from "./resource-dump.ts";
import { decodeResourceCommand, encodeResourceCommand } from "./resources.ts";

const TERMS = { amounts: amountsOf({ agents: 2 }), durationMs: 60_000, costMicro: 750_000 };
const COMMANDS: readonly ResourceCommand[] = [
  { kind: "policy", policy: { ...DEFAULT_POLICY, allowedTypes: ["coder", "researcher"] } },
  coders(3),
  offer("gpus", INFERENCE, { gpuMilli: 4_000 }, { automatic: false, prices: amountsOf({ gpuMilli: 5 }) }),
  offer("disk", { kind: "storage", holds: "weights", retentionMs: 86_400_000, replication: 2 }, { storageMb: 100_000 }),
  offer("line", { kind: "network", mode: "pooling" }, { networkKbps: 1_000_000 }),
  { kind: "withdraw", name: "coders" },
  quota("factory", 2, 4),
  want("r1", 2, { owner: "factory", name: "coders", context: "wings of a küche", waitMs: 5_000 }),
  want("r2", 1, {
    want: { kind: "compute", work: "batch", model: "llm-8b", batch: 8, horizonMs: 0 },
    amounts: amountsOf({ cpuMilli: 500 }),
  }),
  want("r3", 1, { want: { kind: "storage", holds: "cache", replication: 1 }, amounts: amountsOf({ storageMb: 5 }) }),
  want("r4", 1, { want: { kind: "network", mode: "bandwidth" }, amounts: amountsOf({ networkKbps: 5 }) }),
  { kind: "counter", borrower: "home", id: "r1", round: 1, terms: TERMS },
  { kind: "accept", borrower: "home", id: "r1", round: 2 },
  { kind: "decline", borrower: "home", id: "r1" },
  { kind: "confirm", id: "r1" },
  { kind: "renew", lease: 7, fence: 8, durationMs: 60_000 },
  { kind: "release", lease: 7, fence: 8 },
  { kind: "reclaim", lease: 7, graceMs: 0 },
  { kind: "stopped", leases: [1, 7, Number.MAX_SAFE_INTEGER] },
  { kind: "refence", name: "coders" },
];

describe("commands of lending as bytes", () => {
  test.each(COMMANDS.map((command) => [command.kind, command] as const))(
    "%s is read as it was written, and is what the schema says",
    (_kind, command) => {
      expect(commandProblem(command)).toBeUndefined();
      const bytes = encodeResourceCommand(command);
      expect(decodeResourceCommand(bytes)).toEqual(command);
      const message = fromBinary(ResourceCommandSchema, bytes);
      expect(message.command.case).toBe(command.kind);
      expect(Buffer.from(toBinary(ResourceCommandSchema, message))).toEqual(Buffer.from(bytes));
      expect("$unknown" in message ? message.$unknown : undefined).toBeUndefined();
    },
  );

  test("F-1 bytes that were changed are refused, or are another command in the one way in which it is written; the book takes or refuses it", () => {
    const prng = new Prng(11);
    const book = new ResourceBook();
    let [read, refused, taken] = [0, 0, 0];
    for (let run = 0; run < 20_000; run++) {
      const bytes = encodeResourceCommand(COMMANDS[run % COMMANDS.length] as ResourceCommand);
      for (let changes = 1 + prng.below(3); changes > 0; changes--) bytes[prng.below(bytes.length)] = prng.below(256);
      const cut = prng.chance(0.2) ? bytes.subarray(0, prng.below(bytes.length)) : bytes;
      try {
        const command = decodeResourceCommand(cut);
        expect(Buffer.from(encodeResourceCommand(command))).toEqual(Buffer.from(cut));
        read++;
        const before = JSON.stringify(book.dump());
        if (book.apply({ index: run, term: 1, time: 1_000 + run }, "home", command).ok) taken++;
        else expect(JSON.stringify(book.dump())).toBe(before);
      } catch (error) {
        if (!(error instanceof WireError)) throw error;
        refused++;
      }
    }
    expect(read).toBeGreaterThan(1_000);
    expect(refused).toBeGreaterThan(1_000);
    expect(taken).toBeGreaterThan(10);
  });

  test("any bytes are a command or a WireError", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        try {
          decodeResourceCommand(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(WireError);
        }
      }),
      { seed: 12, numRuns: 2_000 },
    );
  });
});

describe("the book as bytes", () => {
  test.each([1, 2, 3])("BK3 a book that was written and read is the same, byte for byte (seed %i)", (seed) => {
    const drive = new Drive(seed);
    const { checker } = drive.world;
    const after = checker.afterStep.bind(checker);
    let seen = 0;
    checker.afterStep = (at) => {
      after(at);
      if (++seen % 7 !== 0) return;
      const bytes = encodeResourceDump(drive.world.book.dump());
      const dump = decodeResourceDump(bytes);
      expect(dump).toEqual(drive.world.book.dump());
      const book = new ResourceBook();
      book.load(dump);
      expect(Buffer.from(encodeResourceDump(book.dump()))).toEqual(Buffer.from(bytes));
      expect(book.due()).toBe(drive.world.book.due());
      expect(Buffer.from(toBinary(ResourceBookDumpSchema, fromBinary(ResourceBookDumpSchema, bytes)))).toEqual(Buffer.from(bytes));
    };
    drive.run(120);
    expect(seen).toBeGreaterThan(100);
  });
});
