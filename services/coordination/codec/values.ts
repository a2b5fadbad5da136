import { create } from "@bufbuild/protobuf";
import {
  AgreedValueSchema,
  type ValueCommand as CommandProto,
  type AgreedValue as ValueProto,
} from "#gen/foedus/coordination/v1alpha1/values_pb.ts";
import type { AgreedValue, ValueCommand } from "../values/messages.ts";

/** valueCommandFromProto takes the change of a value from a request. */
export function valueCommandFromProto({ change }: CommandProto): ValueCommand {
  const { key, conditional, expect } = change.value ?? { key: "", conditional: false, expect: 0n };
  const condition = { key, conditional, expect: Number(expect) };
  return change.case === "put" ? { kind: "put", ...condition, value: change.value.value } : { kind: "delete", ...condition };
}

/** valueToProto gives an agreed value to a caller. */
export function valueToProto({ key, value, version, author }: AgreedValue): ValueProto {
  return create(AgreedValueSchema, { key, value, version: BigInt(version), author });
}
