import { Growable } from "#kernel/growable.ts";
import { own } from "#kernel/own.ts";
import type { NodeRule, Pattern, ShareRules } from "../messages.ts";
import type { NodeSummary, SegmentCodec, UpdateBatch } from "../ports.ts";
import type { FeedTable, NodeEntry } from "../table/table.ts";

/** matchesPattern tells whether a text fits a pattern: `*` stands for any run of characters, everything else for itself. Linear in time. */
export function matchesPattern(pattern: Pattern, text: string): boolean {
  return fits(pattern.split("*"), text);
}

/** fits tells whether a text has these pieces in their order, the first at its start and the last at its end. */
function fits(pieces: readonly string[], text: string): boolean {
  const first = pieces[0] as string;
  if (pieces.length === 1) return text === first;
  const last = pieces.at(-1) as string;
  if (text.length < first.length + last.length || !text.startsWith(first) || !text.endsWith(last)) return false;
  let at = first.length;
  for (const piece of pieces.slice(1, -1)) {
    const found = text.indexOf(piece, at);
    if (found < 0 || found + piece.length > text.length - last.length) return false;
    at = found + piece.length;
  }
  return true;
}

/** Lists shorter than this are read as they are. */
const SORTED_FROM = 8;

/** Sorted is a list of patterns: those that stand for themselves, and the pieces of the others. */
interface Sorted {
  readonly names: ReadonlySet<string>;
  readonly others: readonly (readonly string[])[];
}

/** Rules do not change, and a fleet's have thousands of ids, which are compared with each node. */
const sorted = new WeakMap<readonly Pattern[], Sorted>();

function sortedOf(patterns: readonly Pattern[]): Sorted {
  let found = sorted.get(patterns);
  if (found === undefined) {
    const others = patterns.filter((pattern) => pattern.includes("*")).map((pattern) => pattern.split("*"));
    found = { names: new Set(patterns.filter((pattern) => !pattern.includes("*"))), others };
    sorted.set(patterns, found);
  }
  return found;
}

function matchesAny(patterns: readonly Pattern[], text: string): boolean {
  if (patterns.length < SORTED_FROM) {
    for (const pattern of patterns) if (matchesPattern(pattern, text)) return true;
    return false;
  }
  const { names, others } = sortedOf(patterns);
  if (names.has(text)) return true;
  for (const pieces of others) if (fits(pieces, text)) return true;
  return false;
}

/** matchesRule tells whether a rule is about a node. */
export function matchesRule(rule: NodeRule, info: NodeSummary): boolean {
  if (rule.ids.length > 0 && !matchesAny(rule.ids, info.nodeId)) return false;
  if (rule.types.length > 0 && !matchesAny(rule.types, info.type)) return false;
  if (rule.kind !== 0 && rule.kind !== (info.kind === 2 ? 2 : 1)) return false;
  for (const [label, pattern] of Object.entries(rule.labels)) {
    const value = own(info.labels, label);
    if (value === undefined || !matchesPattern(pattern, value)) return false;
  }
  return true;
}

/** ruleFor is the first rule that matches; undefined hides the node (a share shows nothing that no rule allows). */
export function ruleFor(rules: readonly NodeRule[], info: NodeSummary): NodeRule | undefined {
  const rule = rules.find((candidate) => matchesRule(candidate, info));
  return rule?.allow === true ? rule : undefined;
}

/** shows tells whether a rule shows a capability of a node that it matches. */
const shows = (rule: NodeRule, capability: string): boolean => matchesAny(rule.capabilities, capability);

/** lets tells whether a rule lets a peer invoke it: what is not shown is not invoked either. */
const lets = (rule: NodeRule, capability: string): boolean => shows(rule, capability) && matchesAny(rule.invoke, capability);

/** Grant is what a peer may do with a capability of a node: not even know of the node, know of it, or invoke the capability. */
export type Grant = "none" | "see" | "invoke";

/** grantOf is what the rules of a share grant; the rules of the share `full` are undefined, and grant everything. */
export function grantOf(rules: readonly NodeRule[] | undefined, info: NodeSummary, capability: string): Grant {
  if (rules === undefined) return "invoke";
  const rule = ruleFor(rules, info);
  if (rule === undefined) return "none";
  return lets(rule, capability) ? "invoke" : "see";
}

