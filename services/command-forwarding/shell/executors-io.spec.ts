import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { RawMessage } from "#channel/call.ts";
import {
  AttachExecutorRequestSchema,
  type AttachExecutorResponse,
} from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import type { CallContext } from "#runtime/rpc/call.ts";
import { Calls } from "#runtime/service/calls.ts";
import { ADMIN, ANY, Bench, EVIL } from "../../../test/commands/bench.ts";
import { capability } from "../../../test/commands/hub.ts";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { type Input, LOCAL_EXECUTOR, NO_VALUE, OUTCOME, type Reply, type Task } from "../messages.ts";
import type { LocalCommandHandler } from "./automation.ts";
import { ExecutorsIo } from "./executors-io.ts";

const task = (taskId: number): Task => ({
  taskId,
  nodeId: "lamp",
  capability: "on",
  value: NO_VALUE,
  deadline: 1e9,
  callerHubId: "home",
  trace: undefined,
});

/** Desk is the shell of the executors, with the inputs that the core would get. */
class Desk {
  readonly clock = new ManualClock();
  readonly inputs: Input[] = [];
  readonly io: ExecutorsIo;
  #atEnd: (() => void)[] = [];

  constructor() {
    const calls = new Calls<Input, Reply>("commands");
    const take = (input: Input): boolean => this.inputs.push(input) > 0;
    calls.attach({ post: take, tell: take, drainSpace: () => Promise.resolve(true) });
    const onBug = () => ({ reason: "INTERNAL", message: "bug" }) as const;
    this.io = new ExecutorsIo({ clock: this.clock, calls, atEnd: (run) => void this.#atEnd.push(run), onBug });
  }

  /** tasks gives the in-process handler tasks in a turn of their own. */
  tasks(...ids: number[]): void {
    this.io.tasks({ kind: "tasks", executor: LOCAL_EXECUTOR, items: ids.map(task) } as Parameters<ExecutorsIo["tasks"]>[0]);
    this.io.flush();
    for (const run of this.#atEnd.splice(0)) run();
  }

  /** until turns the event loop until something is so. */
  async until(found: () => boolean): Promise<void> {
    for (let turns = 0; !found(); turns++) {
      if (turns > 1_000) throw new Error("it does not happen");
      this.clock.turn();
      await new Promise(process.nextTick);
    }
  }
}

describe("the in-process handler", () => {
  test("F-22 a cancel that comes when the task has its answer leaves nothing behind", () => {
    const desk = new Desk();
    const aborted: boolean[] = [];
    desk.io.setHandler(({ signal }) => {
      aborted.push(signal.aborted);
      return undefined;
    });
    desk.tasks(7);
    // The report is told, and the core has not taken it yet.
    desk.io.cancel(LOCAL_EXECUTOR, 7);
    desk.io.flush();
    desk.tasks(7);
    expect(aborted).toEqual([false, false]);
  });

  test("F-22 a signal that the handler looks at when it has answered is nobody else's", () => {
    const desk = new Desk();
    const given: Parameters<LocalCommandHandler>[0][] = [];
    desk.io.setHandler((input) => {
      given.push(input);
      return undefined;
    });
    desk.tasks(7);
    const late = given[0]!.signal;
    desk.tasks(7);
    expect(given[1]!.signal).not.toBe(late);
    expect(given[0]!.signal).toBe(late);
  });

  test("F-22 a cancel reaches a task that waits for its turn, and one that is in hand", async () => {
    const desk = new Desk();
    const given: Parameters<LocalCommandHandler>[0][] = [];
    const answer = Promise.withResolvers<undefined>();
    desk.io.setHandler((input) => {
      given.push(input);
      return answer.promise;
    });
    desk.io.cancel(LOCAL_EXECUTOR, 8);
    desk.tasks(7, 8);
    desk.io.cancel(LOCAL_EXECUTOR, 7);
    expect(given.map(({ signal }) => signal.aborted)).toEqual([true, true]);
    answer.resolve(undefined);
    await answer.promise;
  });

  test("a report of the handler before it is not taken for one of the tasks of this one", () => {
    const bench = new Bench({}, []);
    bench.hub.give({
      kind: "directory",
      changes: [{ kind: "put", hubId: "home", nodeId: "lamp", online: true, capabilities: [capability("open", 0)] }],
    });
    bench.hub.give({ kind: "handler", present: true });
    expect(bench.send(ADMIN, "lamp")).toBeUndefined();
    const [old] = bench.tasks.splice(0);
    bench.take(bench.hub.give({ kind: "handler", present: false }));
    expect(bench.replies.at(-1)?.result.outcome).toBe(OUTCOME.UNKNOWN);
    bench.hub.give({ kind: "handler", present: true });
    expect(bench.send(ADMIN, "lamp")).toBeUndefined();
    const reports = [{ taskId: old!.taskId, value: NO_VALUE, failure: undefined }];
    bench.take(bench.hub.give({ kind: "reports", executor: LOCAL_EXECUTOR, reports }));
    expect(bench.replies).toHaveLength(1);
  });
});

describe("F-28 tasks for a stream whose place is being taken", () => {
  const GROUP = new TextEncoder().encode("the group");
  const context = { caller: { kind: "gateway", name: "gw", spiffeId: "spiffe://home/gateway/gw", prefixes: [] } } as unknown as CallContext;

  /** stream is an AttachExecutor stream of a group, numbered, with its end in the hands of the test. */
  function stream(desk: Desk, n: number) {
    const ends = Promise.withResolvers<void>();
    const sent: (AttachExecutorResponse | RawMessage)[] = [];
    const value = { nodeIds: ["lamp"], stream: { group: GROUP, incarnation: 1n, n: BigInt(n) } };
    const first = toBinary(AttachExecutorRequestSchema, create(AttachExecutorRequestSchema, { frame: { case: "attach", value } }));
    async function* requests(): AsyncGenerator<RawMessage> {
      yield new RawMessage(Buffer.from(first));
      await ends.promise;
    }
    const out = { send: (message: AttachExecutorResponse | RawMessage) => void sent.push(message) };
    const over = desk.io.attach(requests(), out as unknown as Parameters<ExecutorsIo["attach"]>[1], context);
    return { sent, over, end: ends.resolve };
  }

  const tasksFor = (desk: Desk, executor: number, ...ids: number[]): void =>
    desk.io.tasks({ kind: "tasks", executor, items: ids.map(task) } as Parameters<ExecutorsIo["tasks"]>[0]);

  test("which were not handed out are told to the core with the stream that takes it, and nothing of them is lost", async () => {
    const desk = new Desk();
    const attaches = () => desk.inputs.flatMap((input) => (input.kind === "attach" ? [input] : []));
    const older = stream(desk, 1);
    await desk.until(() => attaches().length === 1);
    const { executor } = attaches()[0]!;
    tasksFor(desk, executor, 1);
    desk.io.flush();
    tasksFor(desk, executor, 2);
    const newer = stream(desk, 2);
    await older.over;
    tasksFor(desk, executor, 3, 4);
    desk.io.flush();
    await desk.until(() => attaches().length === 2);
    expect(attaches()[1]).toMatchObject({ replaces: [executor] });
    // What the core had given it before it took that leaves before the core asks.
    tasksFor(desk, executor, 5);
    desk.io.tellUndelivered(executor);
    expect(desk.inputs.at(-1)).toEqual({ kind: "undelivered", executor, tasks: [2, 3, 4, 5] });
    expect(older.sent.filter((message) => message instanceof RawMessage)).toHaveLength(1);
    // A stream that ends by itself says it, too.
    const next = attaches()[1]!.executor;
    tasksFor(desk, next, 1);
    newer.end();
    await newer.over;
    expect(desk.inputs.at(-1)).toEqual({ kind: "executor-gone", executor: next });
    tasksFor(desk, next, 2);
    desk.io.tellUndelivered(next);
    expect(desk.inputs.at(-1)).toEqual({ kind: "undelivered", executor: next, tasks: [1, 2] });
  });

  test("PROTOCOL X7 which the core ended by itself are told as well", async () => {
    const desk = new Desk();
    const one = stream(desk, 1);
    await desk.until(() => desk.inputs.length === 1);
    const { executor } = desk.inputs[0] as Extract<Input, { kind: "attach" }>;
    tasksFor(desk, executor, 1);
    desk.io.detach(executor, { reason: "SESSION_REPLACED", message: "by another" });
    desk.io.tellUndelivered(executor);
    expect(desk.inputs.at(-1)).toEqual({ kind: "undelivered", executor, tasks: [1] });
    desk.io.flush();
    await one.over;
    expect(one.sent.filter((message) => message instanceof RawMessage)).toEqual([]);
  });

  test("PROTOCOL X7 a stream that is replaced before its turn came leaves the place of its predecessor to its successor", async () => {
    const desk = new Desk();
    const attaches = () => desk.inputs.flatMap((input) => (input.kind === "attach" ? [input] : []));
    const streams = [stream(desk, 1)];
    await desk.until(() => attaches().length === 1);
    const { executor } = attaches()[0]!;
    tasksFor(desk, executor, 1);
    // None of them has its turn before the next one comes.
    for (const n of [2, 3, 4]) {
      streams.push(stream(desk, n));
      await new Promise(process.nextTick);
    }
    await Promise.all(streams.slice(0, 3).map(({ over }) => over));
    expect(desk.inputs).toHaveLength(1);
    await desk.until(() => attaches().length === 2);
    expect(desk.inputs[1]).toMatchObject({ kind: "attach", executor: executor + 3, replaces: [executor] });
    desk.io.tellUndelivered(executor);
    expect(desk.inputs.at(-1)).toEqual({ kind: "undelivered", executor, tasks: [1] });
    streams[3]!.end();
    await streams[3]!.over;
    expect(desk.inputs.filter(({ kind }) => kind === "executor-gone")).toMatchObject([{ executor }, { executor: executor + 3 }]);
  });

  test("go to that stream in their order; what was handed out is UNKNOWN, and what was given up stays so", () => {
    const bench = new Bench();
    bench.hub.asks = true;
    const offer = { nodeIds: ["lamp"], capabilities: [], maxInFlight: 3, shared: false };
    bench.hub.give({ kind: "attach", executor: 20, name: "bridge", scope: ANY, offer });
    for (let i = 0; i < 5; i++) expect(bench.send(i === 2 ? EVIL : ADMIN, "lamp", `k${i}`)).toBeUndefined();
    const [handed, ...rest] = bench.tasks.splice(0);
    expect(rest).toHaveLength(2);
    const undelivered = rest.map(({ taskId }) => taskId);
    bench.take(bench.hub.give({ kind: "attach", executor: 21, name: "bridge", scope: ANY, offer, replaces: [20] }));
    // What comes meanwhile is not run before them.
    bench.send(ADMIN, "lamp", "later");
    expect(bench.tasks).toEqual([]);
    bench.take(bench.hub.give({ kind: "undelivered", executor: 20, tasks: undelivered }));
    expect(bench.replies.map(({ corr, result }) => [corr, result.outcome])).toEqual([[1, OUTCOME.UNKNOWN]]);
    expect(handed?.taskId).toBe(1);
    expect(bench.tasks).toHaveLength(3);
    for (let left = 2; left > 0; left--) {
      const reports = bench.tasks.splice(0).map(({ taskId }) => ({ taskId, value: NO_VALUE, failure: undefined }));
      bench.take(bench.hub.give({ kind: "reports", executor: 21, reports }));
    }
    expect(bench.replies.map(({ corr, result }) => [corr, result.outcome]).sort()).toEqual([
      [1, OUTCOME.UNKNOWN],
      ...[2, 3, 4, 5, 6].map((corr) => [corr, OUTCOME.DONE]),
    ]);
    expect(bench.hub.core.inFlight()).toBe(0);
  });
});
