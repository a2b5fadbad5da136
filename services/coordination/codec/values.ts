import { create } from "@bufbuild/protobuf";
import {
  AgreedValueSchema,
  type ValueCommand as CommandProto,
  type AgreedValue as ValueProto,
} from "#gen/foedus/coordination/v1alpha1/values_pb.ts";
import { fail } from "#kernel/error.ts";
import type { AgreedValue, ValueCommand } from "../values/messages.ts";

/** valueCommandFromProto takes the change of a value from a request. Errors: INVALID_FIELD for none. */
export function valueCommandFromProto({ change }: CommandProto): ValueCommand {
  if (change.case === undefined)
    throw fail("INVALID_FIELD", "a change sets a value or deletes it: set one of the two", { field: "change" });
  const { key, conditional, expect } = change.value;
  const condition = { key, conditional, expect: Number(expect) };
  return change.case === "put" ? { kind: "put", ...condition, value: change.value.value } : { kind: "delete", ...condition };
}

/** valueToProto gives an agreed value to a caller. */
export function valueToProto({ key, value, version, author }: AgreedValue): ValueProto {
  return create(AgreedValueSchema, { key, value, version: BigInt(version), author });
}
