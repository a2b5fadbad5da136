import type { Crypto } from "#kernel/crypto.ts";
import type { Ring } from "#kernel/ring.ts";
import { concat, fieldLength, putField, putTag, utf8 } from "../codec/wire.ts";
import type { FeedPosition } from "../messages.ts";
import type { SegmentCodec, SegmentHeader } from "../ports.ts";
import { CODEC } from "../ports.ts";

/** SEGMENT_DOMAIN and SNAPSHOT_DOMAIN are the words in front of what is signed, so that a signature means one thing only. */
export const SEGMENT_DOMAIN = utf8("foedus.segment.v1\0");
export const SNAPSHOT_DOMAIN = utf8("foedus.snapshot.v1\0");

/** ZERO_DIGEST stands in front of the first segment of an epoch. */
export const ZERO_DIGEST = new Uint8Array(32);

/** Room in front of a payload for frame, header and signature: the longest header has fewer than 300 bytes. */
const HEAD_ROOM = 512;
const SIGNATURE_BYTES = 64;

/** BLOCK_OVERHEAD is how many bytes framing may add to a block: its tag and length, and those of what is in it. */
export const BLOCK_OVERHEAD = 32;

/** Field numbers that the framing needs. */
const FIELD = { HEADER: 1, SIGNATURE: 2, PAYLOAD: 3, BLOCKS: 1, BLOCK_STATE: 3, FRAME: 1, FRAME_SEGMENT: 4, SEGMENT_BYTES: 1 } as const;

/** SegmentItem is one segment, encoded once: what is stored, sent to every peer and shown to every watcher are views of one buffer. */
export interface SegmentItem {
  readonly header: SegmentHeader;
  /** SHA-256 of the header bytes. */
  readonly digest: Uint8Array;
  /** Encoded Segment. */
  readonly segment: Uint8Array;
  readonly payload: Uint8Array;
  /** Encoded SessionRequest or SessionResponse around `segment`; undefined for segments that came from elsewhere. */
  readonly message: Uint8Array | undefined;
  readonly byteLength: number;
}

/** Payload collects the blocks of a segment or snapshot part; bytes are copied once, by `write`. */
export class Payload {
  readonly #blocks: Uint8Array[] = [];
  readonly #isState: boolean[] = [];
  length = 0;
  /** Entries: changes of state blocks, one for each other block (presence: one per node). */
  count = 0;

  get empty(): boolean {
    return this.#blocks.length === 0;
  }

  get blocks(): number {
    return this.#blocks.length;
  }

  /** block adds an encoded Block. */
  block(bytes: Uint8Array, count = 1): void {
    this.#blocks.push(bytes);
    this.#isState.push(false);
    this.length += fieldLength(bytes.length);
    this.count += count;
  }

  /** state adds an encoded StateBlock, verbatim. */
  state(bytes: Uint8Array, count: number): void {
    this.#blocks.push(bytes);
    this.#isState.push(true);
    this.length += fieldLength(fieldLength(bytes.length));
    this.count += count;
  }

  /** write puts the encoded SegmentPayload at `at`. */
  write(into: Uint8Array, at: number): void {
    let next = at;
    for (let i = 0; i < this.#blocks.length; i++) {
      const bytes = this.#blocks[i] as Uint8Array;
      if (this.#isState[i]) {
        next = putTag(into, next, FIELD.BLOCKS, fieldLength(bytes.length));
        next = putField(into, next, FIELD.BLOCK_STATE, bytes);
      } else next = putField(into, next, FIELD.BLOCKS, bytes);
    }
  }

  /** bytes is the encoded SegmentPayload. */
  bytes(): Uint8Array {
    const all = new Uint8Array(this.length);
    this.write(all, 0);
    return all;
  }
}

/** SegmentPlace is where a new segment goes. */
export interface SegmentPlace {
  readonly hubId: string;
  readonly share: string;
  readonly epoch: number;
  readonly seq: number;
  readonly prev: Uint8Array;
  readonly hlc: { readonly wallMs: number; readonly logical: number };
  readonly beat: number;
  readonly keySerial: number;
}

/** sealSegment encodes, hashes and signs a segment: one buffer, one hash of the payload, one of the header, one signature. */
export function sealSegment(codec: SegmentCodec, crypto: Crypto, place: SegmentPlace, payload: Payload): SegmentItem {
  const buffer = new Uint8Array(HEAD_ROOM + payload.length);
  payload.write(buffer, HEAD_ROOM);
  const body = buffer.subarray(HEAD_ROOM);
  const header: SegmentHeader = {
    ...place,
    count: payload.count,
    codec: CODEC.IDENTITY,
    payloadDigest: crypto.hash(body),
    rawLen: body.length,
  };
  const headerBytes = codec.encodeHeader(header);
  const signature = crypto.sign(concat([SEGMENT_DOMAIN, headerBytes]));
  // Everything in front of the payload is written so that it ends where the payload starts.
  const payloadTag = fieldLength(body.length) - body.length;
  const start = HEAD_ROOM - payloadTag - fieldLength(SIGNATURE_BYTES) - fieldLength(headerBytes.length);
  let at = putField(buffer, start, FIELD.HEADER, headerBytes);
  at = putField(buffer, at, FIELD.SIGNATURE, signature);
  putTag(buffer, at, FIELD.PAYLOAD, body.length);
  const segment = buffer.subarray(start);
  const message = putFrame(buffer, start, segment.length);
  return { header, digest: crypto.hash(headerBytes), segment, payload: body, message, byteLength: segment.length };
}

