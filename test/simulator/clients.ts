import type { DescMethod } from "@bufbuild/protobuf";
import { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import type { BackoffConfig } from "#kernel/backoff.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import type { Prng } from "#kernel/prng.ts";
import { CommandStream, type ExecutorAnswer, ExecutorClient, type ExecutorTask } from "../../clients/typescript/command-stream.ts";
import { RegistryClient, type SetValue, type Updater } from "../../clients/typescript/registry-client.ts";
import { decodeStreamRequest, type ReceivedResult } from "../../services/command-forwarding/codec/stream-codec.ts";
import { OUTCOME, OUTCOME_NAMES } from "../../services/command-forwarding/messages.ts";
import { type ChannelOptions, createChannel } from "./channel.ts";
import type { ProcessClock } from "./clock.ts";
import type { Federation } from "./federation.ts";
import type { CommandClient, UserStream } from "./host.ts";
import type { SimHub } from "./hub.ts";
import { nodeOf, STATE_KEYS, stringValue, textIn } from "./nodes.ts";
import type { CommandCall, CommandOp, Write } from "./oracle.ts";
import { Watcher } from "./watcher.ts";

/** Behaviour of an executor for one task, drawn by the workload's generator. */
interface Behaviour {
  readonly what: "done" | "fail" | "decline" | "hang" | "crash";
  readonly delayMs: number;
}

/** Update is a change of one key. */
export interface Update {
  readonly nodeId: string;
  readonly key: string;
  readonly value: SetValue;
}

/** Without jitter: it would come from the machine. */
const BACKOFF: BackoffConfig = { baseMs: 200, maxMs: 10_000, factor: 2, jitter: 0 };

const DECLINED: Failure = { reason: "VALUE_OUT_OF_RANGE", message: "not now" };
const FAILED: Failure = { reason: "EXECUTOR_FAILED", message: "it did not work" };

/**
 * Clients are what uses one hub: a gateway that registers nodes, reports their state and executes commands, a user, and a watcher. They
 * are processes of their own, with the shipping SDK, and outlive those of the hub: they connect again.
 */
export class Clients {
  readonly #f: Federation;
  readonly #hub: SimHub;
  readonly #clock: ProcessClock;
  readonly #prng: Prng;
  readonly #registry: RegistryClient;
  readonly #updater: Updater;
  #commands: UserStream;
  #executor: ExecutorClient | undefined;
  readonly watcher: Watcher;
  /** Nodes that are registered as far as the gateway knows, and those of which a call is under way. */
  readonly #known = new Set<string>();
  readonly #busy = new Set<string>();
  /** What was written and has no answer yet, by subject. */
  readonly #pending = new Map<string, Set<Write>>();
  #lastCorr = 0;

  constructor(f: Federation, hub: SimHub, clock: ProcessClock, prng: Prng) {
    this.#f = f;
    this.#hub = hub;
    this.#clock = clock;
    this.#prng = prng;
    this.#registry = RegistryClient.connect(createChannel(RegistrySyncService, this.#channel("gateway/sim")));
    this.#updater = this.#registry.updater({
      clock,
      seed: prng.u32(),
      batchUpdates: 32,
      windowBatches: 4,
      onRefused: ({ nodeId, key, failure }) => {
        this.#note("refused", () => `${nodeId}.${key}: ${failure.reason}`);
        this.#unsure(`${nodeId}.${key}`);
        // The hub lost it, with the tail of its store. The SDK sends nothing more of it until it is registered again.
        if (failure.reason === "NODE_NOT_FOUND") this.#known.delete(nodeId);
      },
      onLink: (failure) => this.#note(failure === undefined ? "connected" : "cut", () => failure?.reason ?? ""),
    });
    this.#commands = this.#newStream();
    this.watcher = this.#watch(prng.chance(0.3));
    this.#attach();
  }

  #channel(caller: string): ChannelOptions {
    const { network, options } = this.#f;
    const { no, hubId } = this.#hub;
    return {
      network,
      from: options.hubs + no,
      to: no,
      caller: `spiffe://${hubId}/${caller}`,
      flow: { windowBytes: options.transportBytes, slowMs: () => 0, clock: this.#clock },
      onSend: (method, bytes) => this.#sent(method, bytes),
    };
  }

  #newStream(): UserStream {
    const make = (client: CommandClient) => new CommandStream(client, this.#clock, { backoff: { ...BACKOFF, maxMs: 2_000 } });
    const client = createChannel(CommandForwardingService, this.#channel("operator/sim"));
    return this.#f.sabotage.user?.(client, make) ?? make(client);
  }

  #watch(latestOnly: boolean): Watcher {
    const { oracle, hubIds } = this.#f;
    return new Watcher({
      client: createChannel(RegistrySyncService, this.#channel("operator/sim")),
      clock: this.#clock,
      oracle,
      hub: this.#hub.no,
      hubIds,
      latestOnly,
      onBug: (error) => this.#f.fatal(this.#hub.no, "watcher", error),
    });
  }

  // ---- nodes and their state

  /** register puts a node, or replaces it. */
  register(nodeId: string, area: string, version: number): void {
    if (this.#busy.has(nodeId)) return;
    const write = this.#f.oracle.write(this.#hub.no, nodeId, String(version));
    this.#call(nodeId, [write], async () => {
      await this.#registry.registerNode(nodeOf({ nodeId, version, area }));
      this.#known.add(nodeId);
    });
  }

  deregister(nodeId: string): void {
    if (this.#busy.has(nodeId)) return;
    // Its state goes with it. What is still under way of that may come before or after.
    const names = STATE_KEYS.map(({ name }) => `${nodeId}.${name}`);
    for (const name of names) this.#unsure(name);
    const writes = [nodeId, ...names].map((name) => this.#f.oracle.write(this.#hub.no, name, undefined));
    this.#known.delete(nodeId);
    this.#call(nodeId, writes, async () => {
      await this.#registry.deregisterNode(nodeId);
    });
  }

  /** call does something about a node; what has no clear end may still happen, at any time. */
  #call(nodeId: string, writes: readonly Write[], work: () => Promise<void>): void {
    this.#busy.add(nodeId);
    this.#note("call", () => `${nodeId} ${String(writes[0]?.value ?? "deregister")}`);
    work()
      .then(
        () => {
          this.#note("called", () => nodeId);
          for (const write of writes) this.#f.oracle.ack(write);
        },
        (error: unknown) => {
          if (!(error instanceof FoedusError)) return this.#f.fatal(this.#hub.no, "client", error);
          this.#note("call failed", () => `${nodeId} ${error.failure.reason}`);
          for (const write of writes) write.floating = true;
        },
      )
      .finally(() => this.#busy.delete(nodeId));
  }

  /** update reports state changes; those of nodes that the gateway does not know, or is just dealing with, wait for better times. */
  update(updates: readonly Update[]): void {
    const writes: [string, Write][] = [];
    for (const { nodeId, key, value } of updates) {
      if (this.#busy.has(nodeId) || !this.#known.has(nodeId)) continue;
      const name = `${nodeId}.${key}`;
      const write = this.#f.oracle.write(this.#hub.no, name, String(value));
      const pending = this.#pending.get(name) ?? new Set();
      this.#pending.set(name, pending.add(write));
      writes.push([name, write]);
      this.#note("set", () => `${name} = ${String(value)}`);
      this.#updater.set(nodeId, key, value);
    }
    if (writes.length === 0) return;
    this.#f.onUpdates(this.#hub);
    this.#updater.drain().then(
      () => {
        this.#note("drained", () => writes.map(([name, { value }]) => `${name} = ${value}`).join());
        for (const [name, write] of writes) if (this.#pending.get(name)?.delete(write)) this.#f.oracle.ack(write);
      },
      (error: unknown) => this.#f.fatal(this.#hub.no, "updater", error),
    );
  }

  #note(what: string, detail: () => string): void {
    this.#f.trace.note(this.#f.scheduler.now, this.#hub.no, `client ${what}`, detail);
  }

  /** unsure: some of what is pending was refused, or may come too late; nobody knows which. */
  #unsure(name: string): void {
    for (const write of this.#pending.get(name) ?? []) write.floating = true;
    this.#pending.delete(name);
  }

  // ---- commands

  /** command calls for something to be done at a hub, again if it is known already. */
  command(op: CommandOp): void {
    const call: CommandCall = { at: this.#f.scheduler.now, answer: undefined, answers: 0 };
    op.calls.push(call);
    const command = {
      hubId: this.#f.hubIds[op.target] as string,
      nodeId: op.nodeId,
      capability: op.capability,
      value: stringValue(op.id),
      timeoutMs: op.timeoutMs,
      key: op.key,
      hops: [],
      trace: undefined,
    };
    this.#lastCorr = this.#commands.sendEncoded(command, (received) => this.#answered(op, call, received));
    this.#f.onCommand(this.#hub);
  }

  cancelLast(): void {
    this.#commands.cancel(this.#lastCorr);
  }

  #answered(op: CommandOp, call: CommandCall, { result, name, durationMs }: ReceivedResult): void {
    const { outcome, failure, value } = result;
    // What the hub answers has a name or took some time; the rest is the SDK's word for a stream that was lost, or did not come back.
    const lost = (outcome === OUTCOME.UNKNOWN || outcome === OUTCOME.EXPIRED) && name === undefined && durationMs === 0;
    const { trace, scheduler } = this.#f;
    call.answers++;
    const what = `reply ${OUTCOME_NAMES[outcome]} ${failure?.reason ?? ""}`.trim();
    trace.note(scheduler.now, this.#hub.no, what, () => `${op.id} ${failure?.message ?? ""}`);
    // The call stays: a second answer to it must be seen. What the caller was told is the first one.
    call.answer ??= { at: scheduler.now, outcome, reason: failure?.reason ?? "", value: value.length === 0 ? "" : textIn(value), lost };
  }

  /** What the SDK has already reported as lost, it must not send any more (F-18). */
  #sent(method: DescMethod, bytes: Buffer): readonly Buffer[] {
    if (method !== CommandForwardingService.method.executeStream) return [bytes];
    for (const { value } of decodeStreamRequest(bytes).commands) {
      const op = this.#f.oracle.commands.get(textIn(value));
      if (op?.calls.every(({ answer }) => answer !== undefined) === true)
        this.#f.oracle.violate("answered", "correctness", `${op.id} was sent after its caller had been answered`);
    }
    return [bytes];
  }

  // ---- the executor

  #attach(): void {
    this.#executor = new ExecutorClient(createChannel(CommandForwardingService, this.#channel("gateway/sim")), {
      nodeIds: this.#hub.nodeIds,
      maxInFlight: 4,
      clock: this.#clock,
      backoff: BACKOFF,
      run: (task) => this.#run(task),
    });
  }

  /** run is what the executor does: the effect happens even if the hub is gone by then. */
  #run({ nodeId, capability, value }: ExecutorTask): Promise<ExecutorAnswer> {
    const { what, delayMs } = this.#behave();
    const { scheduler, oracle, trace } = this.#f;
    const hub = this.#hub.no;
    const op = oracle.commands.get(String(value));
    const { promise, resolve } = Promise.withResolvers<ExecutorAnswer>();
    const executor = this.#executor;
    scheduler.after(delayMs, () => {
      if (what === "decline") {
        if (op !== undefined) op.declined = true;
        return resolve({ failure: DECLINED });
      }
      op?.effects.push({ hub, nodeId, at: scheduler.now });
      trace.note(scheduler.now, hub, "effect", () => `${op?.id} ${nodeId} ${capability}`);
      if (what === "done") resolve({ value });
      else if (what === "fail") resolve({ failure: FAILED });
      else if (what === "crash" && executor === this.#executor) {
        executor?.close();
        scheduler.after(500, () => this.#attach());
      }
    });
    return promise;
  }

  #behave(): Behaviour {
    const prng = this.#prng;
    const delayMs = prng.chance(0.8) ? 200 * prng.unit() : 4_000 * prng.unit();
    if (!this.#f.troubled || !this.#f.options.faults.has("executor")) return { what: "done", delayMs: Math.min(delayMs, 200) };
    const die = prng.unit();
    const what = die < 0.7 ? "done" : die < 0.8 ? "fail" : die < 0.87 ? "decline" : die < 0.94 ? "hang" : "crash";
    if (what !== "done") this.#f.trace.note(this.#f.scheduler.now, this.#hub.no, "fault executor", () => what);
    return { what, delayMs };
  }

  /** clientGone: the user closes its stream and opens another one. What was in flight gets its answer, if one comes. */
  clientGone(): void {
    this.#commands.close();
    this.#commands = this.#newStream();
  }
}
