import { equalBytes, utf8 } from "../codec/wire.ts";
import { digestAt, type SegmentItem, withoutState } from "../feed/segment.ts";
import type { FeedPosition } from "../messages.ts";
import type { SegmentCodec } from "../ports.ts";
import type { World } from "../world.ts";
import type { Source } from "./directory.ts";

/**
 * WatchPositions are the positions that watchers are given. What a peer's feed is at a position depends on the import rules here as well,
 * of which the owner's digest knows nothing: so the digest in a watcher's position says by which rules it was made, and whether something that
 * they let in was still missing, after which snapshot. What is stored of the rules does not tell that after a backup came back or a write was lost.
 *
 * Where there are no rules, and none left a gap, the digest is the owner's.
 */
export class WatchPositions {
  readonly #rules: Uint8Array | undefined;
  readonly #gaps: Uint8Array;

  constructor({ o: { crypto, importRules } }: World) {
    const mark = (gaps: boolean): Uint8Array => crypto.hash(utf8(`foedus.imports.v1\0${JSON.stringify([importRules ?? null, gaps])}`));
    this.#rules = importRules === undefined ? undefined : mark(false);
    this.#gaps = mark(true);
  }

  /** told is a position of a feed as its watchers are told. */
  told(source: Source, position: FeedPosition): FeedPosition {
    const mark = this.#markOf(source);
    return mark === undefined ? position : { ...position, digest: marked(position.digest, mark) };
  }

  /**
   * resumed is the position that a watcher comes back to, if everything after it is in the ring, and the feed was the same there by the same
   * rules. With `blocks` it takes segments as they are.
   */
  resumed(source: Source, from: FeedPosition, blocks: boolean): FeedPosition | undefined {
    const { head, ring, own, table } = source;
    if (from.seq > head.seq || from.seq + 1 < ring.first) return undefined;
    const { restoredAt } = table;
    // The ring goes back further than the names: a checkpoint has none of the nodes that were removed before it. Nor is it known what
    // import rules kept out then, which the segments have still.
    const whole = blocks && (own || this.#rules === undefined);
    if (!whole && restoredAt !== undefined && restoredAt.epoch === head.epoch && from.seq < restoredAt.seq) return undefined;
    return this.#held(source, from);
  }

  #held(source: Source, from: FeedPosition): FeedPosition | undefined {
    const digest = digestAt(source.head, source.ring, from.seq);
    if (digest === undefined) return undefined;
    const mark = this.#markOf(source);
    const same =
      mark === undefined ? from.digest.length === 0 || equalBytes(digest, from.digest) : equalBytes(marked(digest, mark), from.digest);
    return same ? { ...from, digest } : undefined;
  }

  #markOf({ own, gaps }: Source): Uint8Array | undefined {
    if (own) return undefined;
    return gaps === undefined ? this.#rules : marked(gaps, this.#gaps);
  }
}

/** marked is a digest and a mark in one: it differs when either does. */
function marked(digest: Uint8Array, mark: Uint8Array): Uint8Array {
  return digest.map((byte, i) => byte ^ (mark[i] as number));
}

/** SeenFeeds are where feeds were when watchers were let look at them: there is no news of what is still there. */
export class SeenFeeds {
  readonly #seen = new Map<string, Pick<Source, "generation" | "head">>();

  /** news are the sources that are not where they were. */
  news(all: readonly Source[]): readonly Source[] {
    return all.filter(({ hubId, generation, head }) => {
      const seen = this.#seen.get(hubId);
      if (seen?.generation !== generation) return true;
      return seen.head.seq !== head.seq || seen.head.epoch !== head.epoch || seen.head.share !== head.share;
    });
  }

  see(sources: readonly Source[]): void {
    for (const { hubId, generation, head } of sources) this.#seen.set(hubId, { generation, head });
  }

  forget(hubId: string): void {
    this.#seen.delete(hubId);
  }
}

/** nodesChanged tells whether segments after a position say anything of nodes but their values and presence. */
export function nodesChanged(codec: SegmentCodec, { ring }: Source, after: number): boolean {
  for (let seq = after + 1; seq < ring.next; seq++) {
    const rest = withoutState((ring.get(seq) as SegmentItem).payload);
    const blocks = rest.length === 0 ? [] : (codec.decodePayload(rest) ?? []);
    if (blocks.some(({ kind }) => kind === "node_put" || kind === "node_del")) return true;
  }
  return false;
}
