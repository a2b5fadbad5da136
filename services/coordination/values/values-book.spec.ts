import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ListValuesResponseSchema } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { valueToProto } from "../codec/values.ts";
import { VALUES, type ValueCommand } from "./messages.ts";
import { ValuesBook } from "./values-book.ts";

const at = (index: number) => ({ index, term: 1, time: 1_000 + index });
const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const put = (key: string, value = "v", more: Partial<ValueCommand> = {}): ValueCommand =>
  ({ kind: "put", key, value: text(value), conditional: false, expect: 0, ...more }) as ValueCommand;
const remove = (key: string, more: Partial<ValueCommand> = {}): ValueCommand =>
  ({ kind: "delete", key, conditional: false, expect: 0, ...more }) as ValueCommand;
const reason = (outcome: ReturnType<ValuesBook["apply"]>): string => (outcome.ok ? "ok" : outcome.failure.reason);

const key = fc.constantFrom("a", "b", "a/b", "A", "a.b", "", " ", "é", "x".repeat(255), "x".repeat(256));
const expectation = fc.record({
  conditional: fc.boolean(),
  expect: fc.oneof(fc.integer({ min: 0, max: 40 }), fc.constantFrom(-1, 0.5, 2 ** 60, Number.NaN)),
});
const command: fc.Arbitrary<ValueCommand> = fc.oneof(
  fc
    .record({
      key,
      value: fc.oneof(fc.uint8Array({ maxLength: 20 }), fc.constant(new Uint8Array(VALUES.valueBytes + 1))),
      condition: expectation,
    })
    .map(({ key: k, value, condition }) => ({ kind: "put", key: k, value, ...condition }) as ValueCommand),
  fc.record({ key, condition: expectation }).map(({ key: k, condition }) => ({ kind: "delete", key: k, ...condition }) as ValueCommand),
);

describe("agreed values", () => {
  test("BK2 a command that is refused changes nothing, and one that is taken does what a map would", () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
        const book = new ValuesBook();
        let revision = 0;
        const model = new Map<string, { value: string; version: number }>();
        for (const [i, one] of commands.entries()) {
          const before = book.dump();
          // Several changes stand in one entry.
          const outcome = book.apply(at(1 + (i >> 2)), "h", one);
          if (!outcome.ok) {
            expect(book.dump()).toEqual(before);
            continue;
          }
          const version = model.get(one.key)?.version ?? 0;
          if (one.conditional) expect(one.expect).toBe(version);
          expect(outcome.value).toBeGreaterThan(revision);
          revision = outcome.value;
          if (one.kind === "put") model.set(one.key, { value: Buffer.from(one.value).toString("hex"), version: revision });
          else expect(model.delete(one.key)).toBe(true);
        }
        const now = book.dump().values.map(({ key: k, value, version }) => [k, Buffer.from(value).toString("hex"), version]);
        expect(now).toEqual([...model].sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, { value, version }]) => [k, value, version]));
      }),
    );
  });

  test("BK3 a copy behaves as the original, bounds included", () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 30 }), fc.array(command, { maxLength: 30 }), (before, after) => {
        const [original, copy] = [new ValuesBook(), new ValuesBook()];
        for (const [i, one] of before.entries()) original.apply(at(1 + (i >> 3)), "h", one);
        copy.load(original.dump());
        for (const [i, one] of after.entries())
          expect(copy.apply(at(5 + (i >> 3)), "h", one)).toEqual(original.apply(at(5 + (i >> 3)), "h", one));
        expect(copy.dump()).toEqual(original.dump());
        expect(copy.describe()).toBe(original.describe());
      }),
    );
  });

  test("VB1 a version never comes again, also not after the value was deleted", () => {
    const book = new ValuesBook();
    book.apply(at(1), "h", put("k"));
    book.apply(at(2), "h", remove("k"));
    book.apply(at(3), "h", put("k"));
    expect(reason(book.apply(at(4), "h", put("k", "x", { conditional: true, expect: 1 })))).toBe("VERSION_CONFLICT");
    expect(reason(book.apply(at(5), "h", remove("k", { conditional: true, expect: 3 })))).toBe("ok");
    expect(reason(book.apply(at(6), "h", put("k", "x", { conditional: true, expect: 0 })))).toBe("ok");
  });

  test("VB1 a change that another one in the same entry has overtaken is not what a condition speaks of", () => {
    const book = new ValuesBook();
    const mine = book.apply(at(7), "a", put("k", "mine"));
    book.apply(at(7), "b", put("k", "theirs"));
    const expect7 = mine.ok ? mine.value : 0;
    expect(reason(book.apply(at(8), "a", put("k", "x", { conditional: true, expect: expect7 })))).toBe("VERSION_CONFLICT");
  });

  test("VB2 there is room for so many values, and for so many bytes; what is there can be changed and deleted all the same", () => {
    const book = new ValuesBook();
    for (let i = 0; i < VALUES.count; i++) book.apply(at(i + 1), "h", put(`k${i}`));
    expect(reason(book.apply(at(20_000), "h", put("one-more")))).toBe("LIMIT_EXCEEDED");
    expect(reason(book.apply(at(20_001), "h", put("k1", "other")))).toBe("ok");
    expect(reason(book.apply(at(20_002), "h", remove("k1")))).toBe("ok");
    expect(reason(book.apply(at(20_003), "h", put("one-more")))).toBe("ok");
    const full = new ValuesBook();
    const value = new Uint8Array(VALUES.valueBytes);
    let taken = 0;
    while (full.apply(at(taken + 1), "h", { kind: "put", key: `k${taken}`, value, conditional: false, expect: 0 }).ok) taken++;
    expect(taken).toBe(Math.floor(VALUES.bytes / (VALUES.valueBytes + 4.99)));
    expect(reason(full.apply(at(20_000), "h", put("k0", "small")))).toBe("ok");
  });

  test("a value is a copy: what happens to the bytes of a command afterwards does not", () => {
    const book = new ValuesBook();
    const bytes = text("before");
    book.apply(at(1), "h", { kind: "put", key: "k", value: bytes, conditional: false, expect: 0 });
    bytes.fill(0);
    expect(new TextDecoder().decode(book.get("k")?.value)).toBe("before");
    expect(book.page("k", "").values.map(({ author }) => author)).toEqual(["h"]);
    expect(book.page("z", "").values).toEqual([]);
  });

  test("VB3 a full book is read in pages that fit into messages, each value once and in order", () => {
    for (const bytes of [0, 700, VALUES.valueBytes]) {
      const book = new ValuesBook();
      let taken = 0;
      const value = new Uint8Array(bytes);
      const key = () => `k/${String((taken * 7_919) % 10_007).padStart(5, "0")}`;
      while (book.apply(at(taken + 1), "h", { kind: "put", key: key(), value, conditional: false, expect: 0 }).ok) taken++;
      const read: string[] = [];
      for (let after = "", first = true; first || after !== ""; first = false) {
        const { values, next } = book.page("k/", after);
        const message = toBinary(ListValuesResponseSchema, create(ListValuesResponseSchema, { values: values.map(valueToProto), next }));
        expect(message.length).toBeLessThan(1024 * 1024);
        read.push(...values.map((one) => one.key));
        after = next;
      }
      expect(read).toEqual([...read].sort());
      expect(new Set(read).size).toBe(taken);
      expect(read).toHaveLength(taken);
    }
  });
});
