// What command forwarding is measured against: a caller that journals each command and then calls unary gRPC, one call per command.

import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import { systemClock } from "#channel/clock.ts";
import { CommandForwardingService, ExecuteRequestSchema } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { Outcome } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import { Committer } from "#runtime/service/committer.ts";
import { openSqliteStore } from "#runtime/store/sqlite.ts";
import { until } from "../support/federation.ts";
import { COMMAND_ARGUMENT, COMMAND_CAPABILITY, COMMAND_NODE, type CommandResult, type CommandRun, type Door, openDoor } from "./parts.ts";
import { quantiles, runRole } from "./worker.ts";

/** Journal makes commands durable in the same store and groups as a hub does. */
class Journal {
  readonly #committer: Committer;
  #seq = 0;
  #waiting: { readonly ticket: number; readonly resolve: () => void }[] = [];

  constructor(dir: string) {
    this.#committer = new Committer({
      store: openSqliteStore({ path: join(dir, "unary-caller.db"), durability: "full" }),
      clock: systemClock,
      mode: "turn",
      paceMs: 0,
      paceBelowOps: 0,
      retryMs: 5_000,
      service: "unary-caller",
      metrics: new Registry(),
      onDurable: (ticket) => this.#durable(ticket),
      onRefused: (failure) => process.stderr.write(`${failure.message}\n`),
      onFatal: (error) => {
        throw error;
      },
    });
  }

  /** put resolves when the bytes are durable. */
  put(bytes: Uint8Array): Promise<void> {
    const ticket = this.#committer.add([{ op: "append", log: "calls", seq: this.#seq++, bytes }]);
    this.#committer.schedule();
    return new Promise((resolve) => this.#waiting.push({ ticket, resolve }));
  }

  #durable(ticket: number): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const one of waiting) {
      if (one.ticket <= ticket) one.resolve();
      else this.#waiting.push(one);
    }
  }
}

async function caller(argument: { door: Door; dir: string }): Promise<(run: CommandRun) => Promise<CommandResult>> {
  const client = openDoor(CommandForwardingService, "command-forwarding", argument.door);
  const journal = new Journal(argument.dir);
  const request = create(ExecuteRequestSchema, {
    command: {
      target: { hubId: argument.door.hubId, nodeId: COMMAND_NODE },
      capability: COMMAND_CAPABILITY,
      value: { kind: { case: "stringValue", value: COMMAND_ARGUMENT } },
      timeoutMs: 10_000,
    },
  });
  const record = Buffer.from(COMMAND_ARGUMENT);
  await until("the first call", async () => (await client.execute(request)).result?.outcome === Outcome.DONE);
  return async (run) => {
    const latencies: number[] = [];
    const start = systemClock.mono();
    const end = start + run.seconds * 1_000;
    const one = async (): Promise<void> => {
      while (systemClock.mono() < end) {
        const sent = systemClock.mono();
        await journal.put(record);
        const { result } = await client.execute(request);
        if (result?.outcome !== Outcome.DONE) throw new Error(`a call ended as ${result?.outcome}`);
        latencies.push(systemClock.mono() - sent);
      }
    };
    await Promise.all(Array.from({ length: run.inFlight }, one));
    const { p50, p99 } = quantiles(latencies);
    return { count: latencies.length, perSecond: (latencies.length / (systemClock.mono() - start)) * 1_000, p50Ms: p50, p99Ms: p99 };
  };
}

export const UNARY_FILE = import.meta.filename;

await runRole({ caller });
