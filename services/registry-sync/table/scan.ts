import { copyOf } from "#kernel/wire/bytes.ts";
import { BLOCK_OVERHEAD, Payload } from "../feed/segment.ts";
import type { Columns, SegmentCodec } from "../ports.ts";
import type { ShareView } from "../share/share.ts";
import { COST } from "./cost.ts";
import { NO_SLOT } from "./slots.ts";
import { type FeedTable, type ImageValue, type KeyEntry, type NodeEntry, type NodeImage, type Scan, SECTION } from "./table.ts";
import type { Veil } from "./veil.ts";

/** Piece is a node as it goes into one part: with `put` the node itself, and the values that fit behind it. */
export interface Piece {
  readonly image: NodeImage;
  readonly put: boolean;
  readonly values: readonly ImageValue[];
}

/** A table whose refs are more than so many times its nodes, and more than that, is sparse. */
const SPARSE = 8;
const SPARSE_LEAST = 65_536;
/** Bytes that a node, a value and the columns of a part take besides their own, at most. */
const NODE_OVERHEAD = 24;
const VALUE_BYTES = 17;
const COLUMNS_OVERHEAD = 64;
/** Nodes in one part of a share with rules: what is seen of each is encoded anew. */
const VIEWS_PER_PART = 512;
/** Memory of an image and of each of its values besides bytes and texts. */
const IMAGE_BYTES = 200;
const IMAGE_VALUE_BYTES = 96;

/**
 * TableScan reads a whole table as it was when the scan began, a piece at a time, while the table goes on changing: a node that is
 * about to change before the scan has come to it is copied first (TB3 of FeedTable). It must be closed.
 */
export class TableScan implements Scan {
  readonly #table: FeedTable;
  readonly #view: ShareView | undefined;
  readonly #veil: Veil | undefined;
  readonly #captured = new Map<number, NodeImage | undefined>();
  /** About how much memory is taken by nodes that have changed since, as they were. */
  heldBytes = 0;
  readonly #keys: readonly KeyEntry[];
  #nextKey = 0;
  readonly #end: number;
  #next = 1;
  /** Where refs lie far apart: those of the nodes that were there, so that looking for them is not as long as the greatest. */
  readonly #sparse: Uint32Array | undefined;
  #nextSparse = 0;
  /** The node that did not fit whole into the last part: its values from `from` on, or, if that is -1, all of it. */
  #rest: { readonly image: NodeImage; readonly from: number } | undefined;
  /** Nodes of the table, or share, when the scan began. */
  readonly nodes: number;

  /** veil hides what is in the table and is not to be shown. */
  constructor(table: FeedTable, view?: ShareView, veil?: Veil) {
    this.#veil = veil;
    this.#table = table;
    this.#view = view?.rules === undefined ? undefined : view;
    const shown = this.#view;
    this.#keys = shown === undefined ? table.keys() : table.keys().filter((key) => shown.hasKey(key.kref));
    this.#sparse = table.nextRef > SPARSE * table.size + SPARSE_LEAST ? table.liveRefs() : undefined;
    this.#end = this.#sparse === undefined ? table.nextRef : (this.#sparse.at(-1) ?? 0) + 1;
    this.nodes = shown === undefined ? table.size : shown.nodes;
    table.scans.add(this);
  }

  get done(): boolean {
    return this.#nextKey === this.#keys.length && this.#rest === undefined && this.#next >= this.#end;
  }

  close(): void {
    this.#table.scans.delete(this);
    this.#captured.clear();
    this.heldBytes = 0;
  }

