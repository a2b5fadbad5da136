// SIGKILL in the middle of a load of acknowledged writes and commands, twenty times, alternately at the owner and at the peer.
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Node, NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { ListNodesRequestSchema, type NodeRecord } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import { Prng } from "#kernel/prng.ts";
import { sleep, systemClock } from "#runtime/clock.ts";
import { CommandStream, ExecutorClient, OUTCOME } from "../../services/command-forwarding/client.ts";
import { Updater } from "../../services/registry-sync/client.ts";
import { register, stateOf } from "../support/acts.ts";
import { type Clients, Federation, until } from "../support/federation.ts";

const KILLS = 20;
const METERS = 16;
/** Commands under way at a time: enough that each kill meets some in every state. */
const IN_FLIGHT = 8;

const meter = (nodeId: string): Node =>
  create(NodeSchema, {
    nodeId,
    type: "meter",
    capabilities: [
      { name: "count", type: ValueType.DOUBLE, readable: true },
      { name: "order", type: ValueType.STRING, readable: true, invocable: true },
    ],
  });

/** everything lists all nodes of a hub as another one knows them, by id. */
async function everything(clients: Clients, hubId: string): Promise<Map<string, NodeRecord>> {
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

/** Load writes to the owner and commands its nodes from the peer, and remembers what each was told. */
class Load {
  /** Newest acknowledged count per meter. */
  readonly counts = new Map<string, number>();
  /** Nodes whose registration was acknowledged. */
  readonly registered = new Set<string>();
  /** How often each command had its effect. */
  readonly effects = new Map<string, number>();
  /** Commands by what their caller was told. */
  readonly done = new Set<string>();
  readonly unsure = new Set<string>();
  /** Rises with everything that is acknowledged. */
  progress = 0;
  #stopped = false;
  readonly #owner: Clients;
  readonly #updater: Updater;
  readonly #executor: ExecutorClient;
  readonly #commands: CommandStream;
  readonly #running: Promise<void>[] = [];

  constructor(owner: Clients, peer: Clients, nodeIds: readonly string[]) {
    this.#owner = owner;
    this.#updater = new Updater(owner.registry);
    this.#commands = new CommandStream(peer.commands);
    this.#executor = new ExecutorClient(owner.commands, {
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
        await register(this.#owner, meter(nodeId));
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
    for (let n = 1; !this.#stopped; n++) await this.send(`${lane}.${n}`, nodeIds[(lane + n) % nodeIds.length] ?? "");
  }

  /** send runs the command of that name, which is its idempotency key as well. */
  async send(name: string, nodeId: string): Promise<void> {
    const command = { hubId: "factory", nodeId, capability: "order", value: name, timeoutMs: 2_000, idempotencyKey: name };
    const { outcome } = await this.#commands.execute(command);
    if (outcome === OUTCOME.DONE) {
      this.done.add(name);
      this.progress++;
    } else {
      this.unsure.add(name);
      await sleep(systemClock, 20);
    }
  }

  /** stop ends the load and resolves when nothing is under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#running);
  }

  close(): void {
    this.#updater.close();
    this.#commands.close();
    this.#executor.close();
  }
}

describe("SIGKILL under load", () => {
  const meters = Array.from({ length: METERS }, (_, i) => `meter-${i}`);
  let federation: Federation;
  let load: Load;
  let owner: Clients;
  let peer: Clients;

  beforeAll(async () => {
    const config = { discovery: { backoff_base_ms: 100, backoff_max_ms: 1_000 } };
    federation = await Federation.start({
      hubs: [
        { id: "home", peers: [{ hub: "factory" }], config },
        { id: "factory", peers: [{ hub: "home" }], config },
      ],
    });
    await federation.operational();
    owner = federation.hub("factory").clients("gateway-zigbee");
    peer = federation.hub("home").clients();
    await register(owner, ...meters.map(meter));
    load = new Load(owner, peer, meters);
    await until("the first commands", () => load.done.size > 10);
  }, 60_000);

  afterAll(async () => {
    load?.close();
    await federation?.stop();
  });

  /** missing lists what was acknowledged and is not there: values may be newer, never older. */
  const missing = (
    records: ReadonlyMap<string, NodeRecord>,
    counts: ReadonlyMap<string, number>,
    registered: ReadonlySet<string>,
  ): string[] => [
    ...[...counts]
      .filter(([nodeId, n]) => Number(stateOf(records.get(nodeId), "count") ?? 0) < n)
      .map(([nodeId, n]) => `${nodeId} lost count ${n}`),
    ...[...registered].filter((nodeId) => !records.has(nodeId)).map((nodeId) => `${nodeId} is not registered`),
  ];

  test(`S0-17 D-8 ${KILLS} kills: nothing acknowledged is lost at the owner, and the peer converges to the same`, async () => {
    const prng = new Prng(20);
    for (let kill = 0; kill < KILLS; kill++) {
      const victim = federation.hub(kill % 2 === 0 ? "factory" : "home");
      const from = load.progress;
      // The moment of the kill differs from round to round, always with writes under way.
      const more = 5 + prng.below(40);
      await until(`progress before kill ${kill + 1}`, () => load.progress >= from + more, 20_000);
      await victim.end("SIGKILL");
      const counts = new Map(load.counts);
      const registered = new Set(load.registered);
      await victim.start();
      const held = await until("the owner answering", () => everything(owner, "factory"));
      expect(missing(held, counts, registered)).toEqual([]);
      await until(
        `the peer converging after kill ${kill + 1}`,
        async () => {
          const lost = missing(await everything(peer, "factory"), counts, registered);
          if (lost.length > 0) throw new Error(lost.slice(0, 5).join("; "));
          return true;
        },
        20_000,
      );
    }
  }, 300_000);

  test("then both hold exactly the same", async () => {
    await load.stop();
    const own = await everything(owner, "factory");
    expect(own.size).toBeGreaterThanOrEqual(METERS + load.registered.size);
    const view = (records: ReadonlyMap<string, NodeRecord>) =>
      [...records].map(([nodeId, record]) => `${nodeId} ${String(stateOf(record, "count"))}`).sort();
    await until("both the same", async () => view(await everything(peer, "factory")).join() === view(own).join());
    for (const [nodeId, n] of load.counts) expect(stateOf(own.get(nodeId), "count")).toBe(n);
  }, 30_000);

  test("S0-15 no command ran twice, also when it is sent again under its key; each that was DONE ran", async () => {
    expect(load.done.size).toBeGreaterThan(KILLS);
    expect(load.unsure.size).toBeGreaterThan(0);
    const again = [...load.unsure];
    for (let i = 0; i < again.length; i += 64) await Promise.all(again.slice(i, i + 64).map((name) => load.send(name, nodeOf(name))));
    expect([...load.effects].filter(([, times]) => times !== 1)).toEqual([]);
    expect([...load.done].filter((name) => !load.effects.has(name))).toEqual([]);
  }, 60_000);

  /** nodeOf is the node that a command of that name went to: the same command again means the same target. */
  function nodeOf(name: string): string {
    const [lane, n] = name.split(".").map(Number) as [number, number];
    return meters[(lane + n) % meters.length] ?? "";
  }
});
