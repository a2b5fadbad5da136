// The users of the hubs under test: each is a process of its own with the SDK that a user would have.

import { create } from "@bufbuild/protobuf";
import { systemClock } from "#channel/clock.ts";
import { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import {
  ListNodesRequestSchema,
  NamedUpdateSchema,
  RegistrySyncService,
  UpdateStateRequestSchema,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { CommandStream, ExecutorClient, OUTCOME } from "../../clients/typescript/command-stream.ts";
import { type NodeInit, RegistryClient, type UpdateBatch, VALUE_TYPE } from "../../clients/typescript/registry-client.ts";
import { type Door, openDoor } from "../bench/parts.ts";
import { preciseWall, quantiles, runRole } from "../bench/worker.ts";
import { until } from "../support/until.ts";

export const PARTS_FILE = import.meta.filename;
const KEY = "reading";
/** Bytes of a reading: its number in front. */
const READING_BYTES = 44;
/** Values above this are times (Unix ms); the others are counters. */
const STAMP = 1e12;
const STAMP_MASK = 63;

const idOf = (index: number): string => `sensor-${String(index).padStart(5, "0")}`;

/** Nodes of a pusher: `fill` is how many bytes of labels each has, for large snapshots. */
export interface Nodes {
  readonly door: Door;
  readonly nodes: number;
  readonly fill: number;
  /** Only with what the version before knows: a hub refuses requests with fields of a later one. */
  readonly plain: boolean;
}

function sensor(index: number, fill: number): NodeInit {
  const labels: Record<string, string> = {};
  // Neighbours differ, so that they do not vanish in the compression.
  for (let i = 0; i * 64 < fill; i++)
    labels[`label-${i}`] = Array.from({ length: 3 }, (_, j) => Math.imul(index * 31 + i * 7 + j + 1, 2_654_435_761).toString(36)).join("");
  return { nodeId: idOf(index), type: "sensor", labels, capabilities: [{ name: KEY, type: ValueType.BYTES, readable: true }] };
}

/** Sent is what a pusher was told to be durable: the last value of each node. */
export interface Sent {
  readonly count: number;
  readonly last: readonly number[];
}

async function pusher({ door, nodes, fill, plain }: Nodes): Promise<(run: { seconds: number }) => Promise<Sent>> {
  const registry = RegistryClient.connect(openDoor(RegistrySyncService, "registry-sync", door));
  await registry.registerAll(Array.from({ length: nodes }, (_, index) => sensor(index, fill)));
  if (plain) return ({ seconds }) => pushPlain(registry, nodes, seconds);
  const updater = registry.updater();
  const fields = Array.from({ length: nodes }, (_, index) => updater.field(idOf(index), KEY, VALUE_TYPE.BYTES));
  const last = new Float64Array(nodes);
  const bytes = Buffer.alloc(READING_BYTES, 7);
  let count = 0;
  return async ({ seconds }) => {
    const from = count;
    const end = systemClock.mono() + seconds * 1_000;
    for (let node = 0; (count & 255) !== 0 || systemClock.mono() < end; node = node + 1 === nodes ? 0 : node + 1) {
      const value = (count & STAMP_MASK) === 0 ? preciseWall() : count;
      count++;
      last[node] = value;
      bytes.writeDoubleLE(value, 0);
      if (!updater.setField(fields[node] as number, bytes)) await updater.writable();
    }
    await updater.drain();
    return { count: count - from, last: [...last] };
  };
}

/** Batches that a plain pusher has under way. */
const PLAIN_AHEAD = 8;

/** pushPlain names nodes and keys in every update. */
async function pushPlain({ client }: RegistryClient, nodes: number, seconds: number): Promise<Sent> {
  const stream = client.updateState();
  const last = new Float64Array(nodes);
  const end = systemClock.mono() + seconds * 1_000;
  let [sent, acked] = [0, 0];
  let room = Promise.withResolvers<void>();
  const read = (async () => {
    for await (const { frame } of stream.responses) {
      if (frame.case === "refused") throw new Error(`refused: ${frame.value.failure?.message}`);
      if (frame.case !== "ack") continue;
      acked = Number(frame.value.seq);
      room.resolve();
    }
  })();
  for (let count = 1; systemClock.mono() < end; ) {
    const updates = Array.from({ length: 500 }, () => {
      const node = count % nodes;
      const bytes = Buffer.alloc(READING_BYTES, 7);
      bytes.writeDoubleLE(count, 0);
      last[node] = count++;
      return create(NamedUpdateSchema, { nodeId: idOf(node), key: KEY, value: { kind: { case: "bytesValue", value: bytes } } });
    });
    stream.send(create(UpdateStateRequestSchema, { frame: { case: "named", value: { seq: BigInt(++sent), updates } } }));
    while (sent - acked >= PLAIN_AHEAD) {
      room = Promise.withResolvers();
      await Promise.race([room.promise, read]);
    }
  }
  stream.end();
  await read;
  return { count: sent * 500, last: [...last] };
}

/** Look tells a viewer to begin to measure, or what it must come to see and by when. */
export type Look = { readonly do: "begin" } | { readonly do: "finish"; readonly last: readonly number[]; readonly withinMs: number };

/** Seen is what a viewer saw. `missing` nodes have not the last value that was acknowledged to their owner. */
export interface Seen {
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Longest time in which nothing came, while something was still missing. */
  readonly silentMs: number;
  readonly missing: number;
  readonly updates: number;
}

/** plainViewer looks only whether in the end everything is there. */
function plainViewer({ client }: RegistryClient, hub: string): (look: Look) => Promise<Seen> {
  const missing = async (last: readonly number[]): Promise<number> => {
    const values = new Map<string, number>();
    for (let pageToken = "", more = true; more; more = pageToken !== "") {
      const page = await client.listNodes(create(ListNodesRequestSchema, { filter: { hubIds: [hub] }, pageSize: 1_000, pageToken }));
      for (const { name, state } of page.records) values.set(name?.nodeId ?? "", numberIn(state[0]?.value?.kind.value));
      pageToken = page.nextPageToken;
    }
    return last.filter((value, index) => values.get(idOf(index)) !== value).length;
  };
  return async (look) => {
    const seen = { p50Ms: 0, p99Ms: 0, silentMs: 0, missing: 0, updates: 0 };
    if (look.do === "begin") return seen;
    await until("everything that was acknowledged", async () => (await missing(look.last)) === 0, look.withinMs).catch(() => undefined);
    return { ...seen, missing: await missing(look.last) };
  };
}

function numberIn(value: unknown): number {
  return value instanceof Uint8Array ? Buffer.from(value.buffer, value.byteOffset, 8).readDoubleLE(0) : 0;
}

async function viewer({ door, hub, plain }: { door: Door; hub: string; plain: boolean }): Promise<(look: Look) => Promise<Seen>> {
  const registry = RegistryClient.connect(openDoor(RegistrySyncService, "registry-sync", door));
  if (plain) return plainViewer(registry, hub);
  let delays: number[] = [];
  let [heardAt, silentMs, updates] = [systemClock.mono(), 0, 0];
  const heard = (): void => {
    silentMs = Math.max(silentMs, systemClock.mono() - heardAt);
    heardAt = systemClock.mono();
  };
  const mirror = registry.mirror({
    hubIds: [hub],
    onBatch: (feed, batch) => {
      if (feed.hubId !== hub) return;
      heard();
      updates += batch.count;
      stamps(batch, delays);
    },
    onNode: heard,
    onReplaced: heard,
  });
  await mirror.ready;
  const valueOf = (index: number): number => {
    if (mirror.node(hub, idOf(index)) === undefined) return Number.NaN;
    return numberIn(mirror.state(hub, idOf(index)).find(({ key }) => key === KEY)?.value);
  };
  return async (look) => {
    if (look.do === "begin") {
      delays = [];
      [heardAt, silentMs, updates] = [systemClock.mono(), 0, 0];
      return { p50Ms: 0, p99Ms: 0, silentMs: 0, missing: 0, updates: 0 };
    }
    const missing = (): number => look.last.filter((value, index) => valueOf(index) !== value).length;
    await until("everything that was acknowledged", () => missing() === 0, look.withinMs).catch(() => undefined);
    const left = missing();
    if (left > 0) heard();
    const { p50, p99 } = delays.length === 0 ? { p50: 0, p99: 0 } : quantiles(delays);
    return { p50Ms: p50, p99Ms: p99, silentMs, missing: left, updates };
  };
}

/** stamps takes the times that a batch of readings carries. */
function stamps({ data, len }: UpdateBatch, delays: number[]): void {
  const now = preciseWall();
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  for (let at = 0, i = 0; i < len.length; at += len[i++] as number) {
    const value = view.getFloat64(at, true);
    if (value > STAMP) delays.push(now - value);
  }
}

const ACTUATOR = "actuator";

async function device({ door }: { door: Door }): Promise<() => Promise<number>> {
  const registry = RegistryClient.connect(openDoor(RegistrySyncService, "registry-sync", door));
  const capabilities = [{ name: "set", type: ValueType.STRING, readable: true, invocable: true }];
  await registry.registerAll([{ nodeId: ACTUATOR, type: "actuator", capabilities }]);
  const attached = Promise.withResolvers<void>();
  let ran = 0;
  new ExecutorClient(openDoor(CommandForwardingService, "command-forwarding", door), {
    nodeIds: [ACTUATOR],
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

/** Orders tell a caller what to do: keep so many commands of that size in flight, for so long. */
export interface Orders {
  readonly seconds: number;
  readonly inFlight: number;
  readonly bytes: number;
}

/** Answered is what became of commands. `silentMs` is the longest time without any answer. */
export interface Answered {
  readonly done: number;
  readonly other: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly silentMs: number;
}

async function caller({ door, hub }: { door: Door; hub: string }): Promise<(orders: Orders) => Promise<Answered>> {
  const stream = new CommandStream(openDoor(CommandForwardingService, "command-forwarding", door));
  return async ({ seconds, inFlight, bytes }) => {
    const command = { hubId: hub, nodeId: ACTUATOR, capability: "set", value: "x".repeat(bytes), timeoutMs: 30_000 };
    const end = systemClock.mono() + seconds * 1_000;
    const delays: number[] = [];
    let [other, silentMs, heardAt] = [0, 0, systemClock.mono()];
    const lane = async (): Promise<void> => {
      while (systemClock.mono() < end) {
        const sentAt = systemClock.mono();
        const { outcome } = await stream.execute(command);
        const now = systemClock.mono();
        silentMs = Math.max(silentMs, now - heardAt);
        heardAt = now;
        if (outcome === OUTCOME.DONE) delays.push(now - sentAt);
        else {
          other++;
          // A hub that has no session refuses at once.
          await new Promise((resolve) => systemClock.setTimer(20, () => resolve(undefined)));
        }
      }
    };
    await Promise.all(Array.from({ length: inFlight }, lane));
    const { p50, p99 } = quantiles(delays);
    return { done: delays.length, other, p50Ms: p50, p99Ms: p99, silentMs };
  };
}

await runRole({ pusher, viewer, device, caller });
