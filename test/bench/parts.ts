// The parts of the push and command benches that are users of a hub: each is a process with the SDK that a user would have.

import { readFileSync } from "node:fs";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import type { ClientOf } from "#channel/call.ts";
import { systemClock } from "#channel/clock.ts";
import { createPeerCredentials } from "#channel/tls/peer-credentials.ts";
import { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { createClient } from "#runtime/rpc/client/client.ts";
import { CommandStream, ExecutorClient, OUTCOME } from "../../clients/typescript/command-stream.ts";
import {
  type Mirror,
  NO_SLOT,
  type NodeInit,
  numbersOf,
  RegistryClient,
  type UpdateBatch,
  type Updater,
  VALUE_TYPE,
} from "../../clients/typescript/registry-client.ts";
import { type HubProcess, type Principal, until } from "../support/federation.ts";
import { preciseWall, quantiles, runRole } from "./worker.ts";

/** Door is what a part needs to call a hub: plain data, because it travels to another process. */
export interface Door {
  readonly hubId: string;
  readonly split: boolean;
  readonly registry: string;
  readonly commands: string;
  readonly pki: { readonly ca: string; readonly cert: string; readonly key: string };
}

/** doorOf a hub, for one of its principals. */
export function doorOf(hub: HubProcess, principal: Principal): Door {
  return {
    hubId: hub.id,
    split: hub.split,
    registry: hub.address("registry-sync"),
    commands: hub.address("command-forwarding"),
    pki: hub.pki(principal),
  };
}

/** openDoor makes a client of one service of a hub. */
export function openDoor<S extends GenService<GenServiceMethods>>(
  service: S,
  name: "registry-sync" | "command-forwarding",
  door: Door,
): ClientOf<S> {
  const material = {
    ca: [readFileSync(door.pki.ca, "utf8")],
    cert: readFileSync(door.pki.cert, "utf8"),
    key: readFileSync(door.pki.key, "utf8"),
  };
  const credentials = createPeerCredentials({ hubId: door.hubId, name: door.split ? name : "hub" }, material, systemClock);
  return createClient(service, { address: name === "registry-sync" ? door.registry : door.commands, credentials, clock: systemClock });
}

/** What a push carries: doubles, or opaque values of 44 B. */
export type PushKind = "numeric" | "opaque";

/** KEY of a push's values, by kind. */
export const KEY = { numeric: "power", opaque: "blob" } as const;
export const OPAQUE_BYTES = 44;
/** Values above this are times (Unix ms); the others are counters. */
const STAMP = 1e12;
/** Each 16th value carries its time, in both systems, so that reading the clock does not weigh. */
const STAMP_MASK = 15;

/** pushNodeId is the ID of the node in a push. */
export const pushNodeId = (index: number): string => `node-${String(index).padStart(5, "0")}`;

/** pushNode has one key per kind. */
export function pushNode(index: number): NodeInit {
  return {
    nodeId: pushNodeId(index),
    type: "sensor",
    capabilities: [
      { name: KEY.numeric, type: ValueType.DOUBLE, readable: true },
      { name: KEY.opaque, type: ValueType.BYTES, readable: true },
    ],
  };
}

/** Load is one run of a generator. */
export interface Load {
  readonly kind: PushKind;
  readonly seconds: number;
  /** Updates per second, each stamped when it is due; as fast as the hub takes them without. */
  readonly rate?: number;
}

/** Sent is what a generator did: `sum` is over the last value of each node, in the order of the nodes. */
export interface Sent {
  readonly count: number;
  readonly sum: number;
  /** Seconds until everything was acknowledged as durable by hub A. */
  readonly seconds: number;
}

async function generator(argument: { door: Door; nodes: number; register: boolean }): Promise<(load: Load) => Promise<Sent>> {
  const registry = RegistryClient.connect(openDoor(RegistrySyncService, "registry-sync", argument.door));
  if (argument.register) await registry.registerAll(Array.from({ length: argument.nodes }, (_, index) => pushNode(index)));
  const updater = registry.updater({ onRefused: ({ nodeId, failure }) => process.stderr.write(`refused: ${nodeId} ${failure.message}\n`) });
  const last = new Float64Array(argument.nodes);
  return async (load) => {
    const type = load.kind === "numeric" ? VALUE_TYPE.DOUBLE : VALUE_TYPE.BYTES;
    const fields = Uint32Array.from(last, (_, index) => updater.field(pushNodeId(index), KEY[load.kind], type));
    const start = systemClock.mono();
    const count = await (load.rate === undefined ? flood(updater, fields, last, load) : pace(updater, fields, last, load, load.rate));
    await updater.drain();
    let sum = 0;
    for (const value of last) sum += value;
    return { count, sum, seconds: (systemClock.mono() - start) / 1_000 };
  };
}

/** setter writes the value of a field; an opaque value has it in front. */
function setter(updater: Updater, kind: PushKind): (field: number, value: number) => boolean {
  if (kind === "numeric") return (field, value) => updater.setNumber(field, value);
  const bytes = Buffer.alloc(OPAQUE_BYTES, 7);
  return (field, value) => {
    bytes.writeDoubleLE(value, 0);
    return updater.setField(field, bytes);
  };
}

async function flood(updater: Updater, fields: Uint32Array, last: Float64Array, load: Load): Promise<number> {
  const set = setter(updater, load.kind);
  const end = systemClock.mono() + load.seconds * 1_000;
  let count = 0;
  for (let node = 0; ; node = node + 1 === fields.length ? 0 : node + 1) {
    if ((count & 1_023) === 0 && systemClock.mono() >= end) return count;
    const value = (count & STAMP_MASK) === 0 ? preciseWall() : count;
    last[node] = value;
    count++;
    if (!set(fields[node] as number, value)) await updater.writable();
  }
}

async function pace(updater: Updater, fields: Uint32Array, last: Float64Array, load: Load, rate: number): Promise<number> {
  const set = setter(updater, load.kind);
  const start = preciseWall();
  const total = Math.round(load.seconds * rate);
  for (let count = 0; count < total; ) {
    const due = Math.min(total, Math.floor(((preciseWall() - start) / 1_000) * rate));
    for (; count < due; count++) {
      const node = count % fields.length;
      const value = start + (count / rate) * 1_000;
      last[node] = value;
      set(fields[node] as number, value);
    }
    await new Promise<void>((resolve) => systemClock.setTimer(1, resolve));
  }
  return total;
}

/** Expected is what a watcher must see: everything that was sent, in order, the last value of each node included. */
export interface Expected {
  readonly kind: PushKind;
  readonly count: number;
  readonly sum: number;
}

/** Seen is what a watcher saw; the time runs from the first update to the last. */
export interface Seen {
  readonly count: number;
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

class Watcher {
  readonly #mirror: Mirror;
  readonly #hub: string;
  readonly #nodes: number;
  #latencies: number[] = [];
  #count = 0;
  #missed = 0;
  /** A snapshot came in the middle of a run: the hubs were apart for longer than the ring of segments lasts, and states were skipped. */
  #replaced = false;
  #first = 0;
  #last = 0;

  constructor(registry: RegistryClient, hub: string, nodes: number) {
    this.#hub = hub;
    this.#nodes = nodes;
    this.#mirror = registry.mirror({
      hubIds: [hub],
      onBatch: (feed, batch, slots) => {
        if (feed.hubId !== hub) return;
        this.#last = preciseWall();
        if (this.#count === 0) this.#first = this.#last;
        this.#stamps(batch);
        this.#count += batch.count;
        for (let i = 0; i < batch.count; i++) if (slots[i] === NO_SLOT) this.#missed++;
      },
      onReplaced: () => {
        this.#replaced ||= this.#count > 0;
      },
    });
  }

  /** stamps takes the times that a batch carries. */
  #stamps(batch: UpdateBatch): void {
    const numbers = numbersOf(batch);
    for (const value of numbers) if (value > STAMP) this.#latencies.push(this.#last - value);
    const { data, len } = batch;
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    for (let at = 0, i = 0; i < batch.count - batch.numCount - batch.intCount; at += len[i++] as number) {
      const value = view.getFloat64(at, true);
      if (value > STAMP) this.#latencies.push(this.#last - value);
    }
  }

  /** ready: all nodes are here. */
  async ready(): Promise<void> {
    await this.#mirror.ready;
    await until("the nodes at the watcher", () => this.#mirror.node(this.#hub, pushNodeId(this.#nodes - 1)) !== undefined, 30_000);
  }

  async finish(expected: Expected): Promise<Seen> {
    await until(`${expected.count} updates at the watcher`, () => this.#replaced || this.#count >= expected.count, 20_000).catch(
      (cause: unknown) => {
        throw new Error(`only ${this.#count} of ${expected.count} updates arrived`, { cause });
      },
    );
    if (this.#replaced)
      throw new Error(
        `hub B fell so far behind that it got a snapshot instead of ${expected.count - this.#count} updates; is this machine busy?`,
      );
    const sum = this.#sum(KEY[expected.kind]);
    if (this.#count !== expected.count || this.#missed > 0 || sum !== expected.sum)
      throw new Error(
        `the watcher saw ${this.#count} updates, ${this.#missed} of them without a place, with checksum ${sum}; sent were ${expected.count} with ${expected.sum}`,
      );
    const seconds = (this.#last - this.#first) / 1_000;
    const { p50, p99 } = quantiles(this.#latencies);
    const seen = { count: this.#count, seconds, p50Ms: p50, p99Ms: p99 };
    this.#latencies = [];
    this.#count = 0;
    return seen;
  }

  #sum(key: string): number {
    let sum = 0;
    for (let index = 0; index < this.#nodes; index++) {
      const value = this.#mirror.state(this.#hub, pushNodeId(index)).find((state) => state.key === key)?.value;
      sum += numberIn(value);
    }
    return sum;
  }
}

function numberIn(value: unknown): number {
  if (typeof value === "number") return value;
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, 8).readDoubleLE(0);
  return Number.NaN;
}

async function watcher(argument: { door: Door; hub: string; nodes: number }): Promise<(expected: Expected) => Promise<Seen>> {
  const registry = RegistryClient.connect(openDoor(RegistrySyncService, "registry-sync", argument.door));
  const watch = new Watcher(registry, argument.hub, argument.nodes);
  await watch.ready();
  return (expected) => watch.finish(expected);
}

export const COMMAND_NODE = "actuator";
export const COMMAND_CAPABILITY = "set";
export const COMMAND_ARGUMENT = "x".repeat(64);

async function executor(argument: { door: Door; register: boolean }): Promise<() => Promise<number>> {
  const registry = RegistryClient.connect(openDoor(RegistrySyncService, "registry-sync", argument.door));
  const capabilities = [{ name: COMMAND_CAPABILITY, type: ValueType.STRING, readable: true, invocable: true }];
  if (argument.register) await registry.registerAll([{ nodeId: COMMAND_NODE, type: "actuator", capabilities }]);
  let ran = 0;
  const attached = Promise.withResolvers<void>();
  new ExecutorClient(openDoor(CommandForwardingService, "command-forwarding", argument.door), {
    nodeIds: [COMMAND_NODE],
    maxInFlight: 4_096,
    run: ({ value }) => {
      ran++;
      return { value };
    },
    onAttached: () => attached.resolve(),
  });
  await attached.promise;
  return () => Promise.resolve(ran);
}

/** CommandRun is one run of a commander. */
export interface CommandRun {
  readonly seconds: number;
  readonly inFlight: number;
}

/** CommandResult is what it gave. `count` commands were answered, each DONE with its argument. */
export interface CommandResult {
  readonly count: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

async function commander(argument: { door: Door; hub: string }): Promise<(run: CommandRun) => Promise<CommandResult>> {
  const stream = new CommandStream(openDoor(CommandForwardingService, "command-forwarding", argument.door));
  const command = { hubId: argument.hub, nodeId: COMMAND_NODE, capability: COMMAND_CAPABILITY, value: COMMAND_ARGUMENT };
  await until("the first command", async () => {
    const { outcome, failure } = await stream.execute(command);
    if (outcome !== OUTCOME.DONE) throw new Error(`outcome ${outcome} ${failure?.reason} ${failure?.message}`);
    return true;
  });
  return (run) =>
    new Promise((resolve, reject) => {
      const latencies: number[] = [];
      const start = systemClock.mono();
      const end = start + run.seconds * 1_000;
      let open = 0;
      const one = (): void => {
        open++;
        const sent = systemClock.mono();
        stream.send(command, ({ result }) => {
          open--;
          const now = systemClock.mono();
          latencies.push(now - sent);
          if (result.outcome !== OUTCOME.DONE)
            return reject(new Error(`a command ended as ${result.outcome}: ${result.failure?.reason} ${result.failure?.message}`));
          if (now < end) return one();
          if (open > 0) return;
          const { p50, p99 } = quantiles(latencies);
          resolve({ count: latencies.length, perSecond: (latencies.length / (now - start)) * 1_000, p50Ms: p50, p99Ms: p99 });
        });
      };
      for (let i = 0; i < run.inFlight; i++) one();
    });
}

export const PARTS_FILE = import.meta.filename;

await runRole({ generator, watcher, executor, commander });
