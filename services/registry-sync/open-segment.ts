import type { Change } from "./feed.ts";
import type { UpdateBatch } from "./ports.ts";
import { Payload } from "./segment.ts";
import type { FeedTable, KeyEntry, NodeEntry } from "./table.ts";
import type { World } from "./world.ts";

/** Bytes that framing may add to a block. */
const BLOCK_OVERHEAD = 16;

/**
 * OpenSegment collects local changes until the committer is free. It is closed by `flush`, at the latest when it is full or
 * `segmentLingerMs` old (S1-24): nothing waits longer, and while a commit is in flight everything joins the next one.
 */
export class OpenSegment {
  readonly #world: World;
  payload = new Payload();
  changes: Change[] = [];
  /** When the first change came. */
  since: number | undefined;

  constructor(world: World) {
    this.#world = world;
  }

  get empty(): boolean {
    return this.since === undefined;
  }

  /** fits tells whether so many more entries and bytes fit; an empty segment takes any one block. */
  fits(count: number, bytes: number): boolean {
    if (this.empty) return true;
    const { limits } = this.#world.o;
    return (
      this.payload.count + count <= limits.segmentUpdates && this.payload.length + bytes + BLOCK_OVERHEAD <= limits.segmentPayloadBytes
    );
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

  /** presence marks nodes online or offline, in the table too. */
  presence(table: FeedTable, refs: readonly number[], online: boolean): void {
    const changed = refs.filter((ref) => table.node(ref) !== undefined && table.node(ref)?.online !== online);
    if (changed.length === 0) return;
    this.#start();
    for (const ref of changed) table.setOnline(ref, online);
    const block = { kind: "presence", online: online ? changed : [], offline: online ? [] : changed } as const;
    this.payload.block(this.#world.o.codec.encodeBlock(block), changed.length);
    this.changes.push(block);
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
