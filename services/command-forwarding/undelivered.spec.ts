import { createHash } from "node:crypto";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import { expect, test } from "vitest";
import { RawMessage } from "#channel/call.ts";
import { systemClock } from "#channel/clock.ts";
import {
  AttachExecutorRequestSchema,
  type AttachExecutorResponse,
  AttachExecutorResponseSchema,
} from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import type { CallContext } from "#runtime/rpc/call.ts";
import { Calls } from "#runtime/service/calls.ts";
import { createDriver } from "#runtime/service/driver.ts";
import { capability } from "../../test/commands/hub.ts";
import { memoryLogger } from "../../test/fakes/memory-logger.ts";
import { MemoryStore } from "../../test/fakes/memory-store.ts";
import { CommandCore } from "./core.ts";
import { isUrgent, overtakes, storedInput } from "./journal/store-refusal.ts";
import { type CommandEffect, type Input, OUTCOME, type Reply } from "./messages.ts";
import { ExecutorsIo } from "./shell/executors-io.ts";
import { Turn } from "./shell/turn.ts";

const turns = () => new Promise<void>((resolve) => setImmediate(resolve));

/** until turns the event loop until something is so. The store is tried again by the clock: ten thousand turns may be over before that. */
async function until(found: () => boolean): Promise<void> {
  const end = systemClock.mono() + 10_000;
  while (!found()) {
    if (systemClock.mono() > end) throw new Error("it does not happen");
    await turns();
  }
}

/** Hub is the service's parts as it joins them: core, driver, turns and the shell of the executors. */
class Hub {
  readonly calls = new Calls<Input, Reply>("commands");
  readonly replies: Reply[] = [];
  readonly fatal: unknown[] = [];
  readonly io: ExecutorsIo;
  readonly store = new MemoryStore();
  corr = 0;

  constructor() {
    const hash = (data: Uint8Array): Uint8Array => createHash("sha256").update(data).digest();
    const core = new CommandCore({ hubId: "home", hash });
    let turn: Turn<Input> | undefined;
    const onBug = () => ({ reason: "INTERNAL", message: "bug" }) as const;
    const io = new ExecutorsIo({ clock: systemClock, calls: this.calls, atEnd: (run) => turn?.atEnd(run), onBug });
    this.io = io;
    core.restore(systemClock.now(), { meta: undefined, blobs: [] });
    const driver = createDriver<Input, CommandEffect>({
      service: "commands",
      core,
      store: this.store,
      storeRetryMs: 20,
      clock: systemClock,
      log: memoryLogger(),
      metrics: new Registry(),
      observe: () => undefined,
      reject: () => "keep",
      overtakes,
      urgent: isUrgent,
      onStored: storedInput,
      onFatal: (error) => void this.fatal.push(error),
      commit: "now",
      execute: (effect) => {
        if (effect.kind === "reply") this.replies.push(effect);
        else if (effect.kind === "tasks") io.tasks(effect);
        else if (effect.kind === "cancel-task") io.cancel(effect.executor, effect.taskId);
        else if (effect.kind === "tell-undelivered") return io.tellUndelivered(effect.executor);
        else if (effect.kind === "attached") return io.attachedNow(effect.executor, effect.nodes, effect.refused);
        else if (effect.kind === "detach") return io.detach(effect.executor, effect.failure);
        turn?.wrote();
      },
    });
    turn = new Turn(systemClock, driver, () => io.flush());
    this.calls.attach(turn);
    this.calls.tell({ kind: "start" });
    const capabilities = [capability("say", 4)];
    this.calls.tell({ kind: "directory", changes: [{ kind: "put", hubId: "home", nodeId: "lamp", online: true, capabilities }] });
  }

  /** execute sends commands of one client, each with its number as its value. Those with keys persist. */
  execute(count: number, keyed: boolean): void {
    const commands = Array.from({ length: count }, () => {
      const text = String(++this.corr);
      const value = new Uint8Array([0x22, text.length, ...new TextEncoder().encode(text)]);
      const key = keyed ? `key ${text}` : "";
      return { corr: this.corr, hubId: "home", nodeId: "lamp", capability: "say", value, timeoutMs: 60_000, key, hops: [] };
    });
    this.calls.tell({ kind: "execute", client: 9, principal: "spiffe://home/operator/admin", commands });
  }

