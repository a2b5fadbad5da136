import type { Columns, SegmentCodec } from "./ports.ts";
import { Payload } from "./segment.ts";
import type { ShareView } from "./share.ts";
import { NO_SLOT } from "./slots.ts";
import { type FeedTable, type KeyEntry, type NodeEntry, type Scan, SECTION } from "./table.ts";

/** Value of one key in an image: two words, or bytes. */
export interface ImageValue {
  readonly kref: number;
  readonly section: number;
  readonly low: number;
  readonly high: number;
  readonly text: Uint8Array | undefined;
}

/** NodeImage is a node with its values at one instant. */
export interface NodeImage {
  readonly entry: NodeEntry;
  readonly online: boolean;
  readonly bytes: Uint8Array;
  readonly values: readonly ImageValue[];
}

/** Rough bytes of a node image besides its own, for cutting parts. */
const NODE_OVERHEAD = 24;
const VALUE_BYTES = 17;

/**
 * TableScan reads a whole table as it was when the scan began, a piece at a time, while the table goes on changing: a node that is
 * about to change before the scan has come to it is copied first (T3 of FeedTable). It must be closed.
 */
export class TableScan implements Scan {
  readonly #table: FeedTable;
  readonly #view: ShareView | undefined;
  readonly #captured = new Map<number, NodeImage | undefined>();
  readonly #keys: readonly KeyEntry[];
  readonly #end: number;
  #next = 1;
  #keysGiven = false;
  /** Nodes of the table, or share, when the scan began. */
  readonly nodes: number;

  constructor(table: FeedTable, view?: ShareView) {
    this.#table = table;
    this.#view = view?.rules === undefined ? undefined : view;
    const shown = this.#view;
    this.#keys = shown === undefined ? table.keys() : table.keys().filter((key) => shown.hasKey(key.kref));
    this.#end = table.nextRef;
    this.nodes = shown === undefined ? table.size : shown.nodes;
    table.scans.add(this);
  }

  get done(): boolean {
    return this.#keysGiven && this.#next >= this.#end;
  }

  close(): void {
    this.#table.scans.delete(this);
    this.#captured.clear();
  }

  before(ref: number): void {
    if (ref >= this.#next && ref < this.#end && !this.#captured.has(ref)) this.#captured.set(ref, this.#image(ref));
  }

  /** keys gives the definitions, once, before the first images. */
  keys(): readonly KeyEntry[] {
    if (this.#keysGiven) return [];
    this.#keysGiven = true;
    return this.#keys;
  }

  /** images gives the next nodes, about `maxBytes` of them; at least one unless none is left. */
  images(maxBytes: number): NodeImage[] {
    const images: NodeImage[] = [];
    for (let bytes = 0; this.#next < this.#end && bytes < maxBytes; ) {
      const ref = this.#next++;
      const image = this.#captured.has(ref) ? this.#captured.get(ref) : this.#image(ref);
      this.#captured.delete(ref);
      if (image === undefined) continue;
      images.push(image);
      bytes += imageBytes(image);
    }
    if (this.done) this.close();
    return images;
  }

  /** part gives the next piece as an encoded SegmentPayload of at most about `maxBytes` plus one node. */
  part(codec: SegmentCodec, maxBytes: number): { readonly bytes: Uint8Array; readonly count: number } {
    const payload = new Payload();
    for (const key of this.keys()) payload.block(codec.encodeBlock({ kind: "key_def", kref: key.kref, name: key.name, type: key.type }));
    if (payload.length < maxBytes) putImages(codec, payload, this.images(maxBytes - payload.length));
    return { bytes: payload.bytes(), count: payload.count };
  }

  #image(ref: number): NodeImage | undefined {
    const entry = this.#table.node(ref);
    if (entry === undefined) return undefined;
    const view =
      this.#view === undefined
        ? { bytes: entry.bytes, krefs: entry.krefs }
        : this.#view.shows(ref)
          ? this.#view.viewOf(this.#table, entry)
          : undefined;
    return view === undefined ? undefined : imageOf(this.#table, entry, view);
  }
}

/** imageOf copies what a table says about a node. */
export function imageOf(
  table: FeedTable,
  entry: NodeEntry,
  view: { readonly bytes: Uint8Array; readonly krefs: readonly number[] },
): NodeImage {
  const { slots } = table;
  const values: ImageValue[] = [];
  for (const kref of view.krefs) {
    const slot = slots.find(entry.ref, kref);
    if (slot === NO_SLOT || slots.has[slot] === 0) continue;
    const section = SECTION[slots.type[slot] as number] as number;
    values.push({
      kref,
      section,
      low: slots.bits[2 * slot] as number,
      high: slots.bits[2 * slot + 1] as number,
      text: slots.text[slot]?.slice(),
    });
  }
  return { entry, online: entry.online, bytes: view.bytes, values };
}

/** putImages writes nodes (unless told not to), then their values in one state block. */
export function putImages(codec: SegmentCodec, payload: Payload, images: readonly NodeImage[], nodes = true): void {
  if (nodes)
    for (const image of images)
      payload.block(codec.encodeBlock({ kind: "node_put", ref: image.entry.ref, node: image.bytes, online: image.online }));
  const columns = columnsOf(images);
  if (columns.count > 0) payload.state(codec.encodeState(columns), columns.count);
}

/** columnsOf sorts the values of images into the three sections. */
export function columnsOf(images: readonly NodeImage[]): Columns {
  const sections: { ref: number; value: ImageValue }[][] = [[], [], []];
  for (const image of images)
    for (const value of image.values)
      (sections[value.section] as { ref: number; value: ImageValue }[]).push({ ref: image.entry.ref, value });
  const all = sections.flat();
  const fixed = (sections[0] as unknown[]).length + (sections[1] as unknown[]).length;
  const bits = new Uint32Array(2 * fixed);
  const len = new Uint32Array(all.length - fixed);
  let bytes = 0;
  for (let i = 0; i < all.length; i++) {
    const { value } = all[i] as { value: ImageValue };
    if (i < fixed) {
      bits[2 * i] = value.low;
      bits[2 * i + 1] = value.high;
    } else bytes += len[i - fixed] = value.text?.length ?? 0;
  }
  const data = new Uint8Array(bytes);
  let at = 0;
  for (const { value } of all.slice(fixed)) {
    data.set(value.text as Uint8Array, at);
    at += (value.text as Uint8Array).length;
  }
  return {
    count: all.length,
    numCount: (sections[0] as unknown[]).length,
    intCount: (sections[1] as unknown[]).length,
    ref: Uint32Array.from(all, (item) => item.ref),
    key: Uint32Array.from(all, (item) => item.value.kref),
    bits,
    len,
    data,
  };
}

function imageBytes(image: NodeImage): number {
  let bytes = image.bytes.length + NODE_OVERHEAD + image.values.length * VALUE_BYTES;
  for (const value of image.values) bytes += value.text?.length ?? 0;
  return bytes;
}
