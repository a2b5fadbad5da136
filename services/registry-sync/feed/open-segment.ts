import type { UpdateBatch } from "../ports.ts";
import type { FeedTable, KeyEntry, NodeEntry } from "../table/table.ts";
import type { World } from "../world.ts";
import type { Change } from "./feed.ts";
import { BLOCK_OVERHEAD, Payload } from "./segment.ts";

/** Nodes in one block of presence. */
const PRESENCE_MAX = 4_096;

/**
 * OpenSegment collects local changes until the committer is free. It is closed by `flush`, at the latest when it is full or
 * `segmentLingerMs` old (S1-24): nothing waits longer, and while a commit is in flight everything joins the next one.
 *
 * OS1 no segment is longer than a frame carries: what is put in has room, and no single block is longer than a segment.
 */
export class OpenSegment {
  readonly #world: World;
  readonly #close: () => void;
  payload = new Payload();
  changes: Change[] = [];
  /** When the first change came. */
  since: number | undefined;

  /** close: ends it at once, which calls `take`. */
  constructor(world: World, close: () => void) {
    this.#world = world;
    this.#close = close;
  }

  get empty(): boolean {
    return this.since === undefined;
  }

  /** room closes the segment if so many more entries and bytes would not fit; an empty one takes any one block. Then the change is made. */
  room(count: number, bytes: number, mostBytes = this.#world.o.limits.segmentPayloadBytes): void {
    if (this.empty) return;
    const { limits } = this.#world.o;
    const fits =
      this.payload.count + count <= limits.segmentUpdates &&
      this.payload.blocks < limits.segmentBlocks &&
      this.payload.length + bytes + BLOCK_OVERHEAD <= mostBytes;
    if (!fits) this.#close();
  }

  state(batch: UpdateBatch): void {
    this.#start();
    this.payload.state(batch.bytes, batch.count);
    this.changes.push({ kind: "state", batch });
  }

  keyDef(key: KeyEntry): void {
    this.#start();
    this.payload.block(this.#world.o.codec.encodeBlock({ kind: "key_def", kref: key.kref, name: key.name, type: key.type }));
    this.changes.push({ kind: "key_def", key });
  }

  nodePut(entry: NodeEntry): void {
    this.#start();
    this.payload.block(this.#world.o.codec.encodeBlock({ kind: "node_put", ref: entry.ref, node: entry.bytes, online: entry.online }));
    this.changes.push({ kind: "node_put", entry });
  }

  nodeDel(ref: number): void {
    this.#start();
    this.payload.block(this.#world.o.codec.encodeBlock({ kind: "node_del", ref }));
    this.changes.push({ kind: "node_del", ref });
  }

  /** presence marks nodes online or offline, in the table too, in as many blocks and segments as it takes. */
  presence(table: FeedTable, refs: readonly number[], online: boolean): void {
    const changed = refs.filter((ref) => table.node(ref) !== undefined && table.node(ref)?.online !== online);
    const most = Math.min(this.#world.o.limits.segmentUpdates, PRESENCE_MAX);
    for (let from = 0; from < changed.length; from += most) {
      const part = changed.slice(from, from + most);
      this.room(part.length, 4 * part.length);
      this.#start();
      for (const ref of part) table.setOnline(ref, online);
      const block = { kind: "presence", online: online ? part : [], offline: online ? [] : part } as const;
      this.payload.block(this.#world.o.codec.encodeBlock(block), part.length);
      this.changes.push(block);
    }
  }

  /** take gives what was collected and starts anew. */
  take(): { readonly payload: Payload; readonly changes: readonly Change[] } {
    const taken = { payload: this.payload, changes: this.changes };
    this.payload = new Payload();
    this.changes = [];
    this.since = undefined;
    return taken;
  }

  #start(): void {
    if (this.since !== undefined) return;
    this.since = this.#world.now.mono;
    this.#world.emit({ kind: "want_flush" });
  }
}
