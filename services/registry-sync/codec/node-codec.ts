import { isUtf8 } from "node:buffer";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { decodedSize, MessageScan } from "#channel/decoded-size.ts";
import { CapabilitySchema, type Node, NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ProtoWalk } from "#kernel/wire/proto-walk.ts";
import type { CapabilityInfo, NodeInfo, ValueType } from "../ports.ts";

/** Tags of Node and Capability: field number and wire type. */
const NODE = { ID: 0x0a, KIND: 0x10, TYPE: 0x1a, NAME: 0x22, VENDOR: 0x2a, DESCRIPTION: 0x32, CAPABILITY: 0x3a } as const;
const CAPABILITY = {
  NAME: 0x0a,
  TYPE: 0x10,
  UNIT: 0x1a,
  READABLE: 0x20,
  INVOCABLE: 0x28,
  IDEMPOTENT: 0x30,
  MIN: 0x39,
  MAX: 0x41,
  STEP: 0x49,
  ALLOWED: 0x52,
  DESCRIPTION: 0x5a,
  SCHEMA: 0x62,
} as const;

/** Capabilities that are kept to be shared; nodes of one kind have the same ones. */
const SHARED_MAX = 4_096;
/** Longer ones are hardly the same twice. */
const SHARED_BYTES = 128;

const NONE: Readonly<Record<string, string>> = Object.freeze({});

/**
 * NodeReader reads what the registry needs to know of an encoded Node. What is written in the usual way is read here, which takes a
 * fraction of the time of the generated code, and a snapshot has it by the thousand; everything else, malformed or merely unusual
 * (agents, labels, unknown fields), is left to the generated code, so that both give the same answer to any bytes.
 */
class NodeReader {
  readonly #shared = new Map<string, CapabilityInfo>();
  #bytes: Buffer = Buffer.alloc(0);
  #at = 0;
  #end = 0;
  /** A text is not UTF-8. */
  #malformed = false;

  /** read answers undefined for what is not written in the usual way. */
  read(bytes: Uint8Array): NodeInfo | undefined {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#at = 0;
    this.#end = bytes.length;
    this.#malformed = false;
    let nodeId = "";
    let kind = 0;
    let type = "";
    let name = "";
    const capabilities: CapabilityInfo[] = [];
    while (this.#at < this.#end) {
      const tag = this.#bytes[this.#at++];
      if (tag === NODE.KIND) {
        kind = this.#small();
        if (kind < 0) return undefined;
        continue;
      }
      const length = this.#length();
      if (length < 0) return undefined;
      if (tag === NODE.ID) nodeId = this.#text(length);
      else if (tag === NODE.TYPE) type = this.#text(length);
      else if (tag === NODE.NAME) name = this.#text(length);
      else if (tag === NODE.VENDOR || tag === NODE.DESCRIPTION) this.#skipText(length);
      else if (tag === NODE.CAPABILITY) {
        const capability = this.#capability(length);
        if (capability === undefined) return undefined;
        capabilities.push(capability);
      } else return undefined;
    }
    return this.#malformed ? undefined : { nodeId, kind, type, name, labels: NONE, capabilities };
  }

  #capability(length: number): CapabilityInfo | undefined {
    const end = this.#at + length;
    if (length > SHARED_BYTES) return this.#readCapability(end);
    const key = this.#bytes.toString("latin1", this.#at, end);
    const known = this.#shared.get(key);
    if (known !== undefined) {
      this.#at = end;
      return known;
    }
    const capability = this.#readCapability(end);
    if (capability === undefined || this.#malformed) return undefined;
    if (this.#shared.size >= SHARED_MAX) this.#shared.clear();
    this.#shared.set(key, capability);
    return capability;
  }

  #readCapability(end: number): CapabilityInfo | undefined {
    const outer = this.#end;
    this.#end = end;
    let name = "";
    let type = 0;
    let readable = false;
    let invocable = false;
    while (this.#at < end) {
      const tag = this.#bytes[this.#at++];
      if (tag === CAPABILITY.TYPE || tag === CAPABILITY.READABLE || tag === CAPABILITY.INVOCABLE || tag === CAPABILITY.IDEMPOTENT) {
        const value = this.#small();
        if (value < 0 || (tag !== CAPABILITY.TYPE && value > 1)) return undefined;
        if (tag === CAPABILITY.TYPE) type = value;
        else if (tag === CAPABILITY.READABLE) readable = value === 1;
        else if (tag === CAPABILITY.INVOCABLE) invocable = value === 1;
      } else if (tag === CAPABILITY.MIN || tag === CAPABILITY.MAX || tag === CAPABILITY.STEP) {
        this.#at += 8;
        if (this.#at > end) return undefined;
      } else {
        const length = this.#length();
        if (length < 0) return undefined;
        if (tag === CAPABILITY.NAME) name = this.#text(length);
        else if (tag === CAPABILITY.UNIT || tag === CAPABILITY.ALLOWED || tag === CAPABILITY.DESCRIPTION || tag === CAPABILITY.SCHEMA)
          this.#skipText(length);
        else return undefined;
      }
    }
    this.#end = outer;
    return { name, type: valueType(type), readable, invocable };
  }

  /** small reads a varint of one byte; -1 for any other. */
  #small(): number {
    const value = this.#at < this.#end ? (this.#bytes[this.#at++] as number) : 0x80;
    return value < 0x80 ? value : -1;
  }

