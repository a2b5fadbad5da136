import { describe, expect, test } from "vitest";
import type { AgentRecord, Migration } from "../messages.ts";
import { AgentGate } from "./gate.ts";
import type { Seen } from "./saga.ts";

const now = (mono: number) => ({ mono, wall: mono });
const owned = (owner: string, fence: number, lost = false): AgentRecord => ({
  agent: "counter",
  owner,
  fence,
  nodeKey: new Uint8Array(32),
  since: 0,
  lost,
});
const seen = (agent: AgentRecord | undefined, linear: boolean, migration?: Partial<Migration>): Seen => ({
  index: 1,
  linear,
  agent,
  migration: migration as Migration | undefined,
});
const gateOf = () => new AgentGate<string>("home", "counter", 3, { commands: 2, bytes: 100, waitMs: 50 });

describe("before an agent", () => {
  test("MA2 a start opens nothing before the log was read linearly, and then only for the owner with this fence", () => {
    const gate = gateOf();
    expect(gate.offer(now(0), "a", 1)).toBe("wait");
    gate.look(seen(owned("home", 3), false));
    expect(gate.state).toBe("closed");
    expect(gate.look(seen(owned("home", 3), true))).toMatchObject({ run: ["a"], fence: 3 });
    for (const [agent, migration] of [
      [owned("home", 2), undefined],
      [owned("home", 4), undefined],
      [owned("home", 3, true), undefined],
      [undefined, undefined],
      [owned("home", 3), { status: "open", step: "TRANSFER", from: "home" }],
    ] as const) {
      const closed = gateOf();
      closed.look(seen(agent, true, migration));
      expect(closed.state).toBe("closed");
    }
  });

  test("MA5 a source that wakes after the commit, or was set back, sends everything on and never opens again", () => {
    const gate = gateOf();
    gate.offer(now(0), "a", 1);
    const passed = gate.look(seen(owned("factory", 4), true));
    expect(passed.refused).toMatchObject([{ command: "a", failure: { reason: "MOVED", facts: { hub: "factory", fence: "4" } } }]);
    expect(gate.offer(now(1), "b", 1)).toMatchObject({ reason: "MOVED", facts: { hub: "factory" } });
    gate.set("open", 3, "home");
    gate.look(seen(owned("home", 3), true));
    expect(gate.state).toBe("moved");
    gate.look(seen(owned("office", 5), false));
    expect(gate.offer(now(1), "c", 1)).toMatchObject({ reason: "MOVED", facts: { hub: "office", fence: "5" } });
    gate.set("open", 5, "home");
    expect([gate.state, gate.fence]).toEqual(["open", 5]);
  });

  test("MA1 while a saga has it closed, nothing that is read of the log opens it", () => {
    const gate = gateOf();
    gate.look(seen(owned("home", 3), true));
    gate.set("closed", 3, "");
    gate.look(seen(owned("home", 3), true));
    expect(gate.offer(now(0), "a", 1)).toBe("wait");
    expect(gate.set("open", 3, "home").run).toEqual(["a"]);
    expect(gate.set("closed", 2, "")).toMatchObject({ run: [] });
    expect(gate.state).toBe("open");
  });

  test("MA3 what waits is bounded in number, bytes and time, and keeps its order", () => {
    const gate = gateOf();
    expect(gate.offer(now(0), "long", 101)).toMatchObject({ reason: "AGENT_FROZEN" });
    expect([gate.offer(now(0), "a", 60), gate.offer(now(10), "b", 40)]).toEqual(["wait", "wait"]);
    expect(gate.offer(now(11), "c", 1)).toMatchObject({ reason: "AGENT_FROZEN" });
    expect(gate.deadline()).toBe(50);
    expect(gate.tick(now(50)).refused).toMatchObject([{ command: "a", failure: { reason: "AGENT_FROZEN" } }]);
    expect(gate.offer(now(51), "d", 60)).toBe("wait");
    expect(gate.look(seen(owned("home", 3), true)).run).toEqual(["b", "d"]);
    expect(gate.deadline()).toBeUndefined();
  });

  test("MA4 the removal of its hub closes it", () => {
    const gate = gateOf();
    gate.look(seen(owned("home", 3), true));
    gate.look(seen(owned("home", 3, true), true));
    expect(gate.state).toBe("closed");
    const told = gateOf();
    told.set("open", 3, "home");
    told.look(seen(owned("home", 3, true), false));
    told.look(seen(owned("home", 3), false));
    expect(told.state).toBe("closed");
  });
});
