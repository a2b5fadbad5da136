import { type Chunks, joinChunks, type Manifest, windowOf } from "../checkpoint/checkpoint.ts";
import { parcelsOf, sealAad, sealInfo } from "../checkpoint/parcel.ts";
import type { MigrationFrame } from "../frames.ts";
import type { SagaIdentity } from "./saga-record.ts";
import type { SourceEffect, SourceInput } from "./source-messages.ts";

/**
 * Parcels are the chunks of a round on their way to the destination. What it does not have, as far as the source knows, goes without being
 * asked for, right behind the manifest; what it asks for after that goes again.
 *
 * MP1 no parcel leaves before the manifest of its round, without which nobody can open it.
 * MP2 what is being sealed, or waits for the manifest, is one window.
 */
export class Parcels {
  readonly #id: SagaIdentity;
  readonly #windowBytes: number;
  #manifest: Manifest | undefined;
  #content: Chunks = new Map();
  #sealing = new Set<number>();
  /** Chunks of this round that went, or go, without being asked for. */
  #pushed = new Set<number>();
  #offered = false;
  /** What waits for the manifest. */
  #ready: MigrationFrame[] = [];

  constructor(id: SagaIdentity, windowBytes: number) {
    this.#id = id;
    this.#windowBytes = windowBytes;
  }

  /** begin goes on with another round, of which the destination is missing some chunks. */
  begin(manifest: Manifest, content: Chunks, missing: readonly number[], key: Uint8Array, out: SourceEffect[]): void {
    this.restore(manifest, content);
    this.#offered = false;
    this.#pushed = new Set(this.#seal(missing, key, out));
  }

  /** restore goes on with a round after a restart: its manifest may have been sent. */
  restore(manifest: Manifest, content: Chunks): void {
    this.#manifest = manifest;
    this.#content = content;
    this.#sealing.clear();
    this.#pushed.clear();
    this.#ready = [];
    this.#offered = true;
  }

  /** offered is told that the manifest was sent. */
  offered(out: SourceEffect[]): void {
    this.#offered = true;
    for (const frame of this.#ready.splice(0)) out.push({ kind: "send", to: this.#id.to, frame });
  }

  /** missing answers what the destination asks for; the first time not what comes by itself. False for numbers that there are not. */
  missing(numbers: readonly number[], key: Uint8Array, out: SourceEffect[]): boolean {
    if (numbers.some((number) => this.#manifest?.chunks[number] === undefined)) return false;
    this.#seal(
      numbers.filter((number) => !this.#pushed.delete(number)),
      key,
      out,
    );
    return true;
  }

  sealed({ round, numbers, enc, sealed }: Extract<SourceInput, { kind: "sealed" }>, out: SourceEffect[]): void {
    if (round !== this.#manifest?.round) return;
    for (const number of numbers) this.#sealing.delete(number);
    const { to, transfer } = this.#id;
    const frame: MigrationFrame = { kind: "parcel", transfer, round, numbers, enc, sealed };
    if (this.#offered) out.push({ kind: "send", to, frame });
    else this.#ready.push(frame);
  }

  /** seal seals as many chunks as may be under way at once, and gives their numbers. */
  #seal(numbers: readonly number[], key: Uint8Array, out: SourceEffect[]): readonly number[] {
    if (this.#manifest === undefined || key.length === 0) return [];
    const { round } = this.#manifest;
    const info = sealInfo(this.#id.transfer, this.#id.fence);
    const window = windowOf(this.#manifest, numbers, this.#windowBytes).filter((number) => !this.#sealing.has(number));
    for (const parcel of parcelsOf(this.#manifest, window)) {
      const raw = joinChunks(this.#manifest, parcel, this.#content);
      if (raw === undefined) continue;
      for (const number of parcel) this.#sealing.add(number);
      out.push({ kind: "seal", round, numbers: parcel, key, info, aad: sealAad(round, parcel), raw });
    }
    return window;
  }
}
