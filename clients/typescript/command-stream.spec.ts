import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import { RawMessage } from "#channel/call.ts";
import { asBuffer } from "#channel/messages.ts";
import { AttachExecutorResponseSchema } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import { decodeReports, encodeTasks } from "../../services/command-forwarding/codec/executor-codec.ts";
import { decodeStreamRequest, decodeStreamResponse, encodeStreamResponse } from "../../services/command-forwarding/codec/stream-codec.ts";
import { NO_VALUE, type Reply } from "../../services/command-forwarding/messages.ts";
import { ManualClock } from "../../test/fakes/manual-clock.ts";
import { CommandStream, ExecutorClient, type ExecutorTask, OUTCOME } from "./command-stream.ts";

/** Call is one stream as a hub would see it: what was sent, and a way to answer and to cut it. */
class Call {
  readonly sent: Buffer[] = [];
  ended = false;
  cancelled = false;
  /** Whether the hub ends the stream when the client has. */
  ends: boolean;
  #queue: (RawMessage | FoedusError | undefined)[] = [];
  #wake: (() => void) | undefined;

  constructor(ends = true) {
    this.ends = ends;
  }

  /** Undefined ends it. */
  push(item: RawMessage | FoedusError | undefined): void {
    this.#queue.push(item);
    this.#wake?.();
  }

  cut(failure: Failure = { reason: "PEER_UNREACHABLE", message: "cut" }): void {
    this.push(new FoedusError(failure));
  }

  async *#responses(): AsyncGenerator<RawMessage> {
    for (;;) {
      const item = this.#queue.shift();
      if (item instanceof FoedusError) throw item;
      if (item !== undefined) yield item;
      else if (this.ended && this.ends && this.#queue.length === 0) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  duplex(): never {
    return {
      opened: Promise.resolve(),
      responses: this.#responses(),
      send: (message: RawMessage) => this.sent.push(message.bytes) > 0,
      end: () => {
        this.ended = true;
        this.#wake?.();
      },
      cancel: () => {
        this.cancelled = true;
        this.cut({ reason: "CANCELLED", message: "cancelled" });
      },
    } as never;
  }
}

/** settle lets promises run. */
const settle = async (): Promise<void> => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};

const corrsIn = (call: Call): number[] => call.sent.flatMap((bytes) => decodeStreamRequest(bytes).commands.map(({ corr }) => corr));
const command = { hubId: "", nodeId: "n", capability: "c", value: NO_VALUE, timeoutMs: 0, key: "", hops: [], trace: undefined };
const doneOf = (corr: number): Reply => ({
  kind: "reply",
  client: 1,
  corr,
  result: { outcome: OUTCOME.DONE, value: NO_VALUE, failure: undefined },
  name: undefined,
  durationMs: 1,
  replayed: false,
});
const answer = (corr: number): RawMessage => new RawMessage(encodeStreamResponse([doneOf(corr)])[0] as Buffer);

