import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compareBytes } from "../wire/bytes.ts";
import { ProtoWriter } from "../wire/proto-writer.ts";
import { VersionVector } from "./version-vector.ts";

const WRITERS = ["a", "b", "c", "d"];
const counts = fc.dictionary(fc.constantFrom(...WRITERS), fc.integer({ min: 1, max: 3 }));
const vector = counts.map(
  (table) =>
    new VersionVector(
      8,
      Object.entries(table).map(([writer, count]) => ({ writer, count })),
    ),
);

function merged(...all: readonly VersionVector[]): VersionVector {
  const result = new VersionVector(8);
  for (const one of all) expect(result.merge(one)).toBe(true);
  return result;
}

/** dumb is a vector as the set of everything that it has seen. */
const dumb = (one: VersionVector): Set<string> =>
  new Set(one.counts().flatMap(({ writer, count }) => Array.from({ length: count }, (_, i) => `${writer}${i + 1}`)));

const within = (some: ReadonlySet<string>, all: ReadonlySet<string>): boolean => [...some].every((one) => all.has(one));

describe("version vector", () => {
  test("VV1 S1-7 merging is commutative, associative and idempotent, and sees what either has seen", () => {
    fc.assert(
      fc.property(vector, vector, vector, (a, b, c) => {
        const hex = (one: VersionVector) => Buffer.from(one.encode()).toString("hex");
        expect(hex(merged(a, b))).toBe(hex(merged(b, a)));
        expect(hex(merged(merged(a, b), c))).toBe(hex(merged(a, merged(b, c))));
        expect(hex(merged(a, a))).toBe(hex(a));
        expect(dumb(merged(a, b))).toEqual(new Set([...dumb(a), ...dumb(b)]));
      }),
    );
  });

  test("VV2 comparing tells who has seen what the other has not", () => {
    fc.assert(
      fc.property(vector, vector, (a, b) => {
        const [all, others] = [dumb(a), dumb(b)];
        const expected = within(all, others) ? (within(others, all) ? "equal" : "before") : within(others, all) ? "after" : "concurrent";
        expect(a.compare(b)).toBe(expected);
        expect(["after", "equal"]).toContain(merged(a, b).compare(a));
        for (const { writer, count } of a.counts()) {
          expect(a.covers({ writer, count })).toBe(true);
          expect(a.covers({ writer, count: count + 1 })).toBe(false);
        }
      }),
    );
  });

  test("VV2 a count goes back for nobody, and only forget drops a writer", () => {
    const one = new VersionVector(2, [{ writer: "a", count: 5 }]);
    expect(one.raise("a", 3)).toBe(true);
    expect(one.get("a")).toBe(5);
    one.forget("a");
    expect(one.get("a")).toBe(0);
    expect(one.raise("a", 1)).toBe(true);
  });

  test("VV3 one writer too many is refused whole", () => {
    const one = new VersionVector(2, [
      { writer: "a", count: 1 },
      { writer: "b", count: 1 },
    ]);
    expect(one.raise("c", 1)).toBe(false);
    const other = new VersionVector(2, [
      { writer: "a", count: 9 },
      { writer: "c", count: 1 },
    ]);
    expect(one.merge(other)).toBe(false);
    expect(one.counts()).toEqual([
      { writer: "a", count: 1 },
      { writer: "b", count: 1 },
    ]);
    for (const count of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53]) expect(one.raise("a", count)).toBe(false);
    for (const writer of ["", "ä".repeat(65), "x".repeat(129)]) expect(new VersionVector().raise(writer, 1)).toBe(false);
  });

  test("VV4 a vector comes back from its bytes, and no other bytes are read", () => {
    fc.assert(
      fc.property(vector, fc.nat(), fc.integer({ min: 0, max: 255 }), (one, at, byte) => {
        const bytes = one.encode();
        expect(VersionVector.decode(bytes).counts()).toEqual(one.counts());
        const changed = Uint8Array.from(bytes);
        if (bytes.length > 0) changed[at % bytes.length] = byte;
        let read: VersionVector | undefined;
        try {
          read = VersionVector.decode(changed);
        } catch {
          return;
        }
        expect(compareBytes(read.encode(), changed)).toBe(0);
      }),
    );
    const entry = (writer: string, count: number) => (inner: ProtoWriter) => inner.text(1, writer).uint(2, count);
    const hostile: readonly (readonly [string, Uint8Array])[] = [
      ["unsorted", new ProtoWriter().message(1, entry("b", 1)).message(1, entry("a", 1)).finish()],
      ["twice", new ProtoWriter().message(1, entry("a", 1)).message(1, entry("a", 2)).finish()],
      ["no count", new ProtoWriter().message(1, entry("a", 0)).finish()],
      ["no writer", new ProtoWriter().message(1, entry("", 1)).finish()],
      ["unknown field", new ProtoWriter().message(1, entry("a", 1)).uint(2, 1).finish()],
      ["cut", new ProtoWriter().message(1, entry("a", 1)).finish().subarray(0, 4)],
    ];
    for (const [name, bytes] of hostile) expect(() => VersionVector.decode(bytes), name).toThrow();
    expect(() =>
      VersionVector.decode(
        new VersionVector(
          3,
          WRITERS.slice(0, 3).map((writer) => ({ writer, count: 1 })),
        ).encode(),
        2,
      ),
    ).toThrow("one too many");
  });
});
