import { type Chunks, joinChunks, lengthOf, type Manifest, windowOf } from "../checkpoint/checkpoint.ts";
import { parcelsOf, sealAad, sealInfo } from "../checkpoint/parcel.ts";
import type { MigrationFrame } from "../frames.ts";
import type { SagaIdentity } from "./saga-record.ts";
import type { SourceEffect, SourceInput } from "./source-messages.ts";

/** A round is sealed so many times, or as many windows of it, for a destination that asks again and again. */
const AGAIN = 16;

/**
 * Parcels are the chunks of a round on their way to the destination. What it does not have, as far as the source knows, goes without being
 * asked for, right behind the manifest; what it asks for after that goes again.
 *
 * MP1 no parcel leaves before the manifest of its round, without which nobody can open it.
 * MP2 what is being sealed, or waits for the manifest, is one window, however much is asked for.
 * MP3 of a round no more is sealed than its chunks a number of times: a destination that asks on and on is not answered on and on.
 */
export class Parcels {
  readonly #id: SagaIdentity;
  readonly #windowBytes: number;
  /** Bytes of this round that may still be sealed (MP3). */
  #allowance = 0;
  #manifest: Manifest | undefined;
  #content: Chunks = new Map();
  #sealing = new Set<number>();
  /** Chunks of this round that the destination is not known to have, and that have not gone by themselves. */
  #fresh: readonly number[] = [];
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
  begin(manifest: Manifest, content: Chunks, missing: readonly number[]): void {
    this.restore(manifest, content);
    this.#offered = false;
    this.#fresh = missing;
  }

  /** push seals what goes without being asked for, as soon as it is known to which key. */
  push(key: Uint8Array, out: SourceEffect[]): void {
    if (this.#fresh.length === 0 || key.length === 0) return;
    this.#pushed = new Set(this.#seal(this.#fresh, key, out));
    this.#fresh = [];
  }

  /** restore goes on with a round after a restart: its manifest may have been sent. */
  restore(manifest: Manifest, content: Chunks): void {
    this.#manifest = manifest;
    this.#content = content;
    this.#sealing.clear();
    this.#pushed.clear();
    this.#ready = [];
    this.#offered = true;
    this.#fresh = [];
    this.#allowance = AGAIN * Math.max(this.#windowBytes, manifest.memoryBytes + manifest.contextBytes);
  }

  /** offered is told that the manifest was sent. */
  offered(out: SourceEffect[]): void {
    this.#offered = true;
    for (const frame of this.#ready.splice(0)) out.push(this.#sent(frame));
  }

  /** spent tells whether the destination has asked for so much of this round again that it is not answered any more (MP3). */
  get spent(): boolean {
    return this.#allowance <= 0;
  }

  /** renew lets a round be sent once more, to a destination that owns the agent and has lost what it had. */
  renew(): void {
    const { memoryBytes = 0, contextBytes = 0 } = this.#manifest ?? {};
    this.#allowance = Math.max(this.#allowance, memoryBytes + contextBytes);
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
    const frame: MigrationFrame = { kind: "parcel", transfer: this.#id.transfer, round, numbers, enc, sealed };
    if (this.#offered) out.push(this.#sent(frame));
    else this.#ready.push(frame);
  }

  /** sent is a parcel on its way: not before its manifest, of which the final one waits for what is stored. */
  #sent(frame: MigrationFrame): SourceEffect {
    return { kind: "send", to: this.#id.to, frame, early: this.#manifest?.final === false };
  }

  /** seal seals as many chunks as may be under way at once, and gives their numbers. */
  #seal(numbers: readonly number[], key: Uint8Array, out: SourceEffect[]): readonly number[] {
    if (this.#manifest === undefined || key.length === 0) return [];
    const { round } = this.#manifest;
    const info = sealInfo(this.#id.transfer, this.#id.fence);
    const room = this.#windowBytes - (lengthOf(this.#manifest, [...this.#sealing]) ?? 0);
    if (room <= 0 || this.spent) return [];
    const wanted = numbers.filter((number) => !this.#sealing.has(number));
    const window = windowOf(this.#manifest, wanted, room);
    this.#allowance -= lengthOf(this.#manifest, window) ?? 0;
    for (const parcel of parcelsOf(this.#manifest, window)) {
      const raw = joinChunks(this.#manifest, parcel, this.#content);
      if (raw === undefined) continue;
      for (const number of parcel) this.#sealing.add(number);
      out.push({ kind: "seal", round, numbers: parcel, key, info, aad: sealAad(round, parcel), raw });
    }
    return window;
  }
}
