// Commands for agents that move between hubs: an old place refuses by the fence, and an old name answers with the new one.
import { describe, expect, test } from "vitest";
import { capability } from "../../test/commands/hub.ts";
import { MemoryHub } from "../../test/commands/world.ts";
import { type AgentPlaces, type CommandEffect, NO_VALUE } from "./messages.ts";

/** The agent `counter` was at home and at away, and is at the factory with fence 4. */
const PLACES: AgentPlaces = {
  movedTo: (hubId, nodeId) => (nodeId === "counter" && ["home", "away"].includes(hubId) ? { hubId: "factory", fence: 4 } : undefined),
  fence: (hubId, nodeId) => (nodeId === "counter" && ["home", "away", "factory"].includes(hubId) ? 4 : 0),
};

function hubWith(...nodes: readonly { readonly hubId: string; readonly nodeId: string; readonly online: boolean }[]): MemoryHub {
  const hub = new MemoryHub("home", () => ({ mono: 1_000, wall: 1_800_000_000_000 }));
  hub.give({ kind: "peers", peers: [{ hubId: "away", level: 2, voidedAt: 0 }] });
  hub.give({ kind: "policy", policy: () => "invoke" });
  hub.give({ kind: "places", places: PLACES });
  const changes = nodes.map((node) => ({ kind: "put", ...node, capabilities: [capability("count", 0)] }) as const);
  hub.give({ kind: "directory", changes });
  return hub;
}

let corrs = 0;

function execute(hub: MemoryHub, hubId: string, nodeId = "counter"): readonly CommandEffect[] {
  const command = {
    corr: ++corrs,
    hubId,
    nodeId,
    capability: "count",
    value: NO_VALUE,
    timeoutMs: 1_000,
    key: "",
    hops: [],
    trace: undefined,
  };
  return hub.give({ kind: "execute", client: 2, principal: "p", commands: [command] });
}

const failureIn = (effects: readonly CommandEffect[]) =>
  effects.flatMap((effect) => (effect.kind === "reply" ? [effect.result.failure] : []))[0];
const MOVED = { reason: "MOVED", field: "factory", facts: { hub: "factory", agent: "counter", fence: "4" } };

describe("S1-13 commands for an agent that has moved", () => {
  test("PROTOCOL G11 are answered with its new place at any hub, if nobody is there under its old name", () => {
    const cases = [
      // Its hub is away, has forgotten the name, or says that it is offline.
      execute(hubWith(), "away"),
      execute(hubWith(), "home"),
      execute(hubWith({ hubId: "home", nodeId: "counter", online: false }), "home"),
      execute(hubWith({ hubId: "home", nodeId: "counter", online: true }), ""),
    ];
    for (const effects of cases) expect(failureIn(effects)).toMatchObject(MOVED);
    const up = hubWith({ hubId: "away", nodeId: "counter", online: false });
    up.give({ kind: "peer-up", peer: "away", session: 1 });
    expect(failureIn(execute(up, "away"))).toMatchObject(MOVED);
  });

  test("are refused as ever where it never was, or for other reasons than that nobody is there", () => {
    expect(failureIn(execute(hubWith(), "home", "lamp"))?.reason).toBe("NODE_NOT_FOUND");
    expect(failureIn(execute(hubWith(), "factory"))?.reason).toBe("PEER_NOT_FOUND");
    const low = hubWith();
    low.give({ kind: "peers", peers: [{ hubId: "away", level: 1, voidedAt: 0 }] });
    expect(failureIn(execute(low, "away"))?.reason).toBe("TRUST_TOO_LOW");
  });

  test("PROTOCOL G11 reach a program that is still there under its old name with the newest fence, by which it refuses", () => {
    const hub = hubWith({ hubId: "home", nodeId: "counter", online: true }, { hubId: "home", nodeId: "lamp", online: true });
    const offer = { nodeIds: ["counter", "lamp"], capabilities: [], maxInFlight: 9, shared: false };
    hub.give({ kind: "attach", executor: 1, name: "bridge", scope: { kind: "gateway", prefixes: [] }, offer });
    const fences = [execute(hub, "home"), execute(hub, "home", "lamp")].map((effects) =>
      effects.flatMap((effect) => (effect.kind === "tasks" ? effect.items.map(({ agentFence }) => agentFence) : [])),
    );
    expect(fences).toEqual([[4], [undefined]]);
  });
});
