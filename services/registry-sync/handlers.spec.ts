import type { MessageInitShape } from "@bufbuild/protobuf";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ClientDuplex } from "#channel/call.ts";
import { scanRequest } from "#channel/decoded-size.ts";
import { ErrorReason } from "#gen/foedus/common/v1/error_pb.ts";
import { CapabilitySchema, NodeKind, NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import {
  DeregisterNodeRequestSchema,
  GetNodeRequestSchema,
  ListNodesRequestSchema,
  RegisterNodeRequestSchema,
  RegisterNodesRequestSchema,
  ReportPresenceRequestSchema,
  UpdateStateRequestSchema,
  type UpdateStateResponse,
  WatchEncoding,
  type WatchEvent,
  WatchRequestSchema,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import type { Caller } from "#runtime/rpc/call.ts";
import { RegistryHub } from "../../test/registry/fixture.ts";
import { failureOfCall, until } from "../../test/rpc/fixture.ts";
import { testHub } from "../../test/testca/index.ts";

type NodeInit = MessageInitShape<typeof NodeSchema>;

let hub: RegistryHub;
beforeAll(async () => {
  hub = await new RegistryHub(await testHub("alpha")).start();
});
afterAll(async () => {
  await hub.stop();
  hub.remove();
  expect(hub.fatal).toEqual([]);
});

const as = (caller: Partial<Caller>) => hub.local(caller);
const operator = () => as({ kind: "operator", name: "op" });
const lamp = (nodeId: string, more: Pick<NodeInit, "labels" | "name" | "capabilities" | "type"> = {}) => ({
  nodeId,
  kind: NodeKind.DEVICE,
  type: "light",
  name: nodeId,
  capabilities: [
    { name: "on", type: ValueType.BOOL, readable: true, invocable: true },
    { name: "level", type: ValueType.DOUBLE, readable: true },
    { name: "count", type: ValueType.SINT64, readable: true },
    { name: "label", type: ValueType.STRING, readable: true },
    { name: "blob", type: ValueType.BYTES, readable: true },
    { name: "meta", type: ValueType.JSON, readable: true },
  ],
  ...more,
});
const register = (node: NodeInit, client = as({})) => client.registerNode(create(RegisterNodeRequestSchema, { node }));
const get = (nodeId: string, hubId = "") => operator().getNode(create(GetNodeRequestSchema, { name: { hubId, nodeId } }));

describe("registration", () => {
  test("S0-14 a node is there with what it can do when its registration is answered", async () => {
    const { ref } = await register(lamp("lamp-1", { labels: { room: "kitchen" } }));
    expect(ref).toBeGreaterThan(0);
    const { record } = await get("lamp-1");
    expect(record?.name).toMatchObject({ hubId: "alpha", nodeId: "lamp-1" });
    expect(record?.node?.capabilities.map(({ name }) => name)).toEqual(["on", "level", "count", "label", "blob", "meta"]);
    expect(record?.node?.labels).toEqual({ room: "kitchen" });
    expect(record?.version?.seq).toBeGreaterThan(0n);
    expect((await register(lamp("lamp-1", { name: "other" }))).ref).toBe(ref);
  });

  test("a node speaks for itself only, a gateway for its prefixes", async () => {
    const node = as({ kind: "node", name: "lamp-2" });
    await register(lamp("lamp-2"), node);
    expect(await failureOfCall(register(lamp("lamp-3"), node))).toMatchObject({ reason: "OUT_OF_SCOPE", field: "node.node_id" });
    const gateway = as({ kind: "gateway", name: "zigbee", prefixes: ["zb-"] });
    await register(lamp("zb-1"), gateway);
    expect(await failureOfCall(register(lamp("lamp-2"), gateway))).toMatchObject({ reason: "OUT_OF_SCOPE" });
    expect(
      await failureOfCall(gateway.deregisterNode({ $typeName: "foedus.registry_sync.v1alpha1.DeregisterNodeRequest", nodeId: "lamp-2" })),
    ).toMatchObject({
      reason: "OUT_OF_SCOPE",
      field: "node_id",
    });
  });

  test("many at once: each has its own result, and good ones are taken", async () => {
    const gateway = as({ kind: "gateway", name: "zigbee", prefixes: ["zb-"] });
    const twice = lamp("zb-12", { capabilities: [{ name: "on" }, { name: "on" }] });
    // A bound that is no number would be none, and what is sent to the node beyond it would be taken.
    const unbounded = lamp("zb-14", { capabilities: [{ name: "level", max: Number.NaN }] });
    const endless = lamp("zb-15", { capabilities: [{ name: "level", max: Number.POSITIVE_INFINITY }] });
    const { results } = await gateway.registerNodes(
      create(RegisterNodesRequestSchema, { nodes: [lamp("zb-10"), lamp("x-11"), twice, lamp("zb-13"), unbounded, endless] }),
    );
    expect(results.map(({ nodeId, failure }) => [nodeId, failure?.reason, failure?.field])).toEqual([
      ["zb-10", undefined, undefined],
      ["x-11", ErrorReason.OUT_OF_SCOPE, "nodes[1].node_id"],
      ["zb-12", ErrorReason.INVALID_FIELD, "nodes[2].capabilities[1].name"],
      ["zb-13", undefined, undefined],
      ["zb-14", ErrorReason.INVALID_FIELD, "nodes[4].capabilities[0].max"],
      ["zb-15", undefined, undefined],
    ]);
    expect((await get("zb-13")).record?.name?.nodeId).toBe("zb-13");
  });

  test("F-28 a call that the network held back past a newer one of its program changes nothing", async () => {
    const order = (n: number, group = 1) => ({ group: new Uint8Array(16).fill(group), incarnation: 1n, n: BigInt(n) });
    const put = (type: string, n: number, group?: number) =>
      as({}).registerNode(create(RegisterNodeRequestSchema, { node: lamp("fenced-1", { type }), order: order(n, group) }));
    await put("newer", 2);
    expect(await failureOfCall(put("older", 1))).toMatchObject({ reason: "SESSION_REPLACED" });
    const old = { nodes: [lamp("fenced-1", { type: "older" })], order: order(1) };
    expect(await failureOfCall(as({}).registerNodes(create(RegisterNodesRequestSchema, old)))).toMatchObject({
      reason: "SESSION_REPLACED",
    });
    const gone = as({}).deregisterNode(create(DeregisterNodeRequestSchema, { nodeId: "fenced-1", order: order(1) }));
    expect(await failureOfCall(gone)).toMatchObject({ reason: "SESSION_REPLACED" });
    expect((await get("fenced-1")).record?.node?.type).toBe("newer");
    await put("another program", 1, 2);
    await register(lamp("fenced-1", { type: "unnumbered" }));
    await put("newest", 3);
    expect((await get("fenced-1")).record?.node?.type).toBe("newest");
  });

  test("F-28 a call that is repeated, as its answer was lost, is answered while it is the newest", async () => {
    const order = (n: number) => ({ group: new Uint8Array(16).fill(7), incarnation: 1n, n: BigInt(n) });
    const put = (n: number) => as({}).registerNode(create(RegisterNodeRequestSchema, { node: lamp("repeated-1"), order: order(n) }));
    const { ref } = await put(5);
    expect((await put(5)).ref).toBe(ref);
    await put(6);
    expect(await failureOfCall(put(5))).toMatchObject({ reason: "SESSION_REPLACED", message: expect.stringContaining("newer call") });
  });

  test("S-4 a large page goes to the core in parts, and what others ask comes between; what its caller says later comes after all of it", async () => {
    const wide = (type: string, i: number) =>
      lamp(`wide-${i}`, {
        type,
        capabilities: Array.from({ length: 500 }, (_, j) => ({ name: `w${j}`, type: ValueType.BOOL, readable: true })),
      });
    const gateway = as({ kind: "gateway", name: "wide", prefixes: ["wide-"] });
    const nodes = Array.from({ length: 30 }, (_, i) => wide("first", i));
    const page = gateway.registerNodes(create(RegisterNodesRequestSchema, { nodes }));
    // What is asked behind the page is answered between its parts: its first is with the core, its last is not.
    await new Promise<void>((resolve) => void setImmediate(resolve));
    const between = failureOfCall(get("wide-29"));
    const later = register(wide("second", 29), gateway);
    const gone = gateway.deregisterNode(create(DeregisterNodeRequestSchema, { nodeId: "wide-28" }));
    expect(await between).toMatchObject({ reason: "NODE_NOT_FOUND" });
    await Promise.all([page, later, gone]);
    expect((await page).results.every(({ failure }) => failure === undefined)).toBe(true);
    expect((await get("wide-29")).record?.node?.type).toBe("second");
    expect((await get("wide-0")).record?.node?.type).toBe("first");
    expect((await gone).existed).toBe(true);
    expect(await failureOfCall(get("wide-28"))).toMatchObject({ reason: "NODE_NOT_FOUND" });
  });

  test("S-4 a page of nodes that takes too much memory is refused with what to do", () => {
    const names = Array.from({ length: 512 }, (_, j) => `${j}`);
    const node = (i: number) =>
      create(NodeSchema, { nodeId: `dense-${i}`, capabilities: names.map((name) => create(CapabilitySchema, { name, type: 1 })) });
    const nodes = Array.from({ length: 100 }, (_, i) => node(i));
    const bytes = toBinary(RegisterNodesRequestSchema, create(RegisterNodesRequestSchema, { nodes }));
    expect(() => scanRequest(RegisterNodesRequestSchema, bytes)).toThrow("takes more than 8388608 bytes of memory; send less at once");
  });

  test("malformed nodes are refused with the field at fault", async () => {
    expect(await failureOfCall(register(lamp("no spaces")))).toMatchObject({ reason: "INVALID_FIELD", field: "node.node_id" });
    expect(await failureOfCall(register(lamp("")))).toMatchObject({ reason: "INVALID_FIELD", field: "node.node_id" });
    expect(await failureOfCall(register(lamp("lamp-9", { capabilities: [{ name: "" }] })))).toMatchObject({
      field: "node.capabilities[0].name",
    });
    expect(await failureOfCall(register(lamp("lamp-9"), operator()))).toMatchObject({ reason: "ACCESS_DENIED" });
  });

  test("a node that is too long is refused with the limit and the field; others of its call are taken", async () => {
    const schema = "s".repeat(16_000);
    const capabilities = Array.from({ length: 20 }, (_, i) => ({ name: `c${i}`, type: ValueType.JSON, readable: true, schema }));
    const failure = { reason: "LIMIT_EXCEEDED", field: "node", facts: { limit: "node_bytes", max: "196608" } };
    expect(await failureOfCall(register(lamp("long-1", { capabilities })))).toMatchObject(failure);
    const nodes = [lamp("short-1"), lamp("long-1", { capabilities })];
    const { results } = await as({}).registerNodes(create(RegisterNodesRequestSchema, { nodes }));
    expect(results.map((result) => [result.failure?.reason, result.failure?.field])).toEqual([
      [undefined, undefined],
      [ErrorReason.LIMIT_EXCEEDED, "nodes[1]"],
    ]);
  });

  test("deregistration removes it, and says whether it was there", async () => {
    await register(lamp("short-lived"));
    const gone = () => as({}).deregisterNode({ $typeName: "foedus.registry_sync.v1alpha1.DeregisterNodeRequest", nodeId: "short-lived" });
    expect((await gone()).existed).toBe(true);
    expect((await gone()).existed).toBe(false);
    expect(await failureOfCall(get("short-lived"))).toMatchObject({ reason: "NODE_NOT_FOUND" });
  });

  test("S0-25 presence: a node with an executor is online, without it not", async () => {
    await register(lamp("actor"), as({ kind: "node", name: "actor" }));
    const report = (attached: string[], detached: string[]) =>
      as({ kind: "service", name: "hub" }).reportPresence(create(ReportPresenceRequestSchema, { attached, detached }));
    await report(["actor"], []);
    expect((await get("actor")).record?.online).toBe(true);
  });
});

describe("updates", () => {
  type Stream = ClientDuplex<MessageInitShape<typeof UpdateStateRequestSchema>, UpdateStateResponse>;
  type Frame = NonNullable<MessageInitShape<typeof UpdateStateRequestSchema>["frame"]>;

  /** talk sends frames and gives the answers, until there is one for each. */
  async function talk(client: ReturnType<typeof as>, frames: readonly Frame[]): Promise<UpdateStateResponse["frame"][]> {
    const stream = client.updateState() as unknown as Stream;
    for (const frame of frames) stream.send(create(UpdateStateRequestSchema, { frame }) as never);
    stream.end();
    const answers: UpdateStateResponse["frame"][] = [];
    for await (const { frame } of stream.responses) answers.push(frame);
    return answers;
  }
  const bind = (nodeIds: string[], keys: [string, ValueType][]): Frame => ({
    case: "bind",
    value: { id: 7, nodeIds, keys: keys.map(([name, type]) => ({ name, type })) },
  });
  const batch = (seq: number, state: object): Frame => ({ case: "batch", value: { seq: BigInt(seq), state } });

  async function bound(nodeId: string, key: string, type: ValueType): Promise<{ ref: number; kref: number }> {
    const [answer] = await talk(as({}), [bind([nodeId], [[key, type]])]);
    if (answer?.case !== "bound") throw new Error("not bound");
    return { ref: answer.value.refs[0]!, kref: answer.value.krefs[0]! };
  }

  test("S0-17 by name: every type of value arrives", async () => {
    await register(lamp("lamp-1"));
    const values = [
      ["on", { case: "boolValue", value: true }],
      ["level", { case: "doubleValue", value: 21.5 }],
      ["count", { case: "intValue", value: -(2n ** 63n) }],
      ["label", { case: "stringValue", value: "Küche" }],
      ["blob", { case: "bytesValue", value: Buffer.of(0, 255) }],
      ["meta", { case: "jsonValue", value: '{"a":1}' }],
    ] as const;
    const answers = await talk(as({}), [
      { case: "named", value: { seq: 1n, updates: values.map(([key, kind]) => ({ nodeId: "lamp-1", key, value: { kind } })) } },
    ]);
    expect(answers).toMatchObject([{ case: "ack", value: { seq: 1n } }]);
    const { record } = await get("lamp-1");
    expect(record?.state.map(({ key, value }) => [key, value?.kind.value])).toEqual(values.map(([key, { value }]) => [key, value]));
    expect(record?.online).toBe(true);
  });

  test("by number: bind, then columns", async () => {
    await register(lamp("lamp-4"));
    const { ref, kref } = await bound("lamp-4", "level", ValueType.DOUBLE);
    const answers = await talk(as({}), [
      batch(1, { ref: [ref, ref], key: [kref, kref], num: [1, 2] }),
      batch(2, { ref: [ref], key: [kref], num: [3] }),
    ]);
    expect(answers.at(-1)).toMatchObject({ case: "ack", value: { seq: 2n } });
    expect((await get("lamp-4")).record?.state).toMatchObject([{ key: "level", value: { kind: { value: 3 } } }]);
  });

  test("an answer is not given before the change can be read, and a half-closed stream ends after its last answer", async () => {
    await register(lamp("lamp-5"));
    const { ref, kref } = await bound("lamp-5", "level", ValueType.DOUBLE);
    const frames = Array.from({ length: 50 }, (_, i) => batch(i + 1, { ref: [ref], key: [kref], num: [i] }));
    const answers = await talk(as({}), frames);
    expect(answers.at(-1)).toMatchObject({ case: "ack", value: { seq: 50n } });
    expect((await get("lamp-5")).record?.state[0]?.value?.kind.value).toBe(49);
  });

  test("a bind that cannot be had names the node or key, and binds nothing", async () => {
    await register(lamp("lamp-6"));
    const cases = [
      [bind(["lamp-6", "nobody"], [["on", ValueType.BOOL]]), ErrorReason.NODE_NOT_FOUND, "bind.node_ids[1]"],
      [
        bind(
          ["lamp-6"],
          [
            ["on", ValueType.BOOL],
            ["nothing", ValueType.BOOL],
          ],
        ),
        ErrorReason.CAPABILITY_NOT_FOUND,
        "bind.keys[1]",
      ],
      [bind(["lamp-6"], [["on", ValueType.DOUBLE]]), ErrorReason.CAPABILITY_NOT_FOUND, "bind.keys[0]"],
    ] as const;
    for (const [frame, reason, field] of cases) {
      const [answer] = await talk(as({}), [frame]);
      expect(answer).toMatchObject({ case: "bound", value: { refs: [], krefs: [], failure: { reason, field } } });
    }
  });

  describe("bad input is refused whole, with the change at fault, and nothing else is lost", () => {
    const bad = [
      ["unknown node", (_ref: number, kref: number) => ({ ref: [999_999], key: [kref], num: [1] }), ErrorReason.NODE_NOT_FOUND],
      ["unbound key", (ref: number) => ({ ref: [ref], key: [60_000], num: [1] }), ErrorReason.CAPABILITY_NOT_FOUND],
      ["wrong type", (ref: number, kref: number) => ({ ref: [ref], key: [kref], int: [1n] }), ErrorReason.INVALID_FIELD],
      ["NaN", (ref: number, kref: number) => ({ ref: [ref], key: [kref], num: [Number.NaN] }), ErrorReason.INVALID_FIELD],
      [
        "text for a number",
        (ref: number, kref: number) => ({ ref: [ref], key: [kref], len: [1], data: Uint8Array.of(1) }),
        ErrorReason.INVALID_FIELD,
      ],
    ] as const;

    test.each(bad)("%s", async (_name, state, reason) => {
      await register(lamp("lamp-7"));
      const { ref, kref } = await bound("lamp-7", "level", ValueType.DOUBLE);
      const good = (seq: number, value: number) => batch(seq, { ref: [ref], key: [kref], num: [value] });
      const wrong = state(ref, kref);
      // The bad change comes second: the first of its batch must not be applied either.
      const mixed = "num" in wrong ? { ref: [ref, ...wrong.ref], key: [kref, ...wrong.key], num: [-1, ...wrong.num] } : wrong;
      const answers = await talk(as({}), [good(1, 5), batch(2, mixed), good(3, 6)]);
      const refused = answers.filter((answer) => answer.case === "refused");
      expect(refused).toMatchObject([{ value: { seq: 2n, index: "num" in wrong ? 1 : 0, failure: { reason } } }]);
      expect(answers.at(-1)).toMatchObject({ case: "ack", value: { seq: 3n } });
      expect((await get("lamp-7")).record?.state[0]?.value?.kind.value).toBe(6);
    });

    test("a value that is too long", async () => {
      await register(lamp("lamp-7"));
      const { ref, kref } = await bound("lamp-7", "label", ValueType.STRING);
      const [answer] = await talk(as({}), [batch(1, { ref: [ref], key: [kref], len: [5_000], data: new Uint8Array(5_000) })]);
      expect(answer).toMatchObject({ case: "refused", value: { seq: 1n, index: 0, failure: { reason: ErrorReason.LIMIT_EXCEEDED } } });
    });

    test("another gateway's node", async () => {
      await register(lamp("lamp-7"));
      const { ref, kref } = await bound("lamp-7", "level", ValueType.DOUBLE);
      const stranger = as({ kind: "gateway", name: "stranger", prefixes: ["zb-"] });
      const [answer] = await talk(stranger, [batch(1, { ref: [ref], key: [kref], num: [1] })]);
      expect(answer).toMatchObject({ case: "refused", value: { failure: { reason: ErrorReason.OUT_OF_SCOPE } } });
      const [named] = await talk(stranger, [
        {
          case: "named",
          value: { seq: 1n, updates: [{ nodeId: "lamp-7", key: "level", value: { kind: { case: "doubleValue", value: 1 } } }] },
        },
      ]);
      expect(named).toMatchObject({ case: "refused", value: { index: 0, failure: { reason: ErrorReason.OUT_OF_SCOPE } } });
    });

    test("columns that do not fit together, and numbers that do not rise, end the stream", async () => {
      const broken = batch(1, { ref: [1, 2], key: [1], num: [1] });
      expect(await failureOfCall(talk(as({}), [broken]))).toMatchObject({ reason: "INVALID_FIELD", field: "batch.state" });
      expect(await failureOfCall(talk(as({}), [batch(2, {}), batch(2, {})]))).toMatchObject({ reason: "INVALID_FIELD", field: "seq" });
    });
  });
});

describe("reading", () => {
  test("B2-1 pages show one instant: none left out, none twice, whatever changes meanwhile", async () => {
    const gateway = as({});
    const ids = Array.from({ length: 257 }, (_, i) => `page-${String(i).padStart(3, "0")}`);
    await gateway.registerNodes(create(RegisterNodesRequestSchema, { nodes: ids.map((id) => lamp(id)) }));
    const list = (pageToken: string) =>
      operator().listNodes(create(ListNodesRequestSchema, { filter: { nodeIdPrefix: "page-" }, pageSize: 100, pageToken, summary: true }));
    let page = await list("");
    const seen = page.records.map(({ name }) => name?.nodeId);
    expect(page.total).toBe(257);
    expect(page.hubs).toMatchObject([{ hubId: "alpha" }]);
    await gateway.deregisterNode({ $typeName: "foedus.registry_sync.v1alpha1.DeregisterNodeRequest", nodeId: "page-150" });
    await register(lamp("page-0005"));
    while (page.nextPageToken !== "") {
      page = await list(page.nextPageToken);
      expect(page.total).toBe(257);
      seen.push(...page.records.map(({ name }) => name?.nodeId));
    }
    expect(seen).toEqual(ids);
    expect(page.records[0]?.node?.capabilities).toEqual([]);
    expect((await list("")).total).toBe(257);
  });

  test.each(["first", "further"])(
    "S-4 %s pages that one caller asks for at once are made one in a turn of the event loop",
    async (which) => {
      const list = (pageToken: string) => operator().listNodes(create(ListNodesRequestSchema, { pageSize: 10, pageToken }));
      const { nextPageToken } = await list("");
      await new Promise(setImmediate);
      let made = 0;
      const all = Array.from({ length: 50 }, () => list(which === "first" ? "" : nextPageToken).then(() => made++));
      await new Promise(setImmediate);
      expect(made).toBeLessThan(5);
      await Promise.all(all);
    },
  );

  test("a page token that is not ours, or too old, is refused and never guessed at", async () => {
    const list = (pageToken: string) => operator().listNodes(create(ListNodesRequestSchema, { pageToken }));
    expect(await failureOfCall(list("nonsense"))).toMatchObject({ reason: "INVALID_FIELD", field: "page_token" });
    expect(await failureOfCall(list("0000000000000000.100"))).toMatchObject({ reason: "POSITION_EXPIRED" });
  });

  test("S0-21 filters select; feeds are listed with their position", async () => {
    await register(lamp("filter-1", { type: "valve", labels: { room: "attic" } }));
    const { records } = await operator().listNodes(
      create(ListNodesRequestSchema, { filter: { type: "valve", labels: { room: "attic" } } }),
    );
    expect(records.map(({ name }) => name?.nodeId)).toEqual(["filter-1"]);
    const { feeds } = await operator().listFeeds({ $typeName: "foedus.registry_sync.v1alpha1.ListFeedsRequest" });
    expect(feeds).toMatchObject([{ own: true, head: { hubId: "alpha", share: "full" } }]);
    expect(feeds[0]?.nodes).toBeGreaterThan(0);
  });

  test("a watch in events tells what is, then what happens; a filter it cannot do is refused", async () => {
    await register(lamp("watched"));
    const abort = new AbortController();
    const events: WatchEvent[] = [];
    let bookmarks = 0;
    const done = (async () => {
      const request = create(WatchRequestSchema, { filter: { nodeIdPrefix: "watched" }, encoding: WatchEncoding.EVENTS });
      for await (const { push } of operator().watch(request, { signal: abort.signal })) {
        if (push.case === "events") events.push(...push.value.events);
        if (push.case === "bookmark") bookmarks++;
      }
    })();
    await until(() => bookmarks > 0);
    expect(events.some(({ name, change }) => name?.nodeId === "watched" && change.case === "put")).toBe(true);
    await register(lamp("watched-2"));
    await until(() => events.some(({ name, change }) => name?.nodeId === "watched-2" && change.case === "put"));
    await as({}).deregisterNode({ $typeName: "foedus.registry_sync.v1alpha1.DeregisterNodeRequest", nodeId: "watched-2" });
    await until(() => events.some(({ name, change }) => name?.nodeId === "watched-2" && change.case === "removed"));
    abort.abort();
    expect(await failureOfCall(done)).toMatchObject({ reason: "CANCELLED" });
    const blocks = operator().watch(create(WatchRequestSchema, { filter: { type: "light" }, encoding: WatchEncoding.BLOCKS }));
    expect(
      await failureOfCall(
        (async () => {
          for await (const _push of blocks);
        })(),
      ),
    ).toMatchObject({ reason: "INVALID_FIELD", field: "filter" });
  });
});

describe("streams", () => {
  test("nobody can take more than a part of the streams: others still get theirs", async () => {
    const read = async (responses: AsyncIterable<unknown>): Promise<void> => {
      for await (const _response of responses);
    };
    const streams = Array.from({ length: 32 }, () => as({ kind: "node", name: "greedy" }).updateState());
    const ends = streams.map((stream) => failureOfCall(read(stream.responses)));
    expect(await failureOfCall(read(as({ kind: "node", name: "greedy" }).updateState().responses))).toMatchObject({
      reason: "LIMIT_EXCEEDED",
      facts: { limit: "streams_per_caller", max: "32" },
    });
    await register(lamp("modest"));
    const modest = as({ kind: "node", name: "modest" }).updateState();
    modest.end();
    await read(modest.responses);
    streams[0]?.cancel();
    await ends[0];
    const again = as({ kind: "node", name: "greedy" }).updateState();
    again.end();
    await read(again.responses);
    for (const stream of streams) stream.cancel();
    await Promise.all(ends);

    const abort = new AbortController();
    const watch = (name: string) => as({ kind: "operator", name }).watch(create(WatchRequestSchema), { signal: abort.signal });
    let bookmarks = 0;
    const follow = async (name: string): Promise<void> => {
      for await (const { push } of watch(name)) if (push.case === "bookmark") bookmarks++;
    };
    const watches = Array.from({ length: 8 }, () => failureOfCall(follow("viewer")));
    await until(() => bookmarks >= 8);
    expect(await failureOfCall(follow("viewer"))).toMatchObject({
      reason: "LIMIT_EXCEEDED",
      facts: { limit: "watchers_per_caller", max: "8" },
    });
    const other = failureOfCall(follow("other"));
    await until(() => bookmarks >= 9);
    abort.abort();
    expect(await Promise.all([...watches, other])).toMatchObject(Array.from({ length: 9 }, () => ({ reason: "CANCELLED" })));
  });
});

describe("the module", () => {
  test("describes itself, counts, and is ready", async () => {
    expect(hub.module.readiness()).toEqual({ ready: true });
    expect(hub.module.describe()).toContain("sessions");
    const text = await hub.metrics.metrics();
    expect(text).toMatch(/foedus_registry_sync_segments_total\{peer=""\} [1-9]/);
    expect(text).toMatch(/foedus_registry_sync_nodes\{origin="own"\} [1-9]/);
  });
});
