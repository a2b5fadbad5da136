import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  SharedContentsSchema,
  SharedHeadsSchema,
  SharedPartSchema,
  SharedRootSchema,
  SharedStatementSchema,
  SharedStoredSchema,
  SharedWantSchema,
} from "#gen/foedus/coordination/v1alpha1/shared_pb.ts";
import { KINDS, type PartHead, type SharedEntry, type SharedFrame, type SharedKind } from "../shared/messages.ts";
import { contentsBytes, readStored, rootBytes, statementBytes, writeStored } from "../shared/part-bytes.ts";
import { readShared, type SharedMessage, writeShared } from "./shared.ts";

const FEDERATION = new Uint8Array(16).fill(3);
const SCHEMAS = { sharedHeads: SharedHeadsSchema, sharedPart: SharedPartSchema, sharedWant: SharedWantSchema } as const;

const count = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const kind = fc.constantFrom(...(Object.keys(KINDS) as SharedKind[]));
const key = fc.string({ minLength: 1, maxLength: 12, unit: "grapheme" });
const slot = fc.record({ kind, key });
const entry: fc.Arbitrary<SharedEntry> = fc.record({
  kind,
  key,
  version: count,
  at: fc.record({ wallMs: fc.nat({ max: Number.MAX_SAFE_INTEGER }), logical: fc.nat({ max: 65_535 }) }),
  priority: fc.nat({ max: 255 }),
  value: fc.option(fc.uint8Array({ maxLength: 5 }), { nil: undefined }),
});
const head: fc.Arbitrary<PartHead> = fc.record({
  hub: fc.constantFrom("north", "south"),
  incarnation: count,
  version: count,
  digest: bytes(32),
});
const frame: fc.Arbitrary<SharedFrame> = fc.oneof(
  fc.record({ kind: fc.constant("heads" as const), root: bytes(32), heads: fc.array(head, { maxLength: 3 }), answer: fc.boolean() }),
  fc
    .record({
      head,
      signature: bytes(64),
      since: fc.nat(),
      entries: fc.array(entry, { maxLength: 4 }),
      removed: fc.array(slot, { maxLength: 3 }),
    })
    .map(({ head: of, ...rest }) => ({ kind: "part" as const, ...of, ...rest })),
  fc.record({ kind: fc.constant("want" as const), hubs: fc.array(fc.constantFrom("north", "south"), { maxLength: 3 }) }),
);

const headOf = ({ hub, incarnation, version, digest }: PartHead) => ({
  hub,
  incarnation: BigInt(incarnation),
  version: BigInt(version),
  digest,
});
const entryOf = ({ at, value, ...rest }: SharedEntry) => ({
  ...rest,
  kind: KINDS[rest.kind].number,
  version: BigInt(rest.version),
  wallMs: BigInt(at.wallMs),
  logical: at.logical,
  ...(value === undefined ? { nothing: true } : { value }),
});

describe("codec of shared state", () => {
  test("a frame comes back from the wire as it was", () => {
    fc.assert(
      fc.property(frame, (one) => {
        const message = writeShared(FEDERATION, one);
        expect(message.value.federation).toEqual(FEDERATION);
        const schema = SCHEMAS[message.case];
        const value = fromBinary(schema, toBinary(schema, message.value));
        expect(readShared({ case: message.case, value } as SharedMessage)).toEqual(one);
      }),
    );
  });

  test("what is hashed, signed and stored is what the schema says, byte for byte", () => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 4 }), fc.array(head, { maxLength: 3 }), head, (entries, heads, one) => {
        const contents = create(SharedContentsSchema, { entries: entries.map(entryOf) });
        expect(Buffer.from(contentsBytes(entries))).toEqual(Buffer.from(toBinary(SharedContentsSchema, contents)));
        const root = create(SharedRootSchema, { heads: heads.map(headOf) });
        expect(Buffer.from(rootBytes(heads))).toEqual(Buffer.from(toBinary(SharedRootSchema, root)));
        const statement = toBinary(SharedStatementSchema, create(SharedStatementSchema, { federation: FEDERATION, ...headOf(one) }));
        expect(Buffer.from(statementBytes(FEDERATION, one))).toEqual(Buffer.concat([Buffer.from("foedus.shared-part.v1\0"), statement]));
        const removals = entries.map(({ kind: of, key: name, version }) => ({ kind: of, key: name, version }));
        const stored = { head: one, signature: new Uint8Array(64).fill(1), floor: 4, entries, removals };
        const message = create(SharedStoredSchema, {
          head: headOf(one),
          signature: stored.signature,
          floor: 4n,
          entries: entries.map(entryOf),
          removals: removals.map((removal) => ({ kind: KINDS[removal.kind].number, key: removal.key, version: BigInt(removal.version) })),
        });
        expect(Buffer.from(writeStored(stored))).toEqual(Buffer.from(toBinary(SharedStoredSchema, message)));
        expect(readStored(writeStored(stored))).toEqual(stored);
      }),
    );
  });

  test("numbers that no program here can count with, kinds that there are not, and values beside nothing make no frame", () => {
    const good = { head: { hub: "north", incarnation: 1n, version: 2n, digest: new Uint8Array(32) }, signature: new Uint8Array(64) };
    const part = (more: object): SharedMessage => ({ case: "sharedPart", value: create(SharedPartSchema, { ...good, ...more }) });
    const huge = 2n ** 53n;
    expect(readShared(part({}))).toMatchObject({ kind: "part", version: 2, since: 0 });
    const hostile = [
      { head: undefined },
      { since: huge },
      { head: { ...good.head, version: huge } },
      { head: { ...good.head, incarnation: 2n ** 64n - 1n } },
      { entries: [{ kind: 0, key: "k" }] },
      { entries: [{ kind: 6, key: "k" }] },
      { entries: [{ kind: 5, key: "k", wallMs: huge }] },
      { entries: [{ kind: 5, key: "k", version: huge }] },
      { entries: [{ kind: 5, key: "k", nothing: true, value: Uint8Array.of(1) }] },
      { removed: [{ kind: 99, key: "k" }] },
    ];
    for (const more of hostile) expect(readShared(part(more)), Object.keys(more).join()).toBeUndefined();
    const heads = create(SharedHeadsSchema, { heads: [{ ...good.head, version: huge }] });
    expect(readShared({ case: "sharedHeads", value: heads })).toBeUndefined();
  });

  test("stored bytes of anything else are refused", () => {
    for (const hex of ["", "0a", "ff", "12020101", "0a00320101", "2202080f"])
      expect(() => readStored(Buffer.from(hex, "hex")), hex).toThrow();
  });
});
