import { type DescMessage, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  AgentClaimSchema,
  CheckpointManifestSchema,
  file_foedus_coordination_v1alpha1_migration,
  MigratingAgentSchema,
  MigrationCommandSchema,
  MigrationDataSchema,
  MigrationSchema,
  StoredMigrationSchema,
} from "#gen/foedus/coordination/v1alpha1/migration_pb.ts";
import { decode, encode, type Shape } from "#kernel/wire/shape.ts";
import { type Manifest, readManifest, writeManifest } from "../migration/checkpoint/checkpoint.ts";
import { frameProblem, type MigrationFrame } from "../migration/frames.ts";
import { BOUNDS, CAUSES, STATUSES, STEPS } from "../migration/messages.ts";
import { PHASES } from "../migration/saga/saga-record.ts";
import { AGENT_CLAIM, AGENT_RECORD, MIGRATION, MIGRATION_COMMAND, MIGRATION_DATA, STORED_MIGRATION } from "../migration/shapes.ts";
import { migrationFromProto, migrationToProto } from "./migration.ts";

const bytes = (length: number, min = length) => fc.uint8Array({ minLength: min, maxLength: length });
const count = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
const natural = fc.maxSafeNat();
const numbers = (most: number) =>
  fc
    .uniqueArray(fc.integer({ min: 0, max: BOUNDS.chunks - 1 }), { minLength: 1, maxLength: most })
    .map((list) => list.sort((a, b) => a - b));

const frames: fc.Arbitrary<MigrationFrame> = fc.oneof(
  fc.record({
    kind: fc.constant("manifest" as const),
    transfer: count,
    bytes: bytes(300, 1),
    signature: bytes(64),
    claim: fc.oneof(bytes(0), bytes(64)),
  }),
  fc.record({ kind: fc.constant("missing" as const), transfer: count, round: count, numbers: numbers(200) }),
  fc.record({
    kind: fc.constant("parcel" as const),
    transfer: count,
    round: count,
    numbers: numbers(64),
    enc: bytes(32),
    sealed: bytes(300, 1),
  }),
  fc.record({ kind: fc.constant("have" as const), transfer: count, round: count }),
  fc.record({ kind: fc.constant("ask" as const), transfer: count }),
  fc.record({ kind: fc.constant("finished" as const), transfer: count, fence: count }),
  fc.record({ kind: fc.constant("confirm" as const), transfer: count, fence: count }),
);

describe("frames of a migration", () => {
  test("come back as they were written, through the wire", () => {
    fc.assert(
      fc.property(frames, (frame) => {
        const proto = migrationToProto(frame);
        const desc = file_foedus_coordination_v1alpha1_migration.messages.find(({ typeName }) => typeName === proto.value.$typeName)!;
        const read = fromBinary(desc, toBinary(desc, proto.value));
        expect(migrationFromProto({ ...proto, value: read } as typeof proto)).toEqual(frame);
      }),
    );
  });

  test.each<[string, MigrationFrame]>([
    ["transfer", { kind: "ask", transfer: 0 }],
    ["transfer", { kind: "ask", transfer: Number.NaN }],
    ["transfer", { kind: "have", transfer: 2 ** 53, round: 1 }],
    ["round", { kind: "have", transfer: 1, round: 0 }],
    ["fence", { kind: "finished", transfer: 1, fence: -1 }],
    ["numbers", { kind: "missing", transfer: 1, round: 1, numbers: [] }],
    ["numbers", { kind: "missing", transfer: 1, round: 1, numbers: [3, 3] }],
    ["numbers", { kind: "missing", transfer: 1, round: 1, numbers: [4, 3] }],
    ["numbers", { kind: "missing", transfer: 1, round: 1, numbers: [BOUNDS.chunks] }],
    ["numbers", { kind: "parcel", transfer: 1, round: 1, numbers: [0.5], enc: new Uint8Array(32), sealed: new Uint8Array(1) }],
    ["enc", { kind: "parcel", transfer: 1, round: 1, numbers: [1], enc: new Uint8Array(31), sealed: new Uint8Array(1) }],
    ["sealed", { kind: "parcel", transfer: 1, round: 1, numbers: [1], enc: new Uint8Array(32), sealed: new Uint8Array(200_000) }],
    ["signature", { kind: "manifest", transfer: 1, bytes: new Uint8Array(1), signature: new Uint8Array(63), claim: new Uint8Array(0) }],
    ["claim", { kind: "manifest", transfer: 1, bytes: new Uint8Array(1), signature: new Uint8Array(64), claim: new Uint8Array(63) }],
    ["manifest", { kind: "manifest", transfer: 1, bytes: new Uint8Array(0), signature: new Uint8Array(64), claim: new Uint8Array(0) }],
  ])("are refused when %s is out of bounds", (field, frame) => {
    expect(frameProblem(frame)).toMatchObject({ reason: "INVALID_FIELD", field });
  });
});

const agent = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._:-]{0,20}$/);
const hub = fc.stringMatching(/^[a-z0-9][a-z0-9-]{0,20}[a-z0-9]$/);
const size = fc.integer({ min: 1, max: BOUNDS.checkpointBytes });
const words = fc.string({ unit: "grapheme", maxLength: 40 });
const only = fc.record({ transfer: count });
const kindOf = <T extends object, K extends string>(kind: K, rest: fc.Arbitrary<T>) => rest.map((value) => ({ kind, ...value }));

