import type { StoreOp } from "#kernel/core.ts";
import { compareHlc } from "#kernel/crdt/hlc.ts";
import { fail } from "#kernel/error.ts";
import { StoredError } from "#kernel/wire/stored-json.ts";
import type { Exporter } from "./export/exporter.ts";
import { tailAtRisk } from "./feed/boot-mark.ts";
import type { OwnFeed } from "./feed/feed.ts";
import { Applier, type Skipped } from "./import/apply.ts";
import { ImportFeed, storedHubs } from "./import/import-feed.ts";
import type { Importer } from "./import/importer.ts";
import type { Effect } from "./messages.ts";
import type { Boot, StoreReader } from "./ports.ts";
import type { Checkpointer } from "./table/checkpoint.ts";
import { renumbered, renumbers } from "./table/renumber.ts";
import { FeedTable } from "./table/table.ts";
import type { World } from "./world.ts";

/** All of the memory for the registry is so many times that of this hub's own nodes, with something to spare: it is counted generously. */
const ALL = 8;

/** RestoredParts are the parts of a core that is not started, which take what is read back. */
export interface RestoredParts {
  /** Of this hub's own table. */
  readonly checkpoint: Checkpointer;
  readonly exporter: Exporter;
  readonly importer: Importer;
}

/** Restored is what the start goes on with. */
export interface Restored {
  /** The own nodes. */
  readonly table: FeedTable;
  /** The run before ended so that records may be missing which others have seen: the own feeds need a new epoch. */
  readonly unclean: boolean;
  /** Shares whose feeds were written under other rules than those of now: they need a new epoch too. */
  readonly rewrite: readonly string[];
  /** What nobody needs any more, for the first commit. */
  readonly leftovers: readonly StoreOp[];
  /** What there is to tell: there is nobody to tell it to before the start. */
  readonly told: readonly Effect[];
}

/**
 * restoreRegistry reads back what was durable, and writes nothing. It is the same code for a restart, a crash and a new hub, in this order:
 *
 * 1. how the run before ended, by its boot mark;
 * 2. the own table: its checkpoint, then the log of `full` after that;
 * 3. what each peer may hold of this hub, and the feeds of shares, which show the own table;
 * 4. each peer's feed: a snapshot that was half here, then checkpoint, log and fork;
 * 5. the clock, which goes on after what this hub itself gave out.
 *
 * What cannot be read of the own feeds ends the start (StoredError); what cannot be read of a peer's is asked for again.
 */
export function restoreRegistry(world: World, reader: StoreReader, boot: Boot, parts: RestoredParts): Restored {
  const { checkpoint, exporter, importer } = parts;
  const unclean = tailAtRisk(reader, boot);

  const { table, gen } = restoreOwn(world, reader, checkpoint, exporter.own.full);
  exporter.own.table = table;

  exporter.holds.restore(reader);
  const rewrite = exporter.own.restore(reader).map((feed) => feed.share);

  const leftovers = [...checkpoint.leftovers(reader, gen), ...restorePeers(world, reader, importer)];

  for (const { hlc } of exporter.own.feeds()) {
    // What this hub itself gave out is believed without a limit: the clock may have been set back meanwhile.
    if (compareHlc(hlc, world.hlc.last) > 0) world.hlc.receive(hlc, hlc.wallMs);
  }
  return { table, unclean, rewrite, leftovers, told: world.out };
}

/** restoreOwn gives the own table, and the generation of the checkpoint that it began with. */
function restoreOwn(
  world: World,
  reader: StoreReader,
  checkpoint: Checkpointer,
  full: OwnFeed,
): { readonly table: FeedTable; readonly gen: number | undefined } {
  const applier = new Applier(world.o.codec, undefined, world.o.limits);
  const base = checkpoint.restore(reader, applier, (table) => fitsHeap(world, table));
  let table = base?.table ?? new FeedTable();
  const skipped: Skipped = new Map();
  full.restore(reader, (item) => {
    const { epoch, seq } = item.header;
    if (base !== undefined && (epoch < base.meta.epoch || (epoch === base.meta.epoch && seq <= base.meta.seq))) return;
    const blocks = world.o.codec.decodePayload(item.payload);
    const problem = blocks === undefined ? "malformed" : applier.check(table, skipped, blocks, undefined, seq === 1)?.message;
    if (blocks === undefined || problem !== undefined)
      throw new StoredError(`own/full/${epoch}/${seq}`, `cannot be applied: ${problem ?? ""}`);
    applier.apply(table, skipped, blocks, full.ordinal);
    fitsHeap(world, table);
    if (renumbers(blocks)) table = renumbered(table).table;
    checkpoint.segment(item.byteLength);
  });
  return { table, gen: base?.meta.gen };
}

/** restorePeers reads all feeds of peers, whose age is unknown then, and answers for removal what nobody needs of them. */
function restorePeers(world: World, reader: StoreReader, { applier, feeds, receives }: Importer): readonly StoreOp[] {
  const ops: StoreOp[] = [];
  let held = 0;
  for (const hubId of storedHubs(reader)) {
    const feed = new ImportFeed(world, hubId);
    const gen = receives.restore(reader, hubId);
    if (gen !== undefined) feed.checkpoint.reserve(gen);
    else if (reader.get("meta", `stage/${hubId}`) !== undefined) ops.push({ op: "delete", space: "meta", key: `stage/${hubId}` });
    const leftovers = feed.restore(reader, applier, world.o.limits.peersBytes - held);
    held += feed.memory;
    ops.push(...leftovers.filter((op) => op.op !== "drop" || gen === undefined || op.log !== feed.checkpoint.log(gen)));
    feeds.set(hubId, feed);
  }
  return ops;
}

/** fitsHeap ends a start that would end without a word, when the heap is full of this hub's own nodes: one that was made much smaller. */
function fitsHeap(world: World, table: FeedTable): void {
  const max = ALL * world.o.limits.ownBytes;
  if (table.memory <= max) return;
  throw fail(
    "NOT_CONFIGURED",
    `the nodes of this hub that are stored take more than ${max} bytes of memory, for which the heap of this process is too small; give it more (--max-old-space-size), or raise memory_bytes`,
    { facts: { limit: "memory_bytes", max: String(max) } },
  );
}
