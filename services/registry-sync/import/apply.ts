import type { Limits } from "#kernel/bounds/limits.ts";
import type { Failure } from "#kernel/error.ts";
import { isNodeId } from "#kernel/node-name.ts";
import { copyOf } from "#kernel/wire/bytes.ts";
import { BatchChecker, PROBLEM, PROBLEM_TEXT } from "../local/state-check.ts";
import type { NodeRule } from "../messages.ts";
import type { Block, NodeInfo, SegmentCodec, ValueType } from "../ports.ts";
import { filterBatch, ruleFor } from "../share/share.ts";
import { mostlyNodes, unknownType } from "../table/blocks.ts";
import { COST, nodeCost } from "../table/cost.ts";
import { NO_SLOT } from "../table/slots.ts";
import { type FeedTable, SECTION } from "../table/table.ts";
import { failure, limitFailure } from "../world.ts";

/** Applied says what a payload did. */
export interface Applied {
  readonly entries: number;
  /** Nodes and changes that import rules kept out. */
  readonly dropped: number;
  /** What the rules let in, if that is not all: readers get this instead of the payload. */
  readonly kept: readonly Block[] | undefined;
  /** Nodes that were removed. */
  readonly removed: number;
  /** A node that the rules kept out changed so that they let it in: values of before, which it may have, are not here. */
  readonly letIn: boolean;
}

/** Skipped are the refs of nodes that import rules keep out, with their node ids ("" in what older versions stored). */
export type Skipped = Map<number, string>;

/** Definitions of the payload that is being checked, in front of those of the table. */
interface Overlay {
  readonly keys: Map<number, { readonly name: string; readonly type: ValueType }>;
  /** Key numbers by type and name. */
  readonly krefs: Map<string, number>;
  readonly nodes: Map<number, NodeInfo>;
  /** Keys of those of them whose state is in the payload too, as type and name. */
  readonly keysOf: Map<number, ReadonlySet<string>>;
  readonly ids: Map<string, number>;
  readonly removed: Set<number>;
  /** Whether the table has a node after the payload so far, where that changed; and by how many nodes it has grown. */
  readonly held: Map<number, boolean>;
  grown: number;
}

/** Intake is what may come in of one peer; without it a payload is our own, or was taken in before. */
export interface Intake {
  /** Most nodes, and bytes, that the table may grow to. One that is larger already stays so, but does not grow. */
  readonly nodes: number;
  readonly bytes: number;
  /** What bounds the bytes: `bytes_per_peer`, or `memory_bytes`, of which all peers have a part. */
  readonly limit: "bytes_per_peer" | "memory_bytes";
}

const MAX_REF = 0xffff_fffe;
/** More than a byte of a node costs, whatever it is made of: a label has five at least. */
const MOST_PER_BYTE = 80;
const TOO_MANY_BYTES = {
  bytes_per_peer: "the feed takes more memory than this hub has for one peer",
  memory_bytes: "the feed takes more memory than is left for peers in this process; give it a larger heap, or raise memory_bytes",
} as const;

/**
 * Applier takes payloads into a table. A payload is checked whole before anything of it is applied, so that a bad one leaves no trace.
 *
 * AP1 what `check` let pass, `apply` applies without fail.
 * AP2 nodes refused by the import rules never enter the table, and what concerns them is in nothing that leaves here: it is counted
 *    and skipped. This is the one place where the rules are applied, to segments, snapshots and what a restart reads alike.
 */
export class Applier {
  readonly #codec: SegmentCodec;
  readonly #rules: readonly NodeRule[] | undefined;
  readonly #limits: Limits;
  readonly #checker = new BatchChecker();
  /** Nodes of the checked payload, by block. */
  #infos: (NodeInfo | undefined)[] = [];
  #structural = false;

  constructor(codec: SegmentCodec, rules: readonly NodeRule[] | undefined, limits: Limits) {
    this.#codec = codec;
    this.#rules = rules;
    this.#limits = limits;
  }

