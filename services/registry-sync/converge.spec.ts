import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { GATEWAY, Instants, nodeBytes, settleAll, TestHub, TestLink } from "../../test/fakes/registry-hub.ts";
import type { NodeRule } from "./messages.ts";

const NAMES = ["n0", "n1", "n2", "n3"];
const CAPS = [["p:double", "s:string"], ["p:double", "b:bool", "i:int"], ["s:string"], []];
const RULE: NodeRule = { ids: [], types: [], kind: 0, labels: {}, allow: true, capabilities: ["*"], invoke: ["*"] };
const RULES: readonly (readonly NodeRule[])[] = [[{ ...RULE, ids: ["n0", "n1"] }], [{ ...RULE, capabilities: ["p", "i"] }], [RULE]];

type Op =
  | { op: "put"; node: number; caps: number }
  | { op: "del"; node: number }
  | { op: "set"; node: number; value: number }
  | { op: "turn" | "deliver" | "crashA" | "crashB" | "relink" | "ping" | "down"; n: number }
  | { op: "rules"; n: number }
  | { op: "share"; n: number }
  | { op: "time"; ms: number };

const op = fc.oneof(
  { weight: 4, arbitrary: fc.record({ op: fc.constant("put" as const), node: fc.nat(3), caps: fc.nat(3) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("del" as const), node: fc.nat(3) }) },
  { weight: 8, arbitrary: fc.record({ op: fc.constant("set" as const), node: fc.nat(3), value: fc.integer({ min: -5, max: 5 }) }) },
  { weight: 8, arbitrary: fc.record({ op: fc.constantFrom("turn" as const, "deliver" as const, "ping" as const), n: fc.nat(2) }) },
  {
    weight: 3,
    arbitrary: fc.record({ op: fc.constantFrom("crashA" as const, "crashB" as const, "relink" as const, "down" as const), n: fc.nat(2) }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("rules" as const), n: fc.nat(2) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("share" as const), n: fc.nat(1) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("time" as const), ms: fc.constantFrom(50, 200, 61_000) }) },
) as fc.Arbitrary<Op>;

function shown(hub: TestHub, origin: string): string[] {
  return hub.ask({ hubIds: [origin] }).map((r) => `${r.name.nodeId}: ${r.state.map((s) => `${s.key}=${String(s.value)}`).join(" ")}`);
}

/** Run is one history of two hubs. */
class Run {
  readonly clock = new Instants();
  a: TestHub;
  b: TestHub;
  link: TestLink | undefined;
  rules: readonly NodeRule[] = RULES[0]!;
  share = "part";
  seq = 0;
  stream = 1;
  /** Events of hubs that have crashed. */
  readonly #past: TestHub["events"][] = [];

  constructor() {
    const small = { ringSegments: 4, tailSegments: 1, checkpointSegments: 3, partBytes: 40 };
    this.a = new TestHub("alpha", this.clock, { ...small, shares: [{ name: "part", rules: this.rules }] });
    this.b = new TestHub("beta", this.clock, small);
    this.peers();
    this.a.post({ kind: "stream_open", stream: this.stream, scope: GATEWAY });
    for (const [index, name] of NAMES.entries()) this.a.register(nodeBytes(name, CAPS[index]!));
    this.link = new TestLink(this.a, this.b);
    settleAll([this.a, this.b], [this.link]);
  }

  peers(): void {
    this.a.post({ kind: "peers", peers: [{ hubId: "beta", share: this.share, level: 3 }], complete: true });
    this.b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
  }

  step(op: Op, fate: () => number): void {
    switch (op.op) {
      case "put":
        this.a.register(nodeBytes(NAMES[op.node]!, CAPS[op.caps]!));
        break;
      case "del":
        this.a.deregister(NAMES[op.node]!);
        break;
      case "set":
        this.set(NAMES[op.node]!, op.value);
        break;
      case "turn":
        (op.n === 0 ? this.b : this.a).turn();
        break;
      case "deliver":
        this.link?.deliver(fate);
        break;
      case "ping":
        this.link?.ping();
        break;
      case "crashA":
        this.down();
        this.#past.push(this.a.events);
        this.a = this.a.crash({ shares: [{ name: "part", rules: this.rules }] });
        this.peers();
        this.a.post({ kind: "stream_open", stream: ++this.stream, scope: GATEWAY });
        this.seq = 0;
        break;
      case "crashB":
        this.down();
        this.#past.push(this.b.events);
        this.b = this.b.crash();
        this.peers();
        break;
      case "down":
        this.down();
        break;
      case "relink":
        this.down();
        this.link = new TestLink(this.a, this.b, op.n === 0 ? 600 : 1 << 20);
        break;
      case "rules":
        this.rules = RULES[op.n]!;
        this.a.post({ kind: "shares", shares: [{ name: "part", rules: this.rules }] });
        break;
      case "share":
        this.share = op.n === 0 ? "part" : "full";
        this.peers();
        break;
      case "time":
        this.clock.advance(op.ms);
        break;
    }
  }

