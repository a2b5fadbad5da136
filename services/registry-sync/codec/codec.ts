import { toBinary } from "@bufbuild/protobuf";
import { decodeChecked } from "#channel/decoded-size.ts";
import { validateRequest } from "#channel/validation.ts";
import type { Node } from "#gen/foedus/common/v1/node_pb.ts";
import { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import type { StreamOpen } from "#gen/foedus/common/v1/stream_pb.ts";
import type { Value } from "#gen/foedus/common/v1/value_pb.ts";
import { StateBlockSchema } from "#gen/foedus/registry_sync/segment/v1/segment_pb.ts";
import {
  type Bind,
  type NamedUpdates,
  type UpdateBatch as ProtoBatch,
  type NodeFilter as ProtoFilter,
  UpdateStateRequestSchema,
  WatchEncoding,
  type WatchRequest,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import type { Caller } from "#runtime/rpc/call.ts";
import type { NamedUpdate, NodeFilter, Scalar, Scope, WatchOptions } from "../messages.ts";
import type { ValueType } from "../ports.ts";
import { positionFromProto } from "./position.ts";
import { EMPTY } from "./wire.ts";

/** Numbered is what a first message may say beside its frame. */
interface Numbered {
  readonly open?: StreamOpen | undefined;
}

/** UpdateFrame is one message of an UpdateState stream. `state` is an encoded StateBlock, a view into the message. */
export type UpdateFrame =
  | ({ readonly kind: "batch"; readonly seq: number; readonly state: Uint8Array } & Numbered)
  | ({
      readonly kind: "bind";
      readonly id: number;
      readonly nodeIds: readonly string[];
      readonly keys: readonly { readonly name: string; readonly type: ValueType }[];
    } & Numbered)
  | ({ readonly kind: "named"; readonly seq: number; readonly updates: readonly NamedUpdate[] } & Numbered)
  | { readonly kind: "malformed"; readonly failure: Failure };

/** Cursor over protobuf bytes; `at` is -1 after a varint that is cut off or beyond 2^53. */
const cursor = { at: 0 };

function readVarint(bytes: Uint8Array, from: number): number {
  let value = 0;
  let scale = 1;
  for (let at = from; at < bytes.length && at < from + 8; at++) {
    const byte = bytes[at] as number;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) {
      cursor.at = at + 1;
      if (value <= Number.MAX_SAFE_INTEGER) return value;
      break;
    }
    scale *= 128;
  }
  cursor.at = -1;
  return 0;
}

/** Tags of UpdateStateRequest.batch, UpdateBatch.seq and UpdateBatch.state. */
const BATCH_TAG = 0x12;
const SEQ_TAG = 0x08;
const STATE_TAG = 0x12;

/**
 * fastBatch reads the one form that every sender of batches uses (fields in order, each once) without making a message of it;
 * undefined for anything else, which then takes the general way.
 */
function fastBatch(bytes: Uint8Array): UpdateFrame | undefined {
  if (bytes[0] !== BATCH_TAG) return undefined;
  const length = readVarint(bytes, 1);
  if (cursor.at < 0 || cursor.at + length !== bytes.length || bytes[cursor.at] !== SEQ_TAG) return undefined;
  const seq = readVarint(bytes, cursor.at + 1);
  if (cursor.at < 0 || bytes[cursor.at] !== STATE_TAG) return undefined;
  const stateLength = readVarint(bytes, cursor.at + 1);
  if (cursor.at < 0 || cursor.at + stateLength !== bytes.length) return undefined;
  return { kind: "batch", seq, state: bytes.subarray(cursor.at) };
}

const malformed = (message: string, field: string): UpdateFrame => ({
  kind: "malformed",
  failure: { reason: "INVALID_FIELD", message, field },
});

/** decodeUpdateFrame reads an encoded UpdateStateRequest. It never throws: what is not one comes back as `malformed` (INVALID_FIELD). */
export function decodeUpdateFrame(bytes: Uint8Array): UpdateFrame {
  const fast = fastBatch(bytes);
  if (fast !== undefined) return fast;
  try {
    const request = decodeChecked(UpdateStateRequestSchema, bytes);
    const failure = validateRequest(UpdateStateRequestSchema, request);
    if (failure !== undefined) return { kind: "malformed", failure };
    const { frame, stream: open } = request;
    switch (frame.case) {
      case "bind":
        return { ...bindOf(frame.value), open };
      case "batch":
        return { ...batchOf(frame.value), open };
      case "named":
        return { ...namedOf(frame.value), open };
      default:
        return malformed("the frame is empty or of a kind that this hub does not know", "frame");
    }
  } catch (error) {
    if (error instanceof FoedusError) return { kind: "malformed", failure: error.failure };
    return malformed("the bytes are not a valid UpdateStateRequest", "");
  }
}

function bindOf(bind: Bind): Extract<UpdateFrame, { kind: "bind" }> {
  return { kind: "bind", id: bind.id, nodeIds: bind.nodeIds, keys: bind.keys.map(({ name, type }) => ({ name, type: type as ValueType })) };
}

function batchOf(batch: ProtoBatch): Extract<UpdateFrame, { kind: "batch" }> {
  return { kind: "batch", seq: Number(batch.seq), state: batch.state === undefined ? EMPTY : toBinary(StateBlockSchema, batch.state) };
}

function namedOf(named: NamedUpdates): Extract<UpdateFrame, { kind: "named" }> {
  return {
    kind: "named",
    seq: Number(named.seq),
    updates: named.updates.map(({ nodeId, key, value }) => ({ nodeId, key, ...scalarOfValue(value) })),
  };
}

const TYPES = { boolValue: 1, intValue: 2, doubleValue: 3, stringValue: 4, bytesValue: 5, jsonValue: 6 } as const;

/** scalarOfValue reads a Value; type 0 and undefined when it has none. */
export function scalarOfValue(value: Value | undefined): { readonly value: Scalar | undefined; readonly type: ValueType } {
  const kind = value?.kind;
  return kind?.case === undefined ? { value: undefined, type: 0 } : { value: kind.value, type: TYPES[kind.case] };
}

/** callerName names who calls, the same for all its connections. */
export function callerName({ kind, name }: Caller): string {
  return `${kind}/${name}`;
}

/**
 * scopeOf says which nodes a caller may speak for: a node for itself only, a gateway for the prefixes in its certificate
 * (without any: for all). Other callers speak for none.
 */
export function scopeOf(caller: Caller): Scope {
  const { kind, name } = caller;
  if (kind === "gateway")
    return { name: `gateway/${name}`, kind, ids: [], prefixes: caller.prefixes.length === 0 ? [""] : caller.prefixes };
  return { name: `${kind}/${name}`, kind: "node", ids: kind === "node" ? [name] : [], prefixes: [] };
}

/** Bounds of a capability's values. Infinity is one; against what is no number every value would be within them. */
const BOUNDS = ["min", "max", "step"] as const;

/**
 * nodeBytes encodes a node that the schema's rules have passed; a Failure when two capabilities have one name, or a bound is no number.
 * `path` is where it stands.
 */
export function nodeBytes(node: Node, path: string): Uint8Array | Failure {
  const names = new Set<string>();
  for (const [index, capability] of node.capabilities.entries()) {
    const { name } = capability;
    const wrong = (field: string, message: string): Failure => ({
      reason: "INVALID_FIELD",
      message,
      field: `${path}.capabilities[${index}].${field}`,
    });
    if (names.has(name)) return wrong("name", `capability ${name} is listed twice`);
    names.add(name);
    const bound = BOUNDS.find((candidate) => Number.isNaN(capability[candidate]));
    if (bound !== undefined) return wrong(bound, `${bound} of capability ${name} is not a number; give one, or leave it out for no bound`);
  }
  return toBinary(NodeSchema, node);
}

/** filterFromProto reads a filter; none selects all. */
export function filterFromProto(filter: ProtoFilter | undefined): NodeFilter {
  return {
    hubIds: filter?.hubIds ?? [],
    nodeIdPrefix: filter?.nodeIdPrefix ?? "",
    type: filter?.type ?? "",
    kind: filter?.kind ?? 0,
    capability: filter?.capability ?? "",
    onlineOnly: filter?.onlineOnly ?? false,
    labels: filter?.labels ?? {},
  };
}

/** watchFromProto reads what a watcher wants; a Failure for what BLOCKS cannot do. */
export function watchFromProto(request: WatchRequest): WatchOptions | Failure {
  const blocks = request.encoding === WatchEncoding.BLOCKS;
  const filter = filterFromProto(request.filter);
  const { hubIds: _hubs, ...rest } = filter;
  const filtered =
    rest.nodeIdPrefix !== "" ||
    rest.type !== "" ||
    rest.kind !== 0 ||
    rest.capability !== "" ||
    rest.onlineOnly ||
    Object.keys(rest.labels).length > 0;
  if (blocks && filtered)
    return { reason: "INVALID_FIELD", message: "blocks can be filtered by hub only; use events, or filter at your side", field: "filter" };
  return {
    filter,
    encoding: blocks ? "blocks" : "events",
    nodesOnly: request.nodesOnly,
    latestOnly: request.latestOnly,
    resume: request.resume.map(positionFromProto),
  };
}