  /** check answers why a payload cannot be applied to this table, or undefined. `count` is the header's, undefined for snapshot parts. */
  check(
    table: FeedTable,
    skipped: ReadonlyMap<number, string>,
    blocks: readonly Block[],
    count: number | undefined,
    first: boolean,
    intake?: Intake,
  ): Failure | undefined {
    const overlay: Overlay = {
      keys: new Map(),
      krefs: new Map(),
      nodes: new Map(),
      keysOf: new Map(),
      ids: new Map(),
      removed: new Set(),
      held: new Map(),
      grown: 0,
    };
    this.#infos = [];
    this.#structural = false;
    this.#checker.begin();
    let entries = 0;
    let exact = true;
    for (let i = 0; i < blocks.length; i++) {
      const block = blocks[i] as Block;
      if (block.kind === "unknown") exact = false;
      if (block.kind === "epoch_open" && (!first || i > 0)) return failure("SEGMENT_INVALID", "an epoch is opened by its first entry only");
      const problem = this.#checkBlock(table, skipped, overlay, block, i);
      if (problem !== undefined) return problem;
      entries += entriesOf(block);
    }
    if (count !== undefined && exact && count !== entries)
      return failure("SEGMENT_INVALID", "the number of entries is not that of the header");
    return intake === undefined ? undefined : this.#checkIntake(table, skipped, overlay, blocks, intake);
  }

