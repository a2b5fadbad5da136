import { createHash } from "node:crypto";
import { Registry } from "prom-client";
import { expect, test } from "vitest";
import { silentLogger } from "#runtime/log/log.ts";
import { createDriver, type Output } from "#runtime/service/driver.ts";
import { capability } from "../../../test/commands/hub.ts";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { MemoryStore } from "../../../test/fakes/memory-store.ts";
import { CommandCore } from "../core.ts";
import { type CommandEffect, type Input, NO_VALUE, OUTCOME } from "../messages.ts";
import { isAnswer, overtakes, storedInput } from "./store-refusal.ts";

const OLD = 1;
const NEW = 2;
const HELLO = { epoch: 0, ownerEpoch: 7, ownerPosition: 0, items: [] };
const COMMAND = { corr: 1, hubId: "away", nodeId: "lamp", capability: "on", value: NO_VALUE, timeoutMs: 60_000, key: "once", hops: [] };
const EXECUTE: Input = { kind: "execute", client: 1, principal: "user", commands: [COMMAND] };

/** A hub on a disk that can be full: the core, driven as in the service. */
function rig() {
  const clock = new ManualClock();
  const store = new MemoryStore();
  const left: Output<CommandEffect>[] = [];
  const core = new CommandCore({ hubId: "home", hash: (data) => createHash("sha256").update(data).digest() });
  core.restore(clock.now(), { meta: undefined, blobs: [] });
  const driver = createDriver<Input, CommandEffect>({
    service: "command-forwarding",
    core,
    store,
    clock,
    log: silentLogger,
    metrics: new Registry(),
    commit: "now",
    execute: (effect) => void left.push(effect),
    observe: () => undefined,
    reject: (effect) => {
      if (!isAnswer(effect)) return "keep";
      left.push(effect);
      return "drop";
    },
    overtakes,
    onStored: storedInput,
    onFatal: (error) => {
      throw error;
    },
  });
  const give = (...inputs: Input[]): void => {
    for (const input of inputs) driver.post(input);
    clock.turn();
  };
  give(
    { kind: "start" },
    { kind: "peers", peers: [{ hubId: "away", level: 3 }] },
    { kind: "policy", policy: () => "invoke" },
    {
      kind: "directory",
      changes: ["away", "home"].map((hubId) => ({
        kind: "put",
        hubId,
        nodeId: "lamp",
        online: true,
        capabilities: [capability("on", 0)],
      })),
    },
    { kind: "peer-up", peer: "away", session: OLD },
  );
  const sent = (kind: "invoke" | "tasks" | "respond"): number =>
    left.reduce((count, effect) => count + (effect.kind === kind ? effect.items.length : 0), 0);
  /** recover frees the disk and lets the retry come. */
  const recover = (): void => {
    store.failAll(undefined);
    clock.advance(5_000);
    clock.turn();
  };
  return { clock, store, give, left, sent, recover };
}

/** newest is the number of the last blob of the journal that is stored. */
const newest = (store: MemoryStore): number => [...store.read("journal", 0)].at(-1)?.seq ?? 0;

test("CA1 a command whose record met a full disk does not go out on a new session before it is durable", () => {
  const { store, give, sent, recover } = rig();
  give({ kind: "results", peer: "away", session: OLD, frame: HELLO });
  store.failAll("full");
  give(EXECUTE);
  give({ kind: "peer-up", peer: "away", session: NEW }, { kind: "results", peer: "away", session: NEW, frame: HELLO });
  expect(sent("invoke")).toBe(0);
  recover();
  expect(sent("invoke")).toBeGreaterThan(0);
});

test("OW1 a command with a key for an own node is not started before its record is durable, also when it waits for credit", () => {
  const { store, give, sent, recover, left } = rig();
  const offer = { nodeIds: ["lamp"], capabilities: [], maxInFlight: 1, shared: false };
  give({ kind: "attach", executor: 1, name: "gateway/one", scope: { kind: "gateway", prefixes: [] }, offer });
  const own = { ...COMMAND, hubId: "home" };
  give({ kind: "execute", client: 1, principal: "user", commands: [{ ...own, key: "" }] });
  expect(sent("tasks")).toBe(1);
  store.failAll("full");
  give({ kind: "execute", client: 1, principal: "user", commands: [{ ...own, corr: 2 }] });
  give({ kind: "reports", executor: 1, reports: [{ taskId: 1, value: NO_VALUE, failure: undefined }] });
  expect(sent("tasks")).toBe(1);
  expect(left.filter((effect) => effect.kind === "reply")).toHaveLength(1);
  recover();
  expect(sent("tasks")).toBe(2);
});

