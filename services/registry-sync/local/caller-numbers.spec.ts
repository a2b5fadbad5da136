import { describe, expect, test } from "vitest";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { Instants, nodeBytes, TestHub } from "../../../test/fakes/registry-hub.ts";
import type { Scope } from "../messages.ts";

const scope = (name: string, prefix: string): Scope => ({ name: `gateway/${name}`, kind: "gateway", ids: [], prefixes: [prefix] });

/** Hub takes registrations and answers the limit that each was refused by. */
class Hub {
  readonly clock = new Instants();
  readonly hub = new TestHub("alpha", this.clock, { limits: { ...LIMITS, keysPerFeed: 1_024, refsPerFeed: 512 } });
  #call = 1_000;

  register(who: Scope, nodeId: string, names: readonly string[]): string | undefined {
    const call = ++this.#call;
    this.hub.post({ kind: "register", call, scope: who, nodes: [nodeBytes(nodeId, names)] });
    this.hub.settle();
    this.clock.advance(100);
    this.hub.settle();
    return this.hub.registered.get(call)![0]!.failure?.facts?.limit;
  }

  deregister(who: Scope, nodeId: string): void {
    this.hub.post({ kind: "deregister", call: ++this.#call, scope: who, nodeId });
  }
}

let serial = 0;
const fresh = (count: number) => Array.from({ length: count }, () => `x${++serial}:double`);

describe("H2-10 nobody takes the numbers away from others", () => {
  test("one gateway that ever invents names of capabilities is refused at its bound, and others go on", () => {
    const it = new Hub();
    const answers = new Set<string | undefined>();
    for (let i = 0; i < 300; i++) {
      answers.add(it.register(scope("hostile", "h-"), "h-1", fresh(64)));
      expect(it.register(scope("honest", "g-"), `g-${i % 100}`, ["watts:double", `own${i % 100}:double`])).toBeUndefined();
    }
    expect(answers).toEqual(new Set([undefined, "keys_per_feed_per_caller"]));
    // Later its numbers are given back.
    it.clock.advance(600_000);
    expect(it.register(scope("hostile", "h-"), "h-1", fresh(64))).toBeUndefined();
  });

  test("one that hoards names has half of them, and the last are for callers that took few", () => {
    const it = new Hub();
    const hoard = (name: string) => {
      const who = scope(name, `${name}-`);
      for (let i = 0; ; i++) {
        const limit = it.register(who, `${name}-${i}`, fresh(16));
        if (limit !== undefined) return [i, limit];
      }
    };
    expect(hoard("a")).toEqual([32, "keys_per_feed_per_caller"]);
    expect(hoard("b")).toEqual([24, "keys_per_feed"]);
    expect(it.register(scope("c", "c-"), "c-1", fresh(16))).toBeUndefined();
  });

  test("one that registers and removes ever other nodes is refused at its bound, and others go on", () => {
    const it = new Hub();
    const hostile = scope("hostile", "h-");
    const answers = new Set<string | undefined>();
    for (let i = 0; i < 400; i++) {
      answers.add(it.register(hostile, `h-${i}`, []));
      it.deregister(hostile, `h-${i}`);
      if (i % 4 === 0) expect(it.register(scope("honest", "g-"), `g-${i}`, [])).toBeUndefined();
    }
    expect(answers).toEqual(new Set([undefined, "refs_per_feed_per_caller"]));
  });
});
