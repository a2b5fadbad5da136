import type { Prng } from "#kernel/prng.ts";
import type { PeerFrame } from "../../services/registry-sync/messages.ts";

/** flip changes one byte of a copy. */
function flip(prng: Prng, bytes: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  const at = prng.below(copy.length);
  copy[at] = (copy[at] as number) ^ (1 + prng.below(255));
  return copy;
}

/** replace changes a text inside encoded bytes by another one of the same length. */
function replace(bytes: Uint8Array, from: string, to: string): Uint8Array {
  const text = Buffer.from(bytes).toString("latin1");
  return Uint8Array.from(Buffer.from(text.replaceAll(from, to), "latin1"));
}

/** tamper is what a hostile hub does to the frames that it sends: now and then it forges, repeats, drops or invents something. */
export function tamper(prng: Prng, peer: string, frame: PeerFrame): readonly PeerFrame[] {
  if (!prng.chance(0.2)) return [frame];
  const kind = prng.below(4);
  switch (frame.type) {
    case "segment": {
      if (kind === 0) return [{ type: "segment", segment: flip(prng, frame.segment) }];
      if (kind === 1) return [frame, frame];
      if (kind === 2) return [];
      return [{ type: "segment", segment: replace(frame.segment, "hub-", "hub+") }, frame];
    }
    case "snapshot":
      return kind === 0 ? [{ type: "snapshot", manifest: flip(prng, frame.manifest) }] : [frame, frame];
    case "snapshot_part":
      return kind === 0
        ? [{ ...frame, data: flip(prng, frame.data) }]
        : kind === 1
          ? [{ ...frame, index: frame.index + 7 }, frame]
          : [frame];
    case "feed_offer":
      if (frame.head === undefined) return [frame];
      if (kind === 0) return [{ ...frame, head: { ...frame.head, hubId: peer } }, frame];
      if (kind === 1) return [{ ...frame, head: { ...frame.head, seq: frame.head.seq + 5 } }];
      return [frame];
    case "feed_open":
      if (kind === 0) return [{ ...frame, from: { ...frame.from, epoch: frame.from.epoch + 3, seq: 9 } }];
      if (kind === 1) return [{ ...frame, from: { ...frame.from, hubId: "hub-9" } }, frame];
      return [frame];
    case "ack":
      return [{ type: "ack", position: { ...frame.position, seq: frame.position.seq + 100 } }, frame];
    default:
      return [frame];
  }
}
