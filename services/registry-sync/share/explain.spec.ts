import { fromBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { GATEWAY, Instants, nodeBytes, settleAll, TestHub, TestLink } from "../../../test/fakes/registry-hub.ts";
import { segmentCodec } from "../codec/segment-codec.ts";
import type { NodeRule } from "../messages.ts";
import { explainImport, explainShare, type Offered } from "./explain.ts";

const RULE: NodeRule = { ids: [], types: [], kind: 0, labels: {}, allow: true, capabilities: ["*"], invoke: [] };

const NODES = [
  nodeBytes("lamp-1", ["power:bool!", "watts:double!", "pin:string"], { type: "light", labels: { room: "hall" } }),
  nodeBytes("lamp-2", ["power:bool!", "watts:double"], { type: "light", labels: { room: "kitchen" } }),
  nodeBytes("oven", ["power:bool!", "pin:string!"], { type: "oven", labels: { room: "kitchen", floor: "1" } }),
  nodeBytes("meter-1", ["watts:double"], { type: "meter" }),
  nodeBytes("bare", []),
];

function offered(bytes: Uint8Array): Offered {
  const info = segmentCodec.readNode(bytes)!;
  return { info, capabilities: info.capabilities, keys: [] };
}

const some = (...from: string[]): fc.Arbitrary<string[]> => fc.subarray(from, { maxLength: 2 });
const rule: fc.Arbitrary<NodeRule> = fc.record({
  ids: some("lamp-*", "*-1", "oven", "*"),
  types: some("light", "*r", "oven", "none"),
  kind: fc.constantFrom(0, 0, 0, 1, 2),
  labels: fc.constantFrom<Record<string, string>>({}, {}, { room: "k*" }, { room: "*", floor: "1" }),
  allow: fc.constantFrom(true, true, false),
  capabilities: fc.constantFrom(["*"], ["power"], ["p*"], ["watts", "pin"], []),
  invoke: fc.constantFrom(["*"], ["power"], ["p*"], []),
});

/** seenBy gives what a peer holds of the nodes of `alpha`, as a real exporter and importer leave it there: "id name:may-invoke …". */
function seenBy(peer: { readonly level: number; readonly share: string }, rules: readonly NodeRule[]): string[] {
  const clock = new Instants();
  const a = new TestHub("alpha", clock, { shares: [{ name: "limited", rules }] });
  const b = new TestHub("beta", clock);
  a.post({ kind: "peers", peers: [{ hubId: "beta", ...peer }], complete: true });
  b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
  a.register(...NODES);
  a.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
  a.settle();
  settleAll([a, b], [new TestLink(a, b)]);
  return b.ask({ hubIds: ["alpha"] }).map(({ name, node }) => {
    const { capabilities } = fromBinary(NodeSchema, node);
    return [name.nodeId, ...capabilities.map((capability) => `${capability.name}:${capability.invocable}`)].join(" ");
  });
}

describe("what a share is said to show", () => {
  test("is what the exporter shows, for any rules, share and trust level", () => {
    let different = 0;
    void fc.assert(
      fc.property(
        fc.array(rule, { minLength: 1, maxLength: 4 }),
        fc.constantFrom("limited", "limited", "limited", "limited", "limited", "limited", "full", "", "gone"),
        fc.constantFrom(2, 2, 2, 2, 3, 1, 0),
        (rules, share, level) => {
          const seen = seenBy({ share, level }, rules);
          const said = NODES.map(offered).flatMap((node) => {
            const { shown, capabilities } = explainShare({ share, level }, [{ name: "limited", rules }], node);
            const visible = capabilities.filter(({ right }) => right !== "none");
            return shown ? [[node.info.nodeId, ...visible.map(({ name, right }) => `${name}:${right === "invoke"}`)].join(" ")] : [];
          });
          if (seen.length > 0 && seen.length < NODES.length) different++;
          expect(said.sort()).toEqual(seen.sort());
        },
      ),
      { numRuns: 60 },
    );
    // Rules that show all or nothing would agree with almost any explanation.
    expect(different).toBeGreaterThan(2);
  }, 60_000);

  test("names the rule that decides, and of each rule before it the field that does not fit", () => {
    const [lamp] = NODES.map(offered);
    const explained = (...rules: NodeRule[]) => explainShare({ share: "limited", level: 2 }, [{ name: "limited", rules }], lamp!);
    const none = [
      { ...RULE, ids: ["oven"] },
      { ...RULE, ids: ["lamp-*"], types: ["oven"] },
      { ...RULE, kind: 2 },
      { ...RULE, labels: { room: "k*" } },
    ];
    expect(explained(...none)).toMatchObject({ because: "no-rule", at: -1, shown: false, missed: ["ids", "types", "kind", "labels"] });
    expect(explained(...none, { ...RULE, allow: false }, RULE)).toMatchObject({ because: "rule", at: 4, shown: false });
    const shown = explained({ ...RULE, capabilities: ["power", "pin"], invoke: ["*"] });
    expect(shown).toMatchObject({ because: "rule", at: 0, shown: true, missed: [] });
    // What the node itself does not take, no rule lets be invoked.
    expect(shown.capabilities).toEqual([
      { name: "power", right: "invoke", invocable: true },
      { name: "watts", right: "none", invocable: true },
      { name: "pin", right: "see", invocable: false },
    ]);
  });

  test("says what comes before any rule: trust, no share, a share that nobody defines", () => {
    const [lamp] = NODES.map(offered);
    const because = (share: string, level: number) => explainShare({ share, level }, [{ name: "limited", rules: [RULE] }], lamp!).because;
    expect([
      because("full", 1),
      because("limited", 0),
      because("", 3),
      because("gone", 2),
      because("full", 2),
      because("limited", 2),
    ]).toEqual(["trust-too-low", "trust-too-low", "no-share", "share-not-defined", "full", "rule"]);
  });

  test("a key of the state that is no capability is shown by the same patterns and never invoked", () => {
    const node = { ...offered(NODES[3]!), keys: ["watts", "note"] };
    const { capabilities } = explainShare({ share: "full", level: 3 }, [], node);
    expect(capabilities.map(({ name, right }) => `${name} ${right}`)).toEqual(["watts see", "note see"]);
  });
});

test("an import is decided by the first rule that selects the node, and by none if there are no rules", () => {
  const { info } = offered(NODES[0]!);
  expect(explainImport(undefined, info)).toEqual({ taken: true, at: -1, missed: [] });
  expect(explainImport([], info)).toEqual({ taken: false, at: -1, missed: [] });
  const rules = [{ ...RULE, types: ["oven"] }, { ...RULE, ids: ["lamp-*"], allow: false }, RULE];
  expect(explainImport(rules, info)).toEqual({ taken: false, at: 1, missed: ["types"] });
});
