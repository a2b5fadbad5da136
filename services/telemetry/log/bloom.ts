/** Bits of a filter, as a power of two, and how many of them a token sets. */
const BITS = 8_192;
const PROBES = 4;

/** BLOOM_BYTES is what one takes. */
export const BLOOM_BYTES = BITS / 8;

/**
 * Bloom tells of a token that it is certainly not among those that were added, or that it may be. With a thousand tokens one in fifty
 * that is not there may seem to be.
 */
export class Bloom {
  readonly bytes: Uint8Array;

  constructor(bytes = new Uint8Array(BLOOM_BYTES)) {
    this.bytes = bytes;
  }

  add(token: number): void {
    for (let i = 0; i < PROBES; i++) {
      const bit = probe(token, i);
      this.bytes[bit >>> 3] = (this.bytes[bit >>> 3] as number) | (1 << (bit & 7));
    }
  }

  has(token: number): boolean {
    for (let i = 0; i < PROBES; i++) {
      const bit = probe(token, i);
      if (((this.bytes[bit >>> 3] as number) & (1 << (bit & 7))) === 0) return false;
    }
    return true;
  }
}

function probe(token: number, i: number): number {
  return (token + Math.imul(i, (token >>> 16) | 1)) & (BITS - 1);
}
