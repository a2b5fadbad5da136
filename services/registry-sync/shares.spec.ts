import { fromBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { GATEWAY, Instants, nodeBytes, settleAll, TestHub, TestLink } from "../../test/fakes/registry-hub.ts";
import type { NodeRule, ShareRules } from "./messages.ts";
import type { NodeSummary } from "./ports.ts";
import { matchesPattern, matchesRule } from "./share/share.ts";

const RULE: NodeRule = { ids: [], types: [], kind: 0, labels: {}, allow: true, capabilities: ["*"], invoke: [] };
const LIMITED: ShareRules = {
  name: "limited",
  rules: [
    { ...RULE, ids: ["secret-*"], allow: false },
    { ...RULE, labels: { room: "hall*" }, capabilities: ["power", "watts"], invoke: ["power"] },
  ],
};

function setup(shares: readonly ShareRules[] = [LIMITED], more = {}) {
  const clock = new Instants();
  const a = new TestHub("alpha", clock, { shares, ...more });
  const b = new TestHub("beta", clock);
  const map = (share: string, level = 2): void => a.post({ kind: "peers", peers: [{ hubId: "beta", share, level }], complete: true });
  map("limited");
  b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
  a.register(
    nodeBytes("lamp", ["power:bool!", "watts:double!", "pin:string"], { labels: { room: "hall" } }),
    nodeBytes("secret-lamp", ["power:bool"], { labels: { room: "hall" } }),
    nodeBytes("oven", ["power:bool!"], { labels: { room: "kitchen" } }),
  );
  a.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
  a.settle();
  return { clock, a, b, map };
}

function view(hub: TestHub): string[] {
  return hub
    .ask({ hubIds: ["alpha"] })
    .map((r) => `${r.name.nodeId} ${r.state.map((s) => `${s.key}=${String(s.value)}`).join(" ")}`.trim());
}

describe("shares", () => {
  test("patterns are linear and mean what they say", () => {
    const cases: [string, string, boolean][] = [
      ["*", "", true],
      ["a*", "abc", true],
      ["a*c", "abc", true],
      ["a*c", "ac", true],
      ["a*bc", "abc", true],
      ["ab*bc", "abc", false],
      ["abc", "abcd", false],
      ["*b*", "abc", true],
      ["*x*", "abc", false],
    ];
    for (const [pattern, text, fits] of cases)
      expect(`${pattern} ${text} ${matchesPattern(pattern, text)}`).toBe(`${pattern} ${text} ${fits}`);
  });

  test("a list of many names and patterns matches what one of them matches alone", () => {
    const letters = fc.stringMatching(/^[ab*]{1,4}$/);
    const property = fc.property(fc.array(letters, { minLength: 1, maxLength: 30 }), fc.stringMatching(/^[ab]{0,5}$/), (ids, nodeId) => {
      const info = { nodeId, type: "", kind: 1, labels: {} } as unknown as NodeSummary;
      expect(matchesRule({ ...RULE, ids }, info)).toBe(ids.some((id) => matchesPattern(id, nodeId)));
    });
    void fc.assert(property, { numRuns: 500 });
  });

  test("S-4 patterns are taken apart once, and not for each node", () => {
    const rule = { ...RULE, ids: [...Array.from({ length: 1_000 }, (_, i) => `meter-${i}`), "m*"] };
    let taken = 0;
    const { split } = String.prototype;
    String.prototype.split = function (this: string, ...given: Parameters<typeof split>) {
      taken++;
      return split.apply(this, given);
    } as typeof split;
    try {
      for (let i = 0; i < 100; i++)
        expect(matchesRule(rule, { nodeId: `lamp-${i}`, type: "", kind: 1, labels: {} } as unknown as NodeSummary)).toBe(false);
    } finally {
      String.prototype.split = split;
    }
    expect(taken).toBeLessThan(1_000);
  });

  test("a peer sees what its share shows: nodes, capabilities, what may be invoked, values", () => {
    const { a, b } = setup();
    const link = new TestLink(a, b);
    settleAll([a, b], [link]);
    a.update(1, 1, [
      { nodeId: "lamp", key: "watts", value: 3, type: 3 },
      { nodeId: "lamp", key: "pin", value: "1234", type: 4 },
      { nodeId: "oven", key: "power", value: true, type: 1 },
    ]);
    settleAll([a, b], [link]);
    expect(view(b)).toEqual(["lamp watts=3"]);
    const node = fromBinary(NodeSchema, b.ask({ hubIds: ["alpha"] })[0]!.node);
    expect(node.capabilities.map((c) => `${c.name} ${c.invocable}`)).toEqual(["power true", "watts false"]);
    expect(a.core.describe()).toContain("own limited at=1/2");
  });

  test("S1-11 a changed rule is a difference in the feed, for a peer that is there and for one that is away (D-8)", () => {
    for (const away of [false, true]) {
      const { a, b } = setup();
      let link = new TestLink(a, b);
      settleAll([a, b], [link]);
      a.update(1, 1, [
        { nodeId: "lamp", key: "pin", value: "1234", type: 4 },
        { nodeId: "oven", key: "power", value: true, type: 1 },
      ]);
      settleAll([a, b], [link]);
      if (away) link.down();
      a.post({
        kind: "shares",
        shares: [
          {
            name: "limited",
            rules: [
              { ...RULE, labels: { room: "kitchen" } },
              { ...RULE, ids: ["lamp"], capabilities: ["pin"] },
            ],
          },
        ],
      });
      a.settle();
      if (away) link = new TestLink(a, b);
      settleAll([a, b], [link]);
      expect(view(b)).toEqual(["lamp pin=1234", "oven power=true"]);
      a.post({ kind: "shares", shares: [LIMITED] });
      settleAll([a, b], [link]);
      expect(view(b)).toEqual(["lamp"]);
      expect(b.events.filter((event) => event.event === "segment_refused")).toEqual([]);
    }
  });

  test("a label that changes moves a node in and out of a share, with its values", () => {
    const { a, b } = setup();
    const link = new TestLink(a, b);
    settleAll([a, b], [link]);
    a.update(1, 1, [{ nodeId: "oven", key: "power", value: true, type: 1 }]);
    settleAll([a, b], [link]);
    a.register(nodeBytes("oven", ["power:bool!"], { labels: { room: "hall" } }));
    settleAll([a, b], [link]);
    expect(view(b)).toEqual(["lamp", "oven power=true"]);
    a.register(nodeBytes("oven", ["power:bool!"], { labels: { room: "kitchen" } }));
    settleAll([a, b], [link]);
    expect(view(b)).toEqual(["lamp"]);
  });

  test("another share: the old one is forgotten first, also by a peer that was away", () => {
    for (const away of [false, true]) {
      const { a, b, map } = setup();
      let link = new TestLink(a, b);
      settleAll([a, b], [link]);
      expect(view(b)).toEqual(["lamp"]);
      if (away) link.down();
      map("full", 3);
      const hub = away ? a.crash() : a;
      if (away) {
        hub.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
        link = new TestLink(hub, b);
      }
      const order: string[] = [];
      settleAll([hub, b], [link], (frame) => {
        order.push(frame.type);
        return 1;
      });
      expect(order.indexOf("forget")).toBeLessThan(order.indexOf("forget_done"));
      expect(order.indexOf("forget_done")).toBeLessThan(order.lastIndexOf("feed_offer"));
      expect(view(b)).toEqual(["lamp", "oven", "secret-lamp"]);
      expect(b.core.describe()).toContain("import alpha/full");
    }
  });

  test("D-17 what is to be forgotten is said again with each ping, until it is done: the answer may go out on a stream that is lost", () => {
    const { a, b, map } = setup();
    const link = new TestLink(a, b);
    settleAll([a, b], [link]);
    map("full", 3);
    settleAll([a, b], [link], (frame) => (frame.type === "forget_done" ? 0 : 1));
    expect(view(b)).toEqual([]);
    link.ping();
    settleAll([a, b], [link]);
    expect(view(b)).toEqual(["lamp", "oven", "secret-lamp"]);
  });

  test("a peer that falls to MINIMAL is made to forget and is offered nothing", () => {
    const { a, b, map } = setup();
    const link = new TestLink(a, b);
    settleAll([a, b], [link]);
    map("limited", 1);
    settleAll([a, b], [link]);
    expect(view(b)).toEqual([]);
    a.register(nodeBytes("lamp-2", ["power:bool"], { labels: { room: "hall" } }));
    settleAll([a, b], [link]);
    expect(view(b)).toEqual([]);
  });

  test("a share goes on after a restart; with other rules it opens an epoch", () => {
    const { a, b, clock } = setup();
    let link = new TestLink(a, b);
    settleAll([a, b], [link]);
    clock.advance(1_000);
    link.down();
    const a2 = a.crash();
    expect(a2.core.describe()).toMatch(/own limited at=1\//);
    const a3 = a2.crash({ shares: [{ name: "limited", rules: [{ ...RULE, ids: ["oven"] }] }] });
    expect(a3.core.describe()).toMatch(/own limited at=2\//);
    a3.post({ kind: "peers", peers: [{ hubId: "beta", share: "limited", level: 2 }], complete: true });
    link = new TestLink(a3, b);
    settleAll([a3, b], [link]);
    expect(view(b)).toEqual(["oven"]);
  });
});
