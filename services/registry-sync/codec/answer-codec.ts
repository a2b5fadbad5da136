import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { RawMessage } from "#channel/call.ts";
import { failureToProto } from "#channel/failure.ts";
import { Freshness as ProtoFreshness, ValueSchema } from "#gen/foedus/common/v1/value_pb.ts";
import {
  type BoundSchema,
  type FeedSchema,
  type HubFreshnessSchema,
  ListNodesResponseSchema,
  NodeRecordSchema,
  type NodeResultSchema,
  type StateSchema,
  WatchBlocksSchema,
  type WatchEventSchema,
  type WatchResponse,
  WatchResponseSchema,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import type { Freshness } from "#kernel/freshness.ts";
import type { ChangeEvent, FeedStatus, HubFreshness, NodeOutcome, NodeRecord, Output, StateValue, WatchPush } from "../messages.ts";
import { VALUE_TYPE } from "../ports.ts";
import { decodeNode, shownNode } from "./node-codec.ts";
import { positionToProto } from "./position.ts";
import { equalBytes, fieldLength, putField, putTag } from "./wire.ts";

const FRESHNESS: Readonly<Record<Freshness, ProtoFreshness>> = {
  FRESH: ProtoFreshness.FRESH,
  STALE: ProtoFreshness.STALE,
  UNKNOWN: ProtoFreshness.UNKNOWN,
};

/** Age of what was never proven: longer than any bound that a reader may set. */
const NEVER_MS = BigInt(Number.MAX_SAFE_INTEGER);

function ageToProto(ageMs: number): bigint {
  return Number.isFinite(ageMs) ? BigInt(Math.round(ageMs)) : NEVER_MS;
}

/** stateToProto writes one key's value. */
export function stateToProto(state: StateValue): MessageInitShape<typeof StateSchema> {
  return { key: state.key, value: create(ValueSchema, { kind: kindOf(state) }) };
}

function kindOf({ type, value }: StateValue): NonNullable<MessageInitShape<typeof ValueSchema>["kind"]> {
  switch (type) {
    case VALUE_TYPE.BOOL:
      return { case: "boolValue", value: value as boolean };
    case VALUE_TYPE.SINT64:
      return { case: "intValue", value: value as bigint };
    case VALUE_TYPE.DOUBLE:
      return { case: "doubleValue", value: value as number };
    case VALUE_TYPE.STRING:
      return { case: "stringValue", value: value as string };
    case VALUE_TYPE.BYTES:
      return { case: "bytesValue", value: value as Uint8Array };
    case VALUE_TYPE.JSON:
      return { case: "jsonValue", value: value as string };
    default:
      return { case: undefined };
  }
}

/** recordToProto writes a node; `summary` leaves out capabilities and descriptions. */
export function recordToProto(record: NodeRecord, summary = false): MessageInitShape<typeof NodeRecordSchema> {
  const node = decodeNode(record.node);
  if (summary) {
    node.capabilities = [];
    node.description = "";
  }
  return { node, ...besideNode(record) };
}

/** besideNode is all of a record but what its owner says about the node. */
function besideNode(record: NodeRecord): MessageInitShape<typeof NodeRecordSchema> {
  return {
    name: record.name,
    state: record.state.map(stateToProto),
    stateOmitted: record.omitted,
    online: record.online,
    freshness: FRESHNESS[record.freshness],
    ageMs: ageToProto(record.ageMs),
    version: positionToProto(record.version),
  };
}

/**
 * nodesToRaw writes a page of nodes. The nodes go into it as they are kept: to decode and encode each again took forty milliseconds for 500
 * nodes of 20 capabilities, and ten times their bytes.
 */
export function nodesToRaw(
  { records, hubs, total }: { readonly records: readonly NodeRecord[]; readonly hubs: readonly HubFreshness[]; readonly total: number },
  nextPageToken: string,
  summary: boolean,
): RawMessage {
  const rest = toBinary(ListNodesResponseSchema, create(ListNodesResponseSchema, { hubs: hubs.map(hubToProto), total, nextPageToken }));
  const parts = records.map((record) => recordParts(record, summary));
  let length = rest.length;
  for (const { beside, node } of parts) length += fieldLength(beside.length + (node === undefined ? 0 : fieldLength(node.length)));
  const bytes = Buffer.allocUnsafe(length);
  let at = 0;
  for (const { beside, node } of parts) {
    at = putTag(bytes, at, RECORDS, beside.length + (node === undefined ? 0 : fieldLength(node.length)));
    bytes.set(beside, at);
    at += beside.length;
    if (node !== undefined) at = putField(bytes, at, RECORD_NODE, node);
  }
  bytes.set(rest, at);
  return new RawMessage(bytes);
}

/** Numbers of ListNodesResponse.records and NodeRecord.node. */
const RECORDS = 1;
const RECORD_NODE = 2;

/** recordParts is a record without its node, and the node; of a summary, which leaves out most of the node, it is one. */
function recordParts(record: NodeRecord, summary: boolean): { readonly beside: Uint8Array; readonly node: Uint8Array | undefined } {
  if (summary) return { beside: toBinary(NodeRecordSchema, create(NodeRecordSchema, recordToProto(record, true))), node: undefined };
  return { beside: toBinary(NodeRecordSchema, create(NodeRecordSchema, besideNode(record))), node: shownNode(record.node) };
}

/** hubToProto writes how current a hub's part is. */
export function hubToProto(hub: HubFreshness): MessageInitShape<typeof HubFreshnessSchema> {
  return { hubId: hub.hubId, freshness: FRESHNESS[hub.freshness], ageMs: ageToProto(hub.ageMs), nodes: hub.nodes };
}

/** feedToProto writes how a feed stands. */
export function feedToProto(feed: FeedStatus): MessageInitShape<typeof FeedSchema> {
  return {
    head: positionToProto(feed.head),
    own: feed.own,
    freshness: FRESHNESS[feed.freshness],
    ageMs: ageToProto(feed.ageMs),
    nodes: feed.nodes,
    entries: BigInt(feed.entries),
    dropped: BigInt(feed.dropped),
    cursors: feed.cursors.map((cursor) => ({
      hubId: cursor.hubId,
      acked: positionToProto(cursor.acked),
      lag: BigInt(cursor.lag),
      snapshot: cursor.snapshot,
    })),
  };
}

/** outcomeToProto writes the result for one node. */
export function outcomeToProto(outcome: NodeOutcome): MessageInitShape<typeof NodeResultSchema> {
  return {
    nodeId: outcome.nodeId,
    ref: outcome.ref,
    ...(outcome.failure === undefined ? {} : { failure: failureToProto(outcome.failure) }),
  };
}

/** boundToProto writes the answer to Bind. */
export function boundToProto(bound: Extract<Output, { kind: "bound" }>): MessageInitShape<typeof BoundSchema> {
  const { id, epoch, refs, krefs, failure } = bound;
  return {
    id,
    epoch: BigInt(epoch),
    refs: [...refs],
    krefs: [...krefs],
    ...(failure === undefined ? {} : { failure: failureToProto(failure) }),
  };
}

function eventToProto({ name, change }: ChangeEvent): MessageInitShape<typeof WatchEventSchema> {
  switch (change.kind) {
    case "put":
      return { name, change: { case: "put", value: decodeNode(change.node) } };
    case "removed":
      return { name, change: { case: "removed", value: true } };
    case "state":
      return { name, change: { case: "state", value: stateToProto(change.state) } };
    case "online":
      return { name, change: { case: "online", value: change.online } };
  }
}

/** Field numbers of WatchResponse.blocks and WatchBlocks.payload. */
const BLOCKS_FIELD = 2;
const PAYLOAD_FIELD = 3;

type Blocks = Extract<WatchPush, { kind: "blocks" }>;

/** blocksMessage encodes a WatchResponse around a payload, which is copied once and not looked at. */
export function blocksMessage(push: Blocks): RawMessage {
  const { position, hlc, payload, snapshot, last } = push;
  const head = toBinary(
    WatchBlocksSchema,
    create(WatchBlocksSchema, {
      position: positionToProto(position),
      hlc: { wallMs: BigInt(hlc.wallMs), logical: hlc.logical },
      snapshot,
      last,
    }),
  );
  const inner = head.length + fieldLength(payload.length);
  const bytes = Buffer.allocUnsafeSlow(fieldLength(inner));
  const start = putTag(bytes, 0, BLOCKS_FIELD, inner);
  bytes.set(head, start);
  putField(bytes, start + head.length, PAYLOAD_FIELD, payload);
  return new RawMessage(bytes);
}

/** BlocksCache hands all watchers the same message for the same payload, which is encoded once. */
export class BlocksCache {
  readonly #messages = new WeakMap<Uint8Array, { readonly push: Blocks; readonly message: RawMessage }>();

  of(push: Blocks): RawMessage {
    const known = this.#messages.get(push.payload);
    if (known !== undefined && samePlace(known.push, push)) return known.message;
    const message = blocksMessage(push);
    this.#messages.set(push.payload, { push, message });
    return message;
  }
}

function samePlace(a: Blocks, b: Blocks): boolean {
  const [p, q] = [a.position, b.position];
  return (
    p.hubId === q.hubId &&
    p.share === q.share &&
    p.epoch === q.epoch &&
    p.seq === q.seq &&
    a.snapshot === b.snapshot &&
    a.last === b.last &&
    // Other ones when something that import rules let in is missing from then on.
    equalBytes(p.digest, q.digest)
  );
}

/** pushToProto writes one push that is not blocks. */
export function pushToProto(push: Exclude<WatchPush, Blocks>): WatchResponse {
  switch (push.kind) {
    case "events":
      return create(WatchResponseSchema, { push: { case: "events", value: { events: push.events.map(eventToProto) } } });
    case "bookmark":
      return create(WatchResponseSchema, {
        push: { case: "bookmark", value: { positions: push.positions.map(positionToProto), hubs: push.hubs.map(hubToProto) } },
      });
    case "reset":
      return create(WatchResponseSchema, { push: { case: "reset", value: { position: positionToProto(push.position) } } });
    case "gone":
      return create(WatchResponseSchema, { push: { case: "gone", value: { position: positionToProto(push.position) } } });
  }
}