/** putFrame writes SessionRequest{frame{segment{…}}} in front of a segment. */
function putFrame(buffer: Uint8Array, start: number, length: number): Uint8Array {
  const inner = fieldLength(length);
  const frame = fieldLength(inner);
  const first = start - (fieldLength(frame) - length);
  let at = putTag(buffer, first, FIELD.FRAME, frame);
  at = putTag(buffer, at, FIELD.FRAME_SEGMENT, inner);
  putTag(buffer, at, FIELD.SEGMENT_BYTES, length);
  return buffer.subarray(first);
}

/** CameSegment is one that came from elsewhere, with what its signature is checked by. */
export interface CameSegment extends SegmentItem {
  readonly headerBytes: Uint8Array;
  readonly signature: Uint8Array;
}

/** readSegment takes an encoded segment apart without checking its signature. Undefined if it is malformed. */
export function readSegment(codec: SegmentCodec, crypto: Crypto, bytes: Uint8Array): CameSegment | undefined {
  const parts = codec.decodeSegment(bytes);
  const header = parts === undefined ? undefined : codec.decodeHeader(parts.header);
  if (parts === undefined || header === undefined) return undefined;
  const digest = crypto.hash(parts.header);
  const { header: headerBytes, signature, payload } = parts;
  return { header, headerBytes, signature, digest, segment: bytes, payload, message: undefined, byteLength: bytes.length };
}

/** signedHeader encodes a segment without its payload: what shows that its position was signed. */
export function signedHeader(header: Uint8Array, signature: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(fieldLength(header.length) + fieldLength(signature.length));
  putField(bytes, putField(bytes, 0, FIELD.HEADER, header), FIELD.SIGNATURE, signature);
  return bytes;
}

/** verifySegment checks signature and payload digest of a segment. */
export function verifySegment(crypto: Crypto, publicKey: Uint8Array, headerBytes: Uint8Array, signature: Uint8Array): boolean {
  return crypto.verify(publicKey, concat([SEGMENT_DOMAIN, headerBytes]), signature);
}

/**
 * withoutState leaves out the state blocks of an encoded SegmentPayload; what it does not know stays. The payload itself is
 * answered if there is none in it, and no bytes if there is nothing else. The payload must have been decoded before.
 */
export function withoutState(payload: Uint8Array): Uint8Array {
  const kept: Uint8Array[] = [];
  let from = 0;
  for (let at = 0; at < payload.length; ) {
    const field = lengthDelimited(payload, at);
    if (field === undefined) return payload;
    const isState = payload[at] === ((FIELD.BLOCKS << 3) | 2) && payload[field.start] === ((FIELD.BLOCK_STATE << 3) | 2);
    if (isState && lengthDelimited(payload, field.start)?.end === field.end) {
      if (at > from) kept.push(payload.subarray(from, at));
      from = field.end;
    }
    at = field.end;
  }
  if (from === 0) return payload;
  return concat(from < payload.length ? [...kept, payload.subarray(from)] : kept);
}

/** lengthDelimited finds the content of a field below 16 that has a length; undefined for another kind of field. */
function lengthDelimited(bytes: Uint8Array, at: number): { readonly start: number; readonly end: number } | undefined {
  const tag = bytes[at] as number;
  if ((tag & 7) !== 2 || tag > 0x7f) return undefined;
  let length = 0;
  let next = at + 1;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[next++];
    if (byte === undefined || shift > 28) return undefined;
    length += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) break;
  }
  return next + length > bytes.length ? undefined : { start: next, end: next + length };
}

/** digestAt is the digest of a feed at a position; undefined before its ring. The position just before that is named by the first segment. */
export function digestAt(head: Pick<FeedPosition, "seq" | "digest">, ring: Ring<SegmentItem>, seq: number): Uint8Array | undefined {
  return seq === head.seq ? head.digest : ring.get(seq + 1)?.header.prev;
}

/** positionOf is where a segment stands. */
export function positionOf(item: SegmentItem): FeedPosition {
  const { hubId, share, epoch, seq } = item.header;
  return { hubId, share, epoch, seq, digest: item.digest };
}
