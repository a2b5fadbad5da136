import type { Failure } from "#kernel/error.ts";
import type { Freshness } from "#kernel/freshness.ts";
import { isNodeId, nodeKey, resolveNode } from "#kernel/node-name.ts";
import { checkValue } from "../codec/value.ts";
import type { AgentPlaces, CapabilityInfo, Command, DirectoryChange } from "../messages.ts";
import type { NodeTable, TableNode } from "../ports.ts";
import { ReadCapabilities } from "./read-capabilities.ts";
import { ToldNodes } from "./told-nodes.ts";

/** checkShape checks what the schema's rules say, for commands that come on paths where nobody else does. */
export function checkShape(command: Command): Failure | undefined {
  const invalid = (field: string, message: string): Failure => ({ reason: "INVALID_FIELD", message, field });
  if (!isNodeId(command.nodeId))
    return invalid("command.target.node_id", "node id is not 1 to 63 characters of letters, digits, '.', '_', ':' and '-'");
  if (command.hubId.length > 63) return invalid("command.target.hub_id", "hub id is longer than 63 characters");
  if (command.capability === "" || command.capability.length > 127)
    return invalid("command.capability", "capability is not 1 to 127 characters");
  if (command.key.length > 127) return invalid("command.idempotency_key", "key is longer than 127 characters");
  return command.timeoutMs <= TIMEOUT_MAX_MS ? undefined : invalid("command.timeout_ms", `timeout is longer than ${TIMEOUT_MAX_MS} ms`);
}

const TIMEOUT_MAX_MS = 3_600_000;

/** RoutedNode is a node as routing sees it, for the time of one step. */
export interface RoutedNode {
  readonly hubId: string;
  readonly nodeId: string;
  readonly online: boolean;
  readonly capabilities: ReadonlyMap<string, CapabilityInfo>;
}

/** Target is where a command goes. */
export interface Target {
  readonly node: RoutedNode;
  readonly capability: CapabilityInfo;
}

/** isTarget tells a Target from the Failure that routing answered instead. */
export function isTarget(answer: Target | Failure): answer is Target {
  return "node" in answer;
}

/**
 * Directory is what commands know of nodes: asked on every command, on both hubs. It reads a table that another part of this process
 * keeps, or keeps one itself out of the changes that it is told. It decides what a name means and whether a command is sound; who may
 * invoke it and who runs it is decided elsewhere.
 */
export class Directory {
  readonly #own: string;
  readonly #read = new ReadCapabilities();
  readonly #told = new ToldNodes((node) => this.#read.drop(node));
  readonly #table: NodeTable;
  readonly #readNode: (node: TableNode) => readonly CapabilityInfo[];
  readonly #freshness = new Map<string, Freshness>();
  /** places says where agents are; until it is told, nothing is one. */
  places: AgentPlaces = NOWHERE;

  /** With `table` there is nothing of nodes in here: changes say only what is news in it. */
  constructor(ownHubId: string, table?: NodeTable) {
    this.#own = ownHubId;
    this.#table = table ?? this.#told;
    this.#readNode = (node) => this.#table.capabilities(node);
  }

