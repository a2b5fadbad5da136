import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { RawMessage } from "#channel/call.ts";
import { SessionRequestSchema } from "#gen/foedus/command_forwarding/v1alpha1/session_pb.ts";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { VALUE_TYPE } from "#kernel/wire/value.ts";
import {
  CommandStream,
  ExecutorClient,
  OUTCOME,
  type PlainCommand,
  type PlainValue,
  valueOfPlain,
} from "../../clients/typescript/command-stream.ts";
import { CommandHub, capability } from "../../test/commands/hub.ts";
import { until } from "../../test/rpc/fixture.ts";
import { type TestHub, testHub } from "../../test/testca/index.ts";
import { encodeInvocations, valueBytes } from "./codec/codec.ts";
import { decodeReports, decodeTaskFrame, encodeReports, encodeTasks } from "./codec/executor-codec.ts";
import { decodeStreamRequest, decodeStreamResponse, encodeStreamRequest, encodeStreamResponse } from "./codec/stream-codec.ts";
import { NO_VALUE, type Reply } from "./messages.ts";

/** The longest value that there may be. */
const LONG: PlainValue = { json: JSON.stringify("x".repeat(LIMITS.jsonBytes - 2)) };
const BYTES = valueBytes(valueOfPlain(LONG));
/** More than fit into one message, and into the three bytes that the length of an inner message has. */
const MANY = Array.from({ length: 300 }, (_, i) => i + 1);

const result = { outcome: OUTCOME.DONE, value: BYTES, failure: undefined };
const sized = (messages: readonly Buffer[]): readonly Buffer[] => {
  expect(messages.length).toBeGreaterThan(MANY.length / 20);
  expect(Math.max(...messages.map(({ length }) => length))).toBeLessThanOrEqual(LIMITS.frameBytes);
  return messages;
};

describe("much at once is cut by bytes, and nothing of it is lost", () => {
  test("tasks and reports", () => {
    const task = (taskId: number, value: Uint8Array) => ({ taskId, nodeId: "n", capability: "c", value, deadline: 9, callerHubId: "h" });
    const tasks = sized(
      encodeTasks(
        MANY.map((id) => task(id, BYTES)),
        0,
      ),
    ).flatMap((bytes) => {
      const frame = decodeTaskFrame(bytes);
      return frame.kind === "tasks" ? frame.tasks : [];
    });
    expect(tasks.map(({ taskId, value }) => [taskId, value.length])).toEqual(MANY.map((id) => [id, BYTES.length]));
    const reports = MANY.map((taskId) => ({ taskId, value: BYTES, failure: undefined }));
    const read = sized(encodeReports(reports)).flatMap((bytes) => decodeReports(bytes) ?? []);
    expect(read.map(({ taskId }) => taskId)).toEqual(MANY);
    expect(
      encodeTasks(
        MANY.map((id) => task(id, NO_VALUE)),
        0,
      ),
      "what fits is one message",
    ).toHaveLength(1);
  });

  test("commands, with the cancels last, and replies", () => {
    const base = { hubId: "h", nodeId: "n", capability: "c", value: BYTES, timeoutMs: 9, key: "", hops: [] };
    const commands = MANY.map((corr) => ({ ...base, corr }));
    const requests = sized(encodeStreamRequest(commands, [1, 2])).map((bytes) => decodeStreamRequest(bytes));
    expect(requests.flatMap((request) => request.commands.map(({ corr }) => corr))).toEqual(MANY);
    expect(requests.map(({ cancels }) => cancels)).toEqual([...requests.slice(1).map(() => []), [1, 2]]);
    expect(encodeStreamRequest([], [1])).toHaveLength(1);
    const reply: Reply = { kind: "reply", client: 2, corr: 1, result, name: undefined, durationMs: 1, replayed: false };
    const replies = sized(encodeStreamResponse(MANY.map((corr) => ({ ...reply, corr })))).flatMap((bytes) => decodeStreamResponse(bytes));
    expect(replies.map(({ corr }) => corr)).toEqual(MANY);
  });

  // Of several lengths, so that the cut is at each place.
  test.each([1, 300, 70_000, 3_000_000, 500_000_000])("acknowledgements and cancels of a frame between hubs (epoch %i)", (epoch) => {
    const acks = Array.from({ length: 100_000 }, (_, i) => 10_000_000 + i);
    const cancels = Array.from({ length: 70_001 }, (_, i) => 20_000_000 + i);
    const item = { nodeId: "n", capability: "c", value: BYTES, deadline: 9, retry: false, hops: [] };
    const items = MANY.map((seq) => ({ ...item, seq }));
    const frames = sized(encodeInvocations({ epoch, ackedBelow: 0, ownerEpoch: 1, ownerPosition: 0 }, acks, items, cancels, 0)).map(
      (bytes) => {
        const { frame } = fromBinary(SessionRequestSchema, bytes);
        if (frame?.frame.case !== "invocations") throw new Error("not invocations");
        return frame.frame.value;
      },
    );
    expect(frames.flatMap((frame) => frame.acks.map(Number))).toEqual(acks);
    expect(frames.every((frame) => frame.acks.length % 2 === 0)).toBe(true);
    expect(frames.flatMap((frame) => frame.cancels.map(Number))).toEqual(cancels);
    const last = frames.findLastIndex((frame) => frame.invocations.length > 0);
    expect(frames.slice(0, last).every((frame) => frame.cancels.length === 0)).toBe(true);
  });
});

