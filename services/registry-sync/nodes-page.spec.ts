import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ListNodesResponseSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { ManualClock } from "../../test/fakes/manual-clock.ts";
import { hubToProto, nodesToRaw, recordToProto } from "./codec/answer-codec.ts";
import type { NodeRecord } from "./messages.ts";
import { VALUE_TYPE } from "./ports.ts";
import { PageTurns } from "./shell/page-turns.ts";

const FRESHNESS = ["FRESH", "STALE", "UNKNOWN"] as const;
const position = { hubId: "home", share: "full", epoch: 3, seq: 7, digest: Uint8Array.of(1, 2, 3) };

const records = fc.array(
  fc
    .record({
      nodeId: fc.stringMatching(/^[a-z]{1,8}$/),
      name: fc.string({ maxLength: 200 }),
      capabilities: fc.array(fc.record({ name: fc.stringMatching(/^[a-z]{1,8}$/), unit: fc.string({ maxLength: 9 }) }), { maxLength: 8 }),
      unknown: fc.nat(3_000),
      online: fc.boolean(),
      freshness: fc.constantFrom(...FRESHNESS),
      ageMs: fc.oneof(fc.nat(1e9), fc.constant(Number.POSITIVE_INFINITY)),
      omitted: fc.nat(3),
      text: fc.string({ maxLength: 9 }),
    })
    .map(({ nodeId, name, capabilities, unknown, text, ...rest }): NodeRecord => {
      const known = toBinary(NodeSchema, create(NodeSchema, { nodeId, name, capabilities }));
      const node = Buffer.concat([known, Buffer.alloc(2 * unknown, Uint8Array.of(0x7a, 0))]);
      const state = [{ key: "state", type: VALUE_TYPE.STRING, value: text }] as const;
      return { name: { hubId: "home", nodeId }, node, state: text === "" ? [] : state, version: position, ...rest };
    }),
  { maxLength: 6 },
);

describe("a page of nodes", () => {
  test("S-4 is written from the bytes of its nodes, and says what decoding and encoding each again says", () => {
    void fc.assert(
      fc.property(records, fc.boolean(), (of, summary) => {
        const hubs = [{ hubId: "home", freshness: "FRESH", ageMs: 0, nodes: of.length }] as const;
        const { bytes } = nodesToRaw({ records: of, hubs, total: of.length }, "next.7", summary);
        const plain = create(ListNodesResponseSchema, {
          records: of.map((record) => recordToProto(record, summary)),
          hubs: hubs.map(hubToProto),
          total: of.length,
          nextPageToken: "next.7",
        });
        // With unknown fields, in the order of the schema.
        const again = (written: Uint8Array): Buffer =>
          Buffer.from(toBinary(ListNodesResponseSchema, fromBinary(ListNodesResponseSchema, written)));
        expect(again(bytes).equals(again(toBinary(ListNodesResponseSchema, plain)))).toBe(true);
      }),
      { numRuns: 60 },
    );
  });
});

describe("turns of those who ask for further pages", () => {
  const begin = () => {
    const clock = new ManualClock();
    const turns = new PageTurns(clock);
    const order: string[] = [];
    const ask = (caller: string, signal = new AbortController().signal) =>
      void turns.turn(caller, signal).then(
        () => order.push(caller),
        (error: { failure: { reason: string } }) => order.push(error.failure.reason),
      );
    const settle = async (): Promise<void> => {
      clock.turn();
      for (let i = 0; i < 4; i++) await new Promise(process.nextTick);
    };
    return { order, ask, settle };
  };

  test("S-4 one page is made in a turn of the event loop, and who asks for hundreds takes turns with others", async () => {
    const { order, ask, settle } = begin();
    for (let i = 0; i < 300; i++) ask("many");
    ask("operator");
    await new Promise(process.nextTick);
    expect(order, "nobody waits while nobody else asks").toEqual(["many"]);
    for (let turn = 2; turn <= 4; turn++) {
      await settle();
      expect(order).toHaveLength(turn);
    }
    expect(order.indexOf("operator")).toBeLessThanOrEqual(2);
    for (let turn = 0; turn < 400 && order.length < 301; turn++) await settle();
    expect(order).toHaveLength(301);
    await settle();
    ask("operator");
    await new Promise(process.nextTick);
    expect(order).toHaveLength(302);
  });

  test("S-4 calls that are over leave at once, also before they came, and hold up nobody", async () => {
    const { order, ask, settle } = begin();
    const over = new AbortController();
    ask("first");
    for (let i = 0; i < 200; i++) ask("gone", over.signal);
    ask("stays");
    over.abort();
    ask("gone", over.signal);
    await settle();
    expect(order.filter((what) => what !== "CANCELLED")).toEqual(["first", "stays"]);
    expect(order).toHaveLength(203);
    await settle();
    ask("next");
    await new Promise(process.nextTick);
    expect(order.at(-1)).toBe("next");
  });
});
