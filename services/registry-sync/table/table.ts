import { assert } from "#kernel/assert.ts";
import { Growable } from "#kernel/growable.ts";
import { copyOf } from "#kernel/wire/bytes.ts";
import { EMPTY, textOf } from "../codec/wire.ts";
import type { StateValue } from "../messages.ts";
import type { NodeInfo, NodeSummary, UpdateBatch, ValueType } from "../ports.ts";
import { VALUE_TYPE } from "../ports.ts";
import { COST, nodeCost } from "./cost.ts";
import { interning } from "./interning.ts";
import { NO_SLOT, Slots } from "./slots.ts";

/** NodeEntry is a node of a feed. */
export interface NodeEntry {
  readonly ref: number;
  readonly info: NodeSummary;
  readonly bytes: Uint8Array;
  /** Memory that it takes, without its texts. */
  readonly cost: number;
  online: boolean;
  /** Keys of its capabilities that have a type and a definition, ascending. */
  readonly krefs: readonly number[];
}

/** ImageValue is the value of one key in an image: two words, or bytes. */
export interface ImageValue {
  readonly kref: number;
  readonly section: number;
  readonly low: number;
  readonly high: number;
  readonly text: Uint8Array | undefined;
}

/** NodeImage is a node with its values at one instant. */
export interface NodeImage {
  readonly entry: NodeEntry;
  readonly online: boolean;
  readonly bytes: Uint8Array;
  readonly values: readonly ImageValue[];
}

/** KeyEntry is a defined key. */
export interface KeyEntry {
  readonly kref: number;
  readonly name: string;
  readonly type: ValueType;
}

/** Scan wants to know what a node was before it changes. */
export interface Scan {
  before(ref: number): void;
  /** retired: another table takes the place of this one, which nobody changes any more. */
  retired(): void;
}

/** SECTION is the part of a StateBlock in which a type stands: 0 num, 1 int, 2 data. */
export const SECTION = [3, 0, 1, 0, 2, 2, 2] as const;

const view = new DataView(new ArrayBuffer(8));

/**
 * FeedTable is what one feed says: its nodes, its keys and their values.
 *
 * TB1 a ref never means another node within the table's life; a removed one is remembered by name until `forgetDead`.
 * TB2 the slots are those of the live nodes' keys.
 * TB3 each scan is told of a node before it changes for the first time since the scan began.
 */
export class FeedTable {
  /** Position of the checkpoint that it was read from. What was removed before has no name here. */
  restoredAt: { readonly epoch: number; readonly seq: number } | undefined;
  readonly slots = new Slots();
  readonly scans = new Set<Scan>();
  /** Images that the scans make of nodes that are about to change, until the change is made: one for all of them. */
  readonly images = new Map<number, NodeImage>();
  readonly #nodes: (NodeEntry | undefined)[] = [];
  readonly #byId = new Map<string, NodeEntry>();
  readonly #keys: (KeyEntry | undefined)[] = [];
  /** Key numbers by type and name. */
  readonly #krefs = Array.from({ length: SECTION.length }, () => new Map<string, number>());
  /** Removed nodes by ref, in the order of their removal, with the mark that was given. */
  readonly #dead = new Map<number, { readonly entry: NodeEntry; readonly mark: number }>();
  #sorted: string[] | undefined;
  /** Per key number: nodes that have the key. */
  readonly #holders = new Growable(Uint32Array, 64);
  #keysInUse = 0;
  /** keyUse is told when the first node gets a key, and when the last one goes that had it. */
  keyUse: ((kref: number, used: boolean) => void) | undefined;
  #nodeBytes = 0;
  #keyBytes = 0;
  #removals = 0;
  #nextRef = 1;
  #nextKref = 0;
  readonly #nodesOnly: boolean;

  /** With `nodesOnly` it keeps no keys and no values. */
  constructor(nodesOnly = false) {
    this.#nodesOnly = nodesOnly;
  }

  get size(): number {
    return this.#byId.size;
  }
  /** bytes is the memory that nodes and texts take. */
  get bytes(): number {
    return this.#nodeBytes + this.slots.textCost;
  }
  /** memory is that of the definitions of keys as well, which belong to no node. */
  get memory(): number {
    return this.bytes + this.#keyBytes;
  }
  /** nextRef is greater than every ref ever used. */
  get nextRef(): number {
    return this.#nextRef;
  }
  get nextKref(): number {
    return this.#nextKref;
  }
  /** keysInUse is how many keys some node has. */
  get keysInUse(): number {
    return this.#keysInUse;
  }