  /** checkIntake keeps a peer within its part. What is held already is never above a limit: one that was lowered stops what comes. */
  #checkIntake(
    table: FeedTable,
    skipped: ReadonlyMap<number, string>,
    overlay: Overlay,
    blocks: readonly Block[],
    intake: Intake,
  ): Failure | undefined {
    const { nodeBytes, nameLength, refsPerFeed, ownNodes } = this.#limits;
    for (const block of blocks) {
      if (block.kind === "node_put" && block.ref > refsPerFeed)
        return limitFailure("refs_per_feed", refsPerFeed, "the number of a node is greater than this hub takes");
      if (block.kind === "node_put" && block.node.length > nodeBytes) return limitFailure("node_bytes", nodeBytes, "a node is too long");
      if (block.kind === "key_def" && block.name.length > nameLength)
        return limitFailure("name_length", nameLength, "a key's name is too long");
    }
    const nodes = table.size + overlay.grown;
    if (overlay.grown > 0 && nodes > intake.nodes)
      return limitFailure("nodes_per_peer", intake.nodes, "the feed has more nodes than this hub takes from one peer");
    // A peer may have many nodes of which few are let in, but not more than a hub has: each that is kept out takes memory too.
    if (keptOut(skipped, overlay) > ownNodes)
      return limitFailure("nodes_kept_out", ownNodes, "import rules keep out more nodes of this feed than a hub has");
    return this.#tooManyBytes(table, overlay, blocks, intake.bytes - COST.skipped * skipped.size)
      ? limitFailure(intake.limit, intake.bytes, TOO_MANY_BYTES[intake.limit])
      : undefined;
  }

  /** tooManyBytes tells whether the table would grow beyond its bytes; how much it grows is summed up only when it is close. */
  #tooManyBytes(table: FeedTable, overlay: Overlay, blocks: readonly Block[], max: number): boolean {
    let most = table.memory;
    for (const block of blocks) {
      if (block.kind === "node_put") most += COST.node + MOST_PER_BYTE * block.node.length;
      else if (block.kind === "state") most += block.batch.data.length + COST.text * block.batch.len.length;
      else if (block.kind === "key_def") most += COST.key + 2 * block.name.length;
    }
    if (most <= max) return false;
    let grown = 0;
    for (const [kref, { name }] of overlay.keys) if (table.key(kref) === undefined) grown += COST.key + 2 * name.length;
    for (const [ref, held] of overlay.held) {
      const old = table.node(ref);
      if (old !== undefined) grown -= old.cost + (held ? 0 : table.textCostOf(old));
    }
    for (const [i, block] of blocks.entries()) {
      const info = this.#infos[i];
      // The last one of a ref counts, and those before it are gone: a payload that writes a node twice is counted too high.
      if (block.kind === "node_put" && info !== undefined && overlay.held.get(block.ref) === true) grown += nodeCost(info, block.node);
    }
    let at = 0;
    for (const block of blocks) {
      if (block.kind !== "state") continue;
      grown += this.#checker.textGrowth(table, block.batch, at);
      at += block.batch.count;
    }
    return grown > 0 && table.memory + grown > max;
  }

  #checkBlock(table: FeedTable, skipped: ReadonlyMap<number, string>, overlay: Overlay, block: Block, index: number): Failure | undefined {
    const known = (ref: number): boolean =>
      overlay.nodes.has(ref) || (!overlay.removed.has(ref) && (skipped.has(ref) || table.node(ref) !== undefined));
    switch (block.kind) {
      case "state":
        return this.#checkState(table, skipped, overlay, block.batch);
      case "node_put":
        this.#structural = true;
        return this.#checkNode(table, skipped, overlay, block.ref, block.node, index);
      case "key_def":
        this.#structural = true;
        return this.#checkKey(table, overlay, block);
      case "node_del":
        this.#structural = true;
        if (!known(block.ref)) return failure("SEGMENT_INVALID", "a node is removed that is not there");
        hold(table, overlay, block.ref, false);
        overlay.nodes.delete(block.ref);
        overlay.removed.add(block.ref);
        return undefined;
      case "presence":
        return block.online.every(known) && block.offline.every(known)
          ? undefined
          : failure("SEGMENT_INVALID", "presence of a node that is not there");
      case "unknown":
        return block.field >= 100
          ? failure("UPGRADE_NEEDED", "a critical kind of entry is not known here; upgrade this hub", { field: String(block.field) })
          : undefined;
      case "epoch_open":
        return undefined;
    }
  }

  #checkKey(table: FeedTable, overlay: Overlay, block: Extract<Block, { kind: "key_def" }>): Failure | undefined {
    const { kref, name, type } = block;
    if (SECTION[type] === undefined) return unknownType(name, type);
    if (kref >= this.#limits.keysPerFeed) return failure("SEGMENT_INVALID", "a key number has more than 16 bits");
    const key = overlay.keys.get(kref) ?? table.key(kref);
    if (key !== undefined && (key.name !== name || key.type !== type))
      return failure("SEGMENT_INVALID", "a key number got a second meaning");
    // Nodes keep their values under the number that counted when they came: read back in another order they would be under the other one.
    const other = overlay.krefs.get(`${type}:${name}`) ?? table.kref(name, type);
    if (other !== undefined && other !== kref) return failure("SEGMENT_INVALID", "a key got a second number");
    overlay.keys.set(kref, block);
    overlay.krefs.set(`${type}:${name}`, kref);
    return undefined;
  }

  #checkState(
    table: FeedTable,
    skipped: ReadonlyMap<number, string>,
    overlay: Overlay,
    batch: Extract<Block, { kind: "state" }>["batch"],
  ): Failure | undefined {
    const problem = this.#checker.check(table, batch, (ref, kref, section) => {
      const info = overlay.nodes.get(ref);
      // What a node that is kept out can do is not known here, unless it came in this payload.
      if (info === undefined && skipped.has(ref)) return !overlay.removed.has(ref);
      const key = overlay.keys.get(kref) ?? table.key(kref);
      if (info === undefined || key === undefined || SECTION[key.type] !== section) return false;
      let keys = overlay.keysOf.get(ref);
      if (keys === undefined) overlay.keysOf.set(ref, (keys = new Set(info.capabilities.map(({ name, type }) => `${type}:${name}`))));
      return keys.has(`${key.type}:${key.name}`);
    });
    return problem === PROBLEM.NONE
      ? undefined
      : failure("SEGMENT_INVALID", PROBLEM_TEXT[problem] as string, { index: String(this.#checker.index) });
  }

  #checkNode(
    table: FeedTable,
    skipped: ReadonlyMap<number, string>,
    overlay: Overlay,
    ref: number,
    bytes: Uint8Array,
    index: number,
  ): Failure | undefined {
    const info = this.#codec.readNode(bytes);
    if (info === undefined || !isNodeId(info.nodeId) || ref < 1 || ref > MAX_REF) return failure("SEGMENT_INVALID", "a node is malformed");
    const before = overlay.nodes.get(ref)?.nodeId ?? table.named(ref)?.info.nodeId ?? (skipped.get(ref) || undefined);
    if (before !== undefined && before !== info.nodeId) return failure("SEGMENT_INVALID", "a ref got a second meaning");
    const other = table.byId(info.nodeId);
    if (other !== undefined && other.ref !== ref && !overlay.removed.has(other.ref))
      return failure("SEGMENT_INVALID", "a node got a second ref");
    const twin = overlay.ids.get(info.nodeId);
    if (twin !== undefined && twin !== ref && overlay.nodes.has(twin)) return failure("SEGMENT_INVALID", "a node got a second ref");
    overlay.ids.set(info.nodeId, ref);
    if (info.capabilities.length > this.#limits.keysPerNode)
      return limitFailure("keys_per_node", this.#limits.keysPerNode, "a node has too many capabilities");
    hold(table, overlay, ref, this.#rules === undefined || ruleFor(this.#rules, info) !== undefined);
    this.#infos[index] = info;
    overlay.nodes.set(ref, info);
    overlay.keysOf.delete(ref);
    return undefined;
  }

  /**
   * apply takes the payload that was checked last into the table. `mark` is for names of removed nodes. The nodes go on standing in the
   * payload's own bytes, of which there are `payloadBytes`, if it is nodes and little else; else they are copied out of it.
   */
  apply(table: FeedTable, skipped: Skipped, blocks: readonly Block[], mark: number, payloadBytes = Number.POSITIVE_INFINITY): Applied {
    const whole = payloadBytes < Number.POSITIVE_INFINITY && mostlyNodes(blocks, payloadBytes);
    // Without rules nothing is ever kept out, and nothing is copied.
    const kept: Block[] | undefined = this.#rules === undefined ? undefined : [];
    let at = 0;
    let dropped = 0;
    let entries = 0;
    let same = true;
    let letIn = false;
    // Nodes that this payload brought and the rules kept out, as long as no value was left out: nothing of them is missing.
    const fresh = kept && new Set<number>();
    for (let i = 0; i < blocks.length; i++) {
      const block = blocks[i] as Block;
      entries += entriesOf(block);
      if (kept !== undefined) {
        const rest = this.#keep(table, skipped, block, this.#infos[i]);
        if (rest !== undefined) kept.push(rest);
        same &&= rest === block;
      }
      switch (block.kind) {
        case "state": {
          const left = this.#applyState(table, skipped, block.batch, at);
          if (left > 0) fresh?.clear();
          dropped += left;
          at += block.batch.count;
          break;
        }
        case "node_put": {
          const info = this.#infos[i] as NodeInfo;
          const out = skipped.has(block.ref);
          const held = fresh !== undefined && table.node(block.ref) !== undefined;
          if (!out && !held) fresh?.add(block.ref);
          dropped += this.#applyNode(table, skipped, block, info, mark, whole);
          // What it had is gone.
          if (held && skipped.has(block.ref)) fresh?.delete(block.ref);
          letIn ||= out && !skipped.has(block.ref) && fresh?.has(block.ref) === false && hasState(info);
          break;
        }
        case "key_def":
          table.defineKey(block.kref, block.name, block.type);
          break;
        case "node_del":
          if (!skipped.delete(block.ref)) table.remove(block.ref, mark);
          fresh?.delete(block.ref);
          break;
        case "presence":
          for (const ref of block.online) table.setOnline(ref, true);
          for (const ref of block.offline) table.setOnline(ref, false);
          break;
        case "epoch_open":
        case "unknown":
          break;
      }
    }
    return { entries, dropped, removed: table.takeRemovals(), kept: same ? undefined : kept, letIn };
  }

  /** keep is what the rules let in of a block that is applied next: the block itself, another one, or nothing. */
  #keep(table: FeedTable, skipped: Skipped, block: Block, info: NodeInfo | undefined): Block | undefined {
    switch (block.kind) {
      case "node_put":
        if (ruleFor(this.#rules as readonly NodeRule[], info as NodeInfo) !== undefined) return block;
        return table.node(block.ref) === undefined ? undefined : { kind: "node_del", ref: block.ref };
      case "node_del":
        return skipped.has(block.ref) ? undefined : block;
      case "presence": {
        const online = block.online.filter((ref) => !skipped.has(ref));
        const offline = block.offline.filter((ref) => !skipped.has(ref));
        if (online.length === block.online.length && offline.length === block.offline.length) return block;
        return online.length + offline.length === 0 ? undefined : { kind: "presence", online, offline };
      }
      case "state": {
        if (skipped.size === 0) return block;
        const rest = filterBatch(block.batch, (ref) => !skipped.has(ref));
        if (rest === undefined || rest.count === block.batch.count) return rest && block;
        return { kind: "state", batch: { ...rest.columns, bytes: this.#codec.encodeState(rest.columns) } };
      }
      case "unknown":
        // What is not understood cannot be judged.
        return undefined;
      default:
        return block;
    }
  }

  #applyState(
    table: FeedTable,
    skipped: ReadonlyMap<number, string>,
    batch: Extract<Block, { kind: "state" }>["batch"],
    from: number,
  ): number {
    const slots = this.#checker.slots.data;
    // Definitions in the same payload may have moved slots: look again.
    if (this.#structural)
      for (let i = 0; i < batch.count; i++) slots[from + i] = table.slots.find(batch.ref[i] as number, batch.key[i] as number);
    table.apply(batch, slots, from);
    let dropped = 0;
    if (skipped.size > 0) for (let i = 0; i < batch.count; i++) if (slots[from + i] === NO_SLOT) dropped++;
    return dropped;
  }

  #applyNode(
    table: FeedTable,
    skipped: Skipped,
    block: Extract<Block, { kind: "node_put" }>,
    info: NodeInfo,
    mark: number,
    whole: boolean,
  ): number {
    if (this.#rules !== undefined && ruleFor(this.#rules, info) === undefined) {
      if (table.node(block.ref) !== undefined) table.remove(block.ref, mark);
      skipped.set(block.ref, info.nodeId);
      return 1;
    }
    skipped.delete(block.ref);
    table.put(block.ref, whole ? block.node : copyOf(block.node), info, block.online);
    return 0;
  }
}

/** hasState tells whether a node can have values at all. */
function hasState({ capabilities }: NodeInfo): boolean {
  return capabilities.some(({ type }) => SECTION[type] !== 3);
}

/** tooManyBlocks: a segment is applied in one step, which many small blocks would make a long one. */
export function tooManyBlocks(max: number): Failure {
  return limitFailure("segment_blocks", max, "the segment has more blocks than this hub takes in one step");
}

/** hold notes whether the table will have a node. */
function hold(table: FeedTable, overlay: Overlay, ref: number, held: boolean): void {
  overlay.grown += Number(held) - Number(overlay.held.get(ref) ?? table.node(ref) !== undefined);
  overlay.held.set(ref, held);
}

/** keptOut counts the nodes that will be kept out, as far as the payload adds to them; else it is 0, so that what is held already goes on. */
function keptOut(skipped: ReadonlyMap<number, string>, overlay: Overlay): number {
  let more = 0;
  for (const [ref, held] of overlay.held) more += Number(!held && overlay.nodes.has(ref)) - Number(skipped.has(ref));
  return more > 0 ? skipped.size + more : 0;
}

/** entriesOf counts the entries of a block. */
export function entriesOf(block: Block): number {
  if (block.kind === "state") return block.batch.count;
  return block.kind === "presence" ? block.online.length + block.offline.length : 1;
}
