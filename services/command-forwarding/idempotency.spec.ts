import { describe, expect, test } from "vitest";
import { capability } from "../../test/commands/hub.ts";
import { MemoryHub, type Reply } from "../../test/commands/world.ts";
import { leftOf } from "./idempotency.ts";
import { type Command, type CommandEffect, NO_VALUE, OUTCOME } from "./messages.ts";

const DAY_MS = 24 * 3_600_000;
const WALL = 1_800_000_000_000;

/** A hub with one node of its own and an executor that does everything at once. */
class Bench {
  mono = 1_000;
  wall = 0;
  readonly hub: MemoryHub;
  runs = 0;
  #corr = 0;

  constructor() {
    this.hub = new MemoryHub("home", () => ({ mono: this.mono, wall: this.wall }));
    this.attach();
  }

  attach(): void {
    this.hub.give({
      kind: "directory",
      changes: [{ kind: "put", hubId: "home", nodeId: "door", online: true, capabilities: [capability("open", 0)] }],
    });
    this.hub.give({
      kind: "attach",
      executor: 1,
      name: "bridge",
      scope: { kind: "gateway", prefixes: [] },
      offer: { nodeIds: ["door"], capabilities: [], maxInFlight: 4, shared: false },
    });
  }

  /** open asks for the door to be opened under a key and answers what the caller is told. */
  open(key: string): Reply | undefined {
    const command: Command = {
      corr: ++this.#corr,
      hubId: "home",
      nodeId: "door",
      capability: "open",
      value: NO_VALUE,
      timeoutMs: 1_000,
      key,
      hops: [],
    };
    const effects = this.hub.give({ kind: "execute", client: 1, principal: "user", commands: [command] });
    const tasks = effects.flatMap((effect) => (effect.kind === "tasks" ? effect.items : []));
    this.runs += tasks.length;
    const reports = tasks.map(({ taskId }) => ({ taskId, value: NO_VALUE, failure: undefined }));
    const later = reports.length === 0 ? [] : this.hub.give({ kind: "reports", executor: 1, reports });
    return [...effects, ...later].find((effect: CommandEffect): effect is Reply => effect.kind === "reply");
  }
}

describe("idempotency keys and the date", () => {
  test("S0-12 D-9 a key that was used before the clock was set still stands afterwards", () => {
    const bench = new Bench();
    expect(bench.open("k")?.result.outcome).toBe(OUTCOME.DONE);
    bench.wall = WALL;
    expect(bench.open("k")).toMatchObject({ replayed: true, result: { outcome: OUTCOME.DONE } });
    expect(bench.runs).toBe(1);
  });

  test("S0-12 D-9 and after a restart with the clock set", () => {
    const bench = new Bench();
    bench.open("k");
    bench.wall = WALL;
    bench.hub.restart();
    bench.attach();
    expect(bench.open("k")).toMatchObject({ replayed: true, result: { outcome: OUTCOME.DONE } });
    expect(bench.runs).toBe(1);
  });

  test("S3-27 two hubs in one process, even of the same name, find duplicates each among its own keys", () => {
    const [one, two] = [new Bench(), new Bench()];
    for (const bench of [one, two]) expect(bench.open("k")).toMatchObject({ replayed: false, result: { outcome: OUTCOME.DONE } });
    for (const bench of [one, two]) expect(bench.open("k")).toMatchObject({ replayed: true, result: { outcome: OUTCOME.DONE } });
    expect([one.runs, two.runs]).toEqual([1, 1]);
  });

  test("a key is forgotten after its life, by the clock that cannot be set", () => {
    const bench = new Bench();
    bench.wall = WALL;
    bench.open("k");
    bench.mono += DAY_MS - 1;
    bench.open("k");
    expect(bench.runs).toBe(1);
    bench.mono += 2;
    bench.hub.tick();
    bench.open("other");
    bench.open("k");
    expect(bench.runs).toBe(3);
  });

  test("what is left of a stored key is never more than its life, and all of it when its date says nothing", () => {
    expect(leftOf(WALL + 500, WALL, 1_000)).toBe(500);
    expect(leftOf(WALL - 1, WALL, 1_000)).toBe(-1);
    expect(leftOf(WALL + 500, 0, 1_000)).toBe(1_000);
    expect(leftOf(1_500, WALL, 1_000)).toBe(1_000);
  });
});