  node(ref: number): NodeEntry | undefined {
    return this.#nodes[ref];
  }
  byId(nodeId: string): NodeEntry | undefined {
    return this.#byId.get(nodeId);
  }
  /** named is the node of that ref, even if it was removed lately. */
  named(ref: number): NodeEntry | undefined {
    return this.#nodes[ref] ?? this.#dead.get(ref)?.entry;
  }
  key(kref: number): KeyEntry | undefined {
    return this.#keys[kref];
  }
  kref(name: string, type: ValueType): number | undefined {
    return this.#krefs[type]?.get(name);
  }
  /** krefsNamed are the key numbers of a name, whatever their types. */
  krefsNamed(name: string): number[] {
    return this.#krefs.flatMap((krefs) => krefs.get(name) ?? []);
  }
  /** keys are all definitions in order. */
  keys(): KeyEntry[] {
    return this.#keys.filter((key) => key !== undefined);
  }
  entries(): IterableIterator<NodeEntry> {
    return this.#byId.values();
  }

  /** liveRefs are the refs of all nodes, ascending. */
  liveRefs(): Uint32Array {
    return Uint32Array.from(this.#byId.values(), (entry) => entry.ref).sort();
  }

  /** textCostOf is the memory that the texts of a node take together. */
  textCostOf(entry: NodeEntry): number {
    let cost = 0;
    for (const kref of entry.krefs) {
      const slot = this.slots.find(entry.ref, kref);
      if (slot !== NO_SLOT) cost += this.slots.costOf(slot);
    }
    return cost;
  }

  /** sorted: the ids are in order already. */
  get sorted(): boolean {
    return this.#sorted !== undefined;
  }

  /** sortedIds are the node ids in order; do not change the array. */
  sortedIds(): readonly string[] {
    this.#sorted ??= [...this.#byId.keys()].sort();
    return this.#sorted;
  }

  /** reserveRefs makes sure that refs below `next` are not given out again. */
  reserveRefs(next: number): void {
    this.#nextRef = Math.max(this.#nextRef, next);
  }

  /** defineKey keeps a definition. Defining it again in the same way is allowed. */
  defineKey(kref: number, name: string, type: ValueType): void {
    const known = this.#keys[kref];
    assert(known === undefined || (known.name === name && known.type === type), "key number has two meanings", { kref, name });
    if (known !== undefined || this.#nodesOnly) return;
    this.#keys[kref] = { kref, name, type };
    this.#keyBytes += COST.key + 2 * name.length;
    (this.#krefs[type] as Map<string, number>).set(name, kref);
    this.#nextKref = Math.max(this.#nextKref, kref + 1);
  }

  /** put adds or replaces a node. Values of capabilities that it keeps survive. */
  put(ref: number, bytes: Uint8Array, info: NodeInfo, online: boolean): NodeEntry {
    const { nodeId, kind, type, name, labels } = info;
    const krefs = this.#krefsOf(info);
    const summary = { nodeId, kind, type: interning.text(type), name, labels: interning.labels(labels) };
    return this.move({ ref, info: summary, bytes, cost: nodeCost(info, bytes), online, krefs: interning.keys(krefs) });
  }

  /** move is `put` of an entry that another table had, with the numbers that it has here. */
  move(entry: NodeEntry): NodeEntry {
    const { ref, info, krefs } = entry;
    this.touch(ref);
    const old = this.#nodes[ref];
    assert(old === undefined || old.info.nodeId === info.nodeId, "ref has two meanings", { ref });
    for (const kref of krefs) this.#hold(kref, 1);
    for (const kref of old?.krefs ?? []) this.#hold(kref, -1);
    if (!this.#nodesOnly) this.slots.assign(ref, krefs, (kref) => (this.#keys[kref] as KeyEntry).type);
    this.#nodeBytes += entry.cost - (old?.cost ?? 0);
    this.#nodes[ref] = entry;
    this.#byId.set(info.nodeId, entry);
    this.#dead.delete(ref);
    this.#nextRef = Math.max(this.#nextRef, ref + 1);
    if (old === undefined) this.#insertSorted(info.nodeId);
    return entry;
  }

  /** krefsOf are the keys of capabilities that have a type and a definition, ascending, each once. */
  #krefsOf(info: NodeInfo): number[] {
    const krefs: number[] = [];
    let ascending = true;
    for (const { name, type } of info.capabilities) {
      const kref = SECTION[type] === 3 ? undefined : this.kref(name, type);
      if (kref === undefined) continue;
      ascending &&= krefs.length === 0 || kref > (krefs.at(-1) as number);
      krefs.push(kref);
    }
    return ascending ? krefs : [...new Set(krefs)].sort((a, b) => a - b);
  }

  /** remove deletes a node and its values. `mark` is for `forgetDead`. */
  remove(ref: number, mark: number): void {
    this.touch(ref);
    const entry = this.#nodes[ref];
    assert(entry !== undefined, "node to remove is not there", { ref });
    this.slots.remove(ref);
    for (const kref of entry.krefs) this.#hold(kref, -1);
    this.#nodeBytes -= entry.cost;
    this.#removals++;
    this.#nodes[ref] = undefined;
    this.#byId.delete(entry.info.nodeId);
    // The name is all that is asked for.
    const info = { nodeId: entry.info.nodeId, kind: 0, type: "", name: "", labels: {} };
    this.#removeSorted(info.nodeId);
    this.#dead.set(ref, { entry: { ...entry, info, bytes: EMPTY, krefs: [] }, mark });
  }

  /** takeRemovals is how many nodes were removed since it was asked last. */
  takeRemovals(): number {
    const removals = this.#removals;
    this.#removals = 0;
    return removals;
  }

  setOnline(ref: number, online: boolean): void {
    const entry = this.#nodes[ref];
    if (entry === undefined || entry.online === online) return;
    this.touch(ref);
    entry.online = online;
  }

  /** forgetDead drops the names of nodes removed with a mark below `below`. */
  forgetDead(below: number): void {
    for (const [ref, dead] of this.#dead) {
      if (dead.mark >= below) return;
      this.#dead.delete(ref);
    }
  }

  /** touch tells the scans that a node is about to change. */
  touch(ref: number): void {
    if (this.scans.size === 0) return;
    for (const scan of this.scans) scan.before(ref);
    this.images.clear();
  }

  /** touchAll is `touch` for a batch. */
  touchAll(batch: UpdateBatch): void {
    if (this.scans.size === 0) return;
    const { ref, count } = batch;
    for (const scan of this.scans) for (let i = 0; i < count; i++) scan.before(ref[i] as number);
    this.images.clear();
  }

  /** retire tells the scans that the table is replaced or given up. */
  retire(): void {
    for (const scan of this.scans) scan.retired();
  }

  /** apply writes the values of a checked batch into their slots; NO_SLOT ones are skipped. `from` is where the batch's slots start. */
  apply(batch: UpdateBatch, slots: Uint32Array, from: number): void {
    this.touchAll(batch);
    const { bits, has } = this.slots;
    const fixed = batch.numCount + batch.intCount;
    const words = batch.bits;
    for (let i = 0; i < fixed; i++) {
      const slot = slots[from + i] as number;
      if (slot === NO_SLOT) continue;
      bits[2 * slot] = words[2 * i] as number;
      bits[2 * slot + 1] = words[2 * i + 1] as number;
      has[slot] = 1;
    }
    let at = 0;
    for (let i = fixed; i < batch.count; i++) {
      const end = at + (batch.len[i - fixed] as number);
      const slot = slots[from + i] as number;
      if (slot !== NO_SLOT) this.slots.setText(slot, batch.data, at, end);
      at = end;
    }
  }

  /** state reads all values of a node, in the order of its keys. */
  state(entry: NodeEntry): StateValue[] {
    const values: StateValue[] = [];
    for (const kref of entry.krefs) {
      const slot = this.slots.find(entry.ref, kref);
      const key = this.#keys[kref] as KeyEntry;
      if (slot === NO_SLOT || this.slots.has[slot] === 0) continue;
      const low = this.slots.bits[2 * slot] as number;
      values.push(scalarOf(key, low, this.slots.bits[2 * slot + 1] as number, this.slots.text[slot]));
    }
    return values;
  }

  #hold(kref: number, nodes: number): void {
    const before = kref < this.#holders.length ? (this.#holders.data[kref] as number) : 0;
    this.#holders.set(kref, before + nodes);
    const change = Number(before + nodes > 0) - Number(before > 0);
    if (change === 0) return;
    this.#keysInUse += change;
    this.keyUse?.(kref, change > 0);
  }

  #insertSorted(nodeId: string): void {
    this.#sorted?.splice(this.#placeOf(nodeId, this.#sorted), 0, nodeId);
  }

  #removeSorted(nodeId: string): void {
    this.#sorted?.splice(this.#placeOf(nodeId, this.#sorted), 1);
  }

  /** placeOf is where an id stands among those in order, or would. */
  #placeOf(nodeId: string, sorted: readonly string[]): number {
    let low = 0;
    let high = sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((sorted[middle] as string) < nodeId) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** scalarOf reads one value: `text` for STRING, BYTES and JSON, else the two words. */
export function scalarOf(key: KeyEntry, low: number, high: number, text: Uint8Array | undefined): StateValue {
  const { name, type } = key;
  if (type === VALUE_TYPE.STRING || type === VALUE_TYPE.JSON) return { key: name, type, value: textOf(text as Uint8Array) };
  if (type === VALUE_TYPE.BYTES) return { key: name, type, value: copyOf(text as Uint8Array) };
  view.setUint32(0, low, true);
  view.setUint32(4, high, true);
  if (type === VALUE_TYPE.SINT64) return { key: name, type, value: view.getBigInt64(0, true) };
  const number = view.getFloat64(0, true);
  return { key: name, type, value: type === VALUE_TYPE.BOOL ? number !== 0 : number };
}
