import { describe, expect, test } from "vitest";
import { capability } from "../../test/commands/hub.ts";
import { MemoryHub } from "../../test/commands/world.ts";
import { CommandCore } from "./core.ts";
import { writeEpochs } from "./journal/restore.ts";
import { type CommandEffect, NO_VALUE, OUTCOME, type ResultsFrame } from "./messages.ts";

const OLD = 1;
const NEW = 2;
const HELLO: ResultsFrame = { epoch: 0, ownerEpoch: 7, ownerPosition: 0, items: [] };

/** A hub that knows a lamp of another one, with a session to it. */
function caller(clock = { mono: 1_000 }): MemoryHub {
  const hub = new MemoryHub("home", () => ({ mono: clock.mono, wall: 1_800_000_000_000 + clock.mono }));
  hub.give({ kind: "peers", peers: [{ hubId: "away", level: 3 }] });
  hub.give({
    kind: "directory",
    changes: [{ kind: "put", hubId: "away", nodeId: "lamp", online: true, capabilities: [capability("on", 0)] }],
  });
  hub.give({ kind: "peer-up", peer: "away", session: OLD });
  return hub;
}

/** epochFor is the journal epoch in the names of commands that go there. */
function epochFor(hub: MemoryHub): number {
  const text = hub.core.describe();
  return Number((/^to away: .* caller-epoch=(\d+)$/m.exec(text) ?? /caller-epoch=(\d+)/.exec(text))?.[1]);
}

let corr = 0;

function sends(hub: MemoryHub): boolean {
  const command = { corr: ++corr, hubId: "away", nodeId: "lamp", capability: "on", value: NO_VALUE, timeoutMs: 1_000, key: "", hops: [] };
  const effects: CommandEffect[] = hub.give({ kind: "execute", client: 1, principal: "user", commands: [command] });
  return effects.some((effect) => effect.kind === "invoke");
}

// The two ends of a link choose among several streams each by itself, one after the other.
test("D-17 a hello on a session that the owner chose before us counts when we choose it", () => {
  const hub = caller();
  hub.give({ kind: "results", peer: "away", session: NEW, frame: HELLO });
  expect(sends(hub)).toBe(false);
  hub.give({ kind: "peer-up", peer: "away", session: NEW });
  expect(sends(hub)).toBe(true);
});

test("D-17 a hello still counts when we come back to a session that the owner never left", () => {
  const hub = caller();
  hub.give({ kind: "results", peer: "away", session: OLD, frame: HELLO });
  hub.give({ kind: "peer-up", peer: "away", session: NEW });
  hub.give({ kind: "peer-up", peer: "away", session: OLD });
  expect(sends(hub)).toBe(true);
});

test("D-17 a session without a hello is not used", () => {
  const hub = caller();
  hub.give({ kind: "results", peer: "away", session: OLD, frame: HELLO });
  hub.give({ kind: "peer-up", peer: "away", session: NEW });
  expect(sends(hub)).toBe(false);
});

test.each([
  [true, OUTCOME.UNKNOWN],
  [false, OUTCOME.REJECTED],
])("OW4 a retry that is refused after a restart is said not to have run only if that is known (idempotent: %s)", (idempotent, outcome) => {
  const now = { mono: 1_000, wall: 1_800_000_000_000 };
  const hub = new MemoryHub("away", () => now);
  hub.give({ kind: "peers", peers: [{ hubId: "home", level: 3 }] });
  hub.give({ kind: "policy", policy: () => "invoke" });
  const capabilities = [capability("on", 0, { idempotent })];
  hub.give({ kind: "directory", changes: [{ kind: "put", hubId: "away", nodeId: "lamp", online: true, capabilities }] });
  const greeting = hub.give({ kind: "peer-up", peer: "home", session: 1 }).find((effect) => effect.kind === "respond");
  if (greeting?.kind !== "respond") throw new Error("no greeting");
  const { ownerEpoch, ownerPosition } = greeting;
  const item = { seq: 1, nodeId: "lamp", capability: "on", value: NO_VALUE, timeoutMs: 1_000, retry: true, hops: [] };
  const frame = { epoch: 5, ackedBelow: 0, acks: [], items: [item], cancels: [], ownerEpoch, ownerPosition };
  // Nobody serves the node: it is refused.
  const answer = hub.give({ kind: "invocations", peer: "home", session: 1, frame }).find((effect) => effect.kind === "respond");
  expect(answer?.kind === "respond" ? answer.items[0]?.result.outcome : undefined).toBe(outcome);
});

test("CA1 a peer that knows names of our epoch, of which we sent it none, makes us open a new one: they are from a time that was lost", () => {
  const clock = { mono: 1_000 };
  const hub = caller(clock);
  const before = epochFor(hub);
  hub.give({ kind: "results", peer: "away", session: OLD, frame: { ...HELLO, epoch: before } });
  const after = epochFor(hub);
  expect(after).toBeGreaterThan(before);
  expect(sends(hub)).toBe(true);
  clock.mono += 60_000;
  hub.give({ kind: "results", peer: "away", session: OLD, frame: { ...HELLO, epoch: after } });
  expect(epochFor(hub)).toBe(after);
});

