import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { freshnessOf } from "#kernel/freshness.ts";
import { ANY_NODE, GATEWAY, Instants, keyOf, nodeBytes, settleAll, TestHub, TestLink } from "../../test/fakes/registry-hub.ts";
import type { NodeRecord } from "./messages.ts";
import { REGISTRY_DEFAULTS } from "./world.ts";

const { leaseMs } = REGISTRY_DEFAULTS;
const EXECUTORS_LEASE_MS = 60_000;
const YEAR_MS = 365 * 86_400_000;
const FOREVER = Number.MAX_SAFE_INTEGER;

/** Two hubs that share all, and what a reader of them may expect. */
class Model {
  readonly clock = new Instants();
  readonly a = new TestHub("alpha", this.clock);
  readonly b = new TestHub("beta", this.clock);
  link: TestLink | undefined;
  stream: number | undefined;
  leaseUntil = 0;
  executorUntil = 0;
  value = 0;
  keyEnds = FOREVER;
  listedAt: number | undefined;
  heardAt = Number.NEGATIVE_INFINITY;
  #streams = 0;
  #seq = 0;
  #serial = 1;

  constructor() {
    this.a.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
    this.b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
    this.a.register(...Array.from({ length: 4 }, (_, i) => nodeBytes(`n${i}`, ["x:int"])));
    this.leaseUntil = this.clock.mono + leaseMs;
    this.connect();
  }

  connect(): void {
    this.link?.down();
    this.link = new TestLink(this.a, this.b);
    this.key(this.keyEnds);
    this.settle();
  }

  /** key gives beta a key of alpha that ends at an instant. */
  key(notAfterWall: number): void {
    this.keyEnds = notAfterWall;
    const { publicKey: key } = keyOf("alpha");
    this.b.post({ kind: "feed_key", peer: "alpha", key, serial: this.#serial, notAfterWall, revokesUpTo: 0 });
  }

  settle(): void {
    settleAll([this.a, this.b], this.link === undefined ? [] : [this.link]);
  }

  open(): void {
    if (this.stream !== undefined) return;
    this.stream = ++this.#streams;
    this.#seq = 0;
    this.a.post({ kind: "stream_open", stream: this.stream, scope: GATEWAY });
    this.leaseUntil = this.clock.mono + leaseMs;
  }

  close(): void {
    if (this.stream === undefined) return;
    this.a.post({ kind: "stream_close", stream: this.stream });
    this.stream = undefined;
  }

  update(): void {
    this.open();
    this.value++;
    this.a.update(this.stream!, ++this.#seq, [{ nodeId: "n0", key: "x", value: this.value, type: 2 }]);
    this.leaseUntil = this.clock.mono + leaseMs;
  }

  executor(): void {
    this.a.post({ kind: "presence", call: ++this.a.call, attached: ["n0"], detached: [], replace: false });
    this.executorUntil = this.clock.mono + EXECUTORS_LEASE_MS;
  }

  list(): void {
    this.a.post({ kind: "query", call: ++this.a.call, query: { type: "list", filter: ANY_NODE, limit: 1, keep: "list" } });
    this.listedAt = this.clock.mono;
  }

  ping(): void {
    this.link?.ping();
    if (this.link?.up === true) this.heardAt = this.clock.mono;
  }

  of(hub: TestHub): NodeRecord {
    const record = hub.ask().find(({ name }) => name.hubId === "alpha" && name.nodeId === "n0");
    if (record === undefined) throw new Error(`${hub.id} has no n0`);
    return record;
  }

  valueAt(hub: TestHub): number {
    return Number(this.of(hub).state[0]?.value ?? 0);
  }
}

describe("time jumps", () => {
  const jump = fc.record({
    mono: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 200_000 }), fc.integer({ min: 0, max: 100 * 86_400_000 })),
    wall: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.integer({ min: -20 * YEAR_MS, max: 20 * YEAR_MS })),
  });
  const act = fc.record({
    jump,
    what: fc.constantFrom("open", "close", "update", "executor", "list", "key", "cut", "connect", "ping", "nothing"),
    life: fc.integer({ min: 1, max: 200_000 }),
  });

  test("F-17 whatever the clocks do between two inputs: after a tick nothing is due, and no lease, list, key or age outlives its time", () => {
    fc.assert(
      fc.property(fc.array(act, { maxLength: 25 }), (acts) => {
        const model = new Model();
        const { a, b, clock } = model;
        for (const { jump: by, what, life } of acts) {
          clock.mono += by.mono;
          clock.wall = Math.max(0, clock.wall + by.mono + by.wall);
          if (model.listedAt !== undefined) {
            // Before any tick: a list that is past its time is not there for who asks.
            a.post({ kind: "query", call: ++a.call, query: { type: "page", listing: "list", from: 1, limit: 1 } });
            const { call } = a;
            const good = clock.mono < model.listedAt + LIMITS.pagingMs;
            a.settle();
            expect(a.answers.get(call)?.type).toBe(good ? "nodes" : "failed");
          }
          const before = model.valueAt(b);
          if (what === "open") model.open();
          if (what === "close") model.close();
          if (what === "update") model.update();
          if (what === "executor") model.executor();
          if (what === "list") model.list();
          if (what === "key") model.key(clock.wall + life);
          if (what === "cut") model.link?.down();
          if (what === "connect") model.connect();
          if (what === "ping") model.ping();
          model.settle();
          for (const hub of [a, b]) {
            const due = hub.core.deadline();
            expect(due === undefined || due > clock.mono, `${hub.id}: ${due} at ${clock.mono}`).toBe(true);
          }
          const alive = model.stream !== undefined || clock.mono < model.leaseUntil || clock.mono < model.executorUntil;
          expect(model.of(a).online, "a lease").toBe(alive);
          if (clock.wall > model.keyEnds) expect(model.valueAt(b), "signed by a key that has ended").toBe(before);
          expect(model.of(b).ageMs, "an age").toBeGreaterThanOrEqual(0);
          const { freshness, ageMs } = model.of(b);
          expect(freshness).toBe(freshnessOf(ageMs === Number.POSITIVE_INFINITY ? undefined : ageMs));
        }
        // And all of it heals.
        model.key(FOREVER);
        model.connect();
        for (let i = 0; i < 5; i++) {
          clock.advance(61_000);
          model.ping();
          model.settle();
        }
        expect(model.valueAt(b)).toBe(model.value);
      }),
      { numRuns: 60 },
    );
  });
});
