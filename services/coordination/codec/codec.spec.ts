import { create, type DescField, type DescMessage, fromBinary, getOption, hasOption, ScalarType, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { field as rulesOption } from "#gen/buf/validate/validate_pb.ts";
import {
  BallotCertificateSchema,
  BallotCommandSchema,
  BallotNewsSchema,
  BallotOpeningSchema,
  BallotsDumpSchema,
  ClosingStatementSchema,
  VoteStatementSchema,
} from "#gen/foedus/coordination/v1alpha1/ballots_pb.ts";
import {
  FederationFoundingSchema,
  KeyHistorySchema,
  MemberCommandSchema,
  MemberNewsSchema,
  MembersDumpSchema,
  SignedFoundingSchema,
  TrustedKeysSchema,
} from "#gen/foedus/coordination/v1alpha1/members_pb.ts";
import { decode, encode, type Field, problemOf, type Shape } from "#kernel/wire/shape.ts";
import * as ballots from "../ballots/messages.ts";
import * as members from "../members/messages.ts";

const PAIRS: readonly (readonly [Shape<unknown>, DescMessage])[] = [
  [members.MEMBER_COMMAND, MemberCommandSchema],
  [members.MEMBER_NEWS, MemberNewsSchema],
  [members.MEMBERS_DUMP, MembersDumpSchema],
  [members.FOUNDING, FederationFoundingSchema],
  [members.SIGNED_FOUNDING, SignedFoundingSchema],
  [members.TRUSTED_KEYS, TrustedKeysSchema],
  [members.KEY_HISTORY, KeyHistorySchema],
  [ballots.BALLOT_COMMAND, BallotCommandSchema],
  [ballots.BALLOT_NEWS, BallotNewsSchema],
  [ballots.BALLOTS_DUMP, BallotsDumpSchema],
  [ballots.OPENING, BallotOpeningSchema],
  [ballots.VOTE_STATEMENT, VoteStatementSchema],
  [ballots.CLOSING_STATEMENT, ClosingStatementSchema],
  [ballots.CERTIFICATE, BallotCertificateSchema],
];

const SCALARS: Readonly<Record<string, readonly (ScalarType | undefined)[]>> = {
  uint: [ScalarType.UINT32, ScalarType.UINT64],
  text: [ScalarType.STRING],
  bytes: [ScalarType.BYTES],
  flag: [ScalarType.BOOL],
  word: [undefined],
  message: [undefined],
};

/** boundOf is the largest number, or the most bytes, that the schema allows in a field. */
function boundOf(field: DescField): number | undefined {
  if (!hasOption(field, rulesOption)) return undefined;
  const { type } = getOption(field, rulesOption);
  const rules = type.case === "repeated" ? type.value.items?.type : type;
  if (rules?.case === "uint32" || rules?.case === "uint64") return Number(rules.value.lte);
  if (rules?.case === "string") return Number(rules.value.maxBytes);
  return rules?.case === "bytes" ? Number(rules.value.maxLen) : undefined;
}

function itemsOf(field: DescField): number | undefined {
  if (field.fieldKind !== "list" || !hasOption(field, rulesOption)) return undefined;
  const { type } = getOption(field, rulesOption);
  return type.case === "repeated" ? Number(type.value.maxItems) : undefined;
}

/** differences between a shape and the schema that describes it. */
function differences(shape: Shape<unknown>, desc: DescMessage, seen: Set<Shape<unknown>>): string[] {
  if (seen.has(shape)) return [];
  seen.add(shape);
  const numbers = Object.values(shape.fields).map(({ no }) => no);
  const wrong = numbers.every((no, i) => i === 0 || no > (numbers[i - 1] as number)) ? [] : [`${desc.name}: not in order`];
  if (desc.fields.length !== numbers.length) wrong.push(`${desc.name}: ${desc.fields.length} fields`);
  if (shape.choice !== (desc.oneofs.length === 1)) wrong.push(`${desc.name}: choice`);
  for (const [name, field] of Object.entries(shape.fields)) {
    const other = desc.fields.find(({ number }) => number === field.no);
    const where = `${desc.name}.${name}`;
    if (other === undefined) wrong.push(`${where}: missing`);
    else wrong.push(...differencesOf(field, name, other, where), ...(field.shape ? differences(field.shape, messageOf(other), seen) : []));
  }
  return wrong;
}

function messageOf(field: DescField): DescMessage {
  if (field.message === undefined) throw new Error(`${field.name} is no message`);
  return field.message;
}

function differencesOf(field: Field<unknown>, name: string, other: DescField, where: string): string[] {
  const wrong: string[] = [];
  if (other.name.replaceAll("_", "") !== name.toLowerCase().replaceAll("_", "")) wrong.push(`${where}: is called ${other.name}`);
  const scalar = other.fieldKind === "enum" || other.fieldKind === "message" ? undefined : other.scalar;
  if (!SCALARS[field.kind]?.includes(scalar)) wrong.push(`${where}: type`);
  if ((field.kind === "message") !== (other.message !== undefined)) wrong.push(`${where}: message`);
  if ((field.items !== undefined) !== (other.fieldKind === "list")) wrong.push(`${where}: list`);
  if (field.items !== itemsOf(other)) wrong.push(`${where}: at most ${itemsOf(other)} items`);
  if (["uint", "text", "bytes"].includes(field.kind) && boundOf(other) !== field.max) wrong.push(`${where}: bound ${boundOf(other)}`);
  const words = other.enum?.values.slice(1).map((value) => [value.number, value.localName] as const);
  if (field.words !== undefined && words?.some(([no, word]) => no !== field.words!.findIndex((one) => one.toUpperCase() === word) + 1))
    wrong.push(`${where}: words`);
  return wrong;
}

/** anyOf makes values of a shape, as small lists of everything. */
function anyOf(shape: Shape<unknown>): fc.Arbitrary<unknown> {
  if (shape.choice)
    return fc.oneof(
      ...Object.entries(shape.fields).map(([kind, field]) =>
        anyOf(field.shape as Shape<unknown>).map((value) => ({ kind, ...(value as object) })),
      ),
    );
  return fc.record(Object.fromEntries(Object.entries(shape.fields).map(([name, field]) => [name, anyField(field)])));
}

function anyField(field: Field<unknown>): fc.Arbitrary<unknown> {
  const least = [0, 1, 2].find((value) => field.check(value, "") === undefined) ?? 0;
  const exact = [32, 64].find(
    (length) => field.check(new Uint8Array(length), "") === undefined && field.check(new Uint8Array(3), "") !== undefined,
  );
  const single = (): fc.Arbitrary<unknown> => {
    switch (field.kind) {
      case "uint":
        return fc.integer({ min: least, max: field.max });
      case "text":
        return fc.constantFrom("", "a", "hub-1", "réseau \u{1f331}", "\ufeffa");
      case "bytes":
        return fc.uint8Array({ minLength: exact ?? 0, maxLength: exact ?? Math.min(field.max, 8) });
      case "flag":
        return fc.boolean();
      case "word":
        return fc.constantFrom(...(field.words as string[]));
      case "message":
        return anyOf(field.shape as Shape<unknown>);
    }
  };
  const one = field.items === undefined ? single() : fc.array(single(), { maxLength: Math.min(3, field.items) });
  const mayBeMissing = field.items === undefined && field.check(undefined, "") === undefined;
  return (mayBeMissing ? fc.option(one, { nil: undefined }) : one).filter((value) => field.check(value, "") === undefined);
}

describe("what is kept by a log is what the schema says", () => {
  test("WS1 shapes and schema have the same fields, numbers, types, words and bounds", () => {
    const seen = new Set<Shape<unknown>>();
    expect(PAIRS.flatMap(([shape, desc]) => differences(shape, desc, seen))).toEqual([]);
    expect(seen.size).toBeGreaterThan(60);
  });

  test.each(PAIRS)("WS1 WS2 BK3 values of %# read back alike, and the generated code writes the same bytes", (shape, desc) => {
    fc.assert(
      fc.property(anyOf(shape), (value) => {
        expect(problemOf(shape, value)).toBeUndefined();
        const bytes = encode(shape, value);
        expect(decode(shape, bytes)).toEqual({ ok: true, value });
        expect(toBinary(desc, create(desc, fromBinary(desc, bytes)))).toEqual(bytes);
      }),
      { numRuns: 60 },
    );
  });
});