  before(ref: number): void {
    if (ref < this.#next || ref >= this.#end || this.#captured.has(ref)) return;
    const image = this.#view === undefined ? sharedImage(this.#table, ref) : this.#image(ref);
    this.#captured.set(ref, image);
    if (image !== undefined) this.heldBytes += imageBytes(image);
  }

  /** retired: who scans learns of it elsewhere, and closes. */
  retired(): void {}

  /** pieces gives the next nodes, without the definitions of keys: at most `maxBytes` of them, or one node or value that alone is longer. */
  pieces(maxBytes: number): Piece[] {
    this.#nextKey = this.#keys.length;
    return this.#pieces(maxBytes, false);
  }

  /** part gives the next piece as an encoded SegmentPayload of at most `maxBytes`, or one definition, node or value that alone is longer. */
  part(codec: SegmentCodec, maxBytes: number): { readonly bytes: Uint8Array; readonly count: number } {
    const payload = new Payload();
    for (; this.#nextKey < this.#keys.length; this.#nextKey++) {
      const { kref, name, type } = this.#keys[this.#nextKey] as KeyEntry;
      const block = codec.encodeBlock({ kind: "key_def", kref, name, type });
      if (!payload.empty && payload.length + block.length + BLOCK_OVERHEAD > maxBytes) break;
      payload.block(block);
    }
    if (this.#nextKey === this.#keys.length) putPieces(codec, payload, this.#pieces(maxBytes - payload.length, !payload.empty));
    return { bytes: payload.bytes(), count: payload.count };
  }

  #pieces(maxBytes: number, begun: boolean): Piece[] {
    const pieces: Piece[] = [];
    const most = this.#view === undefined ? Number.POSITIVE_INFINITY : VIEWS_PER_PART;
    let bytes = COLUMNS_OVERHEAD;
    let some = begun;
    for (let node = this.#take(); node !== undefined; node = this.#take()) {
      const { image } = node;
      const put = node.from < 0;
      const size = put ? image.bytes.length + NODE_OVERHEAD : 0;
      if ((some && bytes + size > maxBytes) || pieces.length === most) {
        this.#rest = node;
        break;
      }
      bytes += size;
      some ||= put;
      const from = Math.max(0, node.from);
      let to = from;
      for (; to < image.values.length; to++) {
        const length = valueBytes(image.values[to] as ImageValue);
        if (some && bytes + length > maxBytes) break;
        bytes += length;
        some = true;
      }
      pieces.push({ image, put, values: image.values.slice(from, to) });
      if (to === image.values.length) continue;
      this.#rest = { image, from: to };
      break;
    }
    if (this.done) this.close();
    return pieces;
  }

  /** take gives the node that is next; undefined after the last. */
  #take(): { readonly image: NodeImage; readonly from: number } | undefined {
    const rest = this.#rest;
    this.#rest = undefined;
    if (rest !== undefined) return rest;
    while (this.#next < this.#end) {
      const ref = this.#sparse === undefined ? this.#next : (this.#sparse[this.#nextSparse++] as number);
      this.#next = ref + 1;
      const found = this.#captured.has(ref) ? this.#captured.get(ref) : this.#image(ref);
      if (this.#captured.delete(ref) && found !== undefined) this.heldBytes -= imageBytes(found);
      const image = found === undefined || this.#veil === undefined ? found : this.#veil.see(found);
      if (image !== undefined) return { image, from: -1 };
    }
    return undefined;
  }

  #image(ref: number): NodeImage | undefined {
    const entry = this.#table.node(ref);
    if (entry === undefined || this.#view === undefined) return entry && imageOf(this.#table, entry, entry);
    const view = this.#view.shows(ref) ? this.#view.viewOf(this.#table, entry) : undefined;
    return view === undefined ? undefined : imageOf(this.#table, entry, view);
  }
}

/** sharedImage is the image of a node that is about to change, the same for all scans that are told of it (TB3); undefined if there is no such node. */
export function sharedImage(table: FeedTable, ref: number): NodeImage | undefined {
  const known = table.images.get(ref);
  const entry = known === undefined ? table.node(ref) : undefined;
  if (entry === undefined) return known;
  const image = imageOf(table, entry, entry);
  table.images.set(ref, image);
  return image;
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
    const text = slots.text[slot];
    values.push({
      kref,
      section,
      low: slots.bits[2 * slot] as number,
      high: slots.bits[2 * slot + 1] as number,
      text: text === undefined ? undefined : copyOf(text),
    });
  }
  return { entry, online: entry.online, bytes: view.bytes, values };
}

/** valuesWithin cuts values into runs of at most `maxBytes`, or one that alone is longer. */
export function* valuesWithin(values: readonly ImageValue[], maxBytes: number): Iterable<readonly ImageValue[]> {
  let from = 0;
  let bytes = 0;
  for (let to = 0; to < values.length; to++) {
    const length = valueBytes(values[to] as ImageValue);
    if (to > from && bytes + length > maxBytes) {
      yield values.slice(from, to);
      from = to;
      bytes = 0;
    }
    bytes += length;
  }
  if (from < values.length) yield values.slice(from);
}

/** putPieces writes nodes, then their values in one state block. */
function putPieces(codec: SegmentCodec, payload: Payload, pieces: readonly Piece[]): void {
  for (const { image, put } of pieces)
    if (put) payload.block(codec.encodeBlock({ kind: "node_put", ref: image.entry.ref, node: image.bytes, online: image.online }));
  const columns = columnsOf(pieces);
  if (columns.count > 0) payload.state(codec.encodeState(columns), columns.count);
}

/** columnsOf sorts the values of pieces into the three sections. */
export function columnsOf(pieces: readonly Piece[]): Columns {
  const sections: { ref: number; value: ImageValue }[][] = [[], [], []];
  for (const { image, values } of pieces)
    for (const value of values) (sections[value.section] as { ref: number; value: ImageValue }[]).push({ ref: image.entry.ref, value });
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

function valueBytes(value: ImageValue): number {
  return VALUE_BYTES + (value.text?.length ?? 0);
}

/** imageBytes is about how much memory an image takes. */
export function imageBytes(image: NodeImage): number {
  return image.values.reduce(
    (bytes, value) => bytes + IMAGE_VALUE_BYTES + (value.text === undefined ? 0 : COST.text + value.text.length),
    image.bytes.length + IMAGE_BYTES,
  );
}
