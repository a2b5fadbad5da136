import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ExecuteRequestSchema, GetCommandRequestSchema } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { CommandSchema } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import { VALUE_TYPE } from "#kernel/wire/value.ts";
import {
  CommandStream,
  type ExecutorAnswer,
  ExecutorClient,
  type ExecutorTask,
  OUTCOME,
  type PlainCommand,
} from "../../clients/typescript/command-stream.ts";
import { CommandHub, capability } from "../../test/commands/hub.ts";
import { failureOfCall, until } from "../../test/rpc/fixture.ts";
import { type Credential, type TestHub, testHub } from "../../test/testca/index.ts";

let dir: string;
let alpha: TestHub;
let beta: TestHub;
let a: CommandHub;
let b: CommandHub;
let operator: Credential;
let executor: ExecutorClient;
let stream: CommandStream;
/** How often each argument had its effect. */
const effects = new Map<string, number>();
const held = new Map<string, { task: ExecutorTask; answer: (answer: ExecutorAnswer) => void }>();

const CAPABILITIES = [
  capability("say", VALUE_TYPE.STRING),
  capability("hold", VALUE_TYPE.STRING),
  capability("level", VALUE_TYPE.DOUBLE, { min: 0, max: 254 }),
  capability("temperature", VALUE_TYPE.DOUBLE, { invocable: false }),
  capability("secret", VALUE_TYPE.STRING),
];

function run(task: ExecutorTask): ExecutorAnswer | Promise<ExecutorAnswer> {
  const text = String(task.value);
  effects.set(text, (effects.get(text) ?? 0) + 1);
  if (task.capability === "hold") return new Promise((resolve) => held.set(text, { task, answer: resolve }));
  if (text === "fail") return { failure: { reason: "EXECUTOR_FAILED", message: "the lamp is broken" } };
  return { value: `${task.callerHubId}:${text}` };
}

const say = (value: string, more: Partial<PlainCommand> = {}): PlainCommand => ({
  hubId: "beta",
  nodeId: "lamp",
  capability: "say",
  value,
  ...more,
});
const ready = (hub: CommandHub, peer: string): boolean => hub.service.describe().includes(`to ${peer}: level=3 ready`);

function newHub(own: TestHub, other: TestHub, name: string, credential = own.service()): CommandHub {
  return new CommandHub({ hubId: own.hubId, credential, peerCaPems: { [other.hubId]: other.caPem }, dataDir: join(dir, name) });
}

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "commands-"));
  [alpha, beta] = await Promise.all([testHub("alpha"), testHub("beta")]);
  a = await newHub(alpha, beta, "a").start();
  b = await newHub(beta, alpha, "b").start();
  operator = alpha.operator();
  for (const hub of [a, b]) {
    hub.directory({ kind: "reset" }, { kind: "put", hubId: "beta", nodeId: "lamp", online: true, capabilities: CAPABILITIES });
    hub.directory({ kind: "put", hubId: "beta", nodeId: "away", online: false, capabilities: CAPABILITIES });
  }
  b.policy((peer, _node, name) => (peer === "alpha" && name !== "secret" ? "invoke" : "see"));
  // Only beta dials: alpha, the caller, has no address of beta, so the owner is the dial-only side.
  a.peer("beta");
  b.peer("alpha", { port: a.port });
  await until(() => ready(a, "beta") && ready(b, "alpha"));
  const attached = Promise.withResolvers<number>();
  executor = new ExecutorClient(b.client(beta.gateway("bridge", ["lamp", "zig-"])), {
    nodeIds: ["lamp", "other"],
    maxInFlight: 1_024,
    run,
    onAttached: (nodes) => attached.resolve(nodes),
  });
  expect(await attached.promise).toBe(1);
  stream = new CommandStream(a.client(operator));
});

afterAll(async () => {
  stream?.close();
  executor?.close();
  await Promise.all([a?.stop(), b?.stop()]);
  rmSync(dir, { recursive: true, force: true });
  expect(a.fatal.concat(b.fatal)).toEqual([]);
});