test("OW3 an outcome that met a full disk is not told before it is durable, however often it is asked for", () => {
  const { store, give, sent, recover, left } = rig();
  const offer = { nodeIds: ["lamp"], capabilities: [], maxInFlight: 4, shared: false };
  give({ kind: "attach", executor: 1, name: "gateway/one", scope: { kind: "gateway", prefixes: [] }, offer });
  const greeting = left.find((effect) => effect.kind === "respond");
  if (greeting?.kind !== "respond") throw new Error("no greeting");
  const { ownerEpoch, ownerPosition } = greeting;
  const item = { seq: 1, nodeId: "lamp", capability: "on", value: NO_VALUE, timeoutMs: 60_000, retry: false, hops: [] };
  const frame = { epoch: 5, ackedBelow: 0, acks: [], items: [item], cancels: [], ownerEpoch, ownerPosition };
  give({ kind: "invocations", peer: "away", session: OLD, frame });
  expect(sent("tasks")).toBe(1);
  store.failAll("io");
  give({ kind: "reports", executor: 1, reports: [{ taskId: 1, value: NO_VALUE, failure: undefined }] });
  give({ kind: "invocations", peer: "away", session: OLD, frame: { ...frame, items: [{ ...item, retry: true }] } });
  expect(sent("respond")).toBe(0);
  // What is refused meanwhile is told at once: nothing rests on it.
  give({ kind: "invocations", peer: "away", session: OLD, frame: { ...frame, items: [{ ...item, seq: 2 }] } });
  const told = left.flatMap((effect) => (effect.kind === "respond" ? effect.items : []));
  expect(told.map(({ seq, result }) => [seq, result.outcome, result.failure?.reason])).toEqual([
    [2, OUTCOME.REJECTED, "STORE_UNAVAILABLE"],
  ]);
  recover();
  const all = left.flatMap((effect) => (effect.kind === "respond" ? effect.items : []));
  expect(all.some(({ seq, result }) => seq === 1 && result.outcome === OUTCOME.DONE)).toBe(true);
});

test("OW3 OW7 what is said of the journal while the store refuses is what a crash leaves of it", () => {
  const { store, give, recover, left } = rig();
  const offer = { nodeIds: ["lamp"], capabilities: [], maxInFlight: 4, shared: false };
  give({ kind: "attach", executor: 1, name: "gateway/one", scope: { kind: "gateway", prefixes: [] }, offer });
  const greetings = () => left.flatMap((effect) => (effect.kind === "respond" ? [effect.ownerPosition] : []));
  const ownerEpoch = left.find((effect) => effect.kind === "respond")?.ownerEpoch ?? 0;
  const item = { seq: 1, nodeId: "lamp", capability: "on", value: NO_VALUE, timeoutMs: 60_000, retry: false, hops: [] };
  const frame = { epoch: 5, ackedBelow: 0, acks: [], items: [item], cancels: [], ownerEpoch, ownerPosition: 0 };
  give({ kind: "invocations", peer: "away", session: OLD, frame });
  const durable = newest(store);
  store.failAll("io");
  give({ kind: "reports", executor: 1, reports: [{ taskId: 1, value: NO_VALUE, failure: undefined }] });
  give({ kind: "peer-up", peer: "away", session: NEW });
  expect(greetings().at(-1)).toBe(durable);
  recover();
  give({ kind: "peer-up", peer: "away", session: NEW + 1 });
  expect(greetings().at(-1)).toBe(newest(store));
  expect(greetings().at(-1)).toBeGreaterThan(durable);
});

test("IK2 the outcome of a command with a key is not told before it is durable, nor told again", () => {
  const { store, give, left, recover } = rig();
  give({ kind: "results", peer: "away", session: OLD, frame: HELLO }, EXECUTE);
  const invoke = left.find((effect) => effect.kind === "invoke");
  if (invoke?.kind !== "invoke") throw new Error("nothing was sent");
  const told = (): unknown[] => left.flatMap((effect) => (effect.kind === "reply" ? [[effect.corr, effect.result.outcome]] : []));
  store.failAll("full");
  const done = { seq: invoke.items[0]?.seq ?? 0, result: { outcome: OUTCOME.DONE, value: NO_VALUE, failure: undefined }, late: false };
  give({ kind: "results", peer: "away", session: OLD, frame: { ...HELLO, epoch: invoke.epoch, items: [{ ...done, trace: undefined }] } });
  give({ kind: "execute", client: 1, principal: "user", commands: [{ ...COMMAND, corr: 2 }] });
  // What never ran is told at once.
  give({ kind: "execute", client: 1, principal: "user", commands: [{ ...COMMAND, corr: 3, key: "other" }] });
  expect(told()).toEqual([[3, OUTCOME.REJECTED]]);
  recover();
  expect(told()).toEqual([
    [3, OUTCOME.REJECTED],
    [1, OUTCOME.DONE],
    [2, OUTCOME.DONE],
  ]);
});