test("a value that cannot be read is the error of its own command, and the stream goes on", async () => {
  const clock = { mono: () => 0 } as never;
  const sent = Promise.withResolvers<void>();
  const reply = (corr: number, value: Uint8Array): Reply => ({
    kind: "reply",
    client: 2,
    corr,
    result: { ...result, value },
    name: undefined,
    durationMs: 1,
    replayed: false,
  });
  async function* responses(): AsyncGenerator<RawMessage> {
    await sent.promise;
    for (const bytes of encodeStreamResponse([reply(1, Uint8Array.of(0xff)), reply(2, BYTES)])) yield new RawMessage(bytes);
    await new Promise(() => undefined);
  }
  const send = (): boolean => {
    sent.resolve();
    return true;
  };
  const duplex = { send, end: () => undefined, responses: responses() };
  const stream = new CommandStream(
    { executeStream: () => duplex as never },
    Object.assign(clock, { setImmediate: queueMicrotask, setTimer: () => undefined }),
  );
  const command: PlainCommand = { nodeId: "n", capability: "c" };
  const [bad, good] = await Promise.allSettled([stream.execute(command), stream.execute(command)]);
  expect(bad).toMatchObject({
    status: "fulfilled",
    value: { outcome: OUTCOME.FAILED, failure: { reason: "EXECUTOR_FAILED", field: "result.value" } },
  });
  expect(good).toMatchObject({ status: "fulfilled", value: { outcome: OUTCOME.DONE } });
});

