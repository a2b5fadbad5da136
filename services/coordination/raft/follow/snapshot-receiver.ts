import type { ReplicaId } from "../../log/engine.ts";
import type { SnapshotOffer, SnapshotPart } from "../frames.ts";
import { type Manifest, parseManifest, signedBytes } from "../state/record.ts";
import type { Replica } from "../state/replica.ts";
import { engineSnapshot, partLength, sameBytes } from "../state/snapshot-box.ts";

/** Incoming is a snapshot that is coming in. */
export interface Incoming {
  readonly manifest: Manifest;
  /** As it came. */
  readonly bytes: Uint8Array;
  readonly parts: (Uint8Array | undefined)[];
  /** All parts below this one are here. */
  have: number;
}

/** incomingOf begins to collect. */
export function incomingOf(manifest: Manifest, bytes: Uint8Array): Incoming {
  return { manifest, bytes, parts: Array.from({ length: manifest.digests.length }, () => undefined), have: 0 };
}

/** count moves `have` on. */
export function count(incoming: Incoming): void {
  while (incoming.have < incoming.parts.length && incoming.parts[incoming.have] !== undefined) incoming.have++;
}

/**
 * SnapshotReceiver takes the snapshot of a leader.
 *
 * RY1 a manifest counts if its sender signed it, a part if its digest is that of the manifest; parts stay over restarts and changes of
 *    leader, as far as the digests are the same.
 * RY2 a snapshot is put in place whole, with its membership and position, in one write (invariant 7, 9).
 * RY3 it replaces the log unless the log has its last position already; what is decided here is never replaced by something older (zoo 28).
 */
export class SnapshotReceiver {
  readonly #r: Replica;
  #incoming: Incoming | undefined;

  constructor(r: Replica, incoming: Incoming | undefined) {
    this.#r = r;
    this.#incoming = incoming;
  }

  /** progress is how many parts are here, for people; undefined if nothing comes in. */
  get progress(): string | undefined {
    const incoming = this.#incoming;
    return incoming === undefined ? undefined : `${incoming.manifest.index}:${incoming.have}/${incoming.parts.length}`;
  }

  onOffer(from: ReplicaId, frame: SnapshotOffer): void {
    const r = this.#r;
    if (this.#incoming === undefined || !sameBytes(this.#incoming.bytes, frame.manifest)) {
      const manifest = this.#verified(from, frame);
      if (manifest === undefined) return r.observe("snapshot_refused", from);
      if (this.#isHere(manifest)) return this.#answerDone(from);
      this.#begin(manifest, frame.manifest);
    }
    if (!this.#finish(from)) this.#answer(from);
  }

  onPart(from: ReplicaId, { index, part, bytes }: SnapshotPart): void {
    const r = this.#r;
    const incoming = this.#incoming;
    if (incoming === undefined || incoming.manifest.index !== index) {
      if (index <= r.commit) this.#answerDone(from);
      return;
    }
    const { manifest, parts } = incoming;
    if (part >= parts.length) return r.observe("part_refused", from);
    if (parts[part] === undefined) {
      const digest = manifest.digests[part] as Uint8Array;
      if (bytes.length !== partLength(manifest, part) || !sameBytes(r.options.crypto.hash(bytes), digest))
        return r.observe("part_refused", from);
      parts[part] = bytes;
      count(incoming);
      r.pen.part(part, bytes, r.out);
    }
    if (!this.#finish(from)) this.#answer(from);
  }

  #verified(from: ReplicaId, { manifest: bytes, signature, term }: SnapshotOffer): Manifest | undefined {
    const { keysOf, crypto } = this.#r.options;
    const signed = signedBytes(bytes);
    if (!keysOf(from).some((key) => crypto.verify(key, signed, signature))) return undefined;
    const manifest = parseManifest(bytes);
    if (manifest === undefined || manifest.sender !== from || manifest.term > term) return undefined;
    return manifest.length <= this.#r.tuning.stateBytes && manifest.index > 0 ? manifest : undefined;
  }

  /** isHere tells whether what a snapshot stands for is here already; it is decided then. */
  #isHere({ index, term }: Manifest): boolean {
    const r = this.#r;
    if (index > r.commit && r.log.termAt(index) === term) r.commitTo(index);
    return index <= r.commit;
  }

  #begin(manifest: Manifest, bytes: Uint8Array): void {
    const incoming = incomingOf(manifest, bytes);
    const before = this.#incoming;
    const held = new Map<number, Uint8Array>();
    manifest.digests.forEach((digest, part) => {
      const at = before?.manifest.digests.findIndex((other, i) => before.parts[i] !== undefined && sameBytes(other, digest)) ?? -1;
      const bytesHeld = before?.parts[at];
      if (bytesHeld === undefined || bytesHeld.length !== partLength(manifest, part)) return;
      incoming.parts[part] = bytesHeld;
      held.set(part, bytesHeld);
    });
    count(incoming);
    this.#incoming = incoming;
    this.#r.pen.incoming(bytes, held, this.#r.out);
  }

  /** finish puts a snapshot in place that is whole. */
  #finish(from: ReplicaId): boolean {
    const incoming = this.#incoming;
    if (incoming === undefined || incoming.have < incoming.parts.length) return false;
    this.#incoming = undefined;
    const { manifest } = incoming;
    if (!this.#isHere(manifest)) this.#install({ ...manifest, sender: "" }, incoming.parts as Uint8Array[]);
    this.#answerDone(from);
    return true;
  }

  #install(manifest: Manifest, parts: readonly Uint8Array[]): void {
    const r = this.#r;
    const snapshot = { manifest, parts };
    r.log.reset(manifest);
    r.members.reset({ index: manifest.index, membership: manifest.membership });
    r.commit = manifest.index;
    r.sinceSnapshot = 0;
    r.freshFrom = Math.min(r.freshFrom, manifest.index);
    r.box.put(snapshot);
    r.pen.snapshot(manifest, parts, undefined, r.commit, r.out);
    r.out.push({ kind: "install", snapshot: engineSnapshot(snapshot) });
    r.observe("snapshot_installed", undefined, manifest.index);
  }

  #answer(from: ReplicaId): void {
    const { term } = this.#r;
    const { manifest, have } = this.#incoming as Incoming;
    this.#r.send(from, { type: "snapshot_answer", term, index: manifest.index, have });
  }

  #answerDone(from: ReplicaId): void {
    const { term, commit: index } = this.#r;
    this.#r.send(from, { type: "append_answer", term, ok: true, index, hintIndex: 0, hintTerm: 0, probe: 0 });
  }
}
