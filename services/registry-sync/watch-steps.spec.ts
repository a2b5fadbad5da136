import { describe, expect, test } from "vitest";
import { countingCodec } from "../../test/fakes/counting-codec.ts";
import { ANY_NODE, GATEWAY, Instants, nodeBytes, settleAll, TestHub, TestLink } from "../../test/fakes/registry-hub.ts";
import type { FeedPosition, WatchPush } from "./messages.ts";

const NODES = 1_000;
/** A turn is a few steps, each of which looks at 128 KiB or so; all nodes together have 2 MiB. */
const TURN_BYTES = 600 * 1_024;

/** slowHub is a hub with large nodes of which every hundredth has the capability `some`, and which counts the bytes of nodes that it looks at. */
function slowHub() {
  let looked = 0;
  let most = 0;
  const codec = countingCodec((bytes) => (looked += bytes));
  const clock = new Instants();
  const hub = new TestHub("alpha", clock, { codec });
  const made = (i: number, last: string): Uint8Array =>
    nodeBytes(`n${10_000 + i}`, ["x".repeat(1_000), "y".repeat(1_000), "v:double", last]);
  const all = (): Uint8Array[] => Array.from({ length: NODES }, (_, i) => made(i, i % 100 === 0 ? "some" : "none"));
  /** turns does what the loop would do, and notes the most that was looked at in between. */
  const turns = (go: () => unknown): void => {
    let busy: unknown = true;
    for (let step = go; busy; step = () => hub.turn()) {
      looked = 0;
      busy = step() ?? true;
      most = Math.max(most, looked);
    }
  };
  const watch = (id: number, resume: readonly FeedPosition[] = []): void => {
    const filter = { ...ANY_NODE, capability: "some" };
    turns(() =>
      hub.post({ kind: "watch_open", watch: id, options: { filter, encoding: "events", nodesOnly: false, latestOnly: false, resume } }),
    );
  };
  const took = (id: number): { readonly kinds: string[]; readonly puts: number; readonly positions: readonly FeedPosition[] } => {
    const pushes: readonly WatchPush[] = hub.pushes.get(id) ?? [];
    const events = pushes.flatMap((push) => (push.kind === "events" ? push.events : []));
    const positions = pushes.findLast((push) => push.kind === "bookmark")?.positions ?? [];
    return { kinds: pushes.map(({ kind }) => kind), puts: events.filter(({ change }) => change.kind === "put").length, positions };
  };
  return { clock, hub, all, turns, watch, took, most: () => most, forget: () => (most = 0) };
}

describe("a watch with a filter looks at so many bytes of nodes in one step", () => {
  test("in its first copy, of which next to nothing passes", () => {
    const { hub, all, watch, took, most, forget } = slowHub();
    hub.register(...all());
    hub.settle();
    forget();
    watch(1);
    expect(took(1)).toMatchObject({ puts: NODES / 100 });
    expect(took(1).kinds.at(-1)).toBe("bookmark");
    expect(most()).toBeGreaterThan(50 * 1_024);
    expect(most()).toBeLessThan(TURN_BYTES);
  });

  test("in what came while it did not read", () => {
    const { hub, all, turns, watch, took, most, forget } = slowHub();
    hub.register(nodeBytes("first", ["some"]));
    hub.settle();
    hub.eager = false;
    watch(1);
    hub.register(...all());
    hub.settle();
    hub.eager = true;
    forget();
    turns(() => hub.post({ kind: "watch_ready", watch: 1 }));
    expect(took(1)).toMatchObject({ puts: 1 + NODES / 100 });
    expect(most()).toBeGreaterThan(50 * 1_024);
    expect(most()).toBeLessThan(TURN_BYTES);
  });

  test("and begins nothing anew if its turn to read on is long in coming", () => {
    const { clock, hub, all, watch, took } = slowHub();
    hub.register(...all());
    hub.settle();
    watch(1);
    const resume = took(1).positions;
    const filter = { ...ANY_NODE, capability: "some" };
    const options = { filter, encoding: "events", nodesOnly: false, latestOnly: false, resume } as const;
    for (const id of [2, 3]) hub.post({ kind: "watch_open", watch: id, options });
    clock.advance(11_000);
    hub.settle();
    expect([2, 3].map((id) => took(id).kinds)).toEqual([["bookmark"], ["bookmark"]]);
  });

  test("when it comes back, and is told what changes of the nodes that it has, and of no others", () => {
    const { hub, all, turns, watch, took, most, forget } = slowHub();
    hub.register(...all());
    hub.settle();
    watch(1);
    const { positions } = took(1);
    hub.post({ kind: "watch_close", watch: 1 });
    hub.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    const set = (seq: number, i: number): void => hub.update(1, seq, [{ nodeId: `n${10_000 + i}`, key: "v", value: i, type: 3 }]);
    set(1, 100);
    set(2, 101);
    hub.settle();
    forget();
    watch(2, positions);
    expect(most()).toBeGreaterThan(50 * 1_024);
    expect(most()).toBeLessThan(TURN_BYTES);
    expect(took(2)).toMatchObject({ kinds: ["events", "bookmark"], puts: 0 });
    // What changes while it is looked at is told all the same.
    hub.post({
      kind: "watch_open",
      watch: 3,
      options: {
        filter: { ...ANY_NODE, capability: "some" },
        encoding: "events",
        nodesOnly: false,
        latestOnly: false,
        resume: positions,
      },
    });
    hub.deregister("n10900");
    hub.deregister("n10901");
    set(3, 200);
    turns(() => hub.post({ kind: "flush" }));
    const told = (hub.pushes.get(3) ?? []).flatMap((push) => (push.kind === "events" ? push.events : []));
    expect(told.map(({ name, change }) => `${name.nodeId} ${change.kind}`)).toEqual(["n10100 state", "n10900 removed", "n10200 state"]);
    expect(took(3).kinds).not.toContain("reset");
  });
});

