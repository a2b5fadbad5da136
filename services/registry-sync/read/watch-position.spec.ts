import { describe, expect, test } from "vitest";
import { ANY_NODE, GATEWAY, Instants, MemoryDisk, nodeBytes, settleAll, TestHub, TestLink } from "../../../test/fakes/registry-hub.ts";
import { BlocksCache } from "../codec/answer-codec.ts";
import type { FeedPosition, NodeRule, WatchPush } from "../messages.ts";
import type { Boot } from "../ports.ts";

const LAMPS: NodeRule = { ids: [], types: ["lamp"], kind: 0, labels: {}, allow: true, capabilities: ["*"], invoke: [] };
const NONE: NodeRule = { ...LAMPS, types: ["none"] };
const ENCODINGS = ["events", "blocks"] as const;

/** beta is a hub that takes in what alpha shares, by rules. */
function beta(clock: Instants, importRules: readonly NodeRule[] | undefined, disk = new MemoryDisk(), boot?: Boot): TestHub {
  const hub = new TestHub("beta", clock, { importRules }, disk, boot);
  hub.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
  return hub;
}

function alpha(clock: Instants) {
  const a = new TestHub("alpha", clock);
  a.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
  a.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
  let seq = 0;
  const put = (nodeId: string, type: string): void => void a.register(nodeBytes(nodeId, ["p:double"], { type }));
  const set = (nodeId: string, value: number): void => a.update(1, ++seq, [{ nodeId, key: "p", value, type: 3 }]);
  return { a, put, set };
}

/** linked connects two hubs and lets them come to rest. */
function linked(a: TestHub, b: TestHub): TestLink {
  const link = new TestLink(a, b);
  settleAll([a, b], [link]);
  return link;
}

/** follow watches alpha's nodes on from a position, and answers what was sent, the names in it, and every position that was told. */
function follow(hub: TestHub, encoding: (typeof ENCODINGS)[number], resume: readonly FeedPosition[] = []) {
  const options = { filter: { ...ANY_NODE, hubIds: ["alpha"] }, nodesOnly: false, latestOnly: false, encoding, resume };
  hub.pushes.delete(9);
  hub.post({ kind: "watch_open", watch: 9, options });
  hub.settle();
  hub.post({ kind: "watch_close", watch: 9 });
  const pushes = hub.pushes.get(9) ?? [];
  const bookmark = pushes.flatMap((push) => (push.kind === "bookmark" ? push.positions : []));
  const told = pushes.flatMap((push) => (push.kind === "events" ? [] : push.kind === "bookmark" ? push.positions : [push.position]));
  return { pushes, first: pushes[0]?.kind, text: pushes.map(textOf).join(), bookmark, told };
}

function textOf(push: WatchPush): string {
  return JSON.stringify(push) + (push.kind === "blocks" ? Buffer.from(push.payload).toString("latin1") : "");
}

