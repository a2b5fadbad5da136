import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type SharedEntry as EntryMessage,
  type SharedHead as HeadMessage,
  type SharedKind as KindMessage,
  type SharedHeads,
  SharedHeadsSchema,
  type SharedPart,
  SharedPartSchema,
  type SharedWant,
  SharedWantSchema,
  type SharedSlot as SlotMessage,
} from "#gen/foedus/coordination/v1alpha1/shared_pb.ts";
import {
  type SharedFact as FactMessage,
  FreeCapacitySchema,
  SharedFactSchema,
  SwarmSummarySchema,
} from "#gen/foedus/coordination/v1alpha1/sharing_pb.ts";
import {
  KINDS,
  type PartFrame,
  type PartHead,
  type SharedEntry,
  type SharedFrame,
  type SharedKind,
  type SharedSlot,
} from "../shared/messages.ts";
import { KIND_OF } from "../shared/part-bytes.ts";
import type { Resolved } from "../shared/resolve.ts";
import { type Page, pageOf } from "./pages.ts";

/** SharedMessage is a frame of shared state as it stands in the session's oneof. */
export type SharedMessage =
  | { readonly case: "sharedHeads"; readonly value: SharedHeads }
  | { readonly case: "sharedPart"; readonly value: SharedPart }
  | { readonly case: "sharedWant"; readonly value: SharedWant };

/** writeShared makes the message of a frame, for one federation. */
export function writeShared(federation: Uint8Array, frame: SharedFrame): SharedMessage {
  switch (frame.kind) {
    case "heads": {
      const { root, heads, answer } = frame;
      return { case: "sharedHeads", value: create(SharedHeadsSchema, { federation, root, answer, heads: heads.map(headOut) }) };
    }
    case "part": {
      const { signature, since, entries, removed } = frame;
      const body = { signature, since: BigInt(since), entries: entries.map(entryOut), removed: removed.map(slotOut) };
      return { case: "sharedPart", value: create(SharedPartSchema, { federation, head: headOut(frame), ...body }) };
    }
    case "want":
      return { case: "sharedWant", value: create(SharedWantSchema, { federation, hubs: [...frame.hubs] }) };
  }
}

/**
 * readShared gives the frame of a message; undefined if a kind or a number in it is none, or it has no head. All else that may be wrong
 * with it, the core says. Bytes are views of what came in.
 */
export function readShared(message: SharedMessage): SharedFrame | undefined {
  switch (message.case) {
    case "sharedHeads": {
      const { root, heads, answer } = message.value;
      const read = all(heads.map(headIn));
      return read === undefined ? undefined : { kind: "heads", root, heads: read, answer };
    }
    case "sharedPart":
      return partIn(message.value);
    case "sharedWant":
      return { kind: "want", hubs: message.value.hubs };
  }
}

function partIn(message: SharedPart): PartFrame | undefined {
  const head = message.head === undefined ? undefined : headIn(message.head);
  const since = safe(message.since);
  const entries = all(message.entries.map(entryIn));
  const removed = all(message.removed.map(slotIn));
  if (head === undefined || since === undefined || entries === undefined || removed === undefined) return undefined;
  return { kind: "part", ...head, signature: message.signature, since, entries, removed };
}

function headOut({ hub, incarnation, version, digest }: PartHead) {
  return { hub, incarnation: BigInt(incarnation), version: BigInt(version), digest };
}

function headIn({ hub, incarnation, version, digest }: HeadMessage): PartHead | undefined {
  const [ofReplica, at] = [safe(incarnation), safe(version)];
  return ofReplica === undefined || at === undefined ? undefined : { hub, incarnation: ofReplica, version: at, digest };
}

function slotOut({ kind, key }: SharedSlot) {
  return { kind: KINDS[kind].number, key };
}

function slotIn({ kind, key }: Pick<SlotMessage, "kind" | "key">): SharedSlot | undefined {
  const known = KIND_OF.get(kind);
  return known === undefined ? undefined : { kind: known, key };
}

function entryOut({ kind, key, version, at, priority, value }: SharedEntry) {
  const time = { wallMs: BigInt(at.wallMs), logical: at.logical };
  const said = value === undefined ? { nothing: true } : { value };
  return { kind: KINDS[kind].number, key, version: BigInt(version), ...time, priority, ...said };
}

function entryIn(message: EntryMessage): SharedEntry | undefined {
  const slot = slotIn(message);
  const [version, wallMs] = [safe(message.version), safe(message.wallMs)];
  // One that says nothing and something is not an entry: its bytes would not be those that are hashed.
  if (slot === undefined || version === undefined || wallMs === undefined || (message.nothing && message.value.length > 0))
    return undefined;
  const value = message.nothing ? undefined : message.value;
  return { ...slot, version, at: { wallMs, logical: message.logical }, priority: message.priority, value };
}

function safe(value: bigint): number | undefined {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : undefined;
}

/** all are the values of a list, if each is there. */
function all<T>(values: readonly (T | undefined)[]): readonly T[] | undefined {
  return values.every((value) => value !== undefined) ? values : undefined;
}

/** kindFromProto reads a kind; undefined for none. */
export function kindFromProto(kind: KindMessage): SharedKind | undefined {
  return KIND_OF.get(kind);
}

/** factToProto gives what counts under a key to a caller: what a hub wrote that is not as its kind has it is given as bytes. */
export function factToProto({ hub, entry }: Resolved): FactMessage {
  const { kind, key, at, priority, value = new Uint8Array() } = entry;
  const common = { kind: KINDS[kind].number as KindMessage, key, hubId: hub, saidAt: BigInt(at.wallMs), priority };
  return create(SharedFactSchema, { ...common, value: valueOf(kind, value) });
}

function valueOf(kind: SharedKind, bytes: Uint8Array): FactMessage["value"] {
  try {
    if (kind === "swarms") return { case: "swarm", value: fromBinary(SwarmSummarySchema, bytes) };
    if (kind === "resources") return { case: "free", value: fromBinary(FreeCapacitySchema, bytes) };
  } catch {
    // Another version of it may be written otherwise.
  }
  return { case: "data", value: bytes };
}

/** factPage gives a page of what counts, by kind and key. */
export function factPage(facts: readonly Resolved[], after: string): Page<FactMessage> {
  const placeOf = ({ entry: { kind, key } }: Resolved): string => `${KINDS[kind].number}${key}`;
  return pageOf(facts, after, { placeOf, write: factToProto, sizeOf: (one) => toBinary(SharedFactSchema, one).length });
}

/** headToProto gives a head to a caller. */
export const headToProto = headOut;
