import type { ReplicaId } from "../../log/engine.ts";
import { manifestBytes, signedBytes } from "../state/record.ts";
import type { Replica } from "../state/replica.ts";
import type { Snapshot } from "../state/snapshot-box.ts";
import type { Progress, Sending } from "./progress.ts";

/** Heartbeats without an answer after which what was sent of a snapshot counts as lost. */
const PATIENCE = 4;

/** SnapshotSender sends snapshots, part by part. The manifest is signed once per snapshot. */
export class SnapshotSender {
  readonly #r: Replica;
  #signed: { readonly snapshot: Snapshot; readonly manifest: Uint8Array; readonly signature: Uint8Array } | undefined;

  constructor(r: Replica) {
    this.#r = r;
  }

  /** begin offers the newest snapshot to a replica; it waits in "snapshot" until there is one. */
  begin(id: ReplicaId, peer: Progress): void {
    const { snapshot } = this.#r.box;
    peer.become("snapshot");
    peer.behind = true;
    if (snapshot === undefined) return;
    const { manifest, signature } = this.#sign(snapshot);
    peer.sending = { snapshot, manifest, signature, have: undefined, next: 0, quiet: 0 };
    this.#r.observe("snapshot_offered", id, snapshot.manifest.index);
    this.#offer(id, peer.sending);
  }

  /** beat begins anew, with the newest snapshot, when nothing was heard for a while. What the replica has of it is not sent again. */
  beat(id: ReplicaId, peer: Progress): void {
    if (peer.sending !== undefined && ++peer.sending.quiet < PATIENCE) return;
    this.begin(id, peer);
  }

  /** onAnswer goes on after what a replica has. */
  onAnswer(id: ReplicaId, sending: Sending, index: number, have: number): void {
    const { manifest, parts } = sending.snapshot;
    if (index !== manifest.index || have > parts.length) return;
    if (have > (sending.have ?? -1)) sending.quiet = 0;
    sending.have = Math.max(sending.have ?? 0, have);
    sending.next = Math.max(sending.next, sending.have);
    this.#fill(id, sending);
  }

  #fill(id: ReplicaId, sending: Sending): void {
    const { parts, manifest } = sending.snapshot;
    const end = Math.min(parts.length, (sending.have ?? 0) + this.#r.tuning.partWindow);
    for (; sending.next < end; sending.next++) {
      const part = sending.next;
      const bytes = parts[part] as Uint8Array;
      this.#r.send(id, { type: "snapshot_part", term: this.#r.term, index: manifest.index, part, bytes });
    }
  }

  #offer(id: ReplicaId, { manifest, signature }: Sending): void {
    this.#r.send(id, { type: "snapshot_offer", term: this.#r.term, manifest, signature });
  }

  #sign(snapshot: Snapshot): { readonly manifest: Uint8Array; readonly signature: Uint8Array } {
    if (this.#signed?.snapshot !== snapshot) {
      const manifest = manifestBytes({ ...snapshot.manifest, sender: this.#r.self });
      this.#signed = { snapshot, manifest, signature: this.#r.options.crypto.sign(signedBytes(manifest)) };
    }
    return this.#signed;
  }
}
