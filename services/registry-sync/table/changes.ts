import type { NodeName } from "#kernel/node-name.ts";
import type { BatchNames, Scalar } from "../messages.ts";
import type { UpdateBatch, ValueType } from "../ports.ts";
import { scalarOf } from "./table.ts";

/** StateChange is one change of one key, by name. */
export interface StateChange extends NodeName {
  readonly key: string;
  readonly type: ValueType;
  readonly value: Scalar;
}

/** changesOf takes a batch apart. Changes of nodes or keys that are not known any more are left out. */
export function* changesOf(hubId: string, batch: UpdateBatch, names: BatchNames): Generator<StateChange> {
  const fixed = batch.numCount + batch.intCount;
  let at = 0;
  for (let i = 0; i < batch.count; i++) {
    const length = i < fixed ? 0 : (batch.len[i - fixed] as number);
    const text = i < fixed ? undefined : batch.data.subarray(at, at + length);
    at += length;
    const nodeId = names.named(batch.ref[i] as number)?.info.nodeId;
    const key = names.key(batch.key[i] as number);
    if (nodeId === undefined || key === undefined) continue;
    const [low, high] = i < fixed ? [batch.bits[2 * i] as number, batch.bits[2 * i + 1] as number] : [0, 0];
    const { type, value } = scalarOf({ kref: batch.key[i] as number, name: key.name, type: key.type }, low, high, text);
    yield { hubId, nodeId, key: key.name, type, value };
  }
}