describe("a stream of commands", () => {
  const stage = () => {
    const clock = new ManualClock();
    const calls: Call[] = [];
    const executeStream = () => {
      calls.push(new Call());
      return (calls.at(-1) as Call).duplex();
    };
    const errors: unknown[] = [];
    const stream = new CommandStream({ executeStream }, clock, { onError: (error) => errors.push(error) });
    return { clock, calls, stream, errors };
  };

  test("F-18 of a burst that is cut halfway, what was sent is UNKNOWN and the rest is sent: nothing twice, nothing after its outcome", async () => {
    const { clock, calls, stream } = stage();
    const told = new Map<number, number>();
    for (let i = 0; i < 1_000; i++) stream.sendEncoded(command, ({ corr, result }) => told.set(corr, result.outcome));
    clock.turn();
    calls[0]?.cut();
    await settle();
    const first = corrsIn(calls[0] as Call);
    expect([...told.keys()]).toEqual(first);
    expect(first.length).toBeLessThan(1_000);
    clock.turn();
    expect(calls).toHaveLength(1);
    clock.advance(10_000);
    while (clock.turn() > 0);
    const second = corrsIn(calls[1] as Call);
    expect(first.length + second.length).toBe(1_000);
    expect(second.filter((corr) => told.has(corr))).toEqual([]);
  });

  const act = fc.oneof(
    { weight: 5, arbitrary: fc.record({ kind: fc.constant("send" as const), count: fc.integer({ min: 1, max: 150 }) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("answer" as const), at: fc.nat(200) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("cancel" as const), at: fc.nat(200) }) },
    { weight: 4, arbitrary: fc.record({ kind: fc.constant("turn" as const), ms: fc.constantFrom(0, 0, 50, 5_000) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("cut" as const) }) },
  );

  test("F-18 over any cuts: no command is sent twice, none after its outcome was told, each is told once", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(act, { maxLength: 60 }), async (acts) => {
        const { clock, calls, stream, errors } = stage();
        const told: number[] = [];
        const corrs: number[] = [];
        let looked = 0;
        /** look: what has left since the last look was not told before. */
        const look = (): void => {
          const sent = calls.flatMap(corrsIn);
          for (const corr of sent.slice(looked)) expect(told).not.toContain(corr);
          looked = sent.length;
          expect(new Set(sent).size).toBe(sent.length);
        };
        for (const step of acts) {
          const newest = calls.at(-1);
          if (step.kind === "send")
            for (let i = 0; i < step.count; i++) corrs.push(stream.sendEncoded(command, ({ corr }) => void told.push(corr)));
          else if (step.kind === "cancel" && corrs.length > 0) stream.cancel(corrs[step.at % corrs.length] as number);
          else if (step.kind === "answer" && newest !== undefined) {
            const sent = corrsIn(newest);
            if (sent.length > 0) newest.push(answer(sent[step.at % sent.length] as number));
          } else if (step.kind === "cut") newest?.cut();
          else if (step.kind === "turn") {
            clock.turn();
            clock.advance(step.ms);
          }
          look();
          await settle();
        }
        for (let i = 0; i < 100 && told.length < corrs.length; i++) {
          clock.advance(20_000);
          while (clock.turn() > 0);
          look();
          calls.at(-1)?.cut();
          await settle();
        }
        expect(told.toSorted((x, y) => x - y)).toEqual(corrs);
        expect(errors).toEqual([]);
      }),
      { numRuns: 200, seed: 18 },
    );
  });

  test("F-19 a callback that throws or rejects is told to onError, and the others get their results", async () => {
    const { clock, calls, stream, errors } = stage();
    const told: number[] = [];
    stream.sendEncoded(command, () => {
      throw new Error("first");
    });
    stream.sendEncoded(command, (() => Promise.reject(new Error("second"))) as never);
    stream.sendEncoded(command, ({ corr }) => void told.push(corr));
    clock.turn();
    for (const corr of [1, 2, 3]) calls[0]?.push(answer(corr));
    await settle();
    expect(errors.map((error) => (error as Error).message)).toEqual(["first", "second"]);
    expect(told).toEqual([3]);
    expect(calls).toHaveLength(1);
  });

  test("F-19 a channel that its owner closed ends what waits, and throws nothing", async () => {
    const clock = new ManualClock();
    const executeStream = (): never => {
      throw new Error("Channel has been shut down");
    };
    const stream = new CommandStream({ executeStream }, clock);
    const outcomes = [stream.execute({ nodeId: "n", capability: "c" }), stream.execute({ nodeId: "n", capability: "c" })];
    clock.turn();
    expect((await Promise.all(outcomes)).map(({ failure }) => failure?.message)).toEqual(
      Array(2).fill("the channel to the hub was closed"),
    );
    expect((await stream.execute({ nodeId: "n", capability: "c" })).failure?.reason).toBe("CANCELLED");
  });

  test("CS1 a stream that is closed by the callback of a cut leaves no command without an outcome", async () => {
    const { clock, calls, stream } = stage();
    const told: [number, number][] = [];
    for (let i = 0; i < 100; i++)
      stream.sendEncoded(command, ({ corr, result }) => {
        told.push([corr, result.outcome]);
        stream.close();
      });
    clock.turn();
    calls[0]?.cut();
    await settle();
    expect(corrsIn(calls[0] as Call)).toHaveLength(64);
    expect(told.toSorted(([x], [y]) => x - y)).toEqual(
      Array.from({ length: 100 }, (_, i) => [i + 1, i < 64 ? OUTCOME.UNKNOWN : OUTCOME.REJECTED]),
    );
    expect([stream.inFlight, calls.length]).toEqual([0, 1]);
  });

  test.each(["close", "cancel"] as const)(
    "CS1 a callback of one that came too late may %s: nothing is sent twice, or after its outcome",
    async (act) => {
      const { clock, calls, stream } = stage();
      stream.sendEncoded(command, () => undefined);
      clock.turn();
      calls[0]?.cut();
      await settle();
      const told: number[] = [];
      for (const timeoutMs of [5_000, 10, 6_000])
        stream.sendEncoded({ ...command, timeoutMs }, ({ corr }) => {
          told.push(corr);
          if (corr !== 3) return;
          if (act === "close") stream.close();
          else stream.cancel(4);
        });
      clock.advance(1_000);
      while (clock.turn() > 0);
      expect(told).toEqual(act === "close" ? [3] : [3, 4]);
      expect(corrsIn(calls[1] as Call)).toEqual(act === "close" ? [2, 4] : [2]);
      expect(calls[1]?.cancelled).toBe(false);
    },
  );

  test("CS1 a command that is given up before it was sent has its outcome at once, and is not sent", async () => {
    const { clock, calls, stream } = stage();
    stream.sendEncoded(command, () => undefined);
    clock.turn();
    calls[0]?.cut();
    await settle();
    const ends = new AbortController();
    const [given, aborted] = [ends.signal, AbortSignal.abort()].map((signal) => stream.execute({ nodeId: "n", capability: "c" }, signal));
    const told: number[] = [];
    stream.sendEncoded(command, ({ result }) => void told.push(result.outcome));
    ends.abort();
    for (const result of [given, aborted])
      expect(await result).toMatchObject({ outcome: OUTCOME.REJECTED, failure: { reason: "CANCELLED" } });
    clock.advance(10_000);
    while (clock.turn() > 0);
    expect([corrsIn(calls[1] as Call), told]).toEqual([[4], []]);
  });

  test("S0-19 a timeout of less than a millisecond is one, and not the default of the hub", () => {
    const { clock, calls, stream } = stage();
    for (const timeoutMs of [0, 0.4, 1.2, 2]) stream.sendEncoded({ ...command, timeoutMs }, () => undefined);
    clock.turn();
    const sent = calls[0]!.sent.flatMap((bytes) => decodeStreamRequest(bytes).commands);
    expect(sent.map(({ timeoutMs }) => timeoutMs)).toEqual([0, 1, 2, 2]);
  });

  test.each([Number.POSITIVE_INFINITY, Number.NaN, -1, 2 ** 32])("a timeout of %d ms is refused, and not sent", async (timeoutMs) => {
    const { clock, calls, stream } = stage();
    const { outcome, failure } = await stream.execute({ nodeId: "n", capability: "c", timeoutMs });
    expect([outcome, failure?.field]).toEqual([OUTCOME.REJECTED, "command.timeout_ms"]);
    clock.turn();
    expect(calls).toEqual([]);
  });

  test("a command that waits for the hub to come back has its time, and no more", async () => {
    const { clock, calls, stream } = stage();
    stream.sendEncoded(command, () => undefined);
    clock.turn();
    calls[0]?.cut();
    await settle();
    const outcomes: unknown[] = [];
    stream.sendEncoded({ ...command, timeoutMs: 10 }, ({ result }) => outcomes.push(result.outcome, result.failure?.reason));
    stream.sendEncoded({ ...command, timeoutMs: 5_000 }, () => undefined);
    clock.turn();
    clock.advance(1_000);
    clock.turn();
    expect(outcomes).toEqual([OUTCOME.EXPIRED, "DEADLINE_EXPIRED"]);
    const [sent] = (calls[1] as Call).sent.flatMap((bytes) => decodeStreamRequest(bytes).commands);
    expect(sent?.timeoutMs).toBeLessThan(5_000);
    expect(sent?.timeoutMs).toBeGreaterThan(3_999);
  });

  test("a command that is sent again from the callback of its UNKNOWN has its time as well, the wait for the next stream included", async () => {
    const { clock, calls, stream } = stage();
    const outcomes: unknown[] = [];
    stream.sendEncoded({ ...command, timeoutMs: 50 }, () => {
      stream.sendEncoded({ ...command, timeoutMs: 50 }, ({ result }) => outcomes.push(result.outcome));
    });
    clock.turn();
    calls[0]?.cut();
    await settle();
    clock.advance(10_000);
    while (clock.turn() > 0);
    expect(outcomes).toEqual([OUTCOME.EXPIRED]);
  });

  test("F-28 each stream says which it is, the newer with the higher number", async () => {
    const { clock, calls, stream } = stage();
    for (let i = 0; i < 2; i++) {
      stream.sendEncoded(command, () => undefined);
      clock.turn();
      calls.at(-1)?.cut();
      await settle();
      clock.advance(10_000);
    }
    const [first, second] = calls.map((call) => decodeStreamRequest(call.sent[0] as Buffer).open);
    expect([first?.n, second?.n]).toEqual([1n, 2n]);
    expect(second?.group).toEqual(first?.group);
    expect(first?.group).toHaveLength(16);
  });
});

