import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  AttachExecutorRequestSchema,
  type AttachExecutorResponse,
  ExecuteStreamRequestSchema,
} from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { ErrorReason } from "#gen/foedus/common/v1/error_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import { VALUE_TYPE } from "#kernel/wire/value.ts";
import { CommandStream, ExecutorClient, OUTCOME } from "../../clients/typescript/command-stream.ts";
import { CommandHub, capability } from "../../test/commands/hub.ts";
import { until } from "../../test/rpc/fixture.ts";
import { type TestHub, testHub } from "../../test/testca/index.ts";

const GROUP = new TextEncoder().encode("the group");
const numbered = (n: number, group = GROUP) => ({ group, incarnation: 1n, n: BigInt(n) });

describe("streams of callers that came back", () => {
  let dir: string;
  let home: TestHub;
  let hub: CommandHub;
  let executor: ExecutorClient;
  const ran: string[] = [];

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "foedus-old-"));
    home = await testHub("home");
    hub = await new CommandHub({ hubId: "home", credential: home.service(), peerCaPems: {}, dataDir: dir }).start();
    const capabilities = [capability("on", VALUE_TYPE.NONE), capability("off", VALUE_TYPE.NONE)];
    for (const nodeId of ["lamp", "shared", "local"])
      hub.directory({ kind: "put", hubId: "home", nodeId, online: true, capabilities: () => capabilities });
    const attached = Promise.withResolvers<unknown>();
    executor = new ExecutorClient(hub.client(home.gateway("lamps")), {
      nodeIds: ["lamp"],
      run: ({ capability: name }) => {
        ran.push(name);
        return {};
      },
      onAttached: attached.resolve,
    });
    await attached.promise;
  });
  afterAll(async () => {
    executor.close();
    await hub.stop();
    rmSync(dir, { recursive: true, force: true });
    expect(hub.fatal).toEqual([]);
  });

  const execute = (nodeId: string, corr: number, name = "on") => ({
    corr: BigInt(corr),
    command: { target: { hubId: "home", nodeId }, capability: name, timeoutMs: 5_000 },
  });

  /** endOf reads a stream to its end and answers why it ended. */
  async function endOf(stream: { readonly responses: AsyncIterable<unknown> }): Promise<string> {
    try {
      for await (const _ of stream.responses);
      return "ended";
    } catch (error) {
      return error instanceof FoedusError ? error.failure.reason : String(error);
    }
  }

  /** attach opens an attachment and collects what the hub says on it. */
  function attach(value: NonNullable<Parameters<typeof create<typeof AttachExecutorRequestSchema>>[1]>["frame"] & { case: "attach" }) {
    const stream = hub.client(home.gateway("shared")).attachExecutor();
    const frames: AttachExecutorResponse["frame"][] = [];
    const over = (async () => {
      try {
        for await (const { frame } of stream.responses) frames.push(frame);
        return "ended";
      } catch (error) {
        return error instanceof FoedusError ? error.failure.reason : String(error);
      }
    })();
    stream.send(create(AttachExecutorRequestSchema, { frame: value }));
    const detached = () => frames.flatMap((frame) => (frame.case === "detached" ? [frame.value.failure?.reason] : []));
    return { stream, frames, over, detached, attached: () => until(() => frames.some((frame) => frame.case === "attached")) };
  }

  test("F-28 a command that arrives on an older ExecuteStream after a newer one was answered is not run", async () => {
    const client = hub.client(home.operator());
    const [older, newer] = [client.executeStream(), client.executeStream()];
    older.send(create(ExecuteStreamRequestSchema, { stream: numbered(1), commands: [execute("lamp", 1)] }));
    await until(() => ran.length === 1);
    const olderEnd = endOf(older);
    newer.send(create(ExecuteStreamRequestSchema, { stream: numbered(2), commands: [execute("lamp", 1, "off")] }));
    await until(() => ran.length === 2);
    // What the network still held: it counts for nothing, and neither does a stream that opens as late as that.
    older.send(create(ExecuteStreamRequestSchema, { commands: [execute("lamp", 2)] }));
    expect(await olderEnd).toBe("SESSION_REPLACED");
    const late = client.executeStream();
    late.send(create(ExecuteStreamRequestSchema, { stream: numbered(1), commands: [execute("lamp", 3)] }));
    expect(await endOf(late)).toBe("SESSION_REPLACED");
    // Another program with the same certificate is not concerned.
    const other = client.executeStream();
    const stream = numbered(1, new TextEncoder().encode("another group"));
    other.send(create(ExecuteStreamRequestSchema, { stream, commands: [execute("lamp", 1)] }));
    await until(() => ran.length === 3);
    newer.send(create(ExecuteStreamRequestSchema, { commands: [execute("lamp", 4, "off")] }));
    await until(() => ran.length === 4);
    expect(ran).toEqual(["on", "off", "on", "off"]);
    for (const open of [newer, other]) open.end();
    await Promise.all([endOf(newer), endOf(other)]);
  });

  test("F-28 an older attachment is replaced also where executors share, and one that opens late is refused", async () => {
    const shared = { nodeIds: ["shared"], shared: true };
    const one = attach({ case: "attach", value: { ...shared, stream: numbered(1) } });
    await one.attached();
    const two = attach({ case: "attach", value: { ...shared, stream: numbered(2) } });
    await two.attached();
    await one.over;
    expect(one.detached()).toEqual([ErrorReason.SESSION_REPLACED]);
    const late = attach({ case: "attach", value: { ...shared, stream: numbered(1) } });
    expect(await late.over).toBe("SESSION_REPLACED");
    const other = attach({ case: "attach", value: { ...shared, stream: numbered(1, new TextEncoder().encode("another group")) } });
    await other.attached();
    expect(hub.presence).not.toContain("-shared");
    const again = attach({ case: "attach", value: { ...shared } });
    await again.attached();
    for (const { stream } of [two, other, again]) stream.end();
    await Promise.all([two.over, other.over, again.over]);
  });

  test("a stream that is numbered in the middle, or wrongly, is refused", async () => {
    const client = hub.client(home.operator());
    const middle = client.executeStream();
    middle.send(create(ExecuteStreamRequestSchema, { commands: [execute("lamp", 1)] }));
    middle.send(create(ExecuteStreamRequestSchema, { stream: numbered(1) }));
    expect(await endOf(middle)).toBe("INVALID_FIELD");
    for (const stream of [
      { group: new Uint8Array(7), incarnation: 1n, n: 1n },
      { group: new Uint8Array(65), incarnation: 1n, n: 1n },
      { group: GROUP, incarnation: 1n << 53n, n: 1n },
      { group: GROUP, incarnation: 1n, n: (1n << 64n) - 1n },
    ]) {
      const wrong = client.executeStream();
      wrong.send(create(ExecuteStreamRequestSchema, { stream }));
      expect(await endOf(wrong)).toBe("INVALID_FIELD");
    }
  });

  test("F-22 a cancel that comes with its command reaches the executor after the task", async () => {
    const { stream, frames, attached, over } = attach({ case: "attach", value: { nodeIds: ["shared"] } });
    await attached();
    const commands = hub.client(home.operator()).executeStream();
    commands.send(create(ExecuteStreamRequestSchema, { commands: [execute("shared", 1)], cancels: [1n] }));
    await until(() => frames.some((frame) => frame.case === "cancel"));
    expect(frames.map((frame) => frame.case)).toEqual(["attached", "tasks", "cancel"]);
    commands.end();
    stream.end();
    await Promise.all([endOf(commands), over]);
  });

  test("F-22 a cancel that comes before the handler looks at its signal is there when it looks", async () => {
    const looks = Promise.withResolvers<void>();
    const started = Promise.withResolvers<void>();
    const aborted = Promise.withResolvers<boolean>();
    hub.service.setLocalCommandHandler(async (task) => {
      started.resolve();
      await looks.promise;
      aborted.resolve(task.signal.aborted);
      return undefined;
    });
    const stream = new CommandStream(hub.client(home.operator()));
    const controller = new AbortController();
    const outcome = stream.execute({ hubId: "home", nodeId: "local", capability: "on" }, controller.signal);
    await started.promise;
    controller.abort();
    expect(await outcome).toMatchObject({ outcome: OUTCOME.UNKNOWN, failure: { reason: "CANCELLED" } });
    looks.resolve();
    expect(await aborted.promise).toBe(true);
    stream.close();
    hub.service.setLocalCommandHandler(undefined);
  });
});
