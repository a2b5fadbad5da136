import { createCrypto } from "#runtime/crypto.ts";
import { segmentCodec } from "../../services/registry-sync/codec/segment-codec.ts";
import { concat } from "../../services/registry-sync/codec/wire.ts";
import { stateHashOf } from "../../services/registry-sync/export/snapshot.ts";
import { SNAPSHOT_DOMAIN } from "../../services/registry-sync/feed/segment.ts";
import type { FeedPosition, PeerFrame } from "../../services/registry-sync/messages.ts";
import type { SnapshotManifest, SnapshotPartInfo } from "../../services/registry-sync/ports.ts";
import { keyOf } from "./registry-hub.ts";

const crypto = createCrypto(keyOf("alpha"));
/** snapshotOf is the frame that announces these parts, signed by alpha. */
export function snapshotOf(head: FeedPosition, parts: readonly SnapshotPartInfo[], nodes: number): PeerFrame {
  const { hubId, share, epoch, seq, digest } = head;
  const manifest: SnapshotManifest = {
    hubId,
    share,
    epoch,
    asOfSeq: seq,
    headDigest: digest,
    stateHash: stateHashOf(crypto, parts),
    parts,
    keySerial: 1,
    hlc: { wallMs: 1_700_000_000_000, logical: 0 },
    nodes,
  };
  const body = segmentCodec.encodeManifest(manifest);
  return { type: "snapshot", manifest: segmentCodec.encodeSigned(body, crypto.sign(concat([SNAPSHOT_DOMAIN, body]))) };
}