test("CA1 CA8 so it does when a command waits for its greeting: that one has no name yet, and gets one of the new epoch", () => {
  const hub = caller();
  const before = epochFor(hub);
  expect(sends(hub)).toBe(false);
  const effects = hub.give({ kind: "results", peer: "away", session: OLD, frame: { ...HELLO, epoch: before } });
  expect(epochFor(hub)).toBeGreaterThan(before);
  const sent = effects.flatMap((effect) => (effect.kind === "invoke" ? effect.items.map(({ retry }) => [effect.epoch, retry]) : []));
  expect(sent).toEqual([[epochFor(hub), false]]);
  expect(effects.findIndex(({ kind }) => kind === "persist")).toBeLessThan(effects.findIndex(({ kind }) => kind === "invoke"));
});

test("D-17 a hello that shares a frame with outcomes counts when we choose its session later", () => {
  const hub = caller();
  const answered = { seq: 77, result: { outcome: OUTCOME.UNKNOWN, value: NO_VALUE, failure: undefined }, late: false };
  hub.give({ kind: "results", peer: "away", session: NEW, frame: { ...HELLO, items: [answered] } });
  hub.give({ kind: "peer-up", peer: "away", session: NEW });
  expect(sends(hub)).toBe(true);
});

describe("CA8 D-13 a command that comes before the owner greeted on the session", () => {
  const command = { corr: 1, hubId: "away", nodeId: "lamp", capability: "on", value: NO_VALUE, timeoutMs: 1_000, key: "", hops: [] };
  const outcomes = (effects: readonly CommandEffect[]) =>
    effects.flatMap((effect) => (effect.kind === "reply" ? [[effect.result.outcome, effect.result.failure?.reason]] : []));

  /** A hub whose session has just been replaced, and a command that came since. */
  function moving(clock = { mono: 1_000 }): MemoryHub {
    const hub = caller(clock);
    hub.give({ kind: "results", peer: "away", session: OLD, frame: HELLO });
    hub.give({ kind: "peer-up", peer: "away", session: NEW });
    const effects = hub.give({ kind: "execute", client: 1, principal: "user", commands: [command] });
    expect(effects.filter(({ kind }) => kind === "reply" || kind === "invoke")).toEqual([]);
    return hub;
  }

  test("goes out with the hello on the new one, as what is sent for the first time", () => {
    const effects = moving().give({ kind: "results", peer: "away", session: NEW, frame: HELLO });
    const items = effects.flatMap((effect) => (effect.kind === "invoke" ? effect.items : []));
    expect(items.map(({ seq, retry }) => ({ seq, retry }))).toEqual([{ seq: 1, retry: false }]);
  });

  test("is refused when the session goes, since it never left", () => {
    const effects = moving().give({ kind: "peer-down", peer: "away" });
    expect(outcomes(effects)).toEqual([[OUTCOME.REJECTED, "PEER_UNREACHABLE"]]);
  });

  test("is refused when it is cancelled, and at its deadline", () => {
    expect(outcomes(moving().give({ kind: "cancel", client: 1, corrs: [1] }))).toEqual([[OUTCOME.REJECTED, "CANCELLED"]]);
    const clock = { mono: 1_000 };
    const hub = moving(clock);
    clock.mono = 60_000;
    expect(outcomes(hub.tick())).toEqual([[OUTCOME.REJECTED, "PEER_UNREACHABLE"]]);
  });

  test("goes out to whatever journal the owner has: it was never sent to another", () => {
    const effects = moving().give({ kind: "results", peer: "away", session: NEW, frame: { ...HELLO, ownerEpoch: 8 } });
    const items = effects.flatMap((effect) => (effect.kind === "invoke" ? effect.items : []));
    expect(items.map(({ seq, retry }) => ({ seq, retry }))).toEqual([{ seq: 1, retry: false }]);
  });

  test("goes out with the first hello of all, too", () => {
    const hub = caller();
    hub.give({ kind: "execute", client: 1, principal: "user", commands: [command] });
    const effects = hub.give({ kind: "results", peer: "away", session: OLD, frame: HELLO });
    expect(effects.flatMap((effect) => (effect.kind === "invoke" ? effect.items : []))).toHaveLength(1);
  });

  test("is refused at once when there is no session", () => {
    const hub = caller();
    hub.give({ kind: "peer-down", peer: "away" });
    const effects = hub.give({ kind: "execute", client: 1, principal: "user", commands: [command] });
    expect(outcomes(effects)).toEqual([[OUTCOME.REJECTED, "PEER_UNREACHABLE"]]);
  });
});

