import { generateKeyPairSync, verify } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { AgentClaimSchema } from "#gen/foedus/coordination/v1alpha1/migration_pb.ts";
import { claimBytes } from "../../../services/coordination/migration/claim.ts";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { type AgentCheckpoint, MovableAgent, movedTo } from "./movable-agent.ts";

const keys = generateKeyPairSync("ed25519");

/** Counter is a program that counts, and its agent. */
class Counter {
  count = 0;
  readonly calls: string[] = [];
  readonly clock = new ManualClock();
  readonly agent: MovableAgent;

  constructor(fence: number) {
    this.agent = new MovableAgent(
      {
        agent: "counter",
        nodeKey: keys.privateKey,
        clock: this.clock,
        checkpoint: () => this.checkpoint(),
        freeze: () => void this.calls.push("freeze"),
        resume: (checkpoint, at) => {
          this.calls.push(`resume ${at}`);
          if (checkpoint !== undefined) this.count = checkpoint.memory[0]!;
        },
        discard: () => void this.calls.push("discard"),
      },
      fence,
    );
  }

  checkpoint(): AgentCheckpoint {
    return { memory: Uint8Array.from([this.count]), context: new Uint8Array(0), progress: 0.75, dependencies: [] };
  }

  add(wait?: Promise<void>, agentFence?: number) {
    return this.agent.run(async () => {
      await wait;
      return { value: ++this.count };
    }, agentFence);
  }
}

describe("S1-14 an agent of a program moves", () => {
  test("PROTOCOL G11 MV5 an old place does nothing when the hub knows a newer fence, and a new one runs what a hub that is behind gives it", async () => {
    const counter = new Counter(3);
    expect(await counter.add(undefined, 4)).toMatchObject({ failure: { reason: "AGENT_FROZEN" } });
    expect(counter.count).toBe(0);
    for (const fence of [3, 2, 0]) await counter.add(undefined, fence);
    expect(counter.count).toBe(3);
    await counter.agent.ask({ deed: "START", fence: 5, checkpoint: counter.checkpoint() });
    expect(await counter.add(undefined, 5)).toEqual({ value: 4 });
  });

  test("MV1 no task runs between a freeze and the resume after it, and none that runs is cut off", async () => {
    const counter = new Counter(1);
    const gate = Promise.withResolvers<void>();
    const running = counter.add(gate.promise);
    const frozen = counter.agent.ask({ deed: "FREEZE", fence: 1, transfer: 7 });
    await Promise.resolve();
    await Promise.resolve();
    expect(await counter.add()).toMatchObject({ failure: { reason: "AGENT_FROZEN" } });
    gate.resolve();
    expect(await running).toEqual({ value: 1 });
    expect(await frozen).toMatchObject({ checkpoint: { memory: Uint8Array.from([1]), progress: 0.75 } });
    expect(await counter.add()).toMatchObject({ failure: { reason: "AGENT_FROZEN" } });
    await counter.agent.ask({ deed: "RESUME", fence: 1, transfer: 7, checkpoint: undefined });
    expect(await counter.add()).toEqual({ value: 2 });
    expect(counter.calls).toEqual(["freeze", "resume 1"]);
  });

  test("tasks that do not end make the freeze fail, and the agent goes on", async () => {
    const counter = new Counter(1);
    void counter.add(new Promise(() => {}));
    const frozen = counter.agent.ask({ deed: "FREEZE", fence: 1, transfer: 7 });
    await new Promise((resolve) => setImmediate(resolve));
    counter.clock.advance(2_000);
    expect(await frozen).toMatchObject({ failure: { reason: "OVERLOADED" } });
    expect(await counter.add()).toEqual({ value: 1 });
  });

  test("MV2 MV3 what is repeated changes nothing, and what is of an older fence does nothing", async () => {
    const home = new Counter(1);
    const factory = new Counter(0);
    home.count = 41;
    expect(await factory.add()).toMatchObject({ failure: { reason: "AGENT_FROZEN" } });
    for (let repeat = 0; repeat < 2; repeat++) await home.agent.ask({ deed: "FREEZE", fence: 1, transfer: 7 });
    const checkpoint = home.checkpoint();
    for (let repeat = 0; repeat < 2; repeat++) {
      await factory.agent.ask({ deed: "START", fence: 2, checkpoint });
      await factory.add();
    }
    for (let repeat = 0; repeat < 2; repeat++) await home.agent.ask({ deed: "DISCARD", fence: 1 });
    expect([home.calls, factory.calls, factory.count]).toEqual([["freeze", "discard"], ["resume 2"], 43]);
    await home.agent.ask({ deed: "START", fence: 1, checkpoint });
    await factory.agent.ask({ deed: "DISCARD", fence: 1 });
    expect([home.agent.fence, factory.agent.fence]).toEqual([0, 2]);
    expect(await home.agent.ask({ deed: "CAPTURE", fence: 1 })).toMatchObject({ failure: { reason: "MIGRATION_STEP" } });
    expect(await home.add()).toMatchObject({ failure: { reason: "AGENT_FROZEN" } });
  });

  test("a freeze that comes after the resume of its transfer stops nothing", async () => {
    const counter = new Counter(1);
    await counter.agent.ask({ deed: "RESUME", fence: 1, transfer: 7, checkpoint: undefined });
    expect(await counter.agent.ask({ deed: "FREEZE", fence: 1, transfer: 7 })).toMatchObject({ failure: { reason: "MIGRATION_STEP" } });
    expect(await counter.add()).toEqual({ value: 1 });
  });

  test("MV4 it signs what the book checks, and nothing for another agent, fence or transfer", async () => {
    const counter = new Counter(1);
    const digest = new Uint8Array(32).fill(5);
    const base = { agent: "counter", from: "home", to: "factory", fence: 2n, transfer: 7n, digest };
    const ask = (more: object, transfer = 7) =>
      counter.agent.ask({
        deed: "CLAIM",
        fence: 1,
        transfer,
        claim: toBinary(AgentClaimSchema, create(AgentClaimSchema, { ...base, ...more })),
      });
    expect(await ask({})).toMatchObject({ failure: { reason: "ACCESS_DENIED" } });
    await counter.agent.ask({ deed: "FREEZE", fence: 1, transfer: 7 });
    for (const more of [{ agent: "other" }, { fence: 3n }, { fence: 1n }, { transfer: 8n }])
      expect(await ask(more)).toMatchObject({ failure: { reason: "ACCESS_DENIED" } });
    expect(await ask({ transfer: 8n }, 8)).toMatchObject({ failure: { reason: "ACCESS_DENIED" } });
    const reply = await ask({});
    const signed = claimBytes({ agent: "counter", from: "home", to: "factory", fence: 2, transfer: 7, digest });
    expect("signature" in reply && verify(null, signed, keys.publicKey, reply.signature!)).toBe(true);
  });

  test("what a callback throws is the failure, and a freeze that failed leaves the agent running", async () => {
    const counter = new Counter(1);
    counter.checkpoint = () => {
      throw new Error("no room");
    };
    expect(await counter.agent.ask({ deed: "FREEZE", fence: 1, transfer: 7 })).toMatchObject({ failure: { reason: "EXECUTOR_FAILED" } });
    expect(await counter.add()).toEqual({ value: 1 });
  });
});

