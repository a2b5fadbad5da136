import type { StoreOp } from "#kernel/core.ts";
import { type OwnFeed, ownLog } from "../feed/feed.ts";
import { digestAt } from "../feed/segment.ts";
import { importLog, PROOFS } from "../import/import-feed.ts";
import type { FeedPosition } from "../messages.ts";
import type { SegmentCodec } from "../ports.ts";
import type { Source } from "../read/directory.ts";
import type { FeedTable } from "./table.ts";
import { Veil } from "./veil.ts";

/** Bytes of older segments in which values are looked for that are not in the table any more. */
const SOUGHT_BYTES = 4 * 1024 * 1024;

/** Stored is how far one hub's part of the registry was stored when the store began to refuse. */
interface Stored {
  readonly table: FeedTable;
  readonly head: FeedPosition;
  /** What the table has beyond that, as of the segment that was the next one then. */
  veil: Veil | undefined;
  veiledTo: number;
}

/**
 * Unstored is what is in memory and not in the store while that refuses writes: it is lost if the hub restarts before the store takes it.
 * Who must not see time go back is shown the hubs as they are stored. Nothing is kept for this, and nothing is done, while the store
 * takes writes.
 */
export class Unstored {
  readonly #codec: SegmentCodec;
  #stored: Map<string, Stored> | undefined;
  /** Heads of the own feeds, by share. */
  readonly #heads = new Map<string, FeedPosition>();

  constructor(codec: SegmentCodec) {
    this.#codec = codec;
  }

  /** refusing: the store takes nothing, and what is in memory may be more than what is stored. */
  get refusing(): boolean {
    return this.#stored !== undefined;
  }

  /** begin notes how far all is stored: `ops` are all that was persisted and that the store has not taken. */
  begin(ops: readonly StoreOp[], sources: readonly Source[], own: readonly Pick<OwnFeed, "head" | "ring">[]): void {
    const first = new Map<string, number>();
    const replaced = new Set<string>();
    for (const op of ops) {
      if (op.op === "append" && !first.has(op.log)) first.set(op.log, op.seq);
      else if (op.op === "put" && op.space === PROOFS) replaced.add(op.key);
    }
    this.#heads.clear();
    this.#stored = new Map();
    for (const { hubId, own, table, head, ring } of sources) {
      const { share, epoch } = head;
      const stored = before(head, ring, first.get(own ? ownLog(share, epoch) : importLog(hubId, share, epoch)));
      // Of a snapshot that is not stored nothing is.
      if (stored === undefined || (!own && replaced.has(hubId))) continue;
      this.#stored.set(hubId, { table, head: stored, veil: undefined, veiledTo: 0 });
    }
    for (const { head, ring } of own) {
      const stored = before(head, ring, first.get(ownLog(head.share, head.epoch)));
      if (stored !== undefined) this.#heads.set(head.share, stored);
    }
  }

  /** headOf is how far an own feed is stored. */
  headOf({ head }: Pick<OwnFeed, "head">): FeedPosition {
    const stored = this.#heads.get(head.share);
    return stored?.epoch === head.epoch ? stored : head;
  }

  /** end: the store has taken all of it. */
  end(): void {
    this.#stored = undefined;
    this.#heads.clear();
  }

  /** shown are the sources as they are stored; those are missing of which nothing is stored as it is now. */
  shown(sources: readonly Source[]): readonly Source[] {
    const stored = this.#stored;
    if (stored === undefined) return sources;
    return sources.flatMap((source) => {
      const at = stored.get(source.hubId);
      if (at === undefined || at.table !== source.table || at.head.epoch !== source.head.epoch) return [];
      return source.ring.first <= at.head.seq + 1 ? [{ ...source, head: at.head }] : [];
    });
  }

  /** covers tells whether a position is stored. */
  covers({ hubId, epoch, seq }: FeedPosition): boolean {
    const head = this.#stored?.get(hubId)?.head;
    return this.#stored === undefined || (head?.epoch === epoch && seq <= head.seq);
  }

  /** veil is what hides in a copy of a source's table what is not stored; undefined if all of it is. */
  veil({ hubId, ring }: Source): Veil | undefined {
    const at = this.#stored?.get(hubId);
    if (at === undefined || at.head.seq + 1 === ring.next) return undefined;
    if (at.veiledTo !== ring.next) {
      const items = Array.from({ length: ring.next - at.head.seq - 1 }, (_, i) => ring.get(at.head.seq + 1 + i));
      at.veil = new Veil(this.#codec, items);
      let bytes = 0;
      for (let seq = at.head.seq; bytes < SOUGHT_BYTES && !at.veil.complete; seq--) {
        const item = ring.get(seq);
        if (item === undefined) break;
        bytes += item.byteLength;
        at.veil.seek(item);
      }
      at.veiledTo = ring.next;
    }
    return at.veil;
  }
}

/** before is the head of a feed before a segment; undefined if nothing of its epoch was before that, or that is not known any more. */
function before(head: FeedPosition, ring: Source["ring"], seq: number | undefined): FeedPosition | undefined {
  if (seq === undefined) return head;
  const digest = digestAt(head, ring, seq - 1);
  return seq <= 1 || digest === undefined ? undefined : { ...head, seq: seq - 1, digest };
}
