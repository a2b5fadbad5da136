import { describe, expect, test } from "vitest";
import { ANY_NODE, GATEWAY, Instants, nodeBytes, settleAll, TestHub, TestLink } from "../../test/fakes/registry-hub.ts";
import type { FeedPosition, WatchOptions, WatchPush } from "./messages.ts";
import { segmentCodec } from "./segment-codec.ts";

const ALL: WatchOptions = { filter: ANY_NODE, encoding: "events", nodesOnly: false, latestOnly: false, resume: [] };

function words(pushes: readonly WatchPush[]): string[] {
  return pushes.flatMap((push) => {
    if (push.kind === "bookmark") return [`bookmark ${push.positions.map((p) => `${p.hubId}:${p.epoch}/${p.seq}`).join(" ")}`];
    if (push.kind === "blocks") return [`blocks ${push.position.seq}${push.snapshot ? " snapshot" : ""}${push.last ? " last" : ""}`];
    if (push.kind !== "events") return [`${push.kind} ${push.position.hubId}`];
    return push.events.map(({ name, change }) => {
      const what =
        change.kind === "state"
          ? `${change.state.key}=${String(change.state.value)}`
          : change.kind === "online"
            ? `online=${change.online}`
            : change.kind;
      return `${name.hubId}/${name.nodeId} ${what}`;
    });
  });
}

function hubWithLamp(options = {}) {
  const hub = new TestHub("alpha", new Instants(), options);
  hub.register(nodeBytes("lamp", ["watts:double"], { type: "light" }), nodeBytes("door", ["open:bool"]));
  hub.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
  hub.settle();
  let seq = 0;
  const watts = (value: number): void => {
    hub.update(1, ++seq, [{ nodeId: "lamp", key: "watts", value, type: 3 }]);
    hub.settle();
  };
  const take = (watch: number): string[] => {
    const pushes = hub.pushes.get(watch) ?? [];
    hub.pushes.delete(watch);
    return words(pushes);
  };
  return { hub, watts, take };
}

