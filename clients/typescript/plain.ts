import { create } from "@bufbuild/protobuf";
import type { Capability } from "#gen/foedus/common/v1/node_pb.ts";
import { type Value, ValueSchema } from "#gen/foedus/common/v1/value_pb.ts";
import type { Failure } from "#kernel/error.ts";
import { valueBytes } from "../../services/command-forwarding/codec/codec.ts";
import { checkValue } from "../../services/command-forwarding/codec/value.ts";

/** PlainValue is a value in JavaScript: number is a double, bigint a signed 64-bit integer, `json` is JSON text. */
export type PlainValue = boolean | number | bigint | string | Uint8Array | { readonly json: string };

/** plainOf reads a Value; undefined for "no value". */
export function plainOf(value: Value | undefined): PlainValue | undefined {
  const kind = value?.kind;
  if (kind?.case === undefined) return undefined;
  return kind.case === "jsonValue" ? { json: kind.value } : kind.value;
}

/** valueOfPlain writes a Value. */
export function valueOfPlain(plain: PlainValue | undefined): Value | undefined {
  if (plain === undefined) return undefined;
  const make = (kind: Value["kind"]): Value => create(ValueSchema, { kind });
  switch (typeof plain) {
    case "boolean":
      return make({ case: "boolValue", value: plain });
    case "number":
      return make({ case: "doubleValue", value: plain });
    case "bigint":
      return make({ case: "intValue", value: plain });
    case "string":
      return make({ case: "stringValue", value: plain });
    default:
      return make(plain instanceof Uint8Array ? { case: "bytesValue", value: plain } : { case: "jsonValue", value: plain.json });
  }
}

/** valueProblem says why a hub would refuse a value for a capability, in the hub's own words; undefined if it would not. Nothing is called. */
export function valueProblem(capability: Capability, value: PlainValue | undefined): Failure | undefined {
  const { name, type, idempotent, invocable, readable, min, max, step, allowed } = capability;
  return checkValue({ name, type, idempotent, invocable, readable, min, max, step, allowed }, valueBytes(valueOfPlain(value)));
}