describe("a watcher that has all costs nothing until there is more", () => {
  test("no step of a list lets it look at the feeds, and a feed that goes on lets it look at that one", () => {
    const clock = new Instants();
    const b = new TestHub("beta", clock);
    const peers = ["h1", "h2", "h3", "h4"].map((id) => new TestHub(id, clock));
    b.post({ kind: "peers", peers: peers.map(({ id }) => ({ hubId: id, share: "full", level: 3 })), complete: true });
    const links = peers.map((peer) => {
      peer.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
      peer.register(nodeBytes("n", []));
      return new TestLink(peer, b);
    });
    for (let i = 0; i < 10_000; i += 500) b.register(...Array.from({ length: 500 }, (_, j) => nodeBytes(`n-${i + j}`, [])));
    settleAll([b, ...peers], links);
    const watches = Array.from({ length: 50 }, (_, i) => i);
    for (const watch of watches) {
      const resume = b.core.feeds().map(({ head }) => head);
      b.post({ kind: "watch_open", watch, options: { filter: ANY_NODE, encoding: "blocks", nodesOnly: false, latestOnly: false, resume } });
    }
    b.settle();
    // Whoever looks at a feed reads where its ring begins.
    const looks = new Map<string, number>();
    for (const { hubId, ring } of b.core.sources()) {
      const prototype = Object.getPrototypeOf(ring) as object;
      const get = (): unknown => {
        looks.set(hubId, (looks.get(hubId) ?? 0) + 1);
        return Reflect.get(prototype, "first", ring);
      };
      Object.defineProperty(ring, "first", { get });
    }
    b.post({ kind: "query", call: ++b.call, query: { type: "list", filter: { ...ANY_NODE, type: "none" }, limit: 10, principal: "x" } });
    let steps = 0;
    while (!b.answers.has(b.call)) steps += Number(b.turn());
    expect(steps).toBeGreaterThan(2);
    expect(Object.fromEntries(looks)).toEqual({});
    peers[0]!.register(nodeBytes("another", []));
    settleAll([b, ...peers], links);
    for (const watch of watches)
      expect(
        b.pushes.get(watch)?.some(({ kind }) => kind === "blocks"),
        `${watch}`,
      ).toBe(true);
    expect(looks.get("h1")).toBeGreaterThanOrEqual(watches.length);
    expect(Math.max(...["beta", "h2", "h3", "h4"].map((hubId) => looks.get(hubId) ?? 0))).toBeLessThan(3 * watches.length);
  });

  test("one of nodes only is told of new positions when it is time, also if nothing else happens", () => {
    const clock = new Instants();
    const hub = new TestHub("alpha", clock);
    hub.register(nodeBytes("n", ["v:double"]));
    hub.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    hub.settle();
    hub.post({
      kind: "watch_open",
      watch: 1,
      options: { filter: ANY_NODE, encoding: "events", nodesOnly: true, latestOnly: false, resume: [] },
    });
    hub.settle();
    const bookmarks = (): number => (hub.pushes.get(1) ?? []).filter(({ kind }) => kind === "bookmark").length;
    const before = bookmarks();
    hub.update(1, 1, [{ nodeId: "n", key: "v", value: 1, type: 3 }]);
    hub.settle();
    expect(bookmarks()).toBe(before);
    clock.advance(1_000);
    hub.settle();
    expect(bookmarks()).toBe(before + 1);
  });
});
