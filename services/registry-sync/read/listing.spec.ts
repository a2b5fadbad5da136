import { create, fromBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import type { RawMessage } from "#channel/call.ts";
import { systemClock } from "#channel/clock.ts";
import { decodedSize } from "#channel/decoded-size.ts";
import { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ListNodesRequestSchema, ListNodesResponseSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { LIMITS } from "#kernel/bounds/limits.ts";
import type { CallContext } from "#runtime/rpc/call.ts";
import { countingCodec } from "../../../test/fakes/counting-codec.ts";
import { ANY_NODE, GATEWAY, Instants, nodeBytes, settleAll, TestHub, TestLink } from "../../../test/fakes/registry-hub.ts";
import type { Answer, Input, NodeFilter } from "../messages.ts";
import { createReadHandlers } from "../shell/read-handler.ts";
import { Shell } from "../shell/shell.ts";
import { FeedTable } from "../table/table.ts";
import type { Source } from "./directory.ts";

/** lister asks a hub for lists page by page. */
function lister(hub: TestHub) {
  const ask = (query: Parameters<TestHub["post"]>[0] & { kind: "query" }): Answer => {
    hub.post(query);
    hub.settle();
    return hub.answers.get(query.call)!;
  };
  const words = (answer: Answer): { readonly nodes: string[]; readonly next: number; readonly total: number } | string => {
    if (answer.type === "failed") return answer.failure.reason;
    if (answer.type !== "nodes") return answer.type;
    const nodes = answer.records.map((r) =>
      `${r.name.hubId}/${r.name.nodeId} ${r.online ? "on" : "off"} ${r.state.map((s) => `${s.key}=${String(s.value).slice(0, 9)}`).join(" ")}`.trim(),
    );
    return { nodes, next: answer.next, total: answer.total };
  };
  return {
    first: (keep: string, limit: number, filter: Partial<NodeFilter> = {}) =>
      words(ask({ kind: "query", call: ++hub.call, query: { type: "list", filter: { ...ANY_NODE, ...filter }, limit, keep } })),
    page: (listing: string, from: number, limit: number) =>
      words(ask({ kind: "query", call: ++hub.call, query: { type: "page", listing, from, limit } })),
  };
}

function hubWithNodes(options = {}) {
  const clock = new Instants();
  const hub = new TestHub("alpha", clock, options);
  hub.register(...["a", "b", "c", "d"].map((id) => nodeBytes(id, ["watts:double", "text:string"])));
  hub.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
  let seq = 0;
  const set = (nodeId: string, key: "watts" | "text", value: number | string): void => {
    hub.update(1, ++seq, [{ nodeId, key, value, type: key === "watts" ? 3 : 4 }]);
    hub.settle();
  };
  for (const [i, id] of ["a", "b", "c", "d"].entries()) set(id, "watts", i);
  const scans = (): number => hub.core.sources().reduce((sum, { table }) => sum + table.scans.size, 0);
  return { clock, hub, set, scans, ...lister(hub) };
}

describe("lists in pages", () => {
  test("B2-1 all pages show one instant: state, presence, removed and new nodes, as often as a page is asked for", () => {
    const { hub, set, first, page } = hubWithNodes();
    expect(first("x", 1)).toEqual({ nodes: ["alpha/a on watts=0"], next: 1, total: 4 });
    set("b", "watts", 71);
    set("b", "watts", 72);
    hub.deregister("c");
    hub.register(nodeBytes("bb", []), nodeBytes("d", ["other:double"]));
    hub.settle();
    hub.deregister("d");
    hub.register(nodeBytes("c", ["watts:double"]));
    hub.post({ kind: "stream_close", stream: 1 });
    hub.settle();
    for (let i = 0; i < 2; i++) {
      expect(page("x", 1, 2)).toEqual({ nodes: ["alpha/b on watts=1", "alpha/c on watts=2"], next: 3, total: 4 });
      expect(page("x", 3, 2)).toEqual({ nodes: ["alpha/d on watts=3"], next: 0, total: 4 });
    }
    expect(first("y", 10)).toMatchObject({ nodes: ["alpha/a on watts=0", "alpha/b on watts=72", "alpha/bb on", "alpha/c on"], next: 0 });
  });

  test("of what a filter leaves out nothing is kept, and a list that fits on one page keeps nothing", () => {
    const { set, scans, first, page } = hubWithNodes();
    expect([first("whole", 4), scans()]).toMatchObject([{ next: 0 }, 0]);
    expect(page("whole", 1, 1)).toBe("POSITION_EXPIRED");
    expect([first("x", 1, { nodeIdPrefix: "b" }), scans()]).toMatchObject([{ next: 0, total: 1 }, 0]);
    expect(first("y", 2, { capability: "watts" })).toMatchObject({ next: 2 });
    set("d", "watts", 9);
    expect(page("y", 2, 2)).toMatchObject({ nodes: ["alpha/c on watts=2", "alpha/d on watts=3"] });
  });

  test("a page ends where an answer would be too long, and the next one goes on there", () => {
    const { hub, set, first, page } = hubWithNodes();
    const many = Array.from({ length: 100 }, (_, i) => `t${i}:string`);
    for (const id of ["a", "b", "c", "d"]) {
      hub.register(nodeBytes(id, many));
      const updates = many.map((key) => ({ nodeId: id, key: key.slice(0, -7), value: "v".repeat(4_096), type: 4 as const }));
      for (const update of updates) hub.update(1, 1_000 + Number(update.key.slice(1)) + 200 * id.charCodeAt(0), [update]);
    }
    hub.settle();
    set("a", "text", "gone with its capability");
    expect(first("x", 10)).toMatchObject({ nodes: { length: 1 }, next: 1, total: 4 });
    expect(page("x", 1, 10)).toMatchObject({ nodes: { length: 1 }, next: 2 });
    expect(page("x", 3, 10)).toMatchObject({ nodes: { length: 1 }, next: 0 });
  });

  test("a list is kept for five minutes, and then costs nothing any more", () => {
    const { clock, hub, scans, first, page } = hubWithNodes();
    first("x", 1);
    clock.advance(LIMITS.pagingMs - 1);
    hub.settle();
    expect([scans(), page("x", 3, 1)]).toMatchObject([1, { nodes: ["alpha/d on watts=3"] }]);
    clock.advance(1);
    hub.settle();
    expect([scans(), page("x", 3, 1)]).toEqual([0, "POSITION_EXPIRED"]);
  });

  test("older lists give way to newer ones: by their number, by their nodes, and by what changes cost", () => {
    const cases = [{ listings: 2 }, { listingRecords: 8 }];
    for (const options of cases) {
      const { scans, first, page } = hubWithNodes(options);
      for (const name of ["x", "y", "z"]) first(name, 1);
      expect(scans()).toBe(2);
      expect(["x", "y", "z"].map((name) => typeof page(name, 1, 1))).toEqual(["string", "object", "object"]);
    }
    const { hub, set, scans, first, page } = hubWithNodes({ limits: { ...LIMITS, listingBytes: 8_000 } });
    for (const id of ["a", "b", "c", "d"]) set(id, "text", id.repeat(1_000));
    first("older", 1);
    first("newer", 1);
    for (const id of ["a", "b"]) set(id, "text", "short");
    expect([scans(), page("older", 1, 1)]).toMatchObject([2, { nodes: ["alpha/b on watts=1 text=bbbbbbbbb"] }]);
    set("c", "text", "short");
    expect([scans(), page("older", 1, 1)]).toEqual([1, "POSITION_EXPIRED"]);
    expect(page("newer", 1, 1)).toMatchObject({ nodes: ["alpha/b on watts=1 text=bbbbbbbbb"] });
    hub.register(nodeBytes("a", ["watts:double"], { name: "n".repeat(255) }));
    for (const id of ["a", "b", "c", "d"]) set(id, "text", id.repeat(4_000));
    first("newest", 1);
    for (const id of ["a", "b", "c", "d"]) set(id, "text", "short");
    expect([page("newer", 1, 1), page("newest", 1, 1), scans()]).toEqual(["POSITION_EXPIRED", "POSITION_EXPIRED", 0]);
  });

  test("a list that has nodes of a hub whose registry is replaced by a snapshot, or forgotten, is over", () => {
    for (const how of ["snapshot", "removed"]) {
      const clock = new Instants();
      const a = new TestHub("alpha", clock, { ringSegments: 1 });
      const b = new TestHub("beta", clock);
      const peers = { alpha: [{ hubId: "beta", share: "full", level: 3 }], beta: [{ hubId: "alpha", share: "full", level: 3 }] };
      a.post({ kind: "peers", peers: peers.alpha, complete: true });
      b.post({ kind: "peers", peers: peers.beta, complete: true });
      a.register(nodeBytes("a", []), nodeBytes("b", []), nodeBytes("c", []));
      b.register(nodeBytes("own", []), nodeBytes("own-2", []));
      const link = new TestLink(a, b);
      settleAll([a, b], [link]);
      const { first, page } = lister(b);
      expect(first("all", 2)).toMatchObject({ total: 5, next: 2 });
      expect(first("own", 1, { hubIds: ["beta"] })).toMatchObject({ total: 2, next: 1 });
      if (how === "removed") b.post({ kind: "peers", peers: [], complete: true });
      else {
        link.down();
        for (const id of ["d", "e"]) {
          a.register(nodeBytes(id, []));
          a.settle();
        }
        settleAll([a, b], [new TestLink(a, b)]);
      }
      expect(page("all", 2, 2)).toBe("POSITION_EXPIRED");
      expect(page("own", 1, 1)).toMatchObject({ nodes: ["beta/own-2 on"] });
    }
  });

  test("what a list takes in memory grows with its nodes, not with their numbers", () => {
    const { hub, first, page, set } = hubWithNodes();
    hub.register(nodeBytes("e", ["watts:double"]));
    hub.settle();
    // After the last registration: one that came near the end of the numbers would give them out anew.
    const { table } = hub.core.sources()[0] as Source;
    table.reserveRefs(2 ** 24);
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 8; i++) first(`all-${i}`, 1, i % 2 === 0 ? {} : { capability: "watts" });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20);
    expect(table.nextRef).toBe(2 ** 24);
    set("e", "watts", 9);
    set("d", "watts", 9);
    for (const name of ["all-6", "all-7"]) expect(page(name, 3, 2)).toMatchObject({ nodes: ["alpha/d on watts=3", "alpha/e on"] });
  });

  test("a filter looks at so many bytes of nodes in one step, and shows those of one instant all the same", () => {
    let looked = 0;
    const codec = countingCodec((bytes) => (looked += bytes));
    const { hub, first, page } = hubWithNodes({ codec });
    const made = (i: number, last: string) => nodeBytes(`n${1_000 + i}`, ["x".repeat(1_000), "y".repeat(1_000), last], { name: "some" });
    hub.register(...Array.from({ length: 1_000 }, (_, i) => made(i, i % 2 === 0 ? "some" : "none")));
    hub.settle();
    const query = (keep: string) => ({ type: "list", filter: { ...ANY_NODE, capability: "some" }, limit: 2, keep }) as const;
    const step = (go: () => unknown): unknown => {
      looked = 0;
      const went = go();
      expect(looked).toBeLessThan(600 * 1_024);
      return went;
    };
    const asked = ["one", "two"].map((keep) => {
      step(() => hub.post({ kind: "query", call: ++hub.call, query: query(keep) }));
      return hub.call;
    });
    expect(hub.answers.has(asked[0] as number)).toBe(false);
    hub.register(made(998, "none"), made(997, "some"), made(2_000, "some"));
    hub.deregister("n1996");
    hub.deregister("n1000");
    hub.post({ kind: "flush" });
    while (step(() => hub.turn()));
    expect(hub.answers.get(asked[0] as number)).toMatchObject({ total: 500, next: 2 });
    expect(page("one", 497, 9)).toMatchObject({ nodes: ["alpha/n1994 on", "alpha/n1996 on", "alpha/n1998 on"], next: 0 });
    expect(hub.answers.get(asked[1] as number)).toMatchObject({ total: 499, next: 2 });
    expect(page("two", 0, 1)).toMatchObject({ nodes: ["alpha/n1002 on"] });
    expect(first("three", 1, { capability: "none" })).toMatchObject({ total: 500 });
  });

  test("callers take turns with lists that take long, and so many of one wait", () => {
    const { hub } = hubWithNodes();
    hub.register(...Array.from({ length: 5_000 }, (_, i) => nodeBytes(`n${10_000 + i}`, [])));
    hub.settle();
    const filter = { ...ANY_NODE, labels: { none: "has" } };
    const ask = (principal: string, hubIds: string[] = []): number => {
      hub.post({
        kind: "query",
        call: ++hub.call,
        query: { type: "list", filter: { ...filter, hubIds }, limit: 1, keep: `${hub.call}`, principal },
      });
      return hub.call;
    };
    const many = Array.from({ length: 40 }, () => ask("many"));
    const few = [ask("few"), ask("few")];
    const failed = (call: number): boolean => hub.answers.get(call)?.type === "failed";
    expect(many.filter(failed)).toHaveLength(40 - 17);
    // What takes one step waits for nobody.
    expect(hub.answers.get(ask("few", ["nobody"]))).toMatchObject({ total: 0 });
    const done = (calls: readonly number[]): number => calls.filter((call) => hub.answers.get(call)?.type === "nodes").length;
    while (done(few) < 2) hub.turn();
    expect(done(many)).toBeLessThanOrEqual(3);
    hub.settle();
    expect(done(many)).toBe(17);
  });

  test("a list whose caller has left is not made: not one that waits, nor what is left of one that is being made", () => {
    const { clock, hub, scans } = hubWithNodes();
    hub.register(...Array.from({ length: 20_000 }, (_, i) => nodeBytes(`n${10_000 + i}`, [])));
    hub.settle();
    const filter = { ...ANY_NODE, labels: { none: "has" } };
    const ask = (principal: string): number => {
      hub.post({ kind: "query", call: ++hub.call, query: { type: "list", filter, limit: 1, keep: `${hub.call}`, principal } });
      return hub.call;
    };
    const left = [ask("a"), ask("a"), ask("b"), ask("a"), ask("c")];
    const stays = ask("d");
    hub.turn();
    expect(scans()).toBe(1);
    for (const call of left) hub.post({ kind: "query_gone", call });
    expect(scans(), "nothing is kept for it").toBe(0);
    let turns = 0;
    for (; hub.answers.get(stays) === undefined && turns < 100; turns++) hub.turn();
    expect(turns, "the next list begins at once").toBeLessThan(14);
    expect(left.filter((call) => hub.answers.has(call))).toEqual([]);
    hub.settle();
    expect(scans()).toBe(0);
    expect(hub.core.deadline(), "it does not go on by itself").toBeGreaterThan(clock.mono);
    // An answer that crosses with the leave ends nothing else.
    hub.post({ kind: "query_gone", call: stays });
  });

  test("a call that is cancelled says so to the core, and ends; one that was answered says nothing", async () => {
    const shell = new Shell();
    const given: Input[] = [];
    const take = (input: Input): boolean => given.push(input) > 0;
    shell.attach({ post: take, tell: take, drainSpace: () => Promise.resolve(true) });
    const { listNodes } = createReadHandlers(shell, { id: () => "x" }, () => Promise.resolve(), systemClock);
    const caller = { kind: "operator", hubId: "alpha", name: "a", spiffeId: "spiffe://alpha/operator/a" };
    const list = (signal: AbortSignal) => listNodes(create(ListNodesRequestSchema), { caller, signal } as unknown as CallContext);
    const abort = new AbortController();
    const cancelled = list(abort.signal);
    await expect.poll(() => given).toHaveLength(1);
    abort.abort();
    await expect(cancelled).rejects.toMatchObject({ failure: { reason: "CANCELLED" } });
    const [asked] = given;
    expect(given.slice(1)).toEqual([{ kind: "query_gone", call: asked?.kind === "query" ? asked.call : undefined }]);
    await expect(list(abort.signal), "it had left before").rejects.toMatchObject({ failure: { reason: "CANCELLED" } });
    const stays = new AbortController();
    const answered = list(stays.signal);
    await expect.poll(() => given).toHaveLength(3);
    const last = given.at(-1);
    const answer = { type: "nodes", records: [], next: 0, total: 7, hubs: [] } as const;
    shell.route({ kind: "answer", call: last?.kind === "query" ? last.call : 0, answer });
    expect(fromBinary(ListNodesResponseSchema, ((await answered) as RawMessage).bytes)).toMatchObject({ total: 7 });
    const before = given.length;
    stays.abort();
    expect(given.length).toBe(before);
  });

  test("a page of nodes that become much when they are decoded is cut by what they become", () => {
    const { hub, first } = hubWithNodes();
    const unknown = Uint8Array.from({ length: 600 }, (_, i) => (i % 2 === 0 ? 0x7a : 0));
    const nodes = Array.from({ length: 500 }, (_, i) => Uint8Array.of(...nodeBytes(`e${1_000 + i}`, []), ...unknown));
    hub.register(...nodes);
    hub.settle();
    const decoded = decodedSize(NodeSchema, nodes[0] as Uint8Array);
    expect(decoded * nodes.length, "decoded at once").toBeGreaterThan(40 * 2 ** 20);
    const page = first("dense", 1_000, { nodeIdPrefix: "e" }) as { nodes: string[]; total: number };
    expect(page.nodes.length).toBeGreaterThan(100);
    expect(page.nodes.length * decoded).toBeLessThan(25 * 2 ** 20);
    expect(page.total).toBe(500);
  });
});