describe("F-16 a position says by which import rules it was made", () => {
  test.each(ENCODINGS)("a watcher gets a feed anew from a position of rules of which the store knows nothing: %s", (encoding) => {
    const clock = new Instants();
    const { a, put } = alpha(clock);
    put("lamp-1", "lamp");
    const b = beta(clock, [LAMPS]);
    linked(a, b).down();
    const backup = b.disk.copy();
    const tighter = beta(clock, [NONE], b.disk);
    tighter.settle();
    const { bookmark, text } = follow(tighter, encoding);
    expect(text).not.toContain("lamp-1");
    const after = follow(beta(clock, [LAMPS], backup), encoding, bookmark);
    expect(after.first).toBe("reset");
    expect(after.text).toContain("lamp-1");
  });

  test.each(ENCODINGS)("a watcher gets values that were missing at the very position at which a snapshot brings them: %s", (encoding) => {
    const clock = new Instants();
    const { a, put, set } = alpha(clock);
    const b = beta(clock, [LAMPS]);
    put("cam-1", "camera");
    set("cam-1", 7);
    const link = linked(a, b);
    put("cam-1", "lamp");
    settleAll([a, b], [link]);
    const { bookmark } = follow(b, encoding);
    link.down();
    // A backup of before the two hubs knew each other.
    const empty = beta(clock, [LAMPS]);
    linked(a, empty);
    expect(empty.ask({ hubIds: ["alpha"] })[0]?.state.map(({ value }) => value)).toEqual([7]);
    expect(follow(empty, encoding, bookmark).first).toBe("reset");
    // While they are missing a watcher goes on.
    expect(follow(b, encoding, bookmark).first).not.toBe("reset");
  });

  test("a watcher gets a feed anew that other rules made, also if it was forgotten meanwhile, or the same rules came first after a loss of power", () => {
    const clock = new Instants();
    const { a, put } = alpha(clock);
    put("lamp-1", "lamp");
    const [one, two] = ["one", "two"].map((bootId) => ({ bootId, durability: "process" }) as const);
    const b = beta(clock, [LAMPS], undefined, one);
    const link = linked(a, b);
    const left = b.disk.copy();
    put("lamp-2", "lamp");
    settleAll([a, b], [link]);
    const { bookmark } = follow(b, "events");
    link.down();
    const same = beta(clock, [LAMPS], left, two);
    same.post({ kind: "stop" });
    same.settle();
    const [lost, forgot] = [beta(clock, [NONE], same.disk, two), beta(clock, [NONE], b.disk, one)];
    linked(a, lost).down();
    const again = linked(a, forgot);
    for (const level of [1, 3]) {
      a.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level }], complete: true });
      settleAll([a, forgot], [again]);
    }
    for (const hub of [lost, forgot]) {
      expect(hub.core.feeds().find(({ own }) => !own)?.head.seq).toBe(bookmark[0]?.seq);
      expect(follow(hub, "events", bookmark).first).toBe("reset");
    }
  });

  test("a watcher goes on from what it was told after a loss of power and a start with other rules", () => {
    const clock = new Instants();
    const { a, put } = alpha(clock);
    put("lamp-1", "lamp");
    const [one, two] = ["one", "two"].map((bootId) => ({ bootId, durability: "process" }) as const);
    const before = beta(clock, [LAMPS], undefined, one);
    linked(a, before).down();
    const { bookmark } = follow(before, "events");
    const b = beta(clock, [LAMPS, NONE], before.disk, two);
    const link = linked(a, b);
    put("lamp-2", "lamp");
    settleAll([a, b], [link]);
    expect(follow(b, "events", bookmark).first).toBe("reset");
    for (const encoding of ENCODINGS) {
      const told = follow(b, encoding).bookmark;
      expect(follow(b, encoding, told).first).toBe("bookmark");
      expect(follow(b.crash({}, two), encoding, told).first).toBe("bookmark");
    }
  });

  test.each(ENCODINGS)(
    "a watcher gets what a snapshot brought while something was missing, if something else is missing since: %s",
    (encoding) => {
      const clock = new Instants();
      const { a, put, set } = alpha(clock);
      const b = beta(clock, [LAMPS]);
      put("cam-1", "camera");
      put("cam-2", "camera");
      set("cam-1", 7);
      const link = linked(a, b);
      put("cam-1", "lamp");
      settleAll([a, b], [link]);
      const { bookmark } = follow(b, encoding);
      link.ping();
      settleAll([a, b], [link]);
      put("cam-2", "lamp");
      settleAll([a, b], [link]);
      expect(b.ask({ nodeIdPrefix: "cam-1" })[0]?.state.map(({ value }) => value)).toEqual([7]);
      expect(follow(b, encoding, bookmark).first).toBe("reset");
    },
  );

  test("a watcher goes on from each position that it is told, also after restarts and from one that it came back with", () => {
    const clock = new Instants();
    const { a, put } = alpha(clock);
    const b = beta(clock, [LAMPS]);
    put("lamp-1", "lamp");
    const link = linked(a, b);
    for (const encoding of ENCODINGS) {
      const { told, bookmark } = follow(b, encoding);
      expect(told.length).toBeGreaterThan(encoding === "blocks" ? 2 : 1);
      for (const position of told) expect(follow(b, encoding, [position]).first).not.toBe("reset");
      const again = follow(b.crash(), encoding, bookmark);
      expect(again.first).toBe("bookmark");
      expect(follow(b, encoding, again.bookmark).first).toBe("bookmark");
    }
    const { bookmark } = follow(b, "blocks");
    put("lamp-2", "lamp");
    settleAll([a, b], [link]);
    const next = follow(b, "blocks", bookmark);
    expect([next.first, next.text.includes("lamp-2")]).toEqual(["blocks", true]);
    for (const position of next.told) expect(follow(b, "blocks", [position]).first).not.toBe("reset");
  });

  test("a position of a version that did not say so is one of other rules, and without rules nothing is other than it was", () => {
    const clock = new Instants();
    const { a, put } = alpha(clock);
    put("lamp-1", "lamp");
    const [b, open] = [beta(clock, [LAMPS]), beta(clock, undefined)];
    linked(a, b).down();
    linked(a, open);
    const head = a.core.heads("beta")[0]!;
    for (const encoding of ENCODINGS) {
      expect(follow(b, encoding, [head]).first).toBe("reset");
      expect(follow(b, encoding, [{ ...head, digest: new Uint8Array(0) }]).first).toBe("reset");
      const { bookmark, told } = follow(open, encoding);
      expect(bookmark).toEqual([{ ...head, digest: new Uint8Array(head.digest) }]);
      expect(told.every(({ digest }) => Buffer.from(digest).equals(head.digest))).toBe(true);
      expect(follow(open, encoding, [{ ...head, digest: new Uint8Array(0) }]).first).toBe("bookmark");
    }
    // What this hub itself owns is as it is, whatever the rules.
    b.register(nodeBytes("own-1", []));
    b.settle();
    const options = {
      filter: { ...ANY_NODE, hubIds: ["beta"] },
      nodesOnly: false,
      latestOnly: false,
      encoding: "events",
      resume: [],
    } as const;
    b.post({ kind: "watch_open", watch: 1, options });
    b.settle();
    const own = b.core.feeds()[0]!.head;
    expect((b.pushes.get(1) ?? []).at(-1)).toMatchObject({ positions: [own] });
  });

  test("a message that was made for a position is not sent for the same one when something is missing there", () => {
    const position = { hubId: "alpha", share: "full", epoch: 1, seq: 1, digest: new Uint8Array(32) };
    const push = {
      kind: "blocks",
      position,
      hlc: { wallMs: 0, logical: 0 },
      payload: new Uint8Array(1),
      snapshot: false,
      last: false,
    } as const;
    const cache = new BlocksCache();
    const message = cache.of(push);
    expect(cache.of({ ...push })).toBe(message);
    expect(cache.of({ ...push, position: { ...position, digest: new Uint8Array(32).fill(1) } })).not.toBe(message);
  });
});
