import { Registry } from "prom-client";
import { describe, expect, test } from "vitest";
import { type Outbound, RawMessage } from "#channel/call.ts";
import { AssertionFailure } from "#kernel/assert.ts";
import type { Core } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import { silentLogger } from "#runtime/log/log.ts";
import type { CallContext } from "#runtime/rpc/call.ts";
import { Calls } from "#runtime/service/calls.ts";
import { createDriver, type Driver } from "#runtime/service/driver.ts";
import { ManualClock } from "../../test/fakes/manual-clock.ts";
import { MemoryStore } from "../../test/fakes/memory-store.ts";
import { failureOfCall } from "../../test/rpc/fixture.ts";
import { encodeStreamRequest } from "./codec/stream-codec.ts";
import { CommandCore } from "./core.ts";
import { type Command, type CommandEffect, type Input, NO_VALUE, type Reply } from "./messages.ts";
import { CommandHandler } from "./shell/handler.ts";
import { type CommandCalls, Turn } from "./shell/turn.ts";

/** A core that is wrong about everything but its start. */
const broken: Core<Input, CommandEffect> = {
  step: (_now, { kind }) => {
    if (kind !== "start") throw new AssertionFailure("the core is wrong");
  },
  tick: () => undefined,
  deadline: () => undefined,
  describe: () => "",
};

/** Posts that are refused in a row before somebody has to have noticed that it is for ever. */
const PATIENCE = 100;

function stage(core: Core<Input, CommandEffect>, mailboxCapacity: number) {
  const clock = new ManualClock();
  const driver = createDriver<Input, CommandEffect>({
    service: "command-forwarding",
    core,
    store: new MemoryStore(),
    clock,
    log: silentLogger,
    metrics: new Registry(),
    execute: () => undefined,
    observe: () => undefined,
    reject: () => "keep",
    onFatal: () => undefined,
    commit: "now",
    mailboxCapacity,
  });
  let refused = 0;
  const counted: Driver<Input> = Object.assign(Object.create(driver) as Driver<Input>, {
    post: (input: Input) => {
      if (driver.post(input)) return true;
      if (++refused > PATIENCE) throw new Error(`posted ${refused} times to a core that is over`);
      return false;
    },
    tell: (input: Input) => driver.tell(input),
    drainSpace: () => driver.drainSpace(),
    cork: () => driver.cork(),
    uncork: () => driver.uncork(),
  });
  const turn = new Turn<Input>(clock, counted, () => undefined);
  const calls: CommandCalls = new Calls<Input, Reply>("command forwarding");
  calls.attach(turn);
  return { clock, driver, turn, calls, seen: () => refused };
}

const cancel = (corr: number): Input => ({ kind: "cancel", client: 1, corrs: [corr] });

describe("DC6 after the core failed", () => {
  test("an input that is offered is not tried for ever", async () => {
    const { clock, driver, turn, calls, seen } = stage(broken, 1);
    expect(turn.post(cancel(1))).toBe(true);
    let over = false;
    const waiting = failureOfCall(calls.offer(cancel(2)) as Promise<void>).finally(() => {
      over = true;
    });
    await Promise.resolve();
    // It waits for room, and the core has not failed yet.
    expect([driver.state, seen(), over]).toEqual(["running", 1, false]);
    clock.turn();
    expect(driver.state).toBe("failed");
    expect([(await waiting).reason, (await failureOfCall(calls.offer(cancel(3)) as Promise<void>)).reason]).toEqual([
      "SHUTTING_DOWN",
      "SHUTTING_DOWN",
    ]);
    // The first is not offered again after the failure, the second once at most.
    expect(seen()).toBeLessThanOrEqual(2);
  });

  test("the stream of a caller ends, also one that waited for room", async () => {
    const { clock, driver, calls, seen } = stage(broken, 1);
    const command: Command = { corr: 1, hubId: "", nodeId: "lamp", capability: "on", value: NO_VALUE, timeoutMs: 0, key: "", hops: [] };
    const handler = new CommandHandler({
      core: new CommandCore({ hubId: "home", hash: (data) => data }),
      clock,
      calls,
      executors: undefined as never,
      links: () => undefined as never,
      traces: undefined,
    });
    async function* requests(): AsyncGenerator<RawMessage> {
      for (const bytes of encodeStreamRequest([command], [])) for (let i = 0; i < 2; i++) yield new RawMessage(bytes);
    }
    const context = { caller: { spiffeId: "spiffe://home/operator/user" }, signal: new AbortController().signal } as CallContext;
    const call = (): Promise<Failure> => {
      const { executeStream } = handler.binding().handlers as Record<
        string,
        (requests: unknown, out: unknown, context: CallContext) => Promise<void>
      >;
      const out: Pick<Outbound<never>, "bufferedBytes"> = { bufferedBytes: 0 };
      return failureOfCall((executeStream as NonNullable<typeof executeStream>)(requests(), out, context));
    };
    const first = call();
    while (seen() === 0) await Promise.resolve();
    clock.turn();
    expect((await first).reason).toBe("SHUTTING_DOWN");
    expect(driver.state).toBe("failed");
    expect((await call()).reason).toBe("SHUTTING_DOWN");
  });
});

test("DC3 an input that is offered to a full mailbox is taken when there is room, with the others of its turn", async () => {
  const taken: number[] = [];
  const core = { ...broken, step: (_now: unknown, input: Input) => void (input.kind === "cancel" && taken.push(...input.corrs)) };
  const { clock, turn, calls } = stage(core, 1);
  expect(turn.post(cancel(1))).toBe(true);
  const waiting = calls.offer(cancel(2));
  expect(taken).toEqual([]);
  clock.turn();
  await waiting;
  expect(taken, "it waits for the end of the next turn").toEqual([1]);
  clock.turn();
  expect(taken).toEqual([1, 2]);
});
