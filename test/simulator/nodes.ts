import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { CapabilitySchema, type Node, NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ValueSchema } from "#gen/foedus/common/v1/value_pb.ts";
import type { CapabilityInfo } from "../../services/command-forwarding/messages.ts";
import type { NodeRule, ShareRules } from "../../services/registry-sync/messages.ts";
import { VALUE_TYPE } from "../../services/registry-sync/ports.ts";

/** AREAS are the labels by which the limited share chooses. */
export const AREAS = ["public", "garden", "private"] as const;

/** Keys that nodes report, with their types. `secret` is hidden by the limited share. */
export const STATE_KEYS = [
  { name: "temp", type: VALUE_TYPE.DOUBLE },
  { name: "count", type: VALUE_TYPE.SINT64 },
  { name: "text", type: VALUE_TYPE.STRING },
  { name: "on", type: VALUE_TYPE.BOOL },
  { name: "secret", type: VALUE_TYPE.STRING },
] as const;

/** Capabilities that can be invoked. Running `set` twice has the effect of once; `lock` may be invoked by full peers only. */
export const INVOCABLE = ["do", "set", "lock"] as const;

/** NodeSpec is what a node is made of; `version` counts the registrations of its id, and travels as its name. */
export interface NodeSpec {
  readonly nodeId: string;
  readonly version: number;
  readonly area: string;
}

/** encodeNode makes the bytes of a node. */
export function encodeNode(spec: NodeSpec): Uint8Array {
  const states = STATE_KEYS.map(({ name, type }) => create(CapabilitySchema, { name, type, readable: true }));
  const commands = INVOCABLE.map((name) =>
    create(CapabilitySchema, { name, type: VALUE_TYPE.STRING, invocable: true, idempotent: name === "set" }),
  );
  const node = create(NodeSchema, {
    nodeId: spec.nodeId,
    kind: 1,
    type: "sim",
    name: String(spec.version),
    labels: { area: spec.area },
    capabilities: [...states, ...commands],
  });
  return toBinary(NodeSchema, node);
}

const decoded = new WeakMap<Uint8Array, Node>();

/** decodeNode reads a node again. */
export function decodeNode(bytes: Uint8Array): Node {
  const node = decoded.get(bytes) ?? fromBinary(NodeSchema, bytes);
  decoded.set(bytes, node);
  return node;
}

/** versionOf is the number of the registration that made a node. */
export function versionOf(bytes: Uint8Array): number {
  return Number(decodeNode(bytes).name);
}

/** capabilitiesOf is what routing needs of a node. */
export function capabilitiesOf(bytes: Uint8Array): CapabilityInfo[] {
  return decodeNode(bytes).capabilities.map(({ name, type, invocable, readable, idempotent, min, max, step, allowed }) => ({
    name,
    type,
    invocable,
    readable,
    idempotent,
    min,
    max,
    step,
    allowed,
  }));
}

/** stringValue is an encoded Value with a text. */
export function stringValue(text: string): Uint8Array {
  return toBinary(ValueSchema, create(ValueSchema, { kind: { case: "stringValue", value: text } }));
}

/** textIn reads what `stringValue` wrote. */
export function textIn(value: Uint8Array): string {
  const { kind } = fromBinary(ValueSchema, value);
  return kind.case === "stringValue" ? kind.value : "";
}

function allow(area: string): NodeRule {
  return {
    ids: [],
    types: [],
    kind: 0,
    labels: { area },
    allow: true,
    capabilities: ["temp", "count", "text", "on", ...INVOCABLE],
    invoke: ["do", "set"],
  };
}

/** LIMITED_RULES are the two versions between which the limited share changes. */
export const LIMITED_RULES: readonly ShareRules[] = [
  { name: "limited", rules: [allow("public")] },
  { name: "limited", rules: [allow("public"), allow("garden")] },
];

/** shows is the same in few words, written again: what a share must show of a node. It is the checkers' own opinion. */
export function shows(share: string, rules: number, area: string): boolean {
  return share === "full" || area === "public" || (rules === 1 && area === "garden");
}

/** showsKey: the limited share hides one key. */
export function showsKey(share: string, key: string): boolean {
  return share === "full" || key !== "secret";
}

/** mayInvoke: the limited share lets peers invoke two of three. */
export function mayInvoke(share: string, capability: string): boolean {
  return share === "full" || capability === "do" || capability === "set";
}
