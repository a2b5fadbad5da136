import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Node } from "#gen/foedus/common/v1/node_pb.ts";
import { type Value, ValueSchema } from "#gen/foedus/common/v1/value_pb.ts";
import type { NodeInit } from "../../clients/typescript/registry-client.ts";
import { type RegistrySyncConfig, registrySyncConfig } from "../../services/registry-sync/index.ts";
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

/** nodeOf makes a node. */
export function nodeOf(spec: NodeSpec): NodeInit {
  const states = STATE_KEYS.map(({ name, type }) => ({ name, type, readable: true }));
  const commands = INVOCABLE.map((name) => ({ name, type: VALUE_TYPE.STRING, invocable: true, idempotent: name === "set" }));
  return {
    nodeId: spec.nodeId,
    kind: 1,
    type: "sim",
    name: String(spec.version),
    labels: { area: spec.area },
    capabilities: [...states, ...commands],
  };
}

/** versionOf is the number of the registration that made a node. */
export function versionOf(node: Node): number {
  return Number(node.name);
}

/** areaOf is the label by which shares choose. */
export function areaOf(node: Node): string {
  return node.labels["area"] ?? "";
}

/** valueText writes a value for comparison. */
export function valueText(value: Value | undefined): string {
  return String(value?.kind.value);
}

/** rankOf is the place of a value in the order in which its hub got all values of the run; undefined for one that does not tell. */
export function rankOf(key: string, text: string): number | undefined {
  if (key === "on") return undefined;
  return Math.floor(Number(/[\d.]+$/.exec(text)?.[0]));
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

const LIMITED_KEYS = ["temp", "count", "text", "on", ...INVOCABLE];
const configs = new Map<string, RegistrySyncConfig>();

/** What import rules keep out, by version. */
const KEPT_OUT: readonly (readonly string[])[] = [[], ["private"], ["private", "garden"]];

/** IMPORT_VERSIONS is how many versions of rules there are for what is taken in; the first are none. */
export const IMPORT_VERSIONS = KEPT_OUT.length;

const keptOut = (imports: number): readonly string[] => KEPT_OUT[imports] ?? [];

/**
 * configOf is the configuration of a hub's registry: the limited share in one of two versions, between which it changes, and rules for what
 * is taken in of peers in one of three.
 */
export function configOf(rules: number, imports: number): RegistrySyncConfig {
  const name = `${rules} ${imports}`;
  const areas = rules === 1 ? ["public", "garden"] : ["public"];
  const config =
    configs.get(name) ??
    registrySyncConfig.parse({
      shares: { limited: { nodes: areas.map((area) => ({ labels: { area } })), keys: LIMITED_KEYS, invoke: ["do", "set"] } },
      ...(imports > 0 ? { imports: { nodes: [...keptOut(imports).map((area) => ({ labels: { area }, allow: false })), "*"] } } : {}),
    });
  configs.set(name, config);
  return config;
}

/** RULE_VERSIONS is how many versions the limited share has. */
export const RULE_VERSIONS = 2;

/** takes: what a hub with import rules takes in of its peers' nodes, in the checkers' own words. */
export function takes(imports: number, area: string): boolean {
  return !keptOut(imports).includes(area);
}

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
