import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { StateBlockSchema } from "#gen/foedus/registry_sync/segment/v1/segment_pb.ts";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { nodeBytes } from "../../../test/fakes/registry-hub.ts";
import { segmentCodec } from "../codec/segment-codec.ts";
import { Payload } from "../feed/segment.ts";
import type { NodeRule } from "../messages.ts";
import type { Block } from "../ports.ts";
import { FeedTable } from "../table/table.ts";
import { Applier, type Intake, type Skipped } from "./apply.ts";

const LAMPS: NodeRule = { ids: [], types: ["lamp"], kind: 0, labels: {}, allow: true, capabilities: ["*"], invoke: [] };
const KEYS = ["p0:double", "p1:string", "p2:json"] as const;
const INTAKE: Intake = { nodes: 100, bytes: LIMITS.bytesPerPeer, limit: "bytes_per_peer" };
const encode = segmentCodec.encodeBlock;

type Add = (payload: Payload) => void;

/** Few numbers, so that the blocks of a payload meet: a node comes, goes and changes in the segment that speaks of it. */
const ref = fc.integer({ min: 1, max: 4 });
const entry: fc.Arbitrary<Add> = fc.oneof(
  fc
    .record({ ref, type: fc.constantFrom("lamp", "camera"), caps: fc.subarray([...KEYS]), online: fc.boolean() })
    .map(({ ref, type, caps, online }): Add => {
      const node = nodeBytes(`n${ref}`, caps, { type });
      return (payload) => payload.block(encode({ kind: "node_put", ref, node, online }));
    }),
  ref.map(
    (ref): Add =>
      (payload) =>
        payload.block(encode({ kind: "node_del", ref })),
  ),
  fc.record({ online: fc.subarray([1, 2, 3, 4]), offline: fc.subarray([1, 2, 3, 4]) }).map(
    ({ online, offline }): Add =>
      (payload) =>
        payload.block(encode({ kind: "presence", online, offline })),
  ),
  fc.record({ ref, key: fc.integer({ min: 0, max: 2 }), text: fc.boolean() }).map(({ ref, key, text }): Add => {
    const value = text ? { len: [2], data: Uint8Array.of(0x7b, 0x7d) } : { num: [1.5] };
    return (payload) => payload.state(toBinary(StateBlockSchema, create(StateBlockSchema, { ref: [ref], key: [key], ...value })), 1);
  }),
);

function blocksOf(entries: readonly Add[]): readonly Block[] {
  const payload = new Payload();
  for (const add of entries) add(payload);
  return segmentCodec.decodePayload(payload.bytes())!;
}

const names = KEYS.map((key, kref): Add => {
  const [name = "", type = ""] = key.split(":");
  return (payload) => payload.block(encode({ kind: "key_def", kref, name, type: { double: 3, string: 4, json: 6 }[type] as 3 }));
});

/** receiver applies payloads as a hub with these rules does, and answers what it hands on; undefined if it takes nothing of one. */
function receiver(rules: readonly NodeRule[] | undefined) {
  const applier = new Applier(segmentCodec, rules, LIMITS);
  const table = new FeedTable();
  const skipped: Skipped = new Map();
  return {
    table,
    take(blocks: readonly Block[]): readonly Block[] | undefined {
      if (applier.check(table, skipped, blocks, undefined, false, INTAKE) !== undefined) return undefined;
      return applier.apply(table, skipped, blocks, 0).kept ?? blocks;
    },
  };
}

const held = (table: FeedTable): string[] => [...table.entries()].map(({ ref, info, online }) => `${ref} ${info.nodeId} ${online}`).sort();

describe("Applier", () => {
  test.each([
    ["with import rules", [LAMPS]],
    ["without", undefined],
  ])("F-1 F-2 F-16 AP1 what check lets pass apply applies, and mirrors take what is handed on: %s", (_which, rules) => {
    fc.assert(
      fc.property(fc.array(fc.array(entry, { minLength: 1, maxLength: 5 }), { maxLength: 8 }), (payloads) => {
        const hub = receiver(rules);
        const mirror = receiver(undefined);
        for (const entries of [names, ...payloads]) {
          const handedOn = hub.take(blocksOf(entries));
          if (handedOn !== undefined) expect(mirror.take(handedOn)).toBeDefined();
          expect(held(mirror.table)).toEqual(held(hub.table));
        }
      }),
      { numRuns: 1_500 },
    );
  });

  test("F-1 F-16 a node that is kept out goes once, and nothing is said of it after that", () => {
    const put = (payload: Payload): void =>
      payload.block(encode({ kind: "node_put", ref: 1, node: nodeBytes("n1", [], {}), online: true }));
    const gone = (payload: Payload): void => payload.block(encode({ kind: "node_del", ref: 1 }));
    const hub = receiver([LAMPS]);
    expect(hub.take(blocksOf([put]))).toEqual([]);
    expect(hub.take(blocksOf([gone, gone]))).toBeUndefined();
    expect(hub.take(blocksOf([gone, (payload) => payload.block(encode({ kind: "presence", online: [], offline: [1] }))]))).toBeUndefined();
    expect(hub.take(blocksOf([gone]))).toEqual([]);
  });

  test("F-12 nodes that import rules keep out are no more than a hub has", () => {
    const limits = { ...LIMITS, ownNodes: 3 };
    const applier = new Applier(segmentCodec, [LAMPS], limits);
    const table = new FeedTable();
    const skipped: Skipped = new Map();
    const put = (...refs: number[]): string | undefined => {
      const blocks = blocksOf(
        refs.map(
          (ref): Add =>
            (payload) =>
              payload.block(encode({ kind: "node_put", ref, node: nodeBytes(`n${ref}`, []), online: true })),
        ),
      );
      const wrong = applier.check(table, skipped, blocks, undefined, false, INTAKE);
      if (wrong === undefined) applier.apply(table, skipped, blocks, 0);
      return wrong && `${wrong.reason} ${wrong.facts?.["limit"]} ${wrong.facts?.["max"]}`;
    };
    expect(put(1, 2)).toBeUndefined();
    expect(put(3, 4)).toBe("LIMIT_EXCEEDED nodes_kept_out 3");
    expect(put(3)).toBeUndefined();
    expect(put(4)).toBe("LIMIT_EXCEEDED nodes_kept_out 3");
    // What is there may change, and makes room when it goes.
    expect(put(1, 2, 3)).toBeUndefined();
    applier.check(table, skipped, blocksOf([(payload) => payload.block(encode({ kind: "node_del", ref: 1 }))]), undefined, false, INTAKE);
    applier.apply(table, skipped, blocksOf([(payload) => payload.block(encode({ kind: "node_del", ref: 1 }))]), 0);
    expect(put(4)).toBeUndefined();
    expect(skipped.size).toBe(3);
  });
});
