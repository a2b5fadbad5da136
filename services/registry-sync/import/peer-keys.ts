import type { Failure } from "#kernel/error.ts";
import { concat, equalBytes } from "../codec/wire.ts";
import { type readSegment, SNAPSHOT_DOMAIN, verifySegment } from "../feed/segment.ts";
import { CODEC, type SnapshotManifest } from "../ports.ts";
import { failure, type World } from "../world.ts";
import type { PeerKey } from "./import-feed.ts";

/** Keys of a peer that are kept: two are enough for a planned rotation; older ones go. */
const MOST = 4;

/** PeerKeys are the feed keys of peers, and what is signed with them. */
export class PeerKeys {
  readonly #world: World;
  readonly #keys = new Map<string, Map<number, PeerKey>>();

  constructor(world: World) {
    this.#world = world;
  }

  take(peer: string, key: PeerKey, revokesUpTo: number): void {
    const keys = this.#keys.get(peer) ?? new Map<number, PeerKey>();
    this.#keys.set(peer, keys);
    for (const serial of [...keys.keys()]) if (serial <= revokesUpTo) keys.delete(serial);
    if (key.serial > revokesUpTo) keys.set(key.serial, key);
    while (keys.size > MOST) keys.delete(Math.min(...keys.keys()));
  }

  has(peer: string): boolean {
    return this.#keys.has(peer);
  }

  /** peers are those of which a key is known. */
  peers(): string[] {
    return [...this.#keys.keys()];
  }

  forget(peer: string): void {
    this.#keys.delete(peer);
  }

  /** good is the key of that serial, if it holds now. */
  good(peer: string, serial: number): PeerKey | undefined {
    const key = this.#keys.get(peer)?.get(serial);
    return key === undefined || key.notAfterWall < this.#world.now.wall ? undefined : key;
  }

  /** signedManifest tells whether a manifest is signed by a key of the hub. */
  signedManifest(peer: string, manifest: SnapshotManifest, parts: { readonly body: Uint8Array; readonly signature: Uint8Array }): boolean {
    const key = this.good(peer, manifest.keySerial);
    return key !== undefined && this.#world.o.crypto.verify(key.key, concat([SNAPSHOT_DOMAIN, parts.body]), parts.signature);
  }

  /** problemOf answers what is wrong with the signature of a segment, or with its payload against the header. */
  problemOf(peer: string, item: NonNullable<ReturnType<typeof readSegment>>): Failure | undefined {
    const { header } = item;
    const key = this.good(peer, header.keySerial);
    if (key === undefined)
      return failure("FEED_KEY_INVALID", "the segment is signed by a key that is not known, revoked or expired", {
        serial: String(header.keySerial),
      });
    if (header.codec !== CODEC.IDENTITY)
      return failure("UPGRADE_NEEDED", "the codec of the payload is not known here", { codec: String(header.codec) });
    const { crypto } = this.#world.o;
    if (header.rawLen !== item.payload.length || !equalBytes(crypto.hash(item.payload), header.payloadDigest))
      return failure("SEGMENT_INVALID", "the payload is not what the header says");
    return verifySegment(crypto, key.key, item.headerBytes, item.signature)
      ? undefined
      : failure("SEGMENT_INVALID", "the signature is not valid");
  }
}