  /** length reads a length of up to three bytes that stays within the message; -1 for any other. */
  #length(): number {
    let length = 0;
    for (let shift = 0; shift < 21; shift += 7) {
      if (this.#at >= this.#end) return -1;
      const byte = this.#bytes[this.#at++] as number;
      length |= (byte & 0x7f) << shift;
      if (byte < 0x80) return this.#at + length <= this.#end ? length : -1;
    }
    return -1;
  }

  #text(length: number): string {
    this.#skipText(length);
    return this.#bytes.toString("utf8", this.#at - length, this.#at);
  }

  /** skipText makes sure that it is one: who reads the node later relies on it. */
  #skipText(length: number): void {
    this.#at += length;
    if (length > 0 && !isUtf8(this.#bytes.subarray(this.#at - length, this.#at))) this.#malformed = true;
  }
}

const reader = new NodeReader();

/**
 * What a node may take in memory when it is decoded, which each listing does anew: so much for each of its bytes, and so much in any
 * case. What is valid stays below: `allowed` has the densest fields, 20, and there are few capabilities and skills.
 */
const DECODED_PER_BYTE = 24;
const DECODED_ANYWAY = 128 * 1024;
/** A field takes two bytes at least: what is this short cannot have so many unknown ones that it swells. */
const NEVER_SWELLS_BYTES = 512;

/** swells tells whether a node takes far more when it is decoded than a valid one can: two bytes may become hundreds. */
function swells(bytes: Uint8Array, unknownFields: boolean): boolean {
  const max = DECODED_ANYWAY + DECODED_PER_BYTE * bytes.length;
  return decodedSize(NodeSchema, bytes, max, unknownFields) > max;
}

/**
 * decodeNode decodes a node of the registry. Fields of later versions come along, unless there are so many that they would swell: a node
 * with those is kept, sent and stored as it came, and shown without them.
 */
export function decodeNode(bytes: Uint8Array): Node {
  return fromBinary(NodeSchema, bytes, { readUnknownFields: bytes.length <= NEVER_SWELLS_BYTES || !swells(bytes, true) });
}

/** shownNode is a node as `decodeNode` shows it, as bytes: those that came, but for fields that only take memory. */
export function shownNode(bytes: Uint8Array): Uint8Array {
  return bytes.length <= NEVER_SWELLS_BYTES || !swells(bytes, true) ? bytes : toBinary(NodeSchema, decodeNode(bytes));
}

/** nodeSize is about how many bytes of memory a node takes when `decodeNode` decodes it. */
export function nodeSize(bytes: Uint8Array): number {
  const max = DECODED_ANYWAY + DECODED_PER_BYTE * bytes.length;
  return Math.min(decodedSize(NodeSchema, bytes, max), max);
}

/**
 * readNode reads a Node; undefined if it is malformed, or if its known fields take far more memory than those of a valid one. Unknown
 * fields are skipped, however many there are: versions before took them, and what they stored must be readable. Bytes are not kept.
 */
export function readNode(bytes: Uint8Array): NodeInfo | undefined {
  const plain = reader.read(bytes);
  if (plain !== undefined) return plain;
  if (swells(bytes, false)) return undefined;
  try {
    const { nodeId, kind, type, name, labels, capabilities } = fromBinary(NodeSchema, bytes, { readUnknownFields: false });
    const infos = capabilities.map((c) => ({ name: c.name, type: valueType(c.type), readable: c.readable, invocable: c.invocable }));
    return { nodeId, kind, type, name, labels, capabilities: infos };
  } catch {
    return undefined;
  }
}

/**
 * hasCapability tells whether a node that `readNode` reads has a capability of that name, without decoding it: filters ask it of
 * thousands of nodes at a time.
 */
export function hasCapability(node: Uint8Array, name: string): boolean {
  const bytes = Buffer.from(node.buffer, node.byteOffset, node.length);
  const wanted = Buffer.from(name);
  // At memory speed; most nodes do not contain the text at all.
  if (!bytes.includes(wanted)) return false;
  const walk = new ProtoWalk(bytes);
  const others = new MessageScan(walk, Number.POSITIVE_INFINITY, 0);
  while (walk.at < bytes.length && !walk.over) {
    const tag = walk.varint();
    if (tag >>> 3 !== NodeSchema.field.capabilities.number) others.field(NodeSchema, tag, 1);
    else if (named(walk, others, bytes, wanted)) return true;
  }
  return false;
}

/** named tells whether the capability at which a walk is has a name: the last one written counts. */
function named(walk: ProtoWalk, others: MessageScan, bytes: Buffer, name: Buffer): boolean {
  const length = walk.varint();
  const end = walk.at + length;
  let same = name.length === 0;
  while (walk.at < end && walk.at < bytes.length && !walk.over) {
    const tag = walk.varint();
    if (tag >>> 3 !== CapabilitySchema.field.name.number) {
      others.field(CapabilitySchema, tag, 2);
      continue;
    }
    const length = walk.varint();
    same = length === name.length && walk.at + length <= bytes.length && name.compare(bytes, walk.at, walk.at + length) === 0;
    walk.at += length;
  }
  return same;
}

/** Types of later versions count as "no state". */
function valueType(type: number): ValueType {
  return (type > 6 ? 0 : type) as ValueType;
}

/** limitNode encodes a Node anew with the capabilities that are kept; those that may not be invoked are shown as such. */
export function limitNode(bytes: Uint8Array, keep: (capability: string) => boolean, invoke: (capability: string) => boolean): Uint8Array {
  const node = decodeNode(bytes);
  node.capabilities = node.capabilities.filter((capability) => keep(capability.name));
  for (const capability of node.capabilities) capability.invocable &&= invoke(capability.name);
  return toBinary(NodeSchema, node);
}
