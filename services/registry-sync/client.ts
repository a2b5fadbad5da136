import type { MessageInitShape } from "@bufbuild/protobuf";
import { create, toBinary } from "@bufbuild/protobuf";
import { type Node, NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import type { NodeResult, RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { fail } from "#kernel/error.ts";
import { LIMITS } from "#kernel/limits.ts";
import type { ClientOf } from "#runtime/rpc/call.ts";
import { failureFromProto } from "#runtime/rpc/failure.ts";
import { callProgram, tellError } from "#runtime/rpc/kept-stream.ts";
import { reasonRule } from "#runtime/rpc/status.ts";
import { Mirror, type MirrorOptions } from "./mirror.ts";
import { Updater, type UpdaterOptions } from "./updater.ts";

export type { MirrorFeed, MirrorHub, MirrorOptions } from "./mirror.ts";
export { Mirror, NO_SLOT, numbersOf } from "./mirror.ts";
export type { UpdateBatch, ValueType } from "./ports.ts";
export { VALUE_TYPE } from "./ports.ts";
export type { NodeEntry } from "./table.ts";
export type { Refusal, SetValue, UpdaterOptions } from "./updater.ts";
export { Updater } from "./updater.ts";

/** NodeInit is a node as it is written in code. */
export type NodeInit = MessageInitShape<typeof NodeSchema>;

/** RegisteringOptions are those of an updater that also registers the nodes that it updates. */
export interface RegisteringOptions extends Omit<UpdaterOptions, "prepare"> {
  /**
   * Registered at once, and again on every new stream: a hub that lost its store, or got an older one back, has forgotten them. For one
   * that knows them this changes nothing. A node that is refused is told to `onRefused`, or to `onError` without that.
   */
  readonly nodes?: readonly NodeInit[];
}

/** Nodes in one RegisterNodes call, and the bytes that each may take besides its own. */
const PAGE = 500;
const NODE_OVERHEAD = 8;

/** pagesOf cuts nodes into calls that are small enough; a node that is too long goes alone, and is refused alone. */
function* pagesOf(nodes: readonly NodeInit[]): Iterable<Node[]> {
  let page: Node[] = [];
  let bytes = 0;
  for (const init of nodes) {
    const node = create(NodeSchema, init);
    const length = toBinary(NodeSchema, node).length + NODE_OVERHEAD;
    if (page.length === PAGE || (page.length > 0 && bytes + length > LIMITS.messageBytes)) {
      yield page;
      page = [];
      bytes = 0;
    }
    page.push(node);
    bytes += length;
  }
  if (page.length > 0) yield page;
}

/**
 * RegistryClient is what nodes, gateways and tools use of a hub's registry: register nodes, send their state, mirror what is known.
 * Failures are FoedusError.
 */
export class RegistryClient {
  readonly client: ClientOf<typeof RegistrySyncService>;
  readonly #updaters = new Set<Updater>();
  readonly #mirrors = new Set<Mirror>();

  private constructor(client: ClientOf<typeof RegistrySyncService>) {
    this.client = client;
  }

  /** connect uses a client of the RPC layer, remote or local; it stays the caller's to close. */
  static connect(client: ClientOf<typeof RegistrySyncService>): RegistryClient {
    return new RegistryClient(client);
  }

  /** registerNode adds or replaces one node. */
  async registerNode(node: NodeInit): Promise<void> {
    await this.client.registerNode({ $typeName: "foedus.registry_sync.v1alpha1.RegisterNodeRequest", node: create(NodeSchema, node) });
    this.#registered(node.nodeId ?? "");
  }

  /** registerNodes adds or replaces many; the answer has one result per node, in order. */
  async registerNodes(nodes: readonly NodeInit[]): Promise<NodeResult[]> {
    const results: NodeResult[] = [];
    for (const page of pagesOf(nodes)) {
      const answer = await this.client.registerNodes({ $typeName: "foedus.registry_sync.v1alpha1.RegisterNodesRequest", nodes: page });
      results.push(...answer.results);
    }
    for (const { nodeId, failure } of results) if (failure === undefined) this.#registered(nodeId);
    return results;
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
    return (await this.client.deregisterNode({ $typeName: "foedus.registry_sync.v1alpha1.DeregisterNodeRequest", nodeId })).existed;
  }

  /** updater opens a stream of state changes; with `nodes` it keeps these registered. */
  updater({ nodes, ...options }: RegisteringOptions = {}): Updater {
    const prepare = nodes === undefined ? {} : { prepare: () => this.#keep(nodes, options) };
    const updater = new Updater(this.client, { ...options, ...prepare });
    this.#updaters.add(updater);
    return updater;
  }

  /** mirror keeps a copy of the registry. */
  mirror(options: MirrorOptions = {}): Mirror {
    const mirror = new Mirror(this.client, options);
    this.#mirrors.add(mirror);
    return mirror;
  }

  /** close ends the updaters and mirrors that were made here. */
  close(): void {
    for (const updater of this.#updaters) updater.close();
    for (const mirror of this.#mirrors) mirror.close();
    this.#updaters.clear();
    this.#mirrors.clear();
  }

  /** keep registers nodes, and throws what another attempt may mend. */
  async #keep(nodes: readonly NodeInit[], { onRefused, onError }: UpdaterOptions): Promise<void> {
    for (const { nodeId, failure: said } of await this.registerNodes(nodes)) {
      if (said === undefined) continue;
      const failure = failureFromProto(said);
      const error = fail(failure.reason, `${nodeId}: ${failure.message}`);
      if (reasonRule(failure.reason).retryable) throw error;
      if (onRefused === undefined) tellError(onError, error);
      else callProgram(onError, onRefused, { nodeId, key: "", failure });
    }
  }

  #registered(nodeId: string): void {
    for (const updater of this.#updaters) updater.registered(nodeId);
  }
}
