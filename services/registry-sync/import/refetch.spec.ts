import { expect, test } from "vitest";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { GATEWAY, Instants, nodeBytes, settleAll, TestHub, TestLink } from "../../../test/fakes/registry-hub.ts";
import type { NodeRule, PeerFrame } from "../messages.ts";

const LAMPS: NodeRule = { ids: [], types: ["lamp"], kind: 0, labels: {}, allow: true, capabilities: ["*"], invoke: [] };
const MINUTE_MS = 60_000;

/** world is beta, which lets in lamps of alpha. */
function world() {
  const clock = new Instants();
  const a = new TestHub("alpha", clock);
  const b = new TestHub("beta", clock, { importRules: [LAMPS] });
  a.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
  b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
  a.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
  const put = (id: string, type: string, capabilities = ["p:double"]): void => void a.register(nodeBytes(id, capabilities, { type }));
  const set = (value: number): void => a.update(1, value, [{ nodeId: "cam-1", key: "p", value, type: 3 }]);
  return { clock, a, b, put, set };
}

const valueOf = (hub: TestHub): unknown => hub.ask({ hubIds: ["alpha"] }).find(({ name }) => name.nodeId === "cam-1")?.state[0]?.value;
const wantsAll = (frame: PeerFrame): boolean => frame.type === "feed_open" && frame.from.epoch === 0;

test("F-16 what rules let in is fetched within two minutes when a link that lost all asks for it is good again", () => {
  const { clock, a, b, put, set } = world();
  put("cam-1", "camera");
  set(7);
  let link = new TestLink(a, b);
  settleAll([a, b], [link]);
  put("cam-1", "lamp");
  settleAll([a, b], [link]);
  link.down();
  let asked = 0;
  for (const start = clock.mono; clock.mono - start < 64 * MINUTE_MS; clock.advance(20_000)) {
    link = new TestLink(a, b);
    settleAll([a, b], [link], (frame) => {
      if (!wantsAll(frame)) return 1;
      asked++;
      return 0;
    });
    link.down();
  }
  expect(asked).toBeGreaterThan(10);
  expect(asked, "no more than one a minute").toBeLessThan(66);
  const good = clock.mono;
  link = new TestLink(a, b);
  settleAll([a, b], [link]);
  while (valueOf(b) !== 7 && clock.mono - good < 70 * MINUTE_MS) {
    clock.advance(15_000);
    link.ping();
    settleAll([a, b], [link]);
  }
  expect(clock.mono - good).toBeLessThanOrEqual(2 * MINUTE_MS);
});

test("F-16 a snapshot that is refused for a limit is asked for ever more seldom", () => {
  const { clock, a, b, put, set } = world();
  put("cam-1", "camera");
  set(7);
  let link = new TestLink(a, b);
  settleAll([a, b], [link]);
  link.down();
  const small = b.crash({ limits: { ...LIMITS, snapshotBytes: 1 } });
  small.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
  link = new TestLink(a, small);
  settleAll([a, small], [link]);
  put("cam-1", "lamp");
  const askedAt: number[] = [];
  const start = clock.mono;
  for (let i = 0; i < 4 * 70; i++) {
    settleAll([a, small], [link], (frame) => {
      if (wantsAll(frame)) askedAt.push(Math.round((clock.mono - start) / MINUTE_MS));
      return 1;
    });
    clock.advance(15_000);
    link.ping();
  }
  expect(askedAt).toEqual([0, 1, 3, 7, 15, 31, 63]);
  expect(valueOf(small)).toBeUndefined();
});

test.each<[string, (w: ReturnType<typeof world>, settle: () => void) => void, number]>([
  [
    "it came and was let in within one segment",
    ({ put }) => {
      put("new", "");
      put("new", "lamp");
    },
    0,
  ],
  [
    "it has nothing that has values",
    ({ put }, settle) => {
      put("new", "", []);
      settle();
      put("new", "lamp", ["go:"]);
    },
    0,
  ],
  [
    "it had a value that was left out, in the same segment",
    ({ put, set }) => {
      put("cam-1", "");
      set(1);
      put("cam-1", "lamp");
    },
    1,
  ],
  [
    "it was here, and was kept out for a moment",
    ({ put, set }, settle) => {
      put("cam-1", "lamp");
      set(1);
      settle();
      put("cam-1", "camera");
      put("cam-1", "lamp");
    },
    1,
  ],
])("F-16 a feed is fetched as a whole for a node that is let in only if values of it may be missing: %s", (_, change, fetches) => {
  const all = world();
  const { clock, a, b } = all;
  const link = new TestLink(a, b);
  const settle = (): void => settleAll([a, b], [link]);
  settle();
  change(all, settle);
  settle();
  clock.advance(15_000);
  link.ping();
  let asked = 0;
  settleAll([a, b], [link], (frame) => {
    asked += Number(wantsAll(frame));
    return 1;
  });
  expect(asked).toBe(fetches);
});

test("F-16 the values of a node that was kept out and let in again within one segment are fetched", () => {
  const { clock, a, b, put, set } = world();
  put("other", "lamp");
  const link = new TestLink(a, b);
  settleAll([a, b], [link]);
  put("cam-1", "lamp");
  set(7);
  put("cam-1", "camera");
  put("cam-1", "lamp");
  settleAll([a, b], [link]);
  for (let i = 0; i < 20; i++) {
    clock.advance(15_000);
    link.ping();
    settleAll([a, b], [link]);
  }
  expect([valueOf(a), valueOf(b)]).toEqual([7, 7]);
});
