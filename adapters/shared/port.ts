import type { ExecutorAnswer, ExecutorTask, NodeInit, SetValue } from "../../clients/typescript/index.ts";

/** Counts are what an adapter did, and refused, by words of its own. */
export type Counts = Readonly<Record<string, number>>;

/** HubSide is what an adapter tells its hub: which nodes there are, and how they are. */
export interface HubSide {
  /** put adds a node, or replaces what was said of it. */
  put(node: NodeInit): void;
  /** remove takes a node away. */
  remove(nodeId: string): void;
  /** set tells a value of a node. Only the newest of each key is kept while the hub does not take it. */
  set(nodeId: string, key: string, value: SetValue): void;
}

/** Refused is something from outside that an adapter did not take. */
export interface Refused {
  /** What it is about, such as a topic: text of others. */
  readonly about: string;
  /** Why: one sentence of this program, which may name what it is about. */
  readonly why: string;
}

/** OnRefused is told what was not taken. */
export type OnRefused = (refused: Refused) => void;

/** RunTask answers a command that somebody gave to a node of an adapter. */
export type RunTask = (task: ExecutorTask) => ExecutorAnswer | Promise<ExecutorAnswer>;

/** Adapter is what the command line and the compliance suite know of each adapter. */
export interface Adapter {
  /** start connects both sides; it resolves at once, and what cannot be reached is tried again. */
  start(): void;
  /** status is how it fares, for whoever supervises it. */
  status(): AdapterStatus;
  /** stop tells the hub that its nodes are not known to be as they were, and ends. */
  stop(): Promise<void>;
}

/** AdapterStatus is how an adapter fares. */
export interface AdapterStatus {
  /** Whether the hub, and what is on the other side, are reached. */
  readonly hub: boolean;
  readonly other: boolean;
  readonly nodes: number;
  readonly counts: Counts;
  /** What is wrong, one sentence; empty if nothing is. */
  readonly problem: string;
}
