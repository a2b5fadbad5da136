import { concat, equalBytes } from "../codec/wire.ts";
import type { FeedPosition, FeedProof } from "../messages.ts";
import type { World } from "../world.ts";
import type { OwnFeed } from "./feed.ts";
import { digestAt, readSegment, SNAPSHOT_DOMAIN, verifySegment } from "./segment.ts";

/** signedByUs tells whether a position is shown to be one that this hub signed: nobody else can make such a claim (PROTOCOL O4, O5). */
export function signedByUs(world: World, from: FeedPosition, proof: FeedProof | undefined): boolean {
  const { codec, crypto, publicKey, hubId } = world.o;
  if (proof === undefined) return false;
  const segment = readSegment(codec, crypto, proof.segment);
  if (segment !== undefined) {
    const { header, digest, headerBytes, signature } = segment;
    const same = header.hubId === hubId && samePlace(from, { ...header, digest });
    return same && verifySegment(crypto, publicKey, headerBytes, signature);
  }
  const parts = codec.decodeSigned(proof.manifest);
  const manifest = parts === undefined ? undefined : codec.decodeManifest(parts.body);
  if (parts === undefined || manifest === undefined || manifest.hubId !== hubId) return false;
  const { share, epoch, asOfSeq, headDigest } = manifest;
  if (!samePlace(from, { share, epoch, seq: asOfSeq, digest: headDigest })) return false;
  return crypto.verify(publicKey, concat([SNAPSHOT_DOMAIN, parts.body]), parts.signature);
}

/** knowsMore: the peer holds a position that this feed does not have (EP4). */
export function knowsMore(feed: OwnFeed, from: FeedPosition): boolean {
  if (from.epoch !== feed.epoch) return from.epoch > feed.epoch;
  if (from.seq > feed.seq) return true;
  const digest = digestAt(feed, feed.ring, from.seq);
  return from.seq > 0 && digest !== undefined && !equalBytes(digest, from.digest);
}

/** claimFields say what a peer claims to know of a feed, and what this hub knows. */
export function claimFields(feed: OwnFeed, from: FeedPosition): Record<string, string> {
  return { peer_epoch: String(from.epoch), peer_seq: String(from.seq), epoch: String(feed.epoch), seq: String(feed.seq) };
}

function samePlace(a: FeedPosition, b: Omit<FeedPosition, "hubId">): boolean {
  return a.share === b.share && a.epoch === b.epoch && a.seq === b.seq && equalBytes(a.digest, b.digest);
}