describe("watching", () => {
  test("what there is, then what changes, then where to resume", () => {
    const { hub, watts, take } = hubWithLamp();
    watts(1);
    hub.post({ kind: "watch_open", watch: 1, options: ALL });
    hub.settle();
    expect(take(1)).toEqual([
      "reset alpha",
      "alpha/lamp put",
      "alpha/lamp online=true",
      "alpha/lamp watts=1",
      "alpha/door put",
      "alpha/door online=true",
      "bookmark alpha:1/3",
    ]);
    watts(2);
    expect(take(1)).toEqual(["alpha/lamp watts=2", "bookmark alpha:1/4"]);
    hub.deregister("lamp");
    hub.settle();
    expect(take(1)).toEqual(["alpha/lamp removed", "bookmark alpha:1/5"]);
  });

  test("a watcher of nodes in blocks is spared the state, and learns now and then how far all is", () => {
    const { hub, watts, take } = hubWithLamp();
    hub.post({ kind: "watch_open", watch: 1, options: { ...ALL, encoding: "blocks", nodesOnly: true } });
    hub.settle();
    expect(take(1)).toEqual(["reset alpha", "blocks 2 snapshot last", "bookmark alpha:1/2"]);
    watts(1);
    expect(take(1)).toEqual([]);
    hub.deregister("lamp");
    hub.settle();
    expect(take(1)).toEqual(["blocks 4", "bookmark alpha:1/4"]);
  });

  test("a push leaves only when what it says is durable", () => {
    const { hub, take } = hubWithLamp();
    hub.post({ kind: "watch_open", watch: 1, options: ALL });
    hub.settle();
    take(1);
    hub.update(1, 50, [{ nodeId: "lamp", key: "watts", value: 9, type: 3 }]);
    hub.post({ kind: "flush" });
    expect(take(1)).toEqual([]);
    hub.commit();
    expect(take(1)).toEqual(["alpha/lamp watts=9", "bookmark alpha:1/3"]);
  });

  test("S1-12 resume goes on where a bookmark ended; a position that is gone gets a reset", () => {
    const { hub, watts, take } = hubWithLamp({ ringSegments: 3 });
    const from = hub.core.heads("nobody")[0] ?? (hub.core.feeds()[0]!.head as FeedPosition);
    watts(1);
    hub.post({ kind: "watch_open", watch: 1, options: { ...ALL, resume: [from] } });
    hub.settle();
    expect(take(1)).toEqual(["alpha/lamp watts=1", "bookmark alpha:1/3"]);
    for (let i = 2; i < 8; i++) watts(i);
    hub.post({ kind: "watch_open", watch: 2, options: { ...ALL, resume: [from] } });
    hub.settle();
    expect(take(2)[0]).toBe("reset alpha");
  });

  test("a watcher that does not take costs nothing and gets a reset when it is too late", () => {
    const { hub, watts, take } = hubWithLamp({ ringSegments: 3 });
    hub.post({ kind: "watch_open", watch: 1, options: ALL });
    hub.settle();
    take(1);
    hub.eager = false;
    for (let i = 0; i < 10; i++) watts(i);
    expect(take(1)).toEqual(["alpha/lamp watts=0", "bookmark alpha:1/3"]);
    hub.post({ kind: "watch_ready", watch: 1 });
    expect(take(1)).toEqual([
      "reset alpha",
      "alpha/lamp put",
      "alpha/lamp online=true",
      "alpha/lamp watts=9",
      "alpha/door put",
      "alpha/door online=true",
      "bookmark alpha:1/12",
    ]);
  });

  test("latest_only: the newest value per key when the watcher is slow", () => {
    const { hub, watts, take } = hubWithLamp();
    hub.post({ kind: "watch_open", watch: 1, options: { ...ALL, latestOnly: true } });
    hub.settle();
    take(1);
    hub.eager = false;
    watts(1);
    take(1);
    for (let i = 2; i < 9; i++) watts(i);
    hub.post({ kind: "watch_ready", watch: 1 });
    expect(take(1)).toEqual(["alpha/lamp watts=8", "bookmark alpha:1/10"]);
  });

  test("filters: a node that stops matching is removed, one that starts is put", () => {
    const { hub, take } = hubWithLamp();
    hub.post({ kind: "watch_open", watch: 1, options: { ...ALL, filter: { ...ANY_NODE, type: "light" } } });
    hub.settle();
    expect(take(1)).toEqual(["reset alpha", "alpha/lamp put", "alpha/lamp online=true", "bookmark alpha:1/2"]);
    hub.register(nodeBytes("lamp", ["watts:double"], { type: "heater" }));
    hub.register(nodeBytes("door", ["open:bool"], { type: "light" }));
    hub.settle();
    expect(take(1)).toEqual(["alpha/lamp removed", "alpha/door put", "alpha/door online=true", "bookmark alpha:1/3"]);
  });

  test("blocks are the payload of the segment, verbatim; the snapshot comes in pieces and shows one instant", () => {
    const { hub, watts, take } = hubWithLamp({ watchBytes: 40 });
    hub.eager = false;
    hub.post({ kind: "watch_open", watch: 1, options: { ...ALL, encoding: "blocks" } });
    hub.settle();
    watts(77);
    hub.deregister("door");
    hub.settle();
    const first = hub.pushes.get(1)!;
    expect(words(first)).toEqual(["reset alpha", "blocks 2 snapshot"]);
    hub.eager = true;
    hub.post({ kind: "watch_ready", watch: 1 });
    hub.settle();
    const pushes = hub.pushes.get(1)!;
    expect(words(pushes).slice(-3)).toEqual(["blocks 3", "blocks 4", "bookmark alpha:1/4"]);
    const states = pushes
      .flatMap((push) => (push.kind === "blocks" ? (segmentCodec.decodePayload(push.payload) ?? []) : []))
      .filter((block) => block.kind === "state");
    expect(states).toHaveLength(1);
    const puts = pushes
      .flatMap((push) => (push.kind === "blocks" && push.snapshot ? (segmentCodec.decodePayload(push.payload) ?? []) : []))
      .filter((block) => block.kind === "node_put");
    expect(puts.map((block) => block.ref)).toEqual([1, 2]);
    expect(take(1)).not.toEqual([]);
  });

  test("imported feeds are watched too, and a forgotten one is gone", () => {
    const clock = new Instants();
    const a = new TestHub("alpha", clock);
    const b = new TestHub("beta", clock);
    a.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
    b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
    a.register(nodeBytes("lamp", []));
    b.post({ kind: "watch_open", watch: 1, options: ALL });
    settleAll([a, b], [new TestLink(a, b)]);
    expect(words(b.pushes.get(1)!).filter((word) => word.startsWith("alpha"))).toEqual(["alpha/lamp put", "alpha/lamp online=true"]);
    b.post({ kind: "peers", peers: [], complete: true });
    b.settle();
    expect(words(b.pushes.get(1)!).at(-1)).toBe("gone alpha");
  });
});
