import type { HlcReading } from "#kernel/crdt/hlc.ts";
import { copyOf, inDomain } from "#kernel/wire/bytes.ts";
import { ProtoReader, WireError } from "#kernel/wire/proto-reader.ts";
import { ProtoWriter } from "#kernel/wire/proto-writer.ts";
import { KINDS, type PartHead, SHARED_LIMITS, type SharedEntry, type SharedKind, type SharedSlot } from "./messages.ts";

/** KIND_OF gives a kind by its number on the wire. */
export const KIND_OF: ReadonlyMap<number, SharedKind> = new Map(
  Object.entries(KINDS).map(([kind, { number }]) => [number, kind as SharedKind]),
);

/** Bytes of one encoded entry at most. */
const ENTRY_BYTES = SHARED_LIMITS.keyBytes + SHARED_LIMITS.valueBytes + 64;

/** Removal is a place that a hub has emptied, and the version with which it did. */
export interface Removal extends SharedSlot {
  readonly version: number;
}

/** StoredPart is a part as it stands in the store. */
export interface StoredPart {
  readonly head: PartHead;
  readonly signature: Uint8Array;
  /** Versions below it are too old for a difference. */
  readonly floor: number;
  readonly entries: readonly SharedEntry[];
  readonly removals: readonly Removal[];
}

/** writeEntry writes a SharedEntry (shared.proto). */
export function writeEntry(writer: ProtoWriter, { kind, key, version, at, priority, value }: SharedEntry): void {
  writer.uint(1, KINDS[kind].number).text(2, key).uint(3, version).uint(4, at.wallMs).uint(5, at.logical).uint(6, priority);
  if (value === undefined) writer.bool(7, true);
  else writer.bytes(8, value);
}

/** contentsBytes are the sorted entries of a part as they are hashed: a SharedContents. */
export function contentsBytes(entries: readonly SharedEntry[]): Uint8Array {
  const writer = new ProtoWriter();
  for (const entry of entries) writer.message(1, (inner) => writeEntry(inner, entry));
  return writer.finish();
}

/** statementBytes are what a hub signs about its part: the domain and a SharedStatement. */
export function statementBytes(federation: Uint8Array, { hub, incarnation, version, digest }: PartHead): Uint8Array {
  const body = new ProtoWriter().bytes(1, federation).text(2, hub).uint(3, incarnation).uint(4, version).bytes(5, digest).finish();
  return inDomain("foedus.shared-part.v1", body);
}

/** rootBytes are the heads of all parts, sorted by hub, as they are hashed: a SharedRoot. */
export function rootBytes(heads: readonly PartHead[]): Uint8Array {
  const writer = new ProtoWriter();
  for (const head of heads) writer.message(1, (inner) => writeHead(inner, head));
  return writer.finish();
}

function writeHead(writer: ProtoWriter, { hub, incarnation, version, digest }: PartHead): ProtoWriter {
  return writer.text(1, hub).uint(2, incarnation).uint(3, version).bytes(4, digest);
}

/** writeStored encodes a part for the store: a SharedStored. */
export function writeStored({ head, signature, floor, entries, removals }: StoredPart): Uint8Array {
  const writer = new ProtoWriter()
    .message(1, (inner) => writeHead(inner, head))
    .bytes(2, signature)
    .uint(3, floor);
  for (const entry of entries) writer.message(4, (inner) => writeEntry(inner, entry));
  for (const { kind, key, version } of removals)
    writer.message(5, (inner) => inner.uint(1, KINDS[kind].number).text(2, key).uint(3, version));
  return writer.finish();
}

/** readStored decodes what `writeStored` gave, in memory of its own. Throws WireError. */
export function readStored(bytes: Uint8Array): StoredPart {
  const reader = new ProtoReader(bytes);
  let head: PartHead | undefined;
  let signature: Uint8Array = new Uint8Array();
  let floor = 0;
  const entries: SharedEntry[] = [];
  const removals: Removal[] = [];
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) head = reader.message(256, readHead);
    else if (field === 2) signature = copyOf(reader.bytes(64));
    else if (field === 3) floor = reader.uint();
    else if (field === 4) entries.push(reader.message(ENTRY_BYTES, readEntry));
    else if (field === 5) removals.push(reader.message(SHARED_LIMITS.keyBytes + 32, readRemoval));
    else reader.unknown();
  }
  if (head === undefined) throw new WireError("a stored part has no head");
  return { head, signature, floor, entries, removals };
}

function readHead(reader: ProtoReader): PartHead {
  const head = { hub: "", incarnation: 0, version: 0, digest: new Uint8Array() as Uint8Array };
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) head.hub = reader.text(63);
    else if (field === 2) head.incarnation = reader.uint();
    else if (field === 3) head.version = reader.uint();
    else if (field === 4) head.digest = copyOf(reader.bytes(32));
    else reader.unknown();
  }
  return head;
}

function kindOf(number: number): SharedKind {
  const kind = KIND_OF.get(number);
  if (kind === undefined) throw new WireError(`there is no kind ${number}`);
  return kind;
}

function readEntry(reader: ProtoReader): SharedEntry {
  let kind: SharedKind | undefined;
  let key = "";
  let [version, wallMs, logical, priority] = [0, 0, 0, 0];
  let value: Uint8Array | undefined = new Uint8Array();
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) kind = kindOf(reader.uint());
    else if (field === 2) key = reader.text(SHARED_LIMITS.keyBytes);
    else if (field === 3) version = reader.uint();
    else if (field === 4) wallMs = reader.uint();
    else if (field === 5) logical = reader.uint();
    else if (field === 6) priority = reader.uint();
    else if (field === 7) value = reader.bool() ? undefined : value;
    else if (field === 8) value = copyOf(reader.bytes(SHARED_LIMITS.valueBytes));
    else reader.unknown();
  }
  if (kind === undefined) throw new WireError("an entry has no kind");
  const at: HlcReading = { wallMs, logical };
  return { kind, key, version, at, priority, value };
}

function readRemoval(reader: ProtoReader): Removal {
  let kind: SharedKind | undefined;
  let [key, version] = ["", 0];
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) kind = kindOf(reader.uint());
    else if (field === 2) key = reader.text(SHARED_LIMITS.keyBytes);
    else if (field === 3) version = reader.uint();
    else reader.unknown();
  }
  if (kind === undefined) throw new WireError("a removal has no kind");
  return { kind, key, version };
}
