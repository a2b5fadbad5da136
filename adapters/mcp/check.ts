import { type PlainValue, valueProblem } from "../../clients/typescript/index.ts";
import type { node as nodes, registrySync } from "../../clients/typescript/schema.ts";
import { checkJson } from "./json-schema.ts";
import { shown, TEXT_MAX } from "./text.ts";
import { type GivenValue, take } from "./values.ts";

/** Checked is a command that was compared with what its node says of itself. */
export interface Checked {
  /** The value as the capability's type has it; undefined for none, or if what was given is no value. */
  readonly value: PlainValue | undefined;
  /** The value does not fit the capability: the command would be refused, or be meaningless to the device. */
  readonly unfit: readonly string[];
  /** Other reasons for which the hub would refuse it now. */
  readonly obstacles: readonly string[];
  /** What was not checked here. */
  readonly unchecked: readonly string[];
}

/** capabilityOf finds a capability of a node. */
export function capabilityOf(record: registrySync.NodeRecord, name: string): nodes.Capability | undefined {
  return record.node?.capabilities.find((one) => one.name === name);
}

/** checkCommand compares a command with its node: no call is made. */
export function checkCommand(record: registrySync.NodeRecord, name: string, given: GivenValue | undefined): Checked {
  const capability = capabilityOf(record, name);
  if (capability === undefined) return { value: undefined, unfit: [missing(record, name)], obstacles: [], unchecked: [] };
  const taken = take(given, capability.type);
  const obstacles = obstaclesOf(record, capability);
  if (taken.problem !== undefined) return { value: undefined, unfit: [taken.problem], obstacles, unchecked: [] };
  const { value } = taken;
  const refused = valueProblem(capability, value);
  if (refused !== undefined) return { value, unfit: [shown(refused.message, TEXT_MAX.sentence)], obstacles, unchecked: [] };
  const json = typeof value === "object" && !(value instanceof Uint8Array) ? value.json : undefined;
  if (json === undefined || capability.schema === "") return { value, unfit: [], obstacles, unchecked: [] };
  const { problems, unchecked } = checkJson(capability.schema, json);
  return {
    value,
    unfit: problems.map((text) => shown(text, TEXT_MAX.name)),
    obstacles,
    unchecked: unchecked.map((word) => shown(`JSON Schema: ${word}`, TEXT_MAX.word)),
  };
}

function missing(record: registrySync.NodeRecord, name: string): string {
  const known = (record.node?.capabilities ?? []).filter(({ invocable }) => invocable).map((one) => shown(one.name, TEXT_MAX.word));
  const can =
    known.length === 0 ? "nothing on it can be run" : `it can run ${known.slice(0, 12).join(", ")}${known.length > 12 ? ", …" : ""}`;
  return `the node has no capability "${shown(name, TEXT_MAX.word)}"; ${can}`;
}

function obstaclesOf(record: registrySync.NodeRecord, capability: nodes.Capability): string[] {
  const found: string[] = [];
  if (!capability.invocable)
    found.push("the capability may not be run from here: it can only be read, or the share of its owner does not let this hub run it");
  if (!record.online) found.push("the node is not online");
  return found;
}
