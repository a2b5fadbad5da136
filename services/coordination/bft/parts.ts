import type { ReplicaId } from "../log/engine.ts";
import { BFT_BOUNDS, type BftFrame, type ValueId } from "./frames.ts";
import { isIndex } from "./proof/certificate.ts";

/** Bytes that a value has beyond its payloads: markers, framing, a membership. */
const OVERHEAD = 768 * 1024;

/** valueBytesMax is the most that a value is long if its payloads have at most so many bytes. */
export function valueBytesMax(batchBytes: number): number {
  return Math.min(batchBytes + OVERHEAD, BFT_BOUNDS.partBytes * BFT_BOUNDS.parts);
}

/** partsOf cuts a value into frames. */
export function partsOf(height: number, value: ValueId, bytes: Uint8Array): BftFrame[] {
  const count = Math.max(1, Math.ceil(bytes.length / BFT_BOUNDS.partBytes));
  return Array.from({ length: count }, (_, index) => ({
    kind: "part",
    height,
    value,
    index,
    count,
    bytes: bytes.subarray(index * BFT_BOUNDS.partBytes, (index + 1) * BFT_BOUNDS.partBytes),
  }));
}

/** Assembly of the one value that a peer is sending. */
interface Incoming {
  readonly value: ValueId;
  readonly parts: (Uint8Array | undefined)[];
  missing: number;
}

/** Parts puts values together. Each peer sends one at a time; one that begins another gives the first up. */
export class Parts {
  readonly #incoming = new Map<ReplicaId, Incoming>();
  readonly #bytesMax: number;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** add takes a part, and answers the whole once it is there. "bad" for one that no honest peer sends. */
  add(from: ReplicaId, frame: Extract<BftFrame, { readonly kind: "part" }>): Uint8Array | "bad" | undefined {
    const { value, index, count, bytes } = frame;
    if (!isIndex(count - 1, BFT_BOUNDS.parts) || !isIndex(index, count) || bytes.length > BFT_BOUNDS.partBytes) return "bad";
    if ((index < count - 1 && bytes.length !== BFT_BOUNDS.partBytes) || bytes.length === 0) return "bad";
    if ((count - 1) * BFT_BOUNDS.partBytes + (index === count - 1 ? bytes.length : 1) > this.#bytesMax) return "bad";
    if (count === 1) return bytes;
    let incoming = this.#incoming.get(from);
    if (incoming?.value !== value || incoming.parts.length !== count)
      this.#incoming.set(from, (incoming = { value, parts: new Array(count).fill(undefined), missing: count }));
    if (incoming.parts[index] !== undefined) return undefined;
    incoming.parts[index] = bytes;
    if (--incoming.missing > 0) return undefined;
    this.#incoming.delete(from);
    return joined(incoming.parts as Uint8Array[]);
  }

  /** clear forgets what is not whole: another height has begun. */
  clear(): void {
    this.#incoming.clear();
  }
}

/** joined are some pieces as one. */
export function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
