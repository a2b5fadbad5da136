import { isUtf8 } from "node:buffer";
import { create, type DescMessage, type Message, toBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { decodeChecked } from "#channel/decoded-size.ts";
import { validateRequest } from "#channel/validation.ts";
import { HlcSchema, type ValueType as ProtoValueType } from "#gen/foedus/common/v1/value_pb.ts";
import {
  BlockSchema,
  type Codec as ProtoCodec,
  type EpochReason as ProtoEpochReason,
  SegmentHeaderSchema,
  SnapshotManifestSchema,
  SnapshotPartInfoSchema,
  StateBlockSchema,
} from "#gen/foedus/registry_sync/segment/v1/segment_pb.ts";
import type {
  Block,
  Columns,
  HlcValue,
  SegmentCodec,
  SegmentHeader,
  SegmentParts,
  SnapshotManifest,
  UpdateBatch,
  ValueType,
} from "../ports.ts";
import { hasCapability, limitNode, nodeSize, readNode } from "./node-codec.ts";
import { EMPTY, fieldLength, putField, putTag, putVarint, varintLength } from "./wire.ts";

/** LITTLE_ENDIAN tells whether this machine stores words as the wire does. All that Node.js runs on do, which a test asserts. */
export const LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

function hlcOf(hlc: { wallMs: bigint; logical: number } | undefined): HlcValue {
  return { wallMs: Number(hlc?.wallMs ?? 0n), logical: hlc?.logical ?? 0 };
}

/** brokenIn says what in a signed message breaks a rule of the schema, such as the bounds of its numbers: beyond 2^53 they come rounded. */
function brokenIn(desc: DescMessage, message: Message, name: string): { readonly broken?: string } {
  const failure = validateRequest(desc, message);
  return failure === undefined ? {} : { broken: `${name}.${failure.message}` };
}

function hlcMessage(hlc: HlcValue) {
  return create(HlcSchema, { wallMs: BigInt(hlc.wallMs), logical: hlc.logical });
}

/** guarded turns what a decoder throws for malformed bytes into undefined. */
function guarded<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** safe turns a uint64 into a number; beyond 2^53 it is malformed for us. */
function safe(value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new RangeError("number beyond 2^53");
  return Number(value);
}

/** Column is where the elements of one fixed-width field stand: one packed run (the usual), or several pieces. */
class Column {
  readonly #width: number;
  readonly #pieces: Uint8Array[] = [];
  #bytes = 0;

  constructor(width: number) {
    this.#width = width;
  }

  get count(): number {
    return this.#bytes / this.#width;
  }

  /** read takes one occurrence of the field: a packed run or a single element. */
  read(reader: BinaryReader, buf: Uint8Array, wire: WireType): void {
    const length = wire === WireType.LengthDelimited ? reader.uint32() : this.#width;
    const expected = this.#width === 4 ? WireType.Bit32 : WireType.Bit64;
    if ((wire !== WireType.LengthDelimited && wire !== expected) || length % this.#width !== 0 || reader.pos + length > buf.length)
      throw new RangeError("malformed column");
    this.#pieces.push(buf.subarray(reader.pos, reader.pos + length));
    reader.pos += length;
    this.#bytes += length;
  }

  /** copy writes the elements at a byte offset and answers where they end. */
  copy(into: Uint8Array, at: number): number {
    let next = at;
    for (const piece of this.#pieces) {
      into.set(piece, next);
      next += piece.length;
    }
    return next;
  }
}

/**
 * decodeState reads a StateBlock. Packed fixed-width fields are little-endian arrays on the wire, so that each column is one copy
 * into aligned memory; all columns share one buffer. Unpacked or split fields are accepted as protobuf demands; unknown fields skipped.
 */
export function decodeState(bytes: Uint8Array): UpdateBatch | undefined {
  return guarded(() => {
    const reader = new BinaryReader(bytes);
    const columns = [new Column(4), new Column(4), new Column(8), new Column(8), new Column(4)] as const;
    let data: Uint8Array = EMPTY;
    while (reader.pos < bytes.length) {
      const [field, wire] = reader.tag();
      if (field >= 1 && field <= 5) (columns[field - 1] as Column).read(reader, bytes, wire);
      else if (field === 6 && wire === WireType.LengthDelimited) data = reader.bytes();
      else reader.skip(wire, field);
    }
    const [ref, key, num, int, len] = columns;
    const count = ref.count;
    const fixed = num.count + int.count;
    if (key.count !== count || fixed + len.count !== count) return undefined;
    const buffer = new ArrayBuffer(8 * fixed + 4 * (2 * count + len.count));
    const all = new Uint8Array(buffer);
    int.copy(all, num.copy(all, 0));
    const refAt = 8 * fixed;
    const keyAt = ref.copy(all, refAt);
    const lenAt = key.copy(all, keyAt);
    len.copy(all, lenAt);
    return {
      count,
      numCount: num.count,
      intCount: int.count,
      ref: new Uint32Array(buffer, refAt, count),
      key: new Uint32Array(buffer, keyAt, count),
      bits: new Uint32Array(buffer, 0, 2 * fixed),
      len: new Uint32Array(buffer, lenAt, len.count),
      data,
      bytes,
    };
  });
}

function encodeState(columns: Columns): Uint8Array {
  const { numCount, intCount, bits } = columns;
  const fixed = numCount + intCount;
  const words = bits.slice(0, 2 * fixed);
  return toBinary(
    StateBlockSchema,
    create(StateBlockSchema, {
      ref: [...columns.ref.subarray(0, columns.count)],
      key: [...columns.key.subarray(0, columns.count)],
      num: [...new Float64Array(words.buffer, 0, numCount)],
      int: [...new BigInt64Array(words.buffer, 8 * numCount, intCount)],
      len: [...columns.len],
      data: columns.data,
    }),
  );
}

/** fields yields the length-delimited fields of a message in order and skips others. */
function* fields(bytes: Uint8Array): Generator<{ readonly field: number; readonly bytes: Uint8Array }> {
  const reader = new BinaryReader(bytes);
  while (reader.pos < bytes.length) yield nextField(reader, bytes);
}

function nextField(reader: BinaryReader, bytes: Uint8Array): { readonly field: number; readonly bytes: Uint8Array } {
  const [field, wire] = reader.tag();
  if (wire === WireType.LengthDelimited) return { field, bytes: view(reader, bytes) };
  const from = reader.pos;
  reader.skip(wire, field);
  return { field, bytes: bytes.subarray(from, reader.pos) };
}

function view(reader: BinaryReader, bytes: Uint8Array): Uint8Array {
  const length = reader.uint32();
  const start = reader.pos;
  if (start + length > bytes.length) throw new RangeError("field beyond the end");
  reader.pos = start + length;
  return bytes.subarray(start, reader.pos);
}

function decodeBlock(bytes: Uint8Array): Block {
  let found: { field: number; bytes: Uint8Array } | undefined;
  for (const item of fields(bytes)) found = item;
  if (found === undefined) return { kind: "unknown", field: 0, bytes };
  if (found.field === 3) {
    const batch = decodeState(found.bytes);
    if (batch === undefined) throw new RangeError("malformed state block");
    return { kind: "state", batch };
  }
  const put = found.field === 1 ? plainNodePut(bytes, found.bytes) : undefined;
  if (put !== undefined) return put;
  const { kind } = decodeChecked(BlockSchema, bytes);
  switch (kind.case) {
    case "nodePut":
      return { kind: "node_put", ref: kind.value.ref, node: kind.value.node, online: kind.value.online };
    case "keyDef":
      return { kind: "key_def", kref: kind.value.kref, name: kind.value.name, type: kind.value.type as ValueType };
    case "nodeDel":
      return { kind: "node_del", ref: kind.value.ref };
    case "epochOpen":
      return {
        kind: "epoch_open",
        reason: kind.value.reason,
        continuesEpoch: safe(kind.value.continuesEpoch),
        continuesSeq: safe(kind.value.continuesSeq),
      };
    case "presence":
      return { kind: "presence", online: kind.value.online, offline: kind.value.offline };
    default:
      return { kind: "unknown", field: found.field, bytes };
  }
}

/** Tags of NodePut: ref, node, online. */
const PUT_TAG = { REF: 0x08, NODE: 0x12, ONLINE: 0x18 } as const;

/** plainNodePut reads a NodePut that is written in the usual way, which a snapshot has by the thousand; undefined leaves it to the generated code. */
function plainNodePut(block: Uint8Array, bytes: Uint8Array): Block | undefined {
  const alone = block.length === fieldLength(bytes.length);
  if (!alone || bytes[0] !== PUT_TAG.REF) return undefined;
  const reader = new BinaryReader(bytes);
  reader.pos = 1;
  const ref = reader.uint32();
  if (bytes[reader.pos++] !== PUT_TAG.NODE) return undefined;
  const node = view(reader, bytes);
  if (reader.pos === bytes.length) return { kind: "node_put", ref, node, online: false };
  const online = reader.pos + 2 === bytes.length && bytes[reader.pos] === PUT_TAG.ONLINE && bytes[reader.pos + 1] === 1;
  return online ? { kind: "node_put", ref, node, online } : undefined;
}

function encodeNodePut({ ref, node, online }: Extract<Block, { kind: "node_put" }>): Uint8Array {
  const inner = 1 + varintLength(ref) + fieldLength(node.length) + (online ? 2 : 0);
  const bytes = new Uint8Array(fieldLength(inner));
  let at = putTag(bytes, 0, 1, inner);
  bytes[at] = PUT_TAG.REF;
  at = putField(bytes, putVarint(bytes, at + 1, ref), 2, node);
  if (online) bytes.set([PUT_TAG.ONLINE, 1], at);
  return bytes;
}

function encodeBlock(block: Exclude<Block, { kind: "state" | "unknown" }>): Uint8Array {
  switch (block.kind) {
    case "node_put":
      return encodeNodePut(block);
    case "key_def":
      return toBinary(
        BlockSchema,
        create(BlockSchema, {
          kind: { case: "keyDef", value: { kref: block.kref, name: block.name, type: block.type as ProtoValueType } },
        }),
      );
    case "node_del":
      return toBinary(BlockSchema, create(BlockSchema, { kind: { case: "nodeDel", value: { ref: block.ref } } }));
    case "epoch_open": {
      const value = {
        reason: block.reason as ProtoEpochReason,
        continuesEpoch: BigInt(block.continuesEpoch),
        continuesSeq: BigInt(block.continuesSeq),
      };
      return toBinary(BlockSchema, create(BlockSchema, { kind: { case: "epochOpen", value } }));
    }
    case "presence":
      return toBinary(
        BlockSchema,
        create(BlockSchema, { kind: { case: "presence", value: { online: [...block.online], offline: [...block.offline] } } }),
      );
  }
}

function encodeHeader(h: SegmentHeader): Uint8Array {
  const { hubId, share, prev, count, payloadDigest, rawLen, keySerial } = h;
  const numbers = {
    epoch: BigInt(h.epoch),
    seq: BigInt(h.seq),
    beat: BigInt(h.beat),
    codec: h.codec as ProtoCodec,
    hlc: hlcMessage(h.hlc),
  };
  return toBinary(
    SegmentHeaderSchema,
    create(SegmentHeaderSchema, { hubId, share, prev, count, payloadDigest, rawLen, keySerial, ...numbers }),
  );
}

function decodeHeader(bytes: Uint8Array): SegmentHeader | undefined {
  return guarded(() => {
    const h = decodeChecked(SegmentHeaderSchema, bytes);
    const { hubId, share, prev, count, codec, payloadDigest, rawLen, keySerial } = h;
    if (prev.length !== 32 || payloadDigest.length !== 32) return undefined;
    return {
      hubId,
      share,
      epoch: Number(h.epoch),
      seq: Number(h.seq),
      prev,
      hlc: hlcOf(h.hlc),
      beat: Number(h.beat),
      count,
      codec,
      payloadDigest,
      rawLen,
      keySerial,
      ...brokenIn(SegmentHeaderSchema, h, "header"),
    };
  });
}

function decodeSegment(bytes: Uint8Array): SegmentParts | undefined {
  return guarded(() => {
    const found: (Uint8Array | undefined)[] = [];
    for (const item of fields(bytes)) found[item.field] = item.bytes;
    const [, header, signature, payload] = found;
    return header === undefined || signature === undefined ? undefined : { header, signature, payload: payload ?? EMPTY };
  });
}

function decodePayload(bytes: Uint8Array): Block[] | undefined {
  return guarded(() => {
    const blocks: Block[] = [];
    for (const item of fields(bytes)) if (item.field === 1) blocks.push(decodeBlock(item.bytes));
    return blocks;
  });
}

function decodePiece(bytes: Uint8Array, from: number, maxBytes: number, maxBlocks: number) {
  return guarded(() => {
    const reader = new BinaryReader(bytes);
    reader.pos = from;
    const blocks: Block[] = [];
    // What is no block counts like one: skipping it takes time too.
    for (let count = 0; count < maxBlocks && reader.pos < bytes.length && reader.pos - from < maxBytes; count++) {
      const item = nextField(reader, bytes);
      if (item.field === 1) blocks.push(decodeBlock(item.bytes));
    }
    return { blocks, next: reader.pos };
  });
}

function encodeManifest(m: SnapshotManifest): Uint8Array {
  const { hubId, share, headDigest, stateHash, keySerial, nodes } = m;
  const numbers = { epoch: BigInt(m.epoch), asOfSeq: BigInt(m.asOfSeq), hlc: hlcMessage(m.hlc) };
  const parts = m.parts.map(({ sha256, len, rawLen, codec }) =>
    create(SnapshotPartInfoSchema, { sha256, len, rawLen, codec: codec as ProtoCodec }),
  );
  return toBinary(
    SnapshotManifestSchema,
    create(SnapshotManifestSchema, { hubId, share, headDigest, stateHash, keySerial, nodes, parts, ...numbers }),
  );
}

function decodeManifest(bytes: Uint8Array): SnapshotManifest | undefined {
  return guarded(() => {
    const m = decodeChecked(SnapshotManifestSchema, bytes);
    const { hubId, share, headDigest, stateHash, keySerial, nodes } = m;
    if (headDigest.length !== 32) return undefined;
    const parts = m.parts.map(({ sha256, len, rawLen, codec }) => ({ sha256, len, rawLen, codec }));
    return {
      hubId,
      share,
      epoch: Number(m.epoch),
      asOfSeq: Number(m.asOfSeq),
      headDigest,
      stateHash,
      parts,
      keySerial,
      hlc: hlcOf(m.hlc),
      nodes,
      ...brokenIn(SnapshotManifestSchema, m, "manifest"),
    };
  });
}

function encodeSigned(body: Uint8Array, signature: Uint8Array): Uint8Array {
  const all = new Uint8Array(fieldLength(body.length) + fieldLength(signature.length));
  putField(all, putField(all, 0, 1, body), 2, signature);
  return all;
}

function decodeSigned(bytes: Uint8Array): { body: Uint8Array; signature: Uint8Array } | undefined {
  return guarded(() => {
    const found: (Uint8Array | undefined)[] = [];
    for (const item of fields(bytes)) found[item.field] = item.bytes;
    const [, body, signature] = found;
    return body === undefined || signature === undefined ? undefined : { body, signature };
  });
}

/** segmentCodec is the SegmentCodec that ships. */
export const segmentCodec: SegmentCodec = {
  encodeHeader,
  decodeHeader,
  decodeSegment,
  encodeBlock,
  encodeState,
  decodeState,
  isUtf8,
  decodePayload,
  decodePiece,
  readNode,
  hasCapability,
  nodeSize,
  limitNode,
  encodeManifest,
  decodeManifest,
  encodeSigned,
  decodeSigned,
};
