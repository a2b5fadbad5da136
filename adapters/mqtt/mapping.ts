import type { ExecutorAnswer, ExecutorTask, Failure, NodeInit, PlainValue, SetValue, ValueType } from "../../clients/typescript/index.ts";
import { VALUE_TYPE } from "../../clients/typescript/index.ts";
import type { HubSide, OnRefused } from "../shared/port.ts";
import type { Delivery } from "./broker.ts";

/** CapabilityInit is a capability as it is written in code. */
export type CapabilityInit = Omit<NonNullable<NodeInit["capabilities"]>[number], "$typeName" | "$unknown">;

/** Out is what a mapping does: at the hub, and at the broker. */
export interface Out extends HubSide {
  publish(topic: string, payload: string, delivery: Delivery, done?: (taken: boolean) => void): void;
  subscribe(topics: readonly string[]): void;
  unsubscribe(topics: readonly string[]): void;
  readonly refused: OnRefused;
}

/** Mapping makes nodes of what one kind of program says at the broker. It is pure: times are `mono` ms, and all that it does goes out by `Out`. */
export interface Mapping {
  /** Label of its nodes. */
  readonly source: string;
  /** It has heard of all that is there: a node of its label that it does not know is left from an earlier run. */
  readonly settled: boolean;
  /** connected: the broker is reached. What comes until `synced` is what it had before. */
  connected(now: number): void;
  /** synced: what comes from now on is live. */
  synced(now: number): void;
  disconnected(now: number): void;
  /** take reads a message; false if it is none of its. */
  take(topic: string, payload: Buffer, live: boolean, now: number): boolean;
  /** run answers a command for one of its nodes; undefined if it is none. */
  run(task: MappedTask, now: number): Promise<ExecutorAnswer> | ExecutorAnswer | undefined;
  /** deadline is when `tick` is due, mono ms. */
  deadline(): number;
  tick(now: number): void;
  /** counts are what it has of each. */
  counts(): Readonly<Record<string, number>>;
}

/** MappedTask is what a mapping needs to know of a command. */
export type MappedTask = Pick<ExecutorTask, "nodeId" | "capability" | "value" | "timeoutMs">;

/** refuse answers a command of which nothing was done. */
export function refuse(
  reason: "VALUE_OUT_OF_RANGE" | "CAPABILITY_ACCESS" | "NODE_OFFLINE",
  message: string,
): { readonly failure: Failure } {
  return { failure: { reason, message } };
}

/** plainOf is a state value as the answer to a command has it. */
export function plainOf(type: ValueType, value: SetValue): PlainValue {
  return type === VALUE_TYPE.JSON ? { json: String(value) } : value;
}

/** shortened is a text of others in a sentence of ours. */
export function shortened(text: string): string {
  return text.length <= 120 ? text : `${text.slice(0, 119)}…`;
}
