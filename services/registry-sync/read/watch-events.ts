import { utf8Length } from "../codec/wire.ts";
import type { ChangeEvent, WatchOptions, WatchPush } from "../messages.ts";
import type { Block, SegmentCodec, UpdateBatch } from "../ports.ts";
import type { Piece } from "../table/scan.ts";
import { type KeyEntry, type NodeEntry, scalarOf } from "../table/table.ts";
import { answerBytes, matchesFilter, type Source } from "./directory.ts";

/** Bytes that an event takes besides names and content. */
const EVENT_BYTES = 32;
/** Bytes of the events in one message, a quarter of what fits: what is not UTF-8 in a text takes three times its bytes when it is sent. */
const MESSAGE_BYTES = 256 * 1024;

/** EventList turns what a feed says into events by name, and cuts them into messages by their bytes. */
export class EventList {
  readonly #codec: SegmentCodec;
  readonly #options: WatchOptions;
  readonly #source: Source;
  /** Refs of the nodes that the watcher was told of, if it filters. */
  readonly #known: Set<number> | undefined;
  readonly #events: (ChangeEvent | undefined)[] = [];
  readonly #lengths: number[] = [];
  /** With `latestOnly`: the index of the newest value of each (node, key). */
  readonly #latest: Map<number, number> | undefined;
  /** Bytes of all that was added, also of what a newer value has replaced since. */
  bytes = 0;
  /** Bytes of all that was looked at, also of what the filter leaves out. */
  read = 0;

  constructor(codec: SegmentCodec, options: WatchOptions, source: Source, known: Set<number> | undefined) {
    this.#codec = codec;
    this.#options = options;
    this.#source = source;
    this.#known = known;
    this.#latest = options.latestOnly ? new Map() : undefined;
  }

  /** flush adds the events to the pushes, each of which fits into a message. */
  flush(pushes: WatchPush[]): void {
    let events: ChangeEvent[] = [];
    let bytes = 0;
    for (let i = 0; i < this.#events.length; i++) {
      const event = this.#events[i];
      if (event === undefined) continue;
      const length = this.#lengths[i] as number;
      if (events.length > 0 && bytes + length > MESSAGE_BYTES) {
        pushes.push({ kind: "events", events });
        events = [];
        bytes = 0;
      }
      events.push(event);
      bytes += length;
    }
    if (events.length > 0) pushes.push({ kind: "events", events });
  }

  /** piece adds a node of a snapshot, or some of its values; or notes only that the watcher has it. */
  piece({ image, put, values }: Piece, has: boolean): void {
    const { entry } = image;
    this.read += (put ? image.bytes.length : 0) + EVENT_BYTES * (1 + values.length);
    if (!matchesFilter(this.#options.filter, entry.info, this.#codec, image.bytes)) return;
    this.#known?.add(entry.ref);
    if (has) return;
    const name = this.#name(entry);
    if (put) this.#put(name, image.bytes, image.online);
    if (this.#options.nodesOnly) return;
    for (const value of values) this.#state(name, this.#source.table.key(value.kref) as KeyEntry, value.low, value.high, value.text);
  }

  /** block adds what one block of a segment says. */
  block(block: Block): void {
    const { table } = this.#source;
    switch (block.kind) {
      case "state":
        if (!this.#options.nodesOnly) this.#batch(block.batch);
        return;
      case "node_put":
        return this.#nodePut(block);
      case "node_del": {
        const entry = table.named(block.ref);
        if (entry === undefined || this.#known?.delete(block.ref) === false) return;
        this.#add({ name: this.#name(entry), change: { kind: "removed" } }, 0);
        return;
      }
      case "presence":
        for (const ref of block.online) this.#online(ref, true);
        for (const ref of block.offline) this.#online(ref, false);
        return;
      default:
        return;
    }
  }

  #nodePut({ ref, node, online }: Extract<Block, { kind: "node_put" }>): void {
    const { own, table, hubId } = this.#source;
    const info = this.#codec.readNode(node);
    if (info === undefined || (!own && table.named(ref) === undefined)) return;
    const name = { hubId, nodeId: info.nodeId };
    if (matchesFilter(this.#options.filter, info, this.#codec, node)) {
      this.#known?.add(ref);
      this.#put(name, node, online);
    } else if (this.#known?.delete(ref) === true) this.#add({ name, change: { kind: "removed" } }, 0);
  }

  #online(ref: number, online: boolean): void {
    const entry = this.#source.table.named(ref);
    if (entry !== undefined && this.#known?.has(ref) !== false)
      this.#add({ name: this.#name(entry), change: { kind: "online", online } }, 0);
  }

  #batch(batch: UpdateBatch): void {
    const { table } = this.#source;
    const fixed = batch.numCount + batch.intCount;
    let at = 0;
    for (let i = 0; i < batch.count; i++) {
      const start = at;
      if (i >= fixed) at += batch.len[i - fixed] as number;
      const ref = batch.ref[i] as number;
      const kref = batch.key[i] as number;
      const entry = table.named(ref);
      const key = table.key(kref);
      if (entry === undefined || key === undefined || this.#known?.has(ref) === false) continue;
      this.#supersede(ref * 65_536 + kref);
      const text = i >= fixed ? batch.data.subarray(start, at) : undefined;
      this.#state(this.#name(entry), key, batch.bits[2 * i] ?? 0, batch.bits[2 * i + 1] ?? 0, text);
    }
  }

  /** supersede takes back the older value of the (node, key) whose newer one is added next. */
  #supersede(place: number): void {
    if (this.#latest === undefined) return;
    const before = this.#latest.get(place);
    if (before !== undefined) this.#events[before] = undefined;
    this.#latest.set(place, this.#events.length);
  }

  #name(entry: NodeEntry): ChangeEvent["name"] {
    return { hubId: this.#source.hubId, nodeId: entry.info.nodeId };
  }

  #put(name: ChangeEvent["name"], node: Uint8Array, online: boolean): void {
    this.#add({ name, change: { kind: "put", node } }, answerBytes(this.#codec, node));
    this.#add({ name, change: { kind: "online", online } }, 0);
  }

  #state(name: ChangeEvent["name"], key: KeyEntry, low: number, high: number, text: Uint8Array | undefined): void {
    this.#add({ name, change: { kind: "state", state: scalarOf(key, low, high, text) } }, utf8Length(key.name) + (text?.length ?? 0));
  }

  #add(event: ChangeEvent, bytes: number): void {
    const length = EVENT_BYTES + event.name.hubId.length + event.name.nodeId.length + bytes;
    this.#events.push(event);
    this.#lengths.push(length);
    this.bytes += length;
  }
}