describe("two hubs over mutual TLS", () => {
  let dir: string;
  let alpha: TestHub;
  let beta: TestHub;
  let a: CommandHub;
  let b: CommandHub;
  let stream: CommandStream;
  let executor: ExecutorClient;
  const detached: string[] = [];
  const run = ({ capability: name, value }: { readonly capability: string; readonly value: PlainValue | undefined }) => {
    if (name === "shout") return Promise.resolve({ value: { json: "x".repeat(2 * 1024 * 1024) } });
    if (name === "count") return Promise.resolve({ value: 2n ** 70n });
    return { value };
  };
  const command = (name: string, value: PlainValue, nodeId = "lamp"): PlainCommand => ({ hubId: "beta", nodeId, capability: name, value });

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "sizes-"));
    [alpha, beta] = await Promise.all([testHub("alpha"), testHub("beta")]);
    const make = (own: TestHub, other: TestHub): CommandHub =>
      new CommandHub({
        hubId: own.hubId,
        credential: own.service(),
        peerCaPems: { [other.hubId]: other.caPem },
        dataDir: join(dir, own.hubId),
      });
    [a, b] = [await make(alpha, beta).start(), await make(beta, alpha).start()];
    const capabilities = ["say", "shout", "count"].map((name) => capability(name, VALUE_TYPE.NONE));
    for (const hub of [a, b])
      hub.directory(
        { kind: "reset" },
        ...["lamp", "panel"].map((nodeId) => ({ kind: "put", hubId: "beta", nodeId, online: true, capabilities }) as const),
      );
    b.policy(() => "invoke");
    a.peer("beta");
    b.peer("alpha", { port: a.port });
    await until(() => a.service.describe().includes("to beta: level=3 ready"));
    const attached = Promise.withResolvers<number>();
    executor = new ExecutorClient(b.client(beta.gateway("bridge")), {
      nodeIds: ["lamp"],
      maxInFlight: 1_024,
      run,
      onAttached: attached.resolve,
      onDetached: ({ reason }) => void detached.push(reason),
    });
    await attached.promise;
    stream = new CommandStream(a.client(alpha.operator()));
  });

  afterAll(async () => {
    stream?.close();
    executor?.close();
    await Promise.all([a?.stop(), b?.stop()]);
    rmSync(dir, { recursive: true, force: true });
    expect([a.fatal, b.fatal, detached]).toEqual([[], [], []]);
  });

  test("B0-3 the longest values, as many as an executor takes at once, go there and come back", async () => {
    const outcomes = await Promise.all(MANY.map(() => stream.execute(command("say", LONG))));
    expect(new Set(outcomes.map(({ outcome }) => outcome))).toEqual(new Set([OUTCOME.DONE]));
    expect(outcomes.every(({ value }) => value?.kind.case === "jsonValue" && value.kind.value === LONG.json)).toBe(true);
  });

  test("a value that is longer is refused before it leaves, and harms nobody", async () => {
    const [long, other] = await Promise.all([
      stream.execute(command("say", { json: "x".repeat(3 * 1024 * 1024) })),
      stream.execute(command("say", "on")),
    ]);
    expect(long).toMatchObject({ outcome: OUTCOME.REJECTED, failure: { reason: "VALUE_OUT_OF_RANGE", field: "command.value" } });
    expect(other.outcome).toBe(OUTCOME.DONE);
  });

  test("a hop that is longer than a name is refused: it would have to fit into every frame", async () => {
    const hops = Array.from({ length: 7 }, () => "h".repeat(100_000));
    expect(await stream.execute({ ...command("say", "on"), hops })).toMatchObject({
      outcome: OUTCOME.REJECTED,
      failure: { reason: "INVALID_FIELD", field: "command.hops" },
    });
    expect((await stream.execute(command("say", "on"))).outcome).toBe(OUTCOME.DONE);
  });

  test.each(["shout", "count"])("an executor's answer that is no value is its failure (%s)", async (name) => {
    expect(await stream.execute(command(name, true))).toMatchObject({ outcome: OUTCOME.FAILED, failure: { reason: "EXECUTOR_FAILED" } });
    expect((await stream.execute(command("say", "on"))).outcome).toBe(OUTCOME.DONE);
  });

  test.each([
    ["a fraction for an integer, later", "INTERNAL", () => Promise.resolve({ kind: { case: "intValue" as const, value: 21.5 as never } })],
    ["a fraction for an integer, at once", "INTERNAL", () => ({ kind: { case: "intValue" as const, value: 21.5 as never } })],
    ["2 MiB, later", "EXECUTOR_FAILED", async () => ({ kind: { case: "jsonValue" as const, value: "x".repeat(2 * 1024 * 1024) } })],
  ])("S0-20 so is one of the in-process handler: %s", async (_what, reason, handler) => {
    b.service.setLocalCommandHandler(handler);
    expect(await stream.execute(command("say", "on", "panel"))).toMatchObject({ outcome: OUTCOME.FAILED, failure: { reason } });
    b.service.setLocalCommandHandler(undefined);
  });
});
