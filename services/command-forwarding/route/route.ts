import type { Failure } from "#kernel/error.ts";
import type { Freshness } from "#kernel/freshness.ts";
import { isNodeId, nodeKey, resolveNode } from "#kernel/node-name.ts";
import { checkValue } from "../codec/value.ts";
import type { CapabilityInfo, Command, DirectoryChange } from "../messages.ts";

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

/** RoutedNode is a node as routing sees it. */
export interface RoutedNode {
  readonly hubId: string;
  readonly nodeId: string;
  online: boolean;
  readonly capabilities: ReadonlyMap<string, CapabilityInfo>;
}

/** Source is where the capabilities of a node come from: as they are, or read out of what the registry holds. */
type Source = readonly CapabilityInfo[] | (() => readonly CapabilityInfo[]);

/** Memory for capabilities that were read, bytes. The registry has them encoded, and is charged for that; this copy is not. */
const READ_BYTES = 16 * 1024 * 1024;
/** About what things take in memory, bytes. */
const COST = { node: 256, capability: 256, allowed: 48 } as const;

function costOf(capabilities: readonly CapabilityInfo[]): number {
  let cost: number = COST.node;
  for (const { name, allowed } of capabilities) {
    cost += COST.capability + 2 * name.length;
    for (const text of allowed) cost += COST.allowed + 2 * text.length;
  }
  return cost;
}

/** ReadNodes are the nodes whose capabilities were read last. Beyond their room the oldest ones are read again when a command wants them. */
class ReadNodes {
  readonly #costs = new Map<Entry, number>();
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  add(entry: Entry, cost: number): void {
    this.drop(entry);
    // One alone may be larger than the room: it would else be read for each command.
    for (const oldest of this.#costs.keys()) {
      if (this.#bytes + cost <= READ_BYTES) break;
      this.drop(oldest);
    }
    this.#costs.set(entry, cost);
    this.#bytes += cost;
  }

  drop(entry: Entry): void {
    const cost = this.#costs.get(entry);
    if (cost === undefined) return;
    this.#costs.delete(entry);
    this.#bytes -= cost;
    entry.forget();
  }

  clear(): void {
    this.#costs.clear();
    this.#bytes = 0;
  }
}

/** Entry is a node of the directory whose capabilities are read when they are first asked for. */
class Entry implements RoutedNode {
  readonly hubId: string;
  readonly nodeId: string;
  online: boolean;
  readonly #source: Source;
  readonly #read: ReadNodes;
  #byName: ReadonlyMap<string, CapabilityInfo> | undefined;

  constructor(hubId: string, nodeId: string, online: boolean, source: Source, read: ReadNodes) {
    this.hubId = hubId;
    this.nodeId = nodeId;
    this.online = online;
    this.#source = source;
    this.#read = read;
  }

