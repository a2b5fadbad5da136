import type { SegmentItem } from "../feed/segment.ts";
import type { Block, SegmentCodec, UpdateBatch } from "../ports.ts";
import type { ImageValue, NodeImage } from "./table.ts";

/** Veil hides what segments have changed in a table: it shows the values of before, as far as older segments say them, and nothing else. */
export class Veil {
  readonly #codec: SegmentCodec;
  /** Nodes that came, were changed or went. */
  readonly #nodes = new Set<number>();
  /** Values of before by node and key; undefined while none was found. */
  readonly #values = new Map<number, Map<number, ImageValue | undefined>>();
  readonly #online = new Map<number, boolean>();
  /** Values that are looked for, and those that cannot be found any more. */
  #sought = 0;
  #lost = 0;
  /** What a segment changed that is gone is not known: nothing is shown. */
  readonly #blind: boolean;

  constructor(codec: SegmentCodec, items: readonly (SegmentItem | undefined)[]) {
    this.#codec = codec;
    this.#blind = items.includes(undefined);
    for (const item of items) if (item !== undefined) for (const block of codec.decodePayload(item.payload) ?? []) this.#hide(block);
    for (const ref of this.#nodes) this.#giveUp(ref);
  }

  /** complete: what is shown is all there was. */
  get complete(): boolean {
    return !this.#blind && this.#sought === 0 && this.#lost === 0 && this.#nodes.size === 0;
  }

  #hide(block: Block): void {
    if (block.kind === "node_put" || block.kind === "node_del") this.#nodes.add(block.ref);
    else if (block.kind === "presence") {
      // What was changed first was the opposite before.
      for (const ref of block.online) if (!this.#online.has(ref)) this.#online.set(ref, false);
      for (const ref of block.offline) if (!this.#online.has(ref)) this.#online.set(ref, true);
    } else if (block.kind === "state") {
      const { ref, key, count } = block.batch;
      for (let i = 0; i < count; i++) {
        const values = this.#values.get(ref[i] as number) ?? new Map();
        this.#values.set(ref[i] as number, values);
        if (values.has(key[i])) continue;
        values.set(key[i], undefined);
        this.#sought++;
      }
    }
  }

  /** seek takes the values of before from a segment; it is called with one segment after the other, backwards. */
  seek(item: SegmentItem): void {
    if (this.#sought === 0) return;
    for (const block of this.#codec.decodePayload(item.payload)?.reverse() ?? []) {
      if (block.kind === "state") this.#take(block.batch);
      // What was there before that may have been another capability's.
      else if (block.kind === "node_put" || block.kind === "node_del") this.#giveUp(block.ref);
    }
  }

  #take(batch: UpdateBatch): void {
    const fixed = batch.numCount + batch.intCount;
    let end = batch.data.length;
    for (let i = batch.count - 1; i >= 0; i--) {
      const start = i < fixed ? end : end - (batch.len[i - fixed] as number);
      const kref = batch.key[i] as number;
      const values = this.#values.get(batch.ref[i] as number);
      if (values?.has(kref) === true && values.get(kref) === undefined && !this.#nodes.has(batch.ref[i] as number)) {
        const section = i < batch.numCount ? 0 : i < fixed ? 1 : 2;
        const text = section === 2 ? batch.data.subarray(start, end) : undefined;
        values.set(kref, { kref, section, low: batch.bits[2 * i] ?? 0, high: batch.bits[2 * i + 1] ?? 0, text });
        this.#sought--;
      }
      end = start;
    }
  }

  /** giveUp looks no further for the values of a node. */
  #giveUp(ref: number): void {
    const values = this.#values.get(ref);
    if (values === undefined) return;
    for (const [kref, value] of values) {
      if (value !== undefined) continue;
      // Nothing is shown in its place.
      values.set(kref, NOTHING);
      this.#sought--;
      this.#lost++;
    }
  }

  /** see is a node as it was before; undefined if that is not known. */
  see(image: NodeImage): NodeImage | undefined {
    const { ref } = image.entry;
    if (this.#blind || this.#nodes.has(ref)) return undefined;
    const before = this.#values.get(ref);
    const online = this.#online.get(ref) ?? image.online;
    if (before === undefined) return online === image.online ? image : { ...image, online };
    const values = image.values.flatMap((value) => {
      if (!before.has(value.kref)) return [value];
      const old = before.get(value.kref);
      return old === undefined || old === NOTHING ? [] : [old];
    });
    return { ...image, online, values };
  }
}

const NOTHING: ImageValue = { kref: -1, section: 0, low: 0, high: 0, text: undefined };