  /** stream attaches an executor that never reports. */
  stream(group: string, n: number, shared = false) {
    const ends = Promise.withResolvers<void>();
    const sent: (AttachExecutorResponse | RawMessage)[] = [];
    const value = { nodeIds: ["lamp"], shared, maxInFlight: 4_096, stream: { group: Buffer.from(group), incarnation: 1n, n: BigInt(n) } };
    const first = toBinary(AttachExecutorRequestSchema, create(AttachExecutorRequestSchema, { frame: { case: "attach", value } }));
    async function* requests(): AsyncGenerator<RawMessage> {
      yield new RawMessage(Buffer.from(first));
      await ends.promise;
    }
    const context = {
      caller: { kind: "gateway", name: "gw", spiffeId: "spiffe://home/gateway/gw", prefixes: [] },
    } as unknown as CallContext;
    const out = { send: (message: AttachExecutorResponse | RawMessage) => void sent.push(message) };
    const over = this.io.attach(requests(), out as unknown as Parameters<ExecutorsIo["attach"]>[1], context);
    /** Numbers of the commands that were handed out on it. */
    const tasks = (): number[] =>
      sent.flatMap((message) => {
        if (!(message instanceof RawMessage)) return [];
        const { frame } = fromBinary(AttachExecutorResponseSchema, message.bytes);
        return frame.case === "tasks" ? frame.value.tasks.map(({ value }) => Number(value?.kind.value)) : [];
      });
    return { over, end: ends.resolve, tasks, attached: () => sent.length > 0 };
  }

  unknown(): number[] {
    return this.replies.filter(({ result }) => result.outcome === OUTCOME.UNKNOWN).map(({ corr }) => corr);
  }
}

test.each([true, false])("PROTOCOL X7 commands of the turn in which a stream ends go to who shares the node (keys: %s)", async (keyed) => {
  const hub = new Hub();
  const stays = hub.stream("one group", 1, true);
  await until(stays.attached);
  const ends = hub.stream("another group", 1, true);
  await until(ends.attached);
  hub.execute(4, keyed);
  ends.end();
  await ends.over;
  await until(() => stays.tasks().length === 4);
  expect(stays.tasks().sort()).toEqual([1, 2, 3, 4]);
  expect([ends.tasks(), hub.replies, hub.fatal]).toEqual([[], [], []]);
  stays.end();
  await stays.over;
});

test.each([true, false])(
  "PROTOCOL X7 each command goes to one of two streams as the newer one takes the place of the older (with keys: %s)",
  async (keyed) => {
    const hub = new Hub();
    const older = hub.stream("one group", 1);
    await until(older.attached);
    hub.execute(3, keyed);
    await until(() => older.tasks().length === 3);
    const newer = hub.stream("one group", 2);
    await until(() => {
      hub.execute(8, keyed);
      return newer.attached();
    });
    await until(() => older.tasks().length + newer.tasks().length === hub.corr);
    const all = Array.from({ length: hub.corr }, (_, i) => i + 1);
    // In their order, none of them twice, and no other than what was handed out is UNKNOWN.
    expect([...older.tasks(), ...newer.tasks()]).toEqual(all);
    expect(hub.unknown()).toEqual(older.tasks());
    expect([hub.replies.length, hub.fatal]).toEqual([older.tasks().length, []]);
    newer.end();
    await Promise.all([older.over, newer.over]);
  },
);

test.each([false, true])(
  "PROTOCOL X7 what waits for a store that refuses goes to the newer stream when it is stored (older one replaced: %s)",
  async (replaced) => {
    const hub = new Hub();
    const older = hub.stream("one group", 1);
    await until(older.attached);
    hub.store.failAll("full");
    hub.execute(3, true);
    await turns();
    await turns();
    if (!replaced) {
      older.end();
      await older.over;
    }
    const newer = hub.stream("one group", 2);
    await until(newer.attached);
    // No answer of the shell may overtake the tasks: it would not name them.
    for (let n = 0; n < 10; n++) await turns();
    expect([older.tasks(), newer.tasks(), hub.replies]).toEqual([[], [], []]);
    hub.store.failAll(undefined);
    await until(() => newer.tasks().length > 0);
    expect([older.tasks(), newer.tasks(), hub.replies, hub.fatal]).toEqual([[], [1, 2, 3], [], []]);
    newer.end();
    await Promise.all([older.over, newer.over]);
  },
);
