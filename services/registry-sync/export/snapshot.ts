import { concat, hex } from "../codec/wire.ts";
import type { OwnFeed } from "../feed/feed.ts";
import { SNAPSHOT_DOMAIN } from "../feed/segment.ts";
import type { FeedPosition } from "../messages.ts";
import type { PeerSession } from "../peer-session.ts";
import type { HlcValue, SnapshotManifest, SnapshotPartInfo } from "../ports.ts";
import { TableScan } from "../table/scan.ts";
import type { FeedTable } from "../table/table.ts";
import type { World } from "../world.ts";

/** Bytes of a part before the codec at least, and how many times longer than a part the snapshot may become before they do. */
const PART_LEAST = 64 * 1024;
const PART_TIMES = 512;

/**
 * partBytes is how long the next part of a snapshot is, before the codec, when so many bytes of it are made. What is sent behind a part waits
 * for it, so over a slow link it must be short; a long snapshot has longer ones, as there is a bound to how many its manifest can name.
 */
function partBytes(rawBytes: number, maxBytes: number): number {
  return Math.min(maxBytes, Math.max(PART_LEAST, Math.floor(rawBytes / PART_TIMES)));
}

/** SnapshotPart is one part, ready to send. */
export interface SnapshotPart {
  readonly bytes: Uint8Array;
  readonly info: SnapshotPartInfo;
}

/**
 * SnapshotJob builds the snapshot of one feed, a part per round trip to the shell (which compresses), and keeps it for everyone
 * who needs it. It shows the feed exactly as it was at `position`, whatever changes meanwhile.
 */
export class SnapshotJob {
  readonly id: number;
  readonly share: string;
  readonly position: FeedPosition;
  readonly #hlc: HlcValue;
  readonly #world: World;
  readonly #scan: TableScan;
  readonly #nodes: number;
  #rawLen = 0;
  /** Bytes of all parts so far, before the codec. */
  #rawBytes = 0;
  readonly parts: SnapshotPart[] = [];
  /** Encoded SignedManifest when all parts are there. */
  manifest: Uint8Array | undefined;
  /** Bytes of all parts, as they are sent. */
  bytes = 0;
  /** Since when nobody takes it (mono). */
  idleSince: number | undefined;
  /** Parts that each peer was sent of it, over all sessions: those before that index. */
  readonly #sentTo = new Map<string, number>();
  /** tooLong: the feed does not fit into a snapshot that anybody would take (snapshot_bytes); nothing more of it is built. */
  tooLong = false;

  /** Nothing may be pending in an open segment: the table must be that of the feed's head. */
  constructor(world: World, id: number, feed: OwnFeed, table: FeedTable) {
    this.#world = world;
    this.id = id;
    this.share = feed.share;
    this.position = feed.head;
    this.#hlc = feed.hlc;
    this.#scan = new TableScan(table, feed.view);
    this.#nodes = this.#scan.nodes;
    this.#next();
  }

  /** compressed takes a part that came back. */
  compressed(codec: number, bytes: Uint8Array): void {
    if (this.manifest !== undefined || this.tooLong) return;
    this.bytes += bytes.length;
    this.parts.push({ bytes, info: { sha256: this.#world.o.crypto.hash(bytes), len: bytes.length, rawLen: this.#rawLen, codec } });
    if (this.#scan.done) this.#finish();
    else this.#next();
  }

  /** sendTo sends a session what it has credit for and does not hold; true when all went. What its peer was sent before costs it a turn (EP6). */
  sendTo(session: PeerSession, out: Extract<PeerSession["out"], { state: "snapshot" }>): boolean {
    if (this.manifest === undefined) return false;
    const before = this.#sentTo.get(session.peer) ?? -1;
    if (!out.manifestSent && session.credit > 0 && (before < 0 || this.#again(session, this.manifest.length))) {
      session.send({ type: "snapshot", manifest: this.manifest }, this.manifest.length);
      out.manifestSent = true;
      session.turns.sent(this.position, this.position.seq);
    }
    if (!out.manifestSent) return false;
    for (; out.nextPart < this.parts.length && session.credit > 0; out.nextPart++) {
      const { info, bytes } = this.parts[out.nextPart] as SnapshotPart;
      if (out.held.has(hex(info.sha256))) continue;
      if (out.nextPart < before && !this.#again(session, bytes.length)) break;
      session.send({ type: "snapshot_part", index: out.nextPart, data: bytes }, bytes.length);
    }
    this.#sentTo.set(session.peer, Math.max(before, out.nextPart));
    return out.nextPart === this.parts.length;
  }

  #again({ turns }: PeerSession, bytes: number): boolean {
    return turns.mayRepeat(this.#world.now.mono, bytes);
  }

  close(): void {
    this.#scan.close();
  }

  #next(): void {
    const { codec, partBytes: maxBytes, limits } = this.#world.o;
    const raw = this.#scan.part(codec, partBytes(this.#rawBytes, maxBytes)).bytes;
    this.#rawLen = raw.length;
    this.#rawBytes += raw.length;
    this.tooLong = this.#rawBytes > limits.snapshotBytes;
    if (this.tooLong) {
      this.parts.length = 0;
      this.close();
      return;
    }
    this.#world.emit({ kind: "compress", job: this.id, raw });
  }

  #finish(): void {
    const { codec, crypto } = this.#world.o;
    const { hubId, share, epoch, seq, digest } = this.position;
    const parts = this.parts.map((part) => part.info);
    const manifest: SnapshotManifest = {
      hubId,
      share,
      epoch,
      asOfSeq: seq,
      headDigest: digest,
      stateHash: stateHashOf(crypto, parts),
      parts,
      keySerial: this.#world.keySerial,
      hlc: this.#hlc,
      nodes: this.#nodes,
    };
    const body = codec.encodeManifest(manifest);
    this.manifest = codec.encodeSigned(body, crypto.sign(concat([SNAPSHOT_DOMAIN, body])));
    this.#world.event("snapshot", "INFO", "snapshot built", {
      share,
      count: this.#nodes,
      bytes: this.bytes,
    });
  }
}

/** stateHashOf is SHA-256 over the digests of the parts in order. */
export function stateHashOf(crypto: { hash(data: Uint8Array): Uint8Array }, parts: readonly SnapshotPartInfo[]): Uint8Array {
  return crypto.hash(concat(parts.map((part) => part.sha256)));
}