test("a list over many nodes of several hubs notes none of them one by one when it begins, and orders one hub's in a step", () => {
  const clock = new Instants();
  const b = new TestHub("beta", clock);
  const peers = ["h1", "h2", "h3"].map((id) => new TestHub(id, clock));
  b.post({ kind: "peers", peers: peers.map(({ id }) => ({ hubId: id, share: "full", level: 3 })), complete: true });
  for (const peer of peers) {
    peer.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
    for (let i = 0; i < 4_000; i += 500)
      peer.register(
        ...Array.from({ length: 500 }, (_, j) => nodeBytes(`n${10_000 + i + j}`, [], { type: j % 100 === 0 ? "some" : "most" })),
      );
    settleAll([b, peer], [new TestLink(peer, b)]);
  }
  const tables = b.core.sources().flatMap(({ own, table }) => (own ? [] : [table]));
  let looked = 0;
  for (const table of tables) {
    table.byId = (nodeId) => {
      looked++;
      return FeedTable.prototype.byId.call(table, nodeId);
    };
  }
  const sorted = (): number => tables.filter((table) => table.sorted).length;
  const ask = (type: string): { readonly most: number; readonly sorts: number } => {
    b.post({ kind: "query", call: ++b.call, query: { type: "list", filter: { ...ANY_NODE, type }, limit: 1, keep: type } });
    let [most, sorts] = [looked, sorted()];
    while (!b.answers.has(b.call)) {
      const before = sorted();
      looked = 0;
      b.turn();
      most = Math.max(most, looked);
      sorts = Math.max(sorts, sorted() - before);
    }
    looked = 0;
    return { most, sorts };
  };
  const first = ask("some");
  expect(first.most).toBeGreaterThan(1_000);
  expect(first.most).toBeLessThan(2_200);
  expect(first.sorts).toBe(1);
  expect(b.answers.get(b.call)).toMatchObject({ type: "nodes", total: 120 });
  expect(ask("").most).toBeLessThan(2_200);
  expect(b.answers.get(b.call)).toMatchObject({ type: "nodes", total: 12_000 });
  expect(ask("some").most).toBeLessThan(2_200);
});
