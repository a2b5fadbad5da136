// A load of acknowledged writes and commands that remembers what it was told, for tests that kill, cut, restart and upgrade.

import { create } from "@bufbuild/protobuf";
import { systemClock } from "#channel/clock.ts";
import { type Node, NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { ListNodesRequestSchema, type NodeRecord } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import { sleep } from "#runtime/clock.ts";
import { Hub, type Updater } from "../../clients/typescript/index.ts";
import { register, stateOf } from "./acts.ts";
import type { Clients } from "./federation.ts";

/** Commands under way at a time: enough that each kill meets some in every state. */
const IN_FLIGHT = 8;

/** Wait of a lane after each command: a hub keeps idempotency keys for a day, and has room for so many. */
const PACE_MS = 20;

/** meter is a device with a count to write and an order to command. */
export const meter = (nodeId: string): Node =>
  create(NodeSchema, {
    nodeId,
    type: "meter",
    capabilities: [
      { name: "count", type: ValueType.DOUBLE, readable: true },
      { name: "order", type: ValueType.STRING, readable: true, invocable: true },
    ],
  });

/** everything lists all nodes of a hub as another one knows them, by id. */
export async function everything(clients: Clients, hubId: string): Promise<Map<string, NodeRecord>> {
  const records = new Map<string, NodeRecord>();
  for (let pageToken = ""; ; ) {
    const page = await clients.registry.listNodes(
      create(ListNodesRequestSchema, { filter: { hubIds: [hubId] }, pageSize: 1_000, pageToken }),
    );
    for (const record of page.records) records.set(record.name?.nodeId ?? "", record);
    pageToken = page.nextPageToken;
    if (pageToken === "") return records;
  }
}

/** missing lists what was acknowledged and is not there: values may be newer, never older. */
export function missing(
  records: ReadonlyMap<string, NodeRecord>,
  counts: ReadonlyMap<string, number>,
  registered: ReadonlySet<string>,
): string[] {
  return [
    ...[...counts]
      .filter(([nodeId, n]) => Number(stateOf(records.get(nodeId), "count") ?? 0) < n)
      .map(([nodeId, n]) => `${nodeId} lost count ${n}`),
    ...[...registered].filter((nodeId) => !records.has(nodeId)).map((nodeId) => `${nodeId} is not registered`),
  ];
}

/** Load writes to the owner and commands its nodes from the peer, and remembers what each was told. */
export class Load {
  /** Newest acknowledged count per meter. */
  readonly counts = new Map<string, number>();
  /** Nodes whose registration was acknowledged. */
  readonly registered = new Set<string>();
  /** How often each command had its effect. */
  readonly effects = new Map<string, number>();
  /** Commands by what their caller was told. */
  readonly done = new Set<string>();
  readonly unsure = new Set<string>();
  /** Why the last command that was not done was not done. */
  refusal = "";
  /** Rises with everything that is acknowledged. */
  progress = 0;
  #stopped = false;
  /** With which nodes are registered, at hubs of an earlier version too. */
  readonly #nodes: Clients;
  readonly #owner: Hub;
  readonly #peer: Hub;
  readonly #updater: Updater;
  readonly #running: Promise<void>[] = [];

  constructor(owner: Clients, peer: Clients, nodeIds: readonly string[]) {
    this.#nodes = owner;
    this.#owner = Hub.over(owner);
    this.#peer = Hub.over(peer);
    this.#updater = this.#owner.updater();
    this.#owner.serve({
      nodeIds,
      backoff: { baseMs: 50, maxMs: 500, factor: 2, jitter: 0.5 },
      run: ({ value }) => {
        const name = String(value);
        this.effects.set(name, (this.effects.get(name) ?? 0) + 1);
        return { value: name };
      },
    });
    this.#running.push(this.#write(nodeIds), this.#enrol());
    for (let i = 0; i < IN_FLIGHT; i++) this.#running.push(this.#command(i, nodeIds));
  }

  async #write(nodeIds: readonly string[]): Promise<void> {
    for (let n = 1; !this.#stopped; n++) {
      for (const nodeId of nodeIds) this.#updater.set(nodeId, "count", n);
      await this.#updater.drain();
      for (const nodeId of nodeIds) this.counts.set(nodeId, n);
      this.progress++;
    }
  }

  async #enrol(): Promise<void> {
    for (let n = 1; !this.#stopped; n++) {
      const nodeId = `late-${n}`;
      try {
        await register(this.#nodes, meter(nodeId));
        this.registered.add(nodeId);
        this.progress++;
      } catch (error) {
        // Not acknowledged: it may be there or not. Anything but an error of the transport or the hub's own words is a bug.
        if (!(error instanceof FoedusError)) throw error;
      }
      await sleep(systemClock, 20);
    }
  }

  async #command(lane: number, nodeIds: readonly string[]): Promise<void> {
    for (let n = 1; !this.#stopped; n++) {
      await this.send(`${lane}.${n}`, nodeIds[(lane + n) % nodeIds.length] ?? "");
      await sleep(systemClock, PACE_MS);
    }
  }

  /** send runs the command of that name, which is its idempotency key as well. */
  async send(name: string, nodeId: string): Promise<void> {
    const command = { hubId: "factory", nodeId, capability: "order", value: name, timeoutMs: 2_000, idempotencyKey: name };
    const { outcome, failure } = await this.#peer.execute(command);
    if (outcome === "DONE") {
      this.done.add(name);
      this.progress++;
    } else {
      this.unsure.add(name);
      this.refusal = `${outcome}: ${failure?.message ?? ""}`;
    }
  }

  /** stop ends the load and resolves when nothing is under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#running);
  }

  close(): void {
    this.#owner.close();
    this.#peer.close();
  }
}