describe("a hub that does not answer", () => {
  const sent = async (timeoutMs: number) => {
    const clock = new ManualClock();
    const calls: Call[] = [];
    const executeStream = () => {
      calls.push(new Call(false));
      return (calls.at(-1) as Call).duplex();
    };
    const stream = new CommandStream({ executeStream }, clock);
    const outcomes: string[] = [];
    stream.sendEncoded({ ...command, timeoutMs }, ({ result }) => outcomes.push(`${result.outcome} ${result.failure?.reason}`));
    clock.turn();
    await settle();
    return { clock, calls, stream, outcomes };
  };
  const UNKNOWN = [`${OUTCOME.UNKNOWN} OUTCOME_UNKNOWN`];

  test("CS2 a command is UNKNOWN soon after its deadline, one without a deadline after the longest", async () => {
    for (const [timeoutMs, least] of [
      [500, 500],
      [0, 3_600_000],
    ] as const) {
      const { clock, outcomes, calls } = await sent(timeoutMs);
      clock.advance(least + 1_000);
      expect(outcomes).toEqual([]);
      clock.advance(10_000);
      expect([outcomes, clock.pending]).toEqual([UNKNOWN, 0]);
      // Its answer comes too late.
      calls[0]?.push(answer(1));
      await settle();
      expect(outcomes).toEqual(UNKNOWN);
    }
  });

  test("CS2 closing it waits for the answers until then, and for the hub to end the stream a little longer", async () => {
    const { clock, calls, stream, outcomes } = await sent(500);
    stream.close();
    await settle();
    expect([calls[0]?.ended, calls[0]?.cancelled, outcomes]).toEqual([true, false, []]);
    clock.advance(10_000);
    await settle();
    clock.advance(2_000);
    await settle();
    expect([calls[0]?.cancelled, outcomes, clock.pending]).toEqual([true, UNKNOWN, 0]);
  });

  test("a duration that is none is 0", async () => {
    for (const durationMs of [Number.NaN, Number.NEGATIVE_INFINITY, -1, 7]) {
      const [bytes] = encodeStreamResponse([{ ...doneOf(1), durationMs }]);
      expect(decodeStreamResponse(bytes as Buffer)[0]?.durationMs).toBe(durationMs === 7 ? 7 : 0);
    }
  });
});