describe("MV1 AH1 tasks of an agent whose hub has not spoken, or that moves, wait for what becomes of it", () => {
  const clock = new ManualClock();
  const standing = { agent: "counter", fence: 4, runs: true, movedTo: "", failure: undefined };
  const made = () =>
    new MovableAgent(
      {
        agent: "counter",
        nodeKey: keys.privateKey,
        clock,
        checkpoint: () => ({ memory: new Uint8Array(1), context: new Uint8Array(0), progress: 0, dependencies: [] }),
        resume: () => undefined,
        discard: () => undefined,
      },
      0,
      { untilHosted: true, waitMs: 5_000 },
    );

  test("they run when the hub says that it runs, with the fence that the hub gave", async () => {
    const agent = made();
    const task = agent.run(() => ({ value: 1 }));
    agent.hosted({ ...standing, runs: false });
    agent.hosted(standing);
    expect(await task).toEqual({ value: 1 });
    expect(agent.fence).toBe(4);
  });

  test("they are sent on when it has moved, refused when it may not run, and told to come again when that takes too long", async () => {
    const agent = made();
    agent.hosted(standing);
    expect(await agent.ask({ deed: "FREEZE", fence: 4, transfer: 7 })).toHaveProperty("checkpoint");
    const late = agent.run(() => ({ value: 1 }));
    await clock.advance(5_000);
    expect(await late).toMatchObject({ failure: { reason: "AGENT_FROZEN" } });
    const sent = agent.run(() => ({ value: 1 }));
    agent.hosted({ ...standing, fence: 5, runs: false, movedTo: "factory" });
    const answer = await sent;
    expect(answer.failure === undefined ? undefined : movedTo(answer.failure)).toBe("factory");
    expect(await agent.ask({ deed: "DISCARD", fence: 4, hub: "factory" })).toEqual({});
    expect([agent.here, agent.fence]).toEqual([false, 0]);
    const other = made();
    other.hosted({ ...standing, runs: false, failure: { reason: "NOT_FEDERATED", message: "no federation" } });
    expect(await other.run(() => ({ value: 1 }))).toMatchObject({ failure: { reason: "NOT_FEDERATED" } });
  });
});