describe("two hubs over mutual TLS, the owner behind a dial-only link", () => {
  test("S0-15 S0-16 B0-4 the value comes back", async () => {
    const outcome = await stream.execute(say("hello"));
    expect(outcome).toMatchObject({ outcome: OUTCOME.DONE, value: { kind: { value: "alpha:hello" } }, replayed: false });
    expect(outcome.name?.hubId).toBe("alpha");
  });

  test("B0-4 the error comes back", async () => {
    expect(await stream.execute(say("fail"))).toMatchObject({
      outcome: OUTCOME.FAILED,
      failure: { reason: "EXECUTOR_FAILED", message: "the lamp is broken" },
    });
  });

  test("B0-3 a thousand commands to one capability at once get a thousand answers of their own", async () => {
    const texts = Array.from({ length: 1_000 }, (_, i) => `many-${i}`);
    const outcomes = await Promise.all(texts.map((text) => stream.execute(say(text))));
    expect(outcomes.map((o) => o.value?.kind.value)).toEqual(texts.map((text) => `alpha:${text}`));
    expect(texts.every((text) => effects.get(text) === 1)).toBe(true);
    expect(new Set(outcomes.map((o) => o.name?.seq)).size).toBe(1_000);
  });

  test.each([
    ["NODE_OFFLINE", say("x", { nodeId: "away" })],
    ["NODE_NOT_FOUND", say("x", { nodeId: "nobody" })],
    ["CAPABILITY_NOT_FOUND", say("x", { capability: "fly" })],
    ["CAPABILITY_ACCESS", { hubId: "beta", nodeId: "lamp", capability: "temperature", value: 20 }],
    ["VALUE_OUT_OF_RANGE", { hubId: "beta", nodeId: "lamp", capability: "level", value: 255 }],
    ["VALUE_OUT_OF_RANGE", { hubId: "beta", nodeId: "lamp", capability: "level", value: "high" }],
    ["PEER_NOT_FOUND", say("x", { hubId: "gamma" })],
    ["NOT_SHARED", say("x", { capability: "secret" })],
    ["LIMIT_EXCEEDED", say("x", { hops: ["h1", "h2", "h3", "h4", "h5", "h6", "h7", "h8"] })],
    ["INVALID_FIELD", say("x", { nodeId: "no/slash" })],
  ] as const)("is refused with %s before anything starts", async (reason, command) => {
    expect(await stream.execute(command)).toMatchObject({ outcome: OUTCOME.REJECTED, failure: { reason } });
  });

  test("S0-19 after the deadline of a started command the caller gets UNKNOWN, and a late report corrects it once", async () => {
    const outcome = await stream.execute(say("slow", { capability: "hold", timeoutMs: 100 }));
    expect(outcome).toMatchObject({ outcome: OUTCOME.UNKNOWN, failure: { reason: "OUTCOME_UNKNOWN" } });
    held.get("slow")?.answer({ value: "done after all" });
    const name = { hubId: outcome.name?.hubId ?? "", epoch: BigInt(outcome.name?.epoch ?? 0), seq: BigInt(outcome.name?.seq ?? 0) };
    const client = a.client(operator);
    let known = await client.getCommand(create(GetCommandRequestSchema, { name }));
    while (known.result?.outcome !== OUTCOME.DONE) known = await client.getCommand(create(GetCommandRequestSchema, { name }));
    expect(known.result.value?.kind.value).toBe("done after all");
    expect(effects.get("slow")).toBe(1);
  });

  test("a command that waits for credit expires as not started", async () => {
    const one = Promise.withResolvers<number>();
    const narrow = new ExecutorClient(b.client(beta.gateway("narrow")), {
      nodeIds: ["zig-1"],
      maxInFlight: 1,
      run,
      onAttached: one.resolve,
    });
    for (const hub of [a, b]) hub.directory({ kind: "put", hubId: "beta", nodeId: "zig-1", online: true, capabilities: CAPABILITIES });
    await one.promise;
    const first = stream.execute(say("first", { nodeId: "zig-1", capability: "hold" }));
    await until(() => held.has("first"));
    expect(await stream.execute(say("second", { nodeId: "zig-1", timeoutMs: 100 }))).toMatchObject({
      outcome: OUTCOME.EXPIRED,
      failure: { reason: "DEADLINE_EXPIRED" },
    });
    held.get("first")?.answer({ value: "ok" });
    expect((await first).outcome).toBe(OUTCOME.DONE);
    expect(effects.get("second")).toBeUndefined();
    narrow.close();
    await until(() => b.presence.includes("-zig-1"));
  });

  test("cancel reaches the executor and says that it came too late", async () => {
    const controller = new AbortController();
    const cancelled = stream.execute(say("cancel-me", { capability: "hold" }), controller.signal);
    await until(() => held.has("cancel-me"));
    controller.abort();
    expect(await cancelled).toMatchObject({ outcome: OUTCOME.UNKNOWN, failure: { reason: "CANCELLED" } });
    await until(() => held.get("cancel-me")?.task.signal.aborted === true);
    held.get("cancel-me")?.answer({});
  });

  test("an executor that goes away leaves UNKNOWN", async () => {
    const attached = Promise.withResolvers<number>();
    const fragile = new ExecutorClient(b.client(beta.gateway("fragile")), { nodeIds: ["zig-2"], run, onAttached: attached.resolve });
    for (const hub of [a, b]) hub.directory({ kind: "put", hubId: "beta", nodeId: "zig-2", online: true, capabilities: CAPABILITIES });
    await attached.promise;
    const lost = stream.execute(say("gone", { nodeId: "zig-2", capability: "hold" }));
    await until(() => held.has("gone"));
    fragile.close();
    expect(await lost).toMatchObject({ outcome: OUTCOME.UNKNOWN });
    expect(await stream.execute(say("x", { nodeId: "zig-2" }))).toMatchObject({
      outcome: OUTCOME.REJECTED,
      failure: { reason: "NO_EXECUTOR" },
    });
  });

  test("an idempotency key replays the answer, and refuses another payload", async () => {
    const first = await stream.execute(say("keyed", { idempotencyKey: "k1" }));
    const again = await stream.execute(say("keyed", { idempotencyKey: "k1" }));
    expect(again).toMatchObject({ outcome: OUTCOME.DONE, replayed: true, name: first.name });
    expect(effects.get("keyed")).toBe(1);
    expect(await stream.execute(say("other", { idempotencyKey: "k1" }))).toMatchObject({ failure: { reason: "IDEMPOTENCY_CONFLICT" } });
  });

  test("unary Execute gives the value, and failures as gRPC errors with the command's name", async () => {
    const client = a.client(operator);
    const command = (text: string) =>
      create(ExecuteRequestSchema, {
        command: create(CommandSchema, {
          target: { hubId: "beta", nodeId: "lamp" },
          capability: "say",
          value: { kind: { case: "stringValue", value: text } },
        }),
      });
    expect((await client.execute(command("unary"))).result).toMatchObject({
      outcome: OUTCOME.DONE,
      value: { kind: { value: "alpha:unary" } },
    });
    const failure = await failureOfCall(client.execute(command("fail")));
    expect(failure).toMatchObject({ reason: "EXECUTOR_FAILED", facts: { outcome: "FAILED" } });
    expect(failure.facts?.["command"]).toMatch(/^alpha\/\d+\/\d+$/);
  });

  test("S0-20 S0-26 the in-process handler serves nodes without an executor, and an automation reaches both ways", async () => {
    b.service.setLocalCommandHandler((task) => ({ kind: { case: "stringValue", value: `handled ${task.nodeId}` } }));
    for (const hub of [a, b]) hub.directory({ kind: "put", hubId: "beta", nodeId: "panel", online: true, capabilities: CAPABILITIES });
    const value = { kind: { case: "stringValue" as const, value: "x" } };
    expect(await a.service.submit({ hubId: "beta", nodeId: "panel", capability: "say", value }, "rule-1")).toMatchObject({
      outcome: OUTCOME.DONE,
      value: { kind: { value: "handled panel" } },
    });
    expect(await b.service.submit({ nodeId: "panel", capability: "say", value }, "rule-2")).toMatchObject({ outcome: OUTCOME.DONE });
    expect(a.service.forwardToFederation({ hubId: "beta", nodeId: "panel", capability: "say", value }, "rule-1")).toBe(true);
    expect(a.service.forwardToFederation({ hubId: "gamma", nodeId: "panel", capability: "say", value }, "rule-1")).toBe(false);
    b.service.setLocalCommandHandler(undefined);
  });

  test("while tracing is off an automation's trace reaches the in-process handler of another hub as it came", async () => {
    const seen: unknown[] = [];
    b.service.setLocalCommandHandler(({ nodeId, traceparent, tracestate }) => {
      if (nodeId === "traced") seen.push([traceparent, tracestate]);
      return undefined;
    });
    for (const hub of [a, b]) hub.directory({ kind: "put", hubId: "beta", nodeId: "traced", online: true, capabilities: CAPABILITIES });
    const given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const command = { hubId: "beta", nodeId: "traced", capability: "say", value: { kind: { case: "stringValue" as const, value: "x" } } };
    for (const trace of [{ traceparent: given, tracestate: "a=1" }, { traceparent: "nonsense" }, {}])
      expect(await a.service.submit({ ...command, ...trace }, "rule-1")).toMatchObject({ outcome: OUTCOME.DONE });
    expect(seen).toEqual([
      [given, "a=1"],
      [undefined, undefined],
      [undefined, undefined],
    ]);
    b.service.setLocalCommandHandler(undefined);
  });

  test("a bare node id means the only hub that has it", async () => {
    expect((await stream.execute({ nodeId: "lamp", capability: "say", value: "bare" })).outcome).toBe(OUTCOME.DONE);
  });
});

describe("restarts", () => {
  test("S0-12 after a restart of the caller's hub an idempotency key still answers", async () => {
    const before = await stream.execute(say("survives", { idempotencyKey: "k2" }));
    expect(before.outcome).toBe(OUTCOME.DONE);
    stream.close();
    await a.stop();
    a = await newHub(alpha, beta, "a").start();
    a.directory({ kind: "put", hubId: "beta", nodeId: "lamp", online: true, capabilities: CAPABILITIES });
    a.peer("beta");
    b.peer("alpha", { port: a.port });
    await until(() => ready(a, "beta"));
    stream = new CommandStream(a.client(operator));
    expect(await stream.execute(say("survives", { idempotencyKey: "k2" }))).toMatchObject({
      outcome: OUTCOME.DONE,
      replayed: true,
      name: before.name,
    });
    expect(effects.get("survives")).toBe(1);
    expect((await stream.execute(say("goes on"))).outcome).toBe(OUTCOME.DONE);
  });
});
