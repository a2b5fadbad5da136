import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FeedHeadSchema } from "#gen/foedus/common/v1/session_pb.ts";
import { ProtoReader, WireError } from "./proto-reader.ts";
import { ProtoWriter } from "./proto-writer.ts";

const number = fc.nat(Number.MAX_SAFE_INTEGER);
const value = fc.record({
  n: number,
  b: fc.boolean(),
  bytes: fc.uint8Array({ maxLength: 200 }),
  text: fc.oneof(fc.string({ maxLength: 100 }), fc.string({ unit: "binary", maxLength: 100 })),
  list: fc.array(number),
});
type Value = typeof value extends fc.Arbitrary<infer T> ? T : never;

const write = (v: Value): Uint8Array =>
  new ProtoWriter()
    .uint(1, v.n)
    .bool(2, v.b)
    .bytes(3, v.bytes)
    .message(9, (inner) => inner.text(1, v.text))
    .uints(2_000, v.list)
    .finish();

function read(bytes: Uint8Array): Value {
  const r = new ProtoReader(bytes);
  const v = { n: 0, b: false, bytes: new Uint8Array(), text: "", list: [] as number[] };
  for (let field = r.next(); field !== 0; field = r.next())
    switch (field) {
      case 1:
        v.n = r.uint();
        break;
      case 2:
        v.b = r.bool();
        break;
      case 3:
        v.bytes = new Uint8Array(r.bytes(200));
        break;
      case 9:
        v.text = r.message(1_000, (inner) => (inner.next() === 1 ? inner.text(1_000) : ""));
        break;
      case 2_000:
        v.list = r.uints(1_000);
        break;
      default:
        r.unknown();
    }
  return v;
}

describe("protobuf by hand", () => {
  test("what is written is read back", () => {
    fc.assert(fc.property(value, (v) => void expect(read(write(v))).toEqual({ ...v, text: v.text.toWellFormed() })));
  });

  test("writers that work at the same time, one in the other, or after one that failed, have memory of their own", () => {
    fc.assert(
      fc.property(fc.array(value, { minLength: 2, maxLength: 20 }), fc.boolean(), (values, fails) => {
        const alone = values.map(write);
        const failed = new ProtoWriter().text(5, "lost");
        if (fails) expect(() => failed.uint(1, 1)).toThrow("ascending");
        const open = values.map((v) => new ProtoWriter().uint(1, v.n));
        for (const [i, v] of values.entries()) open[i]?.bool(2, v.b).bytes(3, v.bytes);
        const written = open.map((writer, i) => {
          const { text, list } = values[i] as Value;
          return writer
            .message(9, (inner) => inner.text(1, text))
            .uints(2_000, list)
            .finish();
        });
        expect(written).toEqual(alone);
      }),
    );
  });

  test("the bytes are those of the generated code", () => {
    const hubs = fc.record({ hubId: fc.string({ maxLength: 20 }), share: fc.string(), epoch: fc.nat(), seq: number });
    fc.assert(
      fc.property(hubs, ({ hubId, share, epoch, seq }) => {
        const bytes = new ProtoWriter().text(1, hubId).text(2, share).uint(3, epoch).uint(4, seq).bytes(5, new Uint8Array(3)).finish();
        const head = { hubId, share, epoch: BigInt(epoch), seq: BigInt(seq), digest: new Uint8Array(3) };
        expect(bytes).toEqual(toBinary(FeedHeadSchema, create(FeedHeadSchema, head)));
      }),
    );
  });

  test("no bytes crash the reader: they are read, or refused as malformed, and what is read has no other encoding", () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      fc.tuple(value, fc.nat(), fc.nat(255)).map(([v, at, byte]) => {
        const whole = write(v);
        if (whole.length > 0) whole[at % whole.length] = byte;
        return whole;
      }),
    );
    fc.assert(
      fc.property(bytes, (some) => {
        let v: Value;
        try {
          v = read(some);
        } catch (error) {
          expect(error).toBeInstanceOf(WireError);
          return;
        }
        expect(read(write(v))).toEqual(v);
      }),
      { numRuns: 2_000 },
    );
  });

  test.each([
    ["a number that is not in its shortest form", [0x08, 0x80, 0x00]],
    ["a number above 2^53 - 1", [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x10]],
    ["a number that does not end", [0x08, 0x80]],
    ["a length beyond the end", [0x1a, 0x05, 0x01]],
    ["fields out of order", [0x10, 0x01, 0x08, 0x01]],
    ["another wire type", [0x0a, 0x01, 0x01]],
    ["a field that is not known", [0x20, 0x01]],
    ["more than fits", [0x1a, 0xc9, 0x01, ...new Array<number>(201).fill(0)]],
    ["field 0", [0x00, 0x01]],
  ])("%s is refused", (_what, bytes) => {
    expect(() => read(Uint8Array.from(bytes))).toThrow(WireError);
  });

  test("a number that the wire cannot carry is a bug of who writes it", () => {
    for (const n of [-1, 0.5, Number.NaN, 2 ** 53]) expect(() => new ProtoWriter().uint(1, n)).toThrow("no such number");
    expect(() => new ProtoWriter().uint(2, 1).uint(1, 1)).toThrow("ascending");
  });
});