/** NodeView is what a share shows of a node. */
export interface NodeView {
  readonly bytes: Uint8Array;
  /** Keys of the shown capabilities, ascending. */
  readonly krefs: readonly number[];
  /** True if every key of the node is shown. */
  readonly whole: boolean;
}

/** Visible: a node is hidden, or shown with all its keys, or with some. */
const HIDDEN = 0;
const WHOLE = 1;
const PARTIAL = 2;

/**
 * ShareView is what one share shows of this hub's nodes, and what it has shown so far: which nodes and keys its feed defined.
 * The rules of the share `full` are undefined: everything, as it is.
 */
export class ShareView {
  readonly name: string;
  rules: readonly NodeRule[] | undefined;
  readonly #codec: SegmentCodec;
  readonly #mode = new Growable(Uint8Array, 256);
  /** Keys that the feed shows of a node. */
  readonly #shown = new Map<number, readonly number[]>();
  readonly #keys = new Set<number>();
  nodes = 0;

  constructor(share: ShareRules | undefined, codec: SegmentCodec) {
    this.name = share?.name ?? "full";
    this.rules = share?.rules;
    this.#codec = codec;
  }

  /** viewOf is what the share shows of a node by its rules; undefined hides it. */
  viewOf(table: FeedTable, entry: NodeEntry): NodeView | undefined {
    const rule = this.rules && ruleFor(this.rules, entry.info);
    if (this.rules !== undefined && rule === undefined) return undefined;
    if (rule === undefined || this.#whole(rule, entry)) return { bytes: entry.bytes, krefs: entry.krefs, whole: true };
    const keep = (name: string): boolean => shows(rule, name);
    const invoke = (name: string): boolean => lets(rule, name);
    return { bytes: this.#codec.limitNode(entry.bytes, keep, invoke), ...keysShown(rule, table, entry) };
  }

  /** keysOf is what the share shows of the keys of a node by its rules, without encoding the node. */
  keysOf(table: FeedTable, entry: NodeEntry): Omit<NodeView, "bytes"> | undefined {
    const rule = this.rules && ruleFor(this.rules, entry.info);
    if (this.rules !== undefined && rule === undefined) return undefined;
    return rule === undefined ? { krefs: entry.krefs, whole: true } : keysShown(rule, table, entry);
  }

  /** outcome tells in a word what the rules do to a node: two that do the same show the same. Undefined hides it. */
  outcome({ info, bytes }: NodeEntry): string | undefined {
    const rule = this.rules && ruleFor(this.rules, info);
    if (this.rules !== undefined && rule === undefined) return undefined;
    let word = "";
    for (const { name, invocable } of this.#codec.readNode(bytes)?.capabilities ?? []) {
      if (rule !== undefined && !shows(rule, name)) word += "-";
      else word += invocable && (rule === undefined || lets(rule, name)) ? "i" : "r";
    }
    return word;
  }

  #whole(rule: NodeRule, entry: NodeEntry): boolean {
    const { capabilities, invoke } = rule;
    if (capabilities.includes("*") && invoke.includes("*")) return true;
    const all = this.#codec.readNode(entry.bytes)?.capabilities ?? [];
    return all.every(({ name, invocable }) => shows(rule, name) && (!invocable || lets(rule, name)));
  }

  /** renumber forgets what was shown under other numbers, and notes what is to be seen of a table. */
  renumber(table: FeedTable): void {
    this.#mode.clear();
    this.#shown.clear();
    this.#keys.clear();
    this.nodes = 0;
    if (this.rules !== undefined) fillView(this, table);
  }

  shows(ref: number): boolean {
    return ref < this.#mode.length && this.#mode.data[ref] !== HIDDEN;
  }

  /** shown are the keys that the feed shows of a node now; undefined if it does not show the node. */
  shown(ref: number): readonly number[] | undefined {
    return this.#shown.get(ref);
  }

  /** note remembers that the feed shows a node (or, with undefined, no longer shows it). */
  note(ref: number, view: Omit<NodeView, "bytes"> | undefined): void {
    const before = this.shows(ref);
    this.#mode.set(ref, view === undefined ? HIDDEN : view.whole ? WHOLE : PARTIAL);
    if (view === undefined) this.#shown.delete(ref);
    else this.#shown.set(ref, view.krefs);
    this.nodes += Number(view !== undefined) - Number(before);
  }

  /** defines tells whether a key is new to the feed, and remembers it. */
  defines(kref: number): boolean {
    if (this.#keys.has(kref)) return false;
    this.#keys.add(kref);
    return true;
  }

  hasKey(kref: number): boolean {
    return this.#keys.has(kref);
  }

  /** showsAll tells whether every change of a batch is visible, so that its bytes can go on verbatim. */
  showsAll(batch: UpdateBatch): boolean {
    const mode = this.#mode.data;
    const { ref } = batch;
    for (let i = 0; i < batch.count; i++) if (mode[ref[i] as number] !== WHOLE) return this.#showsEach(batch);
    return true;
  }

  /** showsKey tells whether one (node, key) is visible. */
  showsKey(ref: number, kref: number): boolean {
    const mode = ref < this.#mode.length ? this.#mode.data[ref] : HIDDEN;
    return mode === WHOLE || (mode === PARTIAL && (this.#shown.get(ref)?.includes(kref) ?? false));
  }

  #showsEach(batch: UpdateBatch): boolean {
    for (let i = 0; i < batch.count; i++) if (!this.showsKey(batch.ref[i] as number, batch.key[i] as number)) return false;
    return true;
  }
}

/** keysShown are the keys of a node that a rule shows. */
function keysShown(rule: NodeRule, table: FeedTable, entry: NodeEntry): Omit<NodeView, "bytes"> {
  const krefs = entry.krefs.filter((kref) => shows(rule, table.key(kref)?.name ?? ""));
  return { krefs, whole: krefs.length === entry.krefs.length };
}

/** filterBatch keeps the changes for which `keep` is true, in order. Undefined if none is left. */
export function filterBatch(
  batch: UpdateBatch,
  keep: (ref: number, key: number) => boolean,
): { count: number; columns: Omit<UpdateBatch, "bytes"> } | undefined {
  const fixed = batch.numCount + batch.intCount;
  const refs: number[] = [];
  const keys: number[] = [];
  const words: number[] = [];
  const lens: number[] = [];
  const chunks: Uint8Array[] = [];
  let nums = 0;
  let ints = 0;
  let at = 0;
  let bytes = 0;
  for (let i = 0; i < batch.count; i++) {
    const length = i < fixed ? 0 : (batch.len[i - fixed] as number);
    const start = at;
    at += length;
    if (!keep(batch.ref[i] as number, batch.key[i] as number)) continue;
    refs.push(batch.ref[i] as number);
    keys.push(batch.key[i] as number);
    if (i < fixed) {
      words.push(batch.bits[2 * i] as number, batch.bits[2 * i + 1] as number);
      if (i < batch.numCount) nums++;
      else ints++;
      continue;
    }
    lens.push(length);
    chunks.push(batch.data.subarray(start, at));
    bytes += length;
  }
  if (refs.length === 0) return undefined;
  const data = new Uint8Array(bytes);
  let end = 0;
  for (const chunk of chunks) {
    data.set(chunk, end);
    end += chunk.length;
  }
  const columns = {
    count: refs.length,
    numCount: nums,
    intCount: ints,
    ref: Uint32Array.from(refs),
    key: Uint32Array.from(keys),
    bits: Uint32Array.from(words),
    len: Uint32Array.from(lens),
    data,
  };
  return { count: refs.length, columns };
}

/** fillView notes what the rules show of the nodes that are there. */
export function fillView(view: ShareView, table: FeedTable): void {
  for (const entry of table.entries()) {
    const shown = view.keysOf(table, entry);
    if (shown === undefined) continue;
    view.note(entry.ref, shown);
    for (const kref of shown.krefs) view.defines(kref);
  }
}
