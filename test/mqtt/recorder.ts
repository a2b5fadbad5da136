// What a mapping does, as lines: for tables and transcripts.

import type { Delivery } from "../../adapters/mqtt/broker.ts";
import type { Out } from "../../adapters/mqtt/mapping.ts";
import type { Refused } from "../../adapters/shared/port.ts";
import type { NodeInit, SetValue } from "../../clients/typescript/index.ts";

/** Recorder keeps what a mapping did, and what its nodes are by then. */
export class Recorder implements Out {
  readonly nodes = new Map<string, NodeInit>();
  readonly values = new Map<string, SetValue>();
  readonly topics = new Set<string>();
  readonly published: { readonly topic: string; readonly payload: string; readonly delivery: Delivery }[] = [];
  readonly refusals: Refused[] = [];
  /** False: the broker does not take what is published. */
  takes = true;

  put(node: NodeInit): void {
    this.nodes.set(node.nodeId ?? "", node);
  }

  remove(nodeId: string): void {
    this.nodes.delete(nodeId);
    for (const key of [...this.values.keys()]) if (key.startsWith(`${nodeId} `)) this.values.delete(key);
  }

  set(nodeId: string, key: string, value: SetValue): void {
    this.values.set(`${nodeId} ${key}`, value);
  }

  publish(topic: string, payload: string, delivery: Delivery, done?: (taken: boolean) => void): void {
    if (this.takes) this.published.push({ topic, payload, delivery });
    done?.(this.takes);
  }

  subscribe(topics: readonly string[]): void {
    for (const topic of topics) this.topics.add(topic);
  }

  unsubscribe(topics: readonly string[]): void {
    for (const topic of topics) this.topics.delete(topic);
  }

  readonly refused = (refused: Refused): void => {
    this.refusals.push(refused);
  };

  /** capabilities are those of a node, as `name TYPE rw unit min..max step [allowed]`. */
  capabilities(nodeId: string): string[] {
    const types = ["NONE", "BOOL", "SINT64", "DOUBLE", "STRING", "BYTES", "JSON"];
    return (this.nodes.get(nodeId)?.capabilities ?? [])
      .filter(({ name = "" }) => !name.startsWith("source:"))
      .map(({ name, type = 0, unit = "", readable, invocable, min, max, step, allowed = [] }) => {
        const range = min === undefined && max === undefined ? "" : `${min ?? ""}..${max ?? ""}`;
        const parts = [name, types[type], `${readable === true ? "r" : ""}${invocable === true ? "w" : ""}`, unit, range];
        return [...parts, step === undefined ? "" : `/${step}`, allowed.length === 0 ? "" : `[${allowed.join(",")}]`]
          .filter((part) => part !== "")
          .join(" ");
      });
  }
}