  get capabilities(): ReadonlyMap<string, CapabilityInfo> {
    if (this.#byName !== undefined) return this.#byName;
    const all = typeof this.#source === "function" ? this.#source() : this.#source;
    const byName = new Map(all.map((capability) => [capability.name, capability]));
    this.#read.add(this, costOf(all));
    this.#byName = byName;
    return byName;
  }

  /** forget gives up what was read. */
  forget(): void {
    this.#byName = undefined;
  }
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
 * Directory is the read model of the node directory: pure data, fed by a watch, asked on every command, on both hubs.
 * It decides what a name means and whether a command is sound; who may invoke it and who runs it is decided elsewhere.
 */
export class Directory {
  readonly #own: string;
  readonly #read = new ReadNodes();
  readonly #hubs = new Map<string, Map<string, Entry>>();
  readonly #hubsOfId = new Map<string, Set<string>>();
  readonly #freshness = new Map<string, Freshness>();

  constructor(ownHubId: string) {
    this.#own = ownHubId;
  }

  /** size is how many nodes are known. */
  get size(): number {
    let size = 0;
    for (const nodes of this.#hubs.values()) size += nodes.size;
    return size;
  }

  /** ownNodes are the nodes of this hub. */
  readonly ownNodes = {
    nodes: (): ReadonlyMap<string, Entry> | undefined => this.#hubs.get(this.#own),
    get size(): number {
      return this.nodes()?.size ?? 0;
    },
    has(nodeId: string): boolean {
      return this.nodes()?.has(nodeId) ?? false;
    },
  };

  /** readBytes is about what the capabilities take that were read for commands. */
  get readBytes(): number {
    return this.#read.bytes;
  }

  apply(change: DirectoryChange): void {
    switch (change.kind) {
      case "put":
        return this.#put(change.hubId, change.nodeId, change.online, change.capabilities);
      case "online": {
        const node = this.node(change.hubId, change.nodeId);
        if (node !== undefined) node.online = change.online;
        return;
      }
      case "removed":
        return this.#remove(change.hubId, change.nodeId);
      case "hub-gone":
        for (const nodeId of [...(this.#hubs.get(change.hubId)?.keys() ?? [])]) this.#remove(change.hubId, nodeId);
        this.#freshness.delete(change.hubId);
        return;
      case "freshness":
        this.#freshness.set(change.hubId, change.freshness);
        return;
      case "reset":
        this.#hubs.clear();
        this.#read.clear();
        this.#hubsOfId.clear();
        this.#freshness.clear();
    }
  }

  node(hubId: string, nodeId: string): RoutedNode | undefined {
    return this.#hubs.get(hubId)?.get(nodeId);
  }

  /** find resolves a name: with a hub only that one counts; a bare id means the own hub first, else a unique match. */
  find(hubId: string, nodeId: string): RoutedNode | Failure {
    if (hubId !== "") return this.node(hubId, nodeId) ?? notFound(nodeKey(hubId, nodeId));
    const found = resolveNode("", this.#own, [...(this.#hubsOfId.get(nodeId) ?? [])]);
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
    const what = `${name} of ${nodeKey(hubId, nodeId)} may be read and not invoked`;
    if (hubId === this.#own) return what;
    return `${what}; either the node does not take it, or the share that ${hubId} gives this hub does not let it be invoked (ask its operator for "invoke")`;
  }

  /** describe lists hubs with their counts, and no nodes: they may be many. */
  describe(): string {
    const hubs = [...new Set([...this.#hubs.keys(), ...this.#freshness.keys()])].sort();
    const lines = hubs.map((hub) => {
      const nodes = [...(this.#hubs.get(hub)?.values() ?? [])];
      const freshness = this.#freshness.get(hub);
      return `  ${hub}: ${nodes.length} nodes, ${nodes.filter((n) => n.online).length} online${freshness === undefined ? "" : `, ${freshness}`}`;
    });
    return ["directory", ...lines].join("\n");
  }

  #put(hubId: string, nodeId: string, online: boolean, capabilities: Extract<DirectoryChange, { kind: "put" }>["capabilities"]): void {
    let nodes = this.#hubs.get(hubId);
    if (nodes === undefined) this.#hubs.set(hubId, (nodes = new Map()));
    const before = nodes.get(nodeId);
    if (before !== undefined) this.#read.drop(before);
    nodes.set(nodeId, new Entry(hubId, nodeId, online, capabilities, this.#read));
    const hubs = this.#hubsOfId.get(nodeId);
    if (hubs === undefined) this.#hubsOfId.set(nodeId, new Set([hubId]));
    else hubs.add(hubId);
  }

  #remove(hubId: string, nodeId: string): void {
    const nodes = this.#hubs.get(hubId);
    const entry = nodes?.get(nodeId);
    if (nodes === undefined || entry === undefined) return;
    this.#read.drop(entry);
    nodes.delete(nodeId);
    if (nodes.size === 0) this.#hubs.delete(hubId);
    const hubs = this.#hubsOfId.get(nodeId);
    hubs?.delete(hubId);
    if (hubs?.size === 0) this.#hubsOfId.delete(nodeId);
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
