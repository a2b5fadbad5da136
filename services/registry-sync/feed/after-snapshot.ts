import type { CameSegment } from "./segment.ts";

/** Segments after a snapshot that are kept until they can be applied, and their bytes. More are asked for again. */
const KEPT_MAX = 2_048;
const KEPT_BYTES_MAX = 1024 * 1024;

/**
 * KEPT_PER_STEP is how many are applied in one step, and no more after KEPT_BYTES_PER_STEP: each is verified, and nothing else runs
 * meanwhile.
 */
export const KEPT_PER_STEP = 8;
const KEPT_BYTES_PER_STEP = 64 * 1024;

/**
 * AfterSnapshot keeps the segments of one epoch that follow a snapshot, in order and without a gap, until the feed can take them. What has
 * no room, and all after that, is `missed`.
 */
export class AfterSnapshot {
  readonly share: string;
  readonly epoch: number;
  #items: CameSegment[] = [];
  /** Those before are taken. */
  #from = 0;
  /** Sequence number of the next one that would be kept. */
  #next: number;
  bytes = 0;
  /** Segments came that were not kept, and have to come again. */
  missed = false;

  constructor({ share, epoch, asOfSeq }: { readonly share: string; readonly epoch: number; readonly asOfSeq: number }) {
    this.share = share;
    this.epoch = epoch;
    this.#next = asOfSeq + 1;
  }

  get size(): number {
    return this.#items.length - this.#from;
  }

  /** of tells whether they are of that epoch. */
  of(other: { readonly share: string; readonly epoch: number }): boolean {
    return this.share === other.share && this.epoch === other.epoch;
  }

  /** keep takes a segment that comes. */
  keep(item: CameSegment): void {
    if (item.header.seq < this.#next) return;
    this.missed ||= item.header.seq > this.#next || this.size >= KEPT_MAX || this.bytes + item.byteLength > KEPT_BYTES_MAX;
    if (this.missed) return;
    this.#items.push(item);
    this.#next++;
    this.bytes += item.byteLength;
  }

  /** take gives out what one step may apply. */
  take(): readonly CameSegment[] {
    const from = this.#from;
    let bytes = 0;
    while (this.#from < this.#items.length && this.#from < from + KEPT_PER_STEP && bytes < KEPT_BYTES_PER_STEP)
      bytes += (this.#items[this.#from++] as CameSegment).byteLength;
    this.bytes -= bytes;
    const taken = this.#items.slice(from, this.#from);
    // What was taken must not stay in memory, nor be moved up each time.
    if (this.#from * 2 >= this.#items.length) {
      this.#items = this.#items.slice(this.#from);
      this.#from = 0;
    }
    return taken;
  }
}
