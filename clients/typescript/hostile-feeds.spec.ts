import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import type { ClientOf } from "#channel/call.ts";
import { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { type Block, SegmentPayloadSchema } from "#gen/foedus/registry_sync/segment/v1/segment_pb.ts";
import {
  type RegistrySyncService,
  type WatchResponse,
  WatchResponseSchema,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import type { Failure } from "#kernel/error.ts";
import { ManualClock } from "../../test/fakes/manual-clock.ts";
import { Mirror } from "./mirror.ts";

type Client = ClientOf<typeof RegistrySyncService>;
type Kind = Block["kind"];

const settle = async (): Promise<void> => {
  for (let i = 0; i < 20_000; i++) await Promise.resolve();
};
const positionOf = (hubId: string) => ({ hubId, share: "full", epoch: 1n, seq: 1n, digest: new Uint8Array(32) });
const keyDef = (kref: number): Kind => ({ case: "keyDef", value: { kref, name: "k", type: ValueType.DOUBLE } as never });
const nodePut = (ref: number): Kind => {
  const node = toBinary(NodeSchema, create(NodeSchema, { nodeId: "a", type: "m", capabilities: [{ name: "k", type: ValueType.DOUBLE }] }));
  return { case: "nodePut", value: { ref, node, online: true } as never };
};
const blocks = (...kinds: Kind[]): WatchResponse => {
  const payload = toBinary(SegmentPayloadSchema, create(SegmentPayloadSchema, { blocks: kinds.map((kind) => ({ kind })) }));
  return create(WatchResponseSchema, { push: { case: "blocks", value: { position: positionOf("home"), payload } } });
};
const resetOf = (hubId: string): WatchResponse =>
  create(WatchResponseSchema, { push: { case: "reset", value: { position: positionOf(hubId) } } });

/** watched answers what a mirror makes of the messages of a hub: why it cut the hub off, if it did, and what it holds then. */
async function watched(messages: Iterable<WatchResponse>) {
  const cuts: string[] = [];
  async function* watch(): AsyncGenerator<WatchResponse> {
    yield* messages;
    await new Promise(() => undefined);
  }
  const onLink = (failure: Failure | undefined) => failure !== undefined && cuts.push(failure.reason);
  const mirror = new Mirror({ watch } as never as Client, { clock: new ManualClock(), onLink });
  await settle();
  const feeds = [...mirror.feeds()];
  mirror.close();
  return { cuts, feeds };
}

describe("a copy of what a hostile hub says", () => {
  test("MI3 numbers of nodes and keys that are none end the watch before there is memory for them", async () => {
    for (const kinds of [[keyDef(65_536)], [keyDef(0x3fff_ffff), nodePut(1)], [nodePut(0)], [nodePut(0xffff_ffff)], [nodePut(16_777_217)]])
      expect(await watched([blocks(...kinds)])).toEqual({ cuts: ["SEGMENT_INVALID"], feeds: [] });
    const { cuts, feeds } = await watched([blocks(keyDef(65_535), nodePut(16_777_216))]);
    expect([cuts, feeds.map(({ table }) => table.byId("a")?.ref)]).toEqual([[], [16_777_216]]);
  });

  test("MI3 it has so many feeds at most", async () => {
    const many = (count: number) => Array.from({ length: count }, (_, i) => resetOf(`h-${i}`));
    expect((await watched(many(20))).feeds).toHaveLength(20);
    expect(await watched(many(4_097))).toEqual({ cuts: ["SEGMENT_INVALID"], feeds: [] });
  });
});
