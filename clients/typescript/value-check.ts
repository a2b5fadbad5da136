import type { Capability } from "#gen/foedus/common/v1/node_pb.ts";
import type { Failure } from "#kernel/error.ts";
import { valueBytes } from "../../services/command-forwarding/codec/codec.ts";
import { checkValue } from "../../services/command-forwarding/codec/value.ts";
import { type PlainValue, valueOfPlain } from "./plain.ts";

/** valueProblem says why a hub would refuse a value for a capability, in the hub's own words; undefined if it would not. Nothing is called. */
export function valueProblem(capability: Capability, value: PlainValue | undefined): Failure | undefined {
  const { name, type, idempotent, invocable, readable, min, max, step, allowed } = capability;
  return checkValue({ name, type, idempotent, invocable, readable, min, max, step, allowed }, valueBytes(valueOfPlain(value)));
}