describe("an executor", () => {
  const stage = (run: (task: ExecutorTask) => never | Promise<never>, more: object = {}) => {
    const clock = new ManualClock();
    const calls: Call[] = [];
    const attachExecutor = () => {
      calls.push(new Call());
      return (calls.at(-1) as Call).duplex();
    };
    const client = new ExecutorClient({ attachExecutor }, { nodeIds: ["n"], run, clock, ...more });
    return { clock, calls, client };
  };
  const task = (taskId: number) => ({
    taskId,
    nodeId: "n",
    capability: "c",
    value: NO_VALUE,
    deadline: 1_000,
    callerHubId: "h",
    trace: undefined,
  });
  const tasks = (...ids: number[]): RawMessage => new RawMessage(encodeTasks(ids.map(task) as never, 0)[0] as Buffer);
  /** AttachExecutorResponse{attached{nodes: 1}}. */
  const attached = new RawMessage(
    asBuffer(
      toBinary(AttachExecutorResponseSchema, create(AttachExecutorResponseSchema, { frame: { case: "attached", value: { nodes: 1 } } })),
    ),
  );
  /** AttachExecutorResponse{cancel{task_id}}. */
  const cancel = (taskId: number): RawMessage =>
    new RawMessage(
      Buffer.from(
        toBinary(
          AttachExecutorResponseSchema,
          create(AttachExecutorResponseSchema, { frame: { case: "cancel", value: { taskId: BigInt(taskId) } } }),
        ),
      ),
    );

  /** never is a program that does not come back from a task. */
  const never = (): Promise<never> => new Promise<never>(() => undefined);

  test("a hub that sends many more tasks than may be outstanding, one twice, or one of another node, is cut off and asked again", async () => {
    const other = new RawMessage(encodeTasks([{ ...task(3), nodeId: "other" }] as never, 0)[0] as Buffer);
    const ids = Array.from({ length: 4_099 }, (_, i) => i + 1);
    for (const [messages, least] of [
      [[tasks(...ids)], 4_098],
      [[tasks(...ids.slice(0, 2_000)), tasks(...ids.slice(2_000))], 4_098],
      [[tasks(1, 1)], 1],
      [[tasks(1), other], 1],
    ] as const) {
      const told: string[] = [];
      const run = vi.fn(never);
      const { clock, calls } = stage(run, { maxInFlight: 2, onDetached: (failure: Failure) => told.push(failure.reason) });
      await settle();
      for (const message of messages) calls[0]?.push(message);
      await settle();
      expect([run.mock.calls.length, calls[0]?.cancelled, told.length]).toEqual([least, true, 1]);
      clock.advance(1_000);
      expect(calls).toHaveLength(2);
    }
  });

  test("more tasks than it takes are run, as long as the hub may have given up as many", async () => {
    const run = vi.fn(never);
    const { calls } = stage(run, { maxInFlight: 2 });
    calls[0]?.push(tasks(1, 2));
    await settle();
    calls[0]?.push(cancel(1));
    calls[0]?.push(tasks(3, 4, 5));
    await settle();
    expect([run.mock.calls.length, calls[0]?.cancelled]).toEqual([5, false]);
  });

  test("tasks that were given up and never end add up to nothing", async () => {
    const run = vi.fn(never);
    const { calls } = stage(run, { maxInFlight: 2 });
    for (let id = 1; id <= 5_000; id++) {
      calls[0]?.push(tasks(id));
      calls[0]?.push(cancel(id));
      await settle();
    }
    expect([run.mock.calls.length, calls[0]?.cancelled]).toEqual([5_000, false]);
  });

  test("as many tasks as may be outstanding are run, and others when the answers were sent", async () => {
    let ran = 0;
    const run = () => {
      ran++;
      return {} as never;
    };
    const { clock, calls } = stage(run, { maxInFlight: 2 });
    for (const ids of [[1, 2], [3, 4], [5]]) {
      calls[0]?.push(tasks(...ids));
      await settle();
      clock.turn();
    }
    expect([ran, calls[0]?.cancelled]).toEqual([5, false]);
  });

  test("KS5 closing it detaches, also from a hub that never ends the stream", async () => {
    const { clock, calls, client } = stage(() => new Promise(() => undefined), { nodeIds: ["n"] });
    (calls[0] as Call).ends = false;
    calls[0]?.push(attached);
    await settle();
    client.close();
    clock.advance(1_000);
    await settle();
    expect([calls[0]?.ended, calls[0]?.cancelled]).toEqual([true, false]);
    clock.advance(1_000);
    await settle();
    expect([calls[0]?.cancelled, clock.pending, calls.length]).toEqual([true, 0, 1]);
  });

  test("F-22 a cancel that comes before its task, as hubs may send it, aborts the task's signal", async () => {
    const aborted: boolean[] = [];
    const { calls } = stage(({ signal }) => {
      aborted.push(signal.aborted);
      return new Promise(() => undefined);
    });
    await settle();
    calls[0]?.push(cancel(2));
    calls[0]?.push(tasks(1, 2, 3));
    await settle();
    expect(aborted).toEqual([false, true, false]);
  });

  test("EC1 a task of the stream before that ends late takes nothing from one of the same number on this stream", async () => {
    const begun: { signal: AbortSignal; end: (answer: never) => void }[] = [];
    const { clock, calls } = stage(({ signal }) => new Promise<never>((end) => begun.push({ signal, end })));
    await settle();
    calls[0]?.push(tasks(1));
    await settle();
    calls[0]?.cut();
    await settle();
    clock.advance(10_000);
    calls[1]?.push(tasks(1));
    await settle();
    begun[0]?.end({} as never);
    await settle();
    calls[1]?.push(cancel(1));
    await settle();
    expect(begun.map(({ signal }) => signal.aborted)).toEqual([true, true]);
    clock.turn();
    expect(calls[1]?.sent).toHaveLength(1);
  });

  test("EC2 a task that is on its way when the executor is closed is not begun", async () => {
    const begun: string[] = [];
    const { calls, client } = stage(({ nodeId }) => {
      begun.push(nodeId);
      client.close();
      return new Promise(() => undefined);
    });
    await settle();
    calls[0]?.push(tasks(1, 2));
    calls[0]?.push(tasks(3));
    await settle();
    expect(begun).toEqual(["n"]);
  });

  test("a promise that is not one of the language is waited for as well", async () => {
    const later = {};
    Reflect.set(later, "then", () => undefined);
    const { clock, calls } = stage(() => later as never);
    await settle();
    calls[0]?.push(tasks(1));
    await settle();
    clock.turn();
    expect(calls[0]?.sent).toHaveLength(1);
  });

  test("F-19 what onAttached and onDetached throw is told to onError; the executor comes back all the same", async () => {
    const errors: unknown[] = [];
    const { clock, calls, client } = stage(() => new Promise(() => undefined), {
      onDetached: () => {
        throw new Error("detached");
      },
      onError: (error: unknown) => errors.push(error),
    });
    await settle();
    calls[0]?.cut();
    await settle();
    clock.advance(1_000);
    expect(errors.map((error) => (error as Error).message)).toEqual(["detached"]);
    expect(calls).toHaveLength(2);
    client.close();
    expect(calls[1]?.cancelled).toBe(true);
  });

  test("F-19 what run throws is told to onError, unless it is a failure for the caller", async () => {
    const errors: unknown[] = [];
    const thrown = [new TypeError("bug"), new FoedusError({ reason: "NODE_OFFLINE", message: "off" })];
    const { clock, calls } = stage(() => Promise.reject(thrown.shift()), { onError: (error: unknown) => errors.push(error) });
    await settle();
    calls[0]?.push(tasks(1, 2));
    await settle();
    clock.turn();
    expect(errors.map((error) => (error as Error).message)).toEqual(["bug"]);
    expect(decodeReports(calls[0]?.sent[1] as Buffer)?.map(({ failure }) => failure?.reason)).toEqual(["EXECUTOR_FAILED", "NODE_OFFLINE"]);
  });

  test("EC2 an executor that is closed before it is attached does not attach; one that is attached detaches, and tells nothing more", async () => {
    const told: number[] = [];
    const { calls, client } = stage(() => new Promise(() => undefined), { onAttached: (nodes: number) => told.push(nodes) });
    await settle();
    client.close();
    expect(calls[0]).toMatchObject({ cancelled: true, ended: false });
    const other = stage(() => new Promise(() => undefined), { onAttached: (nodes: number) => told.push(nodes) });
    await settle();
    other.calls[0]?.push(attached);
    await settle();
    other.client.close();
    other.calls[0]?.push(attached);
    await settle();
    expect(other.calls[0]).toMatchObject({ cancelled: false, ended: true });
    expect(told).toEqual([1]);
  });

  test("another server at the address, or a certificate that is refused, may be so for a while: it comes back", async () => {
    const told: unknown[] = [];
    const { clock, calls } = stage(() => new Promise(() => undefined), {
      onDetached: ({ reason }: Failure, willRetry: boolean) => told.push(reason, willRetry),
    });
    for (const reason of ["FOREIGN_CA", "IDENTITY_MISMATCH", "UNKNOWN_IDENTITY"] as const) {
      calls.at(-1)?.cut({ reason, message: "another" });
      await settle();
      clock.advance(10_000);
    }
    expect(told).toEqual(["FOREIGN_CA", true, "IDENTITY_MISMATCH", true, "UNKNOWN_IDENTITY", true]);
    expect(calls).toHaveLength(4);
  });

  test("after SESSION_REPLACED it does not come back", async () => {
    const told: unknown[] = [];
    const { clock, calls } = stage(() => new Promise(() => undefined), {
      onDetached: ({ reason }: Failure, willRetry: boolean) => told.push(reason, willRetry),
    });
    calls[0]?.cut({ reason: "SESSION_REPLACED", message: "newer" });
    await settle();
    clock.advance(60_000);
    expect(told).toEqual(["SESSION_REPLACED", false]);
    expect(calls).toHaveLength(1);
  });
});

test("a command whose outcome is known at once settles, with a signal too", async () => {
  const stream = new CommandStream({ executeStream: () => expect.fail("nothing is dialled") } as never, new ManualClock());
  const tooLong = "x".repeat(100_000);
  const { signal } = new AbortController();
  const outcome = await stream.execute({ nodeId: "n", capability: "c", value: tooLong }, signal);
  expect(outcome.failure?.reason).toBeDefined();
  stream.close();
  for (const by of [signal, AbortSignal.abort(), undefined])
    expect((await stream.execute({ nodeId: "n", capability: "c" }, by)).failure?.reason).toBeDefined();
});