const commands = fc.oneof(
  kindOf("enlist", fc.record({ agent, nodeKey: bytes(32) })),
  kindOf("dismiss", fc.record({ agent, fence: count })),
  kindOf("request", fc.record({ agent, fence: count, to: hub, stepMs: fc.integer({ min: 1_000, max: 3_600_000 }), why: words })),
  kindOf("validate", fc.record({ transfer: count, bytes: size })),
  kindOf("accept", fc.record({ transfer: count, bytes: size, sealingKey: bytes(32), until: count })),
  kindOf("prepare", only),
  kindOf("checkpoint", fc.record({ transfer: count, bytes: size })),
  kindOf("transfer", fc.record({ transfer: count, digest: bytes(32) })),
  kindOf("confirm", fc.record({ transfer: count, fence: count, digest: bytes(32), claim: bytes(64) })),
  kindOf("release", only),
  kindOf("abort", fc.record({ transfer: count, cause: fc.constantFrom(...CAUSES), message: words })),
);

const record = fc.record({ agent, owner: hub, fence: count, nodeKey: bytes(32), since: natural, lost: fc.boolean() });
const migration = fc.record({
  transfer: count,
  agent,
  fence: count,
  from: hub,
  to: hub,
  by: hub,
  why: words,
  step: fc.constantFrom(...STEPS),
  status: fc.constantFrom(...STATUSES),
  stepMs: natural,
  deadline: natural,
  times: fc.array(fc.record({ at: natural }), { maxLength: 8 }),
  bytes: fc.integer({ min: 0, max: BOUNDS.checkpointBytes }),
  sealingKey: bytes(32, 0),
  until: natural,
  digest: bytes(32, 0),
  claim: bytes(64, 0),
  index: natural,
  cause: fc.option(fc.constantFrom(...CAUSES), { nil: undefined }),
  message: words,
});
const data = fc.record({
  transfers: natural,
  fences: natural,
  agents: fc.array(record, { maxLength: 4 }),
  open: fc.array(migration, { maxLength: 3 }),
  history: fc.array(migration, { maxLength: 3 }),
  redirects: fc.array(fc.record({ hub, agent, until: natural }), { maxLength: 4 }),
});
const stored = fc.record({
  transfer: count,
  agent,
  fence: count,
  from: hub,
  to: hub,
  phase: fc.constantFrom(...PHASES),
  round: natural,
  manifest: bytes(100, 0),
  signature: bytes(64, 0),
  claim: bytes(64, 0),
});

/** same holds the shape against the schema that describes it: both write the same bytes. */
function same<T>(shape: Shape<T>, desc: DescMessage, values: fc.Arbitrary<unknown>): void {
  fc.assert(
    fc.property(values, (value) => {
      const written = encode(shape, value as T);
      expect(decode(shape, written)).toEqual({ ok: true, value });
      expect(toBinary(desc, fromBinary(desc, written))).toEqual(written);
      expect(fromBinary(desc, written).$unknown).toBeUndefined();
    }),
    { numRuns: 60 },
  );
}

describe("what is stored, signed and decided is what the schema says", () => {
  test("commands", () => same(MIGRATION_COMMAND, MigrationCommandSchema, commands));
  test("agents", () => same(AGENT_RECORD, MigratingAgentSchema, record));
  test("migrations", () => same(MIGRATION, MigrationSchema, migration));
  test("the book", () => same(MIGRATION_DATA, MigrationDataSchema, data));
  test("records of a hub", () => same(STORED_MIGRATION, StoredMigrationSchema, stored));
  test("claims", () =>
    same(AGENT_CLAIM, AgentClaimSchema, fc.record({ agent, from: hub, to: hub, fence: count, transfer: count, digest: bytes(32) })));

  test("manifests", () => {
    const digest = bytes(32).map((value) => Buffer.from(value).toString("hex"));
    const chunks = fc.uniqueArray(fc.record({ digest, length: fc.integer({ min: 1, max: 131_072 }) }), {
      selector: (chunk) => chunk.digest,
      maxLength: 9,
    });
    const manifests = fc
      .record({ agent, fence: count, transfer: count, from: hub, to: hub, round: count, final: fc.boolean(), chunks, split: fc.nat(9) })
      .map(({ split, ...rest }): Manifest => {
        const sum = (list: readonly { readonly length: number }[]): number => list.reduce((total, { length }) => total + length, 0);
        const memoryBytes = sum(rest.chunks.slice(0, split));
        return { ...rest, memoryBytes, contextBytes: sum(rest.chunks) - memoryBytes, progress: 750_000, dependencies: ["a", "b"] };
      });
    fc.assert(
      fc.property(manifests, (manifest) => {
        const written = writeManifest(manifest);
        expect(readManifest(written)).toEqual(manifest);
        expect(toBinary(CheckpointManifestSchema, fromBinary(CheckpointManifestSchema, written))).toEqual(written);
      }),
    );
  });

  test("bytes of whatever kind are a manifest or a refusal, and never anything else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (garbage) => {
        const read = readManifest(garbage);
        expect("reason" in read ? read.reason : "CHECKPOINT_INVALID").toBe("CHECKPOINT_INVALID");
      }),
      { numRuns: 2_000 },
    );
  });
});
