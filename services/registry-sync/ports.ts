/**
 * What the core is given besides time: pure functions between bytes and plain records, and a way to read its store back.
 * `segment-codec.ts` implements SegmentCodec with the generated schema; the numbers of enums are those of the schema.
 */

import type { ValueType } from "#kernel/wire/value.ts";

export { VALUE_TYPE, type ValueType } from "#kernel/wire/value.ts";

/** EPOCH_REASON are the reasons of an epoch, as `foedus.registry_sync.segment.v1.EpochReason`. */
export const EPOCH_REASON = { CREATED: 1, RESTORED: 2, UNCLEAN_STOP: 3, KEY_REVOKED: 4, RENUMBERED: 5 } as const;

/** EpochReason is the number of a reason. */
export type EpochReason = (typeof EPOCH_REASON)[keyof typeof EPOCH_REASON];

/** CODEC are the codecs of payloads and snapshot parts, as `foedus.registry_sync.segment.v1.Codec`. */
export const CODEC = { IDENTITY: 1, ZSTD: 2 } as const;

/** Codec is the number of a codec. */
export type Codec = (typeof CODEC)[keyof typeof CODEC];

/** CapabilityInfo is what rules and state need of a capability. */
export interface CapabilityInfo {
  readonly name: string;
  readonly type: ValueType;
  readonly readable: boolean;
  readonly invocable: boolean;
}

/** NodeInfo is what rules, filters and state need of a node; the rest stays in its bytes. */
export interface NodeInfo {
  readonly nodeId: string;
  /** 1 device, 2 agent (0 counts as device). */
  readonly kind: number;
  readonly type: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly capabilities: readonly CapabilityInfo[];
}

/** NodeSummary is what is kept in memory of what a node says; its capabilities are read out of its bytes when somebody asks. */
export type NodeSummary = Omit<NodeInfo, "capabilities">;

/**
 * UpdateBatch is a StateBlock as columns. The first `numCount` changes have type BOOL or DOUBLE, the next `intCount` SINT64,
 * the rest STRING, BYTES or JSON. `bits` has the fixed-width values as raw little-endian words: low at 2i, high at 2i + 1.
 */
export interface UpdateBatch {
  readonly count: number;
  readonly numCount: number;
  readonly intCount: number;
  readonly ref: Uint32Array;
  readonly key: Uint32Array;
  readonly bits: Uint32Array;
  /** Byte lengths of the third section: count - numCount - intCount of them. */
  readonly len: Uint32Array;
  readonly data: Uint8Array;
  /** The encoded StateBlock, verbatim. */
  readonly bytes: Uint8Array;
}

/** Columns is an UpdateBatch that is not encoded yet. */
export type Columns = Omit<UpdateBatch, "bytes">;

/** HlcValue is a clock reading. */
export interface HlcValue {
  readonly wallMs: number;
  readonly logical: number;
}

/** SegmentHeader is the signed part of a segment. */
export interface SegmentHeader {
  readonly hubId: string;
  readonly share: string;
  readonly epoch: number;
  readonly seq: number;
  readonly prev: Uint8Array;
  readonly hlc: HlcValue;
  readonly beat: number;
  readonly count: number;
  readonly codec: number;
  readonly payloadDigest: Uint8Array;
  readonly rawLen: number;
  readonly keySerial: number;
  /** What in it breaks a rule of the schema, for people: it is not taken from others. What this hub wrote before the rule stays readable. */
  readonly broken?: string;
}

/** SegmentParts are views into one encoded segment. */
export interface SegmentParts {
  readonly header: Uint8Array;
  readonly signature: Uint8Array;
  readonly payload: Uint8Array;
}

/** Block is one decoded block of a payload. */
export type Block =
  | { readonly kind: "node_put"; readonly ref: number; readonly node: Uint8Array; readonly online: boolean }
  | { readonly kind: "key_def"; readonly kref: number; readonly name: string; readonly type: ValueType }
  | { readonly kind: "state"; readonly batch: UpdateBatch }
  | { readonly kind: "node_del"; readonly ref: number }
  | { readonly kind: "epoch_open"; readonly reason: number; readonly continuesEpoch: number; readonly continuesSeq: number }
  | { readonly kind: "presence"; readonly online: readonly number[]; readonly offline: readonly number[] }
  | { readonly kind: "unknown"; readonly field: number; readonly bytes: Uint8Array };

