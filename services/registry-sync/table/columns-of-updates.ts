import type { Failure } from "#kernel/error.ts";
import { concat, utf8 } from "../codec/wire.ts";
import type { NamedUpdate, Scalar } from "../messages.ts";
import type { Columns, SegmentCodec } from "../ports.ts";
import { failure } from "../world.ts";
import { type FeedTable, SECTION } from "./table.ts";

const view = new DataView(new ArrayBuffer(8));

/** columnsOfUpdates turns updates by name into columns. `order` leads from the index of a change back to that of the update. */
export function columnsOfUpdates(
  table: FeedTable,
  codec: Pick<SegmentCodec, "readNode">,
  updates: readonly NamedUpdate[],
): { readonly columns: Columns; readonly order: readonly number[] } | { readonly failure: Failure; readonly index: number } {
  const sections: { readonly index: number; readonly ref: number; readonly kref: number; readonly value: Scalar }[][] = [[], [], []];
  for (let index = 0; index < updates.length; index++) {
    const { nodeId, key, value, type } = updates[index] as NamedUpdate;
    const entry = table.byId(nodeId);
    if (entry === undefined)
      return { index, failure: failure("NODE_NOT_FOUND", "register the node before its state is reported", { node: nodeId }) };
    const section = SECTION[type];
    if (value === undefined || section === undefined || section === 3)
      return { index, failure: failure("INVALID_FIELD", "the change has no value", { node: nodeId, key }) };
    const kref = table.kref(key, type);
    if (kref === undefined || !entry.krefs.includes(kref)) {
      const typed = codec.readNode(entry.bytes)?.capabilities.find((capability) => capability.name === key);
      if (typed === undefined)
        return { index, failure: failure("CAPABILITY_NOT_FOUND", "the node has no such capability", { node: nodeId, key }) };
      return { index, failure: failure("INVALID_FIELD", "the value has another type than the capability", { node: nodeId, key }) };
    }
    (sections[section] as unknown[]).push({ index, ref: entry.ref, kref, value });
  }
  const [nums, ints, texts] = sections as [(typeof sections)[0], (typeof sections)[0], (typeof sections)[0]];
  const all = [...nums, ...ints, ...texts];
  const fixed = nums.length + ints.length;
  const bits = new Uint32Array(2 * fixed);
  for (let i = 0; i < fixed; i++) {
    const { value } = all[i] as { value: Scalar };
    if (i < nums.length) view.setFloat64(0, Number(value), true);
    else view.setBigInt64(0, BigInt(value as bigint), true);
    bits[2 * i] = view.getUint32(0, true);
    bits[2 * i + 1] = view.getUint32(4, true);
  }
  const bytes = texts.map(({ value }) => (typeof value === "string" ? utf8(value) : (value as Uint8Array)));
  const columns: Columns = {
    count: all.length,
    numCount: nums.length,
    intCount: ints.length,
    ref: Uint32Array.from(all, (item) => item.ref),
    key: Uint32Array.from(all, (item) => item.kref),
    bits,
    len: Uint32Array.from(bytes, (item) => item.length),
    data: concat(bytes),
  };
  return { columns, order: all.map((item) => item.index) };
}