test("OW1 after a loss of power that may have taken the journal's tail, what a peer asks again is not started: nobody can tell whether it was", () => {
  const hub = (tailAtRisk: boolean): { readonly core: CommandCore; readonly epoch: number } => {
    const core = new CommandCore({ hubId: "away", hash: (data) => data });
    const meta = writeEpochs({ owner: 7, caller: 7, raised: new Map() });
    core.restore({ mono: 0, wall: 1_800_000_000_000 }, { meta, blobs: [], tailAtRisk });
    return { core, epoch: Number(/owner-epoch=(\d+)/.exec(core.describe())?.[1]) };
  };
  expect(hub(false).epoch).toBe(7);
  const { core, epoch } = hub(true);
  expect(epoch).toBeGreaterThan(7);
  const effects: CommandEffect[] = [];
  const now = { mono: 1, wall: 1_800_000_000_001 };
  const capabilities = [capability("on", 0)];
  core.step(now, { kind: "start" }, effects);
  core.step(now, { kind: "peers", peers: [{ hubId: "home", level: 3 }] }, effects);
  core.step(now, { kind: "policy", policy: () => "invoke" }, effects);
  core.step(now, { kind: "directory", changes: [{ kind: "put", hubId: "away", nodeId: "lamp", online: true, capabilities }] }, effects);
  const offer = { nodeIds: ["lamp"], capabilities: [], maxInFlight: 1, shared: false };
  core.step(now, { kind: "attach", executor: 1, name: "gateway/one", scope: { kind: "gateway", prefixes: [] }, offer }, effects);
  core.step(now, { kind: "peer-up", peer: "home", session: 1 }, effects);
  const item = { seq: 1, nodeId: "lamp", capability: "on", value: NO_VALUE, timeoutMs: 1_000, retry: true, hops: [] };
  const frame = { epoch: 5, ackedBelow: 0, acks: [], items: [item], cancels: [], ownerEpoch: 7, ownerPosition: 0 };
  core.step(now, { kind: "invocations", peer: "home", session: 1, frame }, effects);
  expect(effects.filter(({ kind }) => kind === "tasks")).toEqual([]);
  const answers = effects.flatMap((effect) => (effect.kind === "respond" ? effect.items : []));
  expect(answers.map(({ result }) => result.outcome)).toEqual([OUTCOME.UNKNOWN]);
});

describe("PROTOCOL X14 frames on a session that is not the current one", () => {
  const replies = (effects: readonly CommandEffect[]) =>
    effects.flatMap((effect) => (effect.kind === "reply" ? [effect.result.outcome] : []));

  test.each([
    [OUTCOME.DONE, [OUTCOME.DONE]],
    [OUTCOME.FAILED, [OUTCOME.FAILED]],
    [OUTCOME.REJECTED, []],
    [OUTCOME.EXPIRED, []],
    [OUTCOME.UNKNOWN, []],
  ])("of outcomes only those count that say that something ran: %s", (outcome, told) => {
    const hub = caller();
    hub.give({ kind: "results", peer: "away", session: OLD, frame: HELLO });
    const command = { corr: 9, hubId: "away", nodeId: "lamp", capability: "on", value: NO_VALUE, timeoutMs: 1_000, key: "", hops: [] };
    const sent = hub.give({ kind: "execute", client: 1, principal: "user", commands: [command] }).find(({ kind }) => kind === "invoke");
    if (sent?.kind !== "invoke") throw new Error("nothing was sent");
    hub.give({ kind: "peer-up", peer: "away", session: NEW });
    hub.give({ kind: "results", peer: "away", session: NEW, frame: HELLO });
    const failure = outcome === OUTCOME.DONE ? undefined : ({ reason: "EXECUTOR_FAILED", message: "no" } as const);
    const item = { seq: sent.items[0]!.seq, result: { outcome, value: NO_VALUE, failure }, late: false };
    const frame = { ...HELLO, epoch: sent.epoch, items: [item] };
    expect(replies(hub.give({ kind: "results", peer: "away", session: OLD, frame }))).toEqual(told);
    expect(replies(hub.give({ kind: "results", peer: "away", session: NEW, frame }))).toEqual(told.length > 0 ? [] : [outcome]);
  });

  test("commands are not looked at", () => {
    const hub = new MemoryHub("away", () => ({ mono: 1_000, wall: 1_800_000_000_000 }));
    hub.give({ kind: "peers", peers: [{ hubId: "home", level: 3 }] });
    const greeting = hub.give({ kind: "peer-up", peer: "home", session: OLD }).find(({ kind }) => kind === "respond");
    if (greeting?.kind !== "respond") throw new Error("no greeting");
    const { ownerEpoch, ownerPosition } = greeting;
    const item = { seq: 1, nodeId: "lamp", capability: "on", value: NO_VALUE, timeoutMs: 1_000, retry: false, hops: [] };
    const frame = { epoch: 5, ackedBelow: 0, acks: [], items: [item], cancels: [], ownerEpoch, ownerPosition };
    const answers = (session: number) =>
      hub.give({ kind: "invocations", peer: "home", session, frame }).flatMap((effect) => (effect.kind === "respond" ? effect.items : []));
    expect(answers(NEW)).toEqual([]);
    expect(answers(OLD)).toMatchObject([{ seq: 1, result: { outcome: OUTCOME.REJECTED } }]);
  });
});