/** SnapshotPartInfo names a part of a snapshot by its content. */
export interface SnapshotPartInfo {
  readonly sha256: Uint8Array;
  readonly len: number;
  readonly rawLen: number;
  readonly codec: number;
}

/** SnapshotManifest describes a whole feed at one position. */
export interface SnapshotManifest {
  readonly hubId: string;
  readonly share: string;
  readonly epoch: number;
  readonly asOfSeq: number;
  readonly headDigest: Uint8Array;
  readonly stateHash: Uint8Array;
  readonly parts: readonly SnapshotPartInfo[];
  readonly keySerial: number;
  readonly hlc: HlcValue;
  readonly nodes: number;
  /** As in SegmentHeader. */
  readonly broken?: string;
}

/** SegmentCodec turns the stable formats into records and back. Decoders answer undefined for what is malformed and never throw. */
export interface SegmentCodec {
  encodeHeader(header: SegmentHeader): Uint8Array;
  decodeHeader(bytes: Uint8Array): SegmentHeader | undefined;
  /** decodeSegment answers views, without copying. */
  decodeSegment(bytes: Uint8Array): SegmentParts | undefined;
  /** encodeBlock gives the bytes of one Block, without tag and length of the list it goes into. */
  encodeBlock(block: Exclude<Block, { kind: "state" | "unknown" }>): Uint8Array;
  /** encodeState gives the bytes of a StateBlock. */
  encodeState(columns: Columns): Uint8Array;
  decodeState(bytes: Uint8Array): UpdateBatch | undefined;
  /** isUtf8 tells whether all of the bytes are UTF-8, at memory speed: asked once per batch. */
  isUtf8(bytes: Uint8Array): boolean;
  /** decodePayload reads a SegmentPayload. Batches own their columns; byte fields are views. */
  decodePayload(bytes: Uint8Array): Block[] | undefined;
  /** decodePiece reads as many blocks from `from` on as come to `maxBytes` or `maxBlocks`, at least one; `next` is where it goes on. */
  decodePiece(
    bytes: Uint8Array,
    from: number,
    maxBytes: number,
    maxBlocks: number,
  ): { readonly blocks: readonly Block[]; readonly next: number } | undefined;
  readNode(bytes: Uint8Array): NodeInfo | undefined;
  /** hasCapability tells whether a node that can be read has a capability of that name, much faster than reading it. */
  hasCapability(node: Uint8Array, name: string): boolean;
  /** nodeSize is about how many bytes of memory a node takes in an answer, before that is encoded. */
  nodeSize(node: Uint8Array): number;
  /** limitNode re-encodes a node with only the capabilities for which `keep` is true, and `invocable` cleared unless `invoke` is true. */
  limitNode(bytes: Uint8Array, keep: (capability: string) => boolean, invoke: (capability: string) => boolean): Uint8Array;
  encodeManifest(manifest: SnapshotManifest): Uint8Array;
  decodeManifest(bytes: Uint8Array): SnapshotManifest | undefined;
  /** Pair of bytes with fields 1 and 2: SignedManifest. */
  encodeSigned(body: Uint8Array, signature: Uint8Array): Uint8Array;
  decodeSigned(bytes: Uint8Array): { readonly body: Uint8Array; readonly signature: Uint8Array } | undefined;
}

/** StoreReader is how the core reads back what it persisted: the reading half of the store port. */
export interface StoreReader {
  logs(): readonly string[];
  read(log: string, from: number): Iterable<{ readonly seq: number; readonly bytes: Uint8Array }>;
  space(space: string): Iterable<{ readonly key: string; readonly bytes: Uint8Array }>;
  get(space: string, key: string): Uint8Array | undefined;
}

/** Boot is what the core must know about its process to judge what it finds in the store. */
export interface Boot {
  /** Changes when the operating system starts; text of any form. */
  readonly bootId: string;
  readonly durability: "full" | "process";
}
