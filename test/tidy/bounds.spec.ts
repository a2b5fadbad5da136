import { type DescField, type DescMessage, getOption, hasOption, ScalarType } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { type FieldRules, field as rulesOption } from "#gen/buf/validate/validate_pb.ts";
import {
  FeedKeyStatementSchema,
  SegmentHeaderSchema,
  SegmentPayloadSchema,
  SnapshotManifestSchema,
} from "#gen/foedus/registry_sync/segment/v1/segment_pb.ts";
import { SERVICES } from "./schema.ts";

const WIDE: ReadonlySet<ScalarType | undefined> = new Set([
  ScalarType.INT64,
  ScalarType.UINT64,
  ScalarType.SINT64,
  ScalarType.FIXED64,
  ScalarType.SFIXED64,
]);

/** Fields of 64 bits that take every number: values of users, which are kept as they are, and a bound that is only compared with. */
const ANY = [
  "foedus.common.v1.Value.int_value",
  "foedus.registry_sync.segment.v1.StateBlock.int",
  "foedus.registry_sync.v1alpha1.GetNodeRequest.max_staleness_ms",
];

function everyMessage(): DescMessage[] {
  const seen = new Set<DescMessage>();
  const visit = (desc: DescMessage): void => {
    if (seen.has(desc) || !desc.typeName.startsWith("foedus.")) return;
    seen.add(desc);
    for (const field of desc.fields) if (field.message !== undefined) visit(field.message);
  };
  for (const { methods } of SERVICES) for (const { input, output } of methods) for (const desc of [input, output]) visit(desc);
  for (const desc of [SegmentHeaderSchema, SegmentPayloadSchema, SnapshotManifestSchema, FeedKeyStatementSchema]) visit(desc);
  return [...seen];
}

function bounded(field: DescField): boolean {
  const rules = hasOption(field, rulesOption) ? getOption(field, rulesOption) : undefined;
  const { type } = (rules?.type.case === "repeated" ? (rules.type.value.items as FieldRules | undefined) : rules) ?? {};
  switch (type?.case) {
    case "uint64":
      return type.value.lt !== undefined || type.value.lte !== undefined;
    case "fixed64":
      return type.value.lt !== undefined;
    case "int64":
      return (type.value.lt !== undefined || type.value.lte !== undefined) && type.value.gte !== undefined;
    default:
      return false;
  }
}

test("F-1 F-3 every number of 64 bits in the schema has a bound below 2^53, or is known to take any", () => {
  const wide = everyMessage()
    .flatMap(({ fields }) => fields)
    .filter((field) => WIDE.has(field.scalar));
  expect(wide.length).toBeGreaterThan(60);
  const open = wide.filter((field) => !bounded(field)).map((field) => `${field.parent.typeName}.${field.name}`);
  expect(open.sort()).toEqual(ANY);
});