  set(node: string, value: number): void {
    const all = [
      { nodeId: node, key: "p", value, type: 3 as const },
      { nodeId: node, key: "s", value: `v${value}`, type: 4 as const },
      { nodeId: node, key: "i", value: BigInt(value), type: 2 as const },
      { nodeId: node, key: "b", value: value > 0, type: 1 as const },
    ];
    for (const update of all) this.a.update(this.stream, ++this.seq, [update]);
  }

  down(): void {
    this.link?.down();
    this.link = undefined;
  }

  /** heal lets everything come to rest over a good link. */
  heal(): void {
    this.down();
    this.a.settle();
    this.b.settle();
    this.clock.advance(60_000);
    this.link = new TestLink(this.a, this.b);
    for (let i = 0; i < 3; i++) {
      settleAll([this.a, this.b], [this.link]);
      this.clock.advance(11_000);
      this.link.ping();
    }
    settleAll([this.a, this.b], [this.link]);
  }

  /** alarms are forks and lost history: no disk is rolled back here, so there is never a reason for one. */
  alarms(): string[] {
    const all = [...this.#past, this.a.events, this.b.events].flat();
    return all
      .filter((event) => event.event === "fork" || event.text.includes("knows more") || event.fields["reason"] === "SEGMENT_INVALID")
      .map((event) => `${event.event}: ${event.text}`);
  }

  /** expected is what the share shows of what the owner has. */
  expected(): string[] {
    const own = this.a.ask({ hubIds: ["alpha"] });
    if (this.share === "full") return shown(this.a, "alpha");
    const rule = this.rules[0]!;
    return own
      .filter((r) => rule.ids.length === 0 || rule.ids.includes(r.name.nodeId))
      .map(
        (r) =>
          `${r.name.nodeId}: ${r.state
            .filter((s) => rule.capabilities.includes("*") || rule.capabilities.includes(s.key))
            .map((s) => `${s.key}=${String(s.value)}`)
            .join(" ")}`,
      );
  }
}

describe("any history", () => {
  test("S1-12 D-3 D-8 the peer converges on what the share shows: lossy links, crashes, other rules, checkpoints, snapshots", () => {
    let nodes = 0;
    fc.assert(
      fc.property(
        fc.array(op, { minLength: 20, maxLength: 80, size: "max" }),
        fc.array(fc.constantFrom(1, 1, 1, 1, 0, 2), { minLength: 7, maxLength: 7 }),
        (ops, fates) => {
          const run = new Run();
          let turn = 0;
          for (const item of ops) run.step(item, () => fates[turn++ % 7]!);
          run.heal();
          expect(shown(run.b, "alpha")).toEqual(run.expected());
          expect(run.alarms()).toEqual([]);
          nodes += run.expected().length;
        },
      ),
      { numRuns: 300, seed: 20_240_501 },
    );
    expect(nodes).toBeGreaterThan(300);
  });

  test("S0-17 what was acknowledged is there after a crash", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(3), fc.integer({ min: -9, max: 9 }), fc.constantFrom("none", "turn", "flush", "commit", "late")), {
          maxLength: 40,
          size: "max",
        }),
        (sets) => {
          const clock = new Instants();
          const hub = new TestHub("alpha", clock, { checkpointSegments: 3, tailSegments: 1, partBytes: 40 });
          hub.register(...NAMES.map((name) => nodeBytes(name, ["p:double"])));
          hub.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
          hub.settle();
          sets.forEach(([node, value, then], index) => {
            hub.update(1, index + 1, [{ nodeId: NAMES[node]!, key: "p", value, type: 3 }]);
            if (then === "turn") hub.turn();
            if (then === "flush") hub.post({ kind: "flush" });
            if (then === "commit") hub.commit();
            if (then === "late") clock.advance(120);
          });
          const acked = hub.acked.get(1) ?? 0;
          const after = hub.crash();
          for (const record of after.ask()) {
            const index = NAMES.indexOf(record.name.nodeId);
            const durable = sets
              .slice(0, acked)
              .filter(([node]) => node === index)
              .at(-1);
            const later = sets
              .slice(acked)
              .filter(([node]) => node === index)
              .map(([, value]) => value);
            const value = record.state[0]?.value;
            if (durable !== undefined && !later.includes(value as number)) expect(value).toBe(durable[1]);
          }
          expect(after.ask()).toHaveLength(4);
        },
      ),
      { numRuns: 300, seed: 7 },
    );
  });
});