  /** size is how many nodes are known. */
  get size(): number {
    let size = 0;
    for (const hubId of this.#table.hubIds()) size += this.#table.count(hubId);
    return size;
  }

  /** ownNodes are the nodes of this hub. */
  get ownNodes(): { readonly size: number; has(nodeId: string): boolean } {
    const table = this.#table;
    const own = this.#own;
    return {
      get size(): number {
        return table.count(own);
      },
      has: (nodeId) => table.node(own, nodeId) !== undefined,
    };
  }

  /** readBytes is about what the capabilities take that were read for commands. */
  get readBytes(): number {
    return this.#read.bytes;
  }

  apply(change: DirectoryChange): void {
    this.#told.apply(change);
    if (change.kind === "freshness") this.#freshness.set(change.hubId, change.freshness);
    else if (change.kind === "hub-gone") this.#freshness.delete(change.hubId);
    else if (change.kind === "reset") this.#freshness.clear();
  }

  node(hubId: string, nodeId: string): RoutedNode | undefined {
    const node = this.#table.node(hubId, nodeId);
    return node === undefined ? undefined : new Routed(hubId, nodeId, node, this.#read, this.#readNode);
  }

  /** find resolves a name: with a hub only that one counts; a bare id means the own hub first, else a unique match. */
  find(hubId: string, nodeId: string): RoutedNode | Failure {
    if (hubId !== "") return this.node(hubId, nodeId) ?? notFound(nodeKey(hubId, nodeId));
    const own = this.node(this.#own, nodeId);
    if (own !== undefined) return own;
    const hubs: string[] = [];
    for (const hub of this.#table.hubIds()) if (this.#table.node(hub, nodeId) !== undefined) hubs.push(hub);
    const found = resolveNode("", this.#own, hubs);
    if (found.kind === "found") return this.node(found.hubId, nodeId) ?? notFound(nodeId);
    if (found.kind === "not-found") return notFound(nodeId);
    const candidates = found.candidates.map((hub) => nodeKey(hub, nodeId)).join(",");
    return {
      reason: "NODE_AMBIGUOUS",
      message: `several hubs have a node ${nodeId}; name the hub`,
      field: "command.target",
      facts: { candidates },
    };
  }

  /**
   * placed is what is answered instead of a failure that says that nobody is there: of an agent that moved away from that hub, where it is now
   * (MOVED). Who is there knows better than this hub, which learns of a move a little later.
   */
  placed(hubId: string, nodeId: string, failure: Failure): Failure {
    const to = ABSENT.has(failure.reason) ? this.places.movedTo(hubId, nodeId) : undefined;
    if (to === undefined) return failure;
    return {
      reason: "MOVED",
      message: `the agent ${nodeId} has moved to ${to.hubId}; send the command there`,
      field: to.hubId,
      facts: { hub: to.hubId, agent: nodeId, fence: String(to.fence) },
    };
  }

  /** check tells whether a node has the capability and the value suits it. */
  check(node: RoutedNode, name: string, value: Uint8Array): Target | Failure {
    const capability = node.capabilities.get(name);
    if (capability === undefined)
      return {
        reason: "CAPABILITY_NOT_FOUND",
        message: `${nodeKey(node.hubId, node.nodeId)} has no capability ${name}`,
        field: "command.capability",
      };
    if (!capability.invocable) return { reason: "CAPABILITY_ACCESS", message: this.#readOnly(node, name), field: "command.capability" };
    return checkValue(capability, value) ?? { node, capability };
  }

  /** readOnly says why a capability is not invoked: at another hub it may be the share, which shows it and does not let it be invoked. */
  #readOnly({ hubId, nodeId }: RoutedNode, name: string): string {
    const what = `${name} of ${nodeKey(hubId, nodeId)} is read-only`;
    if (hubId === this.#own) return what;
    return `${what} here: either the node does not take commands for it, or the share that ${hubId} gives this hub does not let it be invoked (ask its operator for "invoke")`;
  }

  /** describe lists hubs with their counts, and no nodes: they may be many. */
  describe(): string {
    const hubs = [...new Set([...this.#table.hubIds(), ...this.#freshness.keys()])].sort();
    const lines = hubs.map((hub) => {
      let online = 0;
      for (const node of this.#table.nodes(hub)) if (node.online) online++;
      const freshness = this.#freshness.get(hub);
      return `  ${hub}: ${this.#table.count(hub)} nodes, ${online} online${freshness === undefined ? "" : `, ${freshness}`}`;
    });
    return ["directory", ...lines].join("\n");
  }
}

/** Reasons that say that nobody answers for a name. */
const ABSENT: ReadonlySet<Failure["reason"]> = new Set(["NODE_NOT_FOUND", "NODE_OFFLINE", "NO_EXECUTOR", "PEER_UNREACHABLE"]);

const NOWHERE: AgentPlaces = { movedTo: () => undefined, fence: () => 0 };

/** Routed is a node of a table; its capabilities are read when a command wants them. */
class Routed implements RoutedNode {
  readonly hubId: string;
  readonly nodeId: string;
  readonly #node: TableNode;
  readonly #read: ReadCapabilities;
  readonly #readNode: (node: TableNode) => readonly CapabilityInfo[];

  constructor(
    hubId: string,
    nodeId: string,
    node: TableNode,
    read: ReadCapabilities,
    readNode: (node: TableNode) => readonly CapabilityInfo[],
  ) {
    this.hubId = hubId;
    this.nodeId = nodeId;
    this.#node = node;
    this.#read = read;
    this.#readNode = readNode;
  }

  get online(): boolean {
    return this.#node.online;
  }

  get capabilities(): ReadonlyMap<string, CapabilityInfo> {
    return this.#read.of(this.#node, this.#readNode);
  }
}

function notFound(name: string): Failure {
  return { reason: "NODE_NOT_FOUND", message: `no node ${name}`, field: "command.target" };
}

/** offline says that a node is known and not online. */
export function offline(node: RoutedNode): Failure {
  return { reason: "NODE_OFFLINE", message: `${nodeKey(node.hubId, node.nodeId)} is offline`, field: "command.target" };
}

const HOPS_MAX = 8;
/** Characters of a hop: a hub, or the name of an automation. */
const HOP_MAX_CHARS = 127;
/** A command may come back to a hub once (it asked, the other's automation answered), but not run in circles. */
const VISITS_MAX = 2;

/** checkHops is the loop guard (B0-8): at most 8 hops, and no hub more than twice among them. */
export function checkHops(hops: readonly string[], ownHubId: string): Failure | undefined {
  if (hops.length === 0) return undefined;
  if (hops.some((hop) => hop.length > HOP_MAX_CHARS))
    return { reason: "INVALID_FIELD", message: `a hop is longer than ${HOP_MAX_CHARS} characters`, field: "command.hops" };
  const visits = hops.reduce((n, hop) => n + (hop === ownHubId ? 1 : 0), 0);
  if (hops.length <= HOPS_MAX && visits < VISITS_MAX) return undefined;
  const message = hops.length > HOPS_MAX ? `command made more than ${HOPS_MAX} hops` : "command runs in a loop of hubs";
  return { reason: "LIMIT_EXCEEDED", message, field: "command.hops", facts: { hops: hops.join(",") } };
}
