import { clone, create, toBinary } from "@bufbuild/protobuf";
import type { ClientOf } from "#channel/call.ts";
import { systemEntropy } from "#channel/entropy.ts";
import { failureFromProto } from "#channel/failure.ts";
import { reasonRule } from "#channel/status.ts";
import { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { type StreamOpen, StreamOpenSchema } from "#gen/foedus/common/v1/stream_pb.ts";
import type { NodeResult, RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { type Failure, FoedusError, fail, type Reason } from "#kernel/error.ts";
import { KeptNodes, type NodeInit, pagesOf } from "./kept-nodes.ts";
import { callProgram, tellError } from "./kept-stream.ts";
import { Mirror, type MirrorOptions } from "./mirror.ts";
import { Updater } from "./updater.ts";
import type { UpdaterOptions } from "./updater-options.ts";

export type { UpdateBatch, ValueType } from "../../services/registry-sync/ports.ts";
export { VALUE_TYPE } from "../../services/registry-sync/ports.ts";
export type { NodeEntry } from "../../services/registry-sync/table/table.ts";
export type { NodeInit } from "./kept-nodes.ts";
export type { MirrorFeed, MirrorHub, MirrorOptions } from "./mirror.ts";
export { Mirror, NO_SLOT, numbersOf } from "./mirror.ts";
export { Updater } from "./updater.ts";
export type { Refusal, SetValue, UpdaterOptions } from "./updater-options.ts";

/** RegisteringOptions are those of an updater that also registers the nodes that it updates. */
export interface RegisteringOptions extends Omit<UpdaterOptions, "prepare"> {
  /**
   * Registered at once, and again on every new stream, with the nodes that this client registers later and without those that it
   * deregisters: a hub that lost its store, or got an older one back, has forgotten them. For one that knows them this changes nothing.
   * A node that is refused is told to `onRefused`, or to `onError` without that, and keeps no other from being registered.
   */
  readonly nodes?: readonly NodeInit[];
}

/** Reasons of what a message has in it: the same nodes in another call may be taken. */
const OF_CONTENT: ReadonlySet<Reason> = new Set<Reason>(["INVALID_FIELD", "VALUE_OUT_OF_RANGE", "MESSAGE_TOO_LARGE"]);

/** How often a call that others overtook on their way is made again. */
const OVERTAKEN_MAX = 8;

/**
 * RegistryClient is what nodes, gateways and tools use of a hub's registry: register nodes, send their state, mirror what is known.
 * Failures are FoedusError.
 */
export class RegistryClient {
  readonly client: ClientOf<typeof RegistrySyncService>;
  readonly #updaters = new Set<Updater>();
  readonly #mirrors = new Set<Mirror>();
  readonly #kept = new KeptNodes();
  /** Numbers the calls that change nodes. */
  readonly #group = systemEntropy.bytes(16);
  #calls = 0;

  private constructor(client: ClientOf<typeof RegistrySyncService>) {
    this.client = client;
  }

  /** connect uses a client of the RPC layer, remote or local; it stays the caller's to close. */
  static connect(client: ClientOf<typeof RegistrySyncService>): RegistryClient {
    return new RegistryClient(client);
  }

  /** registerNode adds or replaces one node. */
  async registerNode(init: NodeInit): Promise<void> {
    // A copy: the call may have to wait for an earlier one, and the program may go on with its message meanwhile.
    const node = clone(NodeSchema, create(NodeSchema, init));
    const call = () =>
      this.#ordered((order) => this.client.registerNode({ $typeName: "foedus.registry_sync.v1alpha1.RegisterNodeRequest", node, order }));
    await this.#kept.change([node.nodeId], call, () => this.#kept.put(node));
    this.#registered(node.nodeId);
  }

  /** registerNodes adds or replaces many; the answer has one result per node, in order. */
  async registerNodes(nodes: readonly NodeInit[]): Promise<NodeResult[]> {
    const all: NodeResult[] = [];
    const messages = nodes.map((node) => clone(NodeSchema, create(NodeSchema, node)));
    for (const page of pagesOf(messages, (node) => toBinary(NodeSchema, node).length)) {
      const ids = page.map(({ nodeId }) => nodeId);
      const call = () =>
        this.#ordered((order) =>
          this.client.registerNodes({ $typeName: "foedus.registry_sync.v1alpha1.RegisterNodesRequest", nodes: page, order }),
        );
      const { results } = await this.#kept.change(ids, call, (answer) => {
        for (const [at, node] of page.entries()) if (answer.results[at]?.failure === undefined) this.#kept.put(node);
      });
      all.push(...results);
    }
    for (const { nodeId, failure } of all) if (failure === undefined) this.#registered(nodeId);
    return all;
  }

  /** registerAll is `registerNodes` that throws the first failure. */
  async registerAll(nodes: readonly NodeInit[]): Promise<void> {
    for (const { nodeId, failure } of await this.registerNodes(nodes)) {
      if (failure === undefined) continue;
      const { reason, message, field } = failureFromProto(failure);
      throw fail(reason, `${nodeId}: ${message}`, field === undefined ? {} : { field });
    }
  }

  /** deregisterNode removes a node; false if there was none. */
  async deregisterNode(nodeId: string): Promise<boolean> {
    let existed = false;
    const call = () =>
      this.#ordered((order) =>
        this.client.deregisterNode({ $typeName: "foedus.registry_sync.v1alpha1.DeregisterNodeRequest", nodeId, order }),
      );
    await this.#kept.change([nodeId], call, (answer) => {
      existed ||= answer.existed;
      this.#kept.remove(nodeId);
    });
    return existed;
  }

  /** updater opens a stream of state changes; with `nodes` it keeps these registered. */
  updater({ nodes, ...options }: RegisteringOptions = {}): Updater {
    if (nodes !== undefined) this.#kept.start(nodes);
    const told = new Set<string>();
    const prepare = nodes === undefined ? {} : { prepare: () => this.#keep(told, options) };
    const updater = new Updater(this.client, { ...options, ...prepare });
    this.#updaters.add(updater);
    updater.whenOver(() => this.#updaters.delete(updater));
    return updater;
  }

  /** mirror keeps a copy of the registry. */
  mirror(options: MirrorOptions = {}): Mirror {
    const mirror = new Mirror(this.client, options);
    this.#mirrors.add(mirror);
    mirror.whenOver(() => this.#mirrors.delete(mirror));
    return mirror;
  }

  /** close ends the updaters and mirrors that were made here. */
  close(): void {
    for (const updater of this.#updaters) updater.close();
    for (const mirror of this.#mirrors) mirror.close();
    this.#updaters.clear();
    this.#mirrors.clear();
  }

  /**
   * keep registers all nodes that are kept, and throws what another attempt may mend. `told` are those that were refused for good in the
   * attempts before: they are left out, so that each attempt has less to do.
   */
  async #keep(told: Set<string>, { onRefused, onError }: UpdaterOptions): Promise<void> {
    const tell = (nodeId: string, failure: Failure): void => {
      if (told.has(nodeId)) return;
      told.add(nodeId);
      if (onRefused === undefined) tellError(onError, fail(failure.reason, `${nodeId}: ${failure.message}`));
      else callProgram(onError, onRefused, { nodeId, key: "", failure });
    };
    for (const [nodeId, { failure }] of this.#kept.unsendable()) tell(nodeId, failure);
    for (const page of this.#kept.pages()) {
      const ids = page.filter((nodeId) => !told.has(nodeId));
      await this.#keepPage(ids, tell);
    }
    told.clear();
  }

  /** keepPage registers some of them. A call that is refused for its content is made again in halves, until the nodes at fault are alone. */
  async #keepPage(ids: readonly string[], tell: (nodeId: string, failure: Failure) => void): Promise<void> {
    try {
      const answer = await this.#kept.repeat(ids, (nodes) =>
        this.#ordered((order) =>
          this.client.registerNodes({ $typeName: "foedus.registry_sync.v1alpha1.RegisterNodesRequest", nodes: [...nodes], order }),
        ),
      );
      for (const { nodeId, failure: said } of answer?.results ?? []) {
        const failure = said && failureFromProto(said);
        if (failure === undefined) this.#registered(nodeId);
        else if (reasonRule(failure.reason).retryable) throw fail(failure.reason, `${nodeId}: ${failure.message}`);
        else tell(nodeId, failure);
      }
    } catch (error) {
      if (!(error instanceof FoedusError) || !OF_CONTENT.has(error.failure.reason)) throw error;
      if (ids.length === 1) return tell(ids[0] as string, error.failure);
      await this.#keepPage(ids.slice(0, ids.length / 2), tell);
      await this.#keepPage(ids.slice(ids.length / 2), tell);
    }
  }

  /**
   * ordered numbers a call: what the network holds back of it counts for nothing once the hub has taken a newer one. One that another
   * overtook on its way is made again, as calls for the same node wait for each other here.
   */
  async #ordered<T>(call: (order: StreamOpen) => Promise<T>): Promise<T> {
    for (let overtaken = 0; ; overtaken++) {
      try {
        return await call(create(StreamOpenSchema, { group: this.#group, incarnation: 1n, n: BigInt(++this.#calls) }));
      } catch (error) {
        if (overtaken === OVERTAKEN_MAX || !(error instanceof FoedusError) || error.failure.reason !== "SESSION_REPLACED") throw error;
      }
    }
  }

  #registered(nodeId: string): void {
    for (const updater of this.#updaters) updater.registered(nodeId);
  }
}
