import type { Failure } from "#kernel/error.ts";
import { Growable } from "#kernel/growable.ts";
import type { ValueType } from "../ports.ts";
import { DEAD, type UpdateColumns } from "./update-columns.ts";

/** FieldName says what a field is. */
export interface FieldName {
  readonly nodeId: string;
  readonly key: string;
  readonly type: ValueType;
}

/** BindRequest is a part of the fields, as they are bound together. */
export interface BindRequest {
  readonly id: number;
  /** Fields [from, to). */
  readonly from: number;
  readonly to: number;
  readonly nodeIds: readonly string[];
  readonly keys: readonly { readonly name: string; readonly type: ValueType }[];
}

const NO_NUMBER: Failure = { reason: "INTERNAL", message: "the hub gave the field no number and did not say why" };

/** Nodes and keys in one Bind; the schema allows 10,000 each. */
const BIND_MAX = 5_000;

/**
 * Fields are the pairs of node and key that a sender writes to, numbered in order, and their numbers on the present stream.
 *
 * FD1 fields are bound in order: all below `bound` have numbers, or are DEAD.
 * FD2 numbers hold for one stream; `unbind` forgets them all.
 * FD3 a refusal holds until the node is registered, or until something is to be sent on a newer stream.
 */
export class Fields {
  readonly #byNode = new Map<string, Map<string, number>>();
  readonly #names: FieldName[] = [];
  readonly ref = new Growable(Uint32Array, 1_024);
  readonly key = new Growable(Uint32Array, 1_024);
  /** Value type by field. */
  readonly type = new Growable(Uint8Array, 1_024);
  /** Batch that has the newest change of a field. */
  readonly lastBatch = new Growable(Float64Array, 1_024);
  bound = 0;
  /** Scratch of `retainNewest`: the last change of a field in the batch at hand. */
  readonly #lastAt = new Growable(Uint32Array, 1_024);
  /** Why DEAD fields are that, and whether a stream before the present one was told so. */
  readonly #refusals = new Map<number, { readonly failure: Failure; old: boolean }>();
  #nextId = 1;
  /** Least field that is to be bound again since the last Bind, whose answer may be older than that. */
  #asked = Number.POSITIVE_INFINITY;

  get count(): number {
    return this.#names.length;
  }

  /** hasDead: some field cannot be sent. */
  get hasDead(): boolean {
    return this.#refusals.size > 0;
  }

  /** refusal is why a DEAD field is not sent. */
  refusal(field: number): Failure | undefined {
    return this.#refusals.get(field)?.failure;
  }

  find(nodeId: string, key: string): number | undefined {
    return this.#byNode.get(nodeId)?.get(key);
  }

  add(nodeId: string, key: string, type: ValueType): number {
    const field = this.#names.length;
    this.#names.push({ nodeId, key, type });
    this.ref.push(0);
    this.key.push(0);
    this.type.push(type);
    this.lastBatch.push(0);
    const keys = this.#byNode.get(nodeId) ?? new Map<string, number>();
    this.#byNode.set(nodeId, keys.set(key, field));
    return field;
  }

  name(field: number): FieldName {
    return this.#names[field] as FieldName;
  }

  /** next is the Bind to send for the fields that have no numbers yet; undefined if all have. */
  next(): BindRequest | undefined {
    if (this.bound === this.count) return undefined;
    const nodes = new Set<string>();
    const keys = new Map<string, { name: string; type: ValueType }>();
    let to = this.bound;
    for (; to < this.count && nodes.size < BIND_MAX && keys.size < BIND_MAX; to++) {
      const { nodeId, key, type } = this.name(to);
      if (this.ref.at(to) === DEAD) continue;
      nodes.add(nodeId);
      keys.set(`${type}:${key}`, { name: key, type });
    }
    this.#asked = Number.POSITIVE_INFINITY;
    return { id: this.#nextId++, from: this.bound, to, nodeIds: [...nodes], keys: [...keys.values()] };
  }

  /** accept takes the numbers of a Bind. */
  accept(request: BindRequest, refs: readonly number[], krefs: readonly number[]): void {
    const refOf = new Map(request.nodeIds.map((nodeId, i) => [nodeId, refs[i] ?? DEAD]));
    const krefOf = new Map(request.keys.map(({ name, type }, i) => [`${type}:${name}`, krefs[i] ?? DEAD]));
    for (let field = request.from; field < request.to; field++) {
      if (this.ref.at(field) === DEAD) continue;
      const { nodeId, key, type } = this.name(field);
      const ref = refOf.get(nodeId) ?? DEAD;
      this.ref.set(field, ref);
      this.key.set(field, krefOf.get(`${type}:${key}`) ?? DEAD);
      if (ref === DEAD) this.#refusals.set(field, { failure: NO_NUMBER, old: false });
    }
    this.bound = Math.min(Math.max(this.bound, request.to), this.#asked);
  }

  /** kill marks what a refused Bind named as not to be sent, and answers those fields. */
  kill(request: BindRequest, failure: Failure): number[] {
    const [, list, index] = /^(?:bind\.)?(node_ids|keys)\[(\d+)\]/.exec(failure.field ?? "") ?? [];
    const node = list === "node_ids" ? request.nodeIds[Number(index)] : undefined;
    const key = list === "keys" ? request.keys[Number(index)] : undefined;
    const killed: number[] = [];
    for (let at = request.from; at < request.to; at++) {
      const name = this.name(at);
      if (this.ref.at(at) === DEAD) continue;
      if (node !== undefined && name.nodeId !== node) continue;
      if (key !== undefined && (name.key !== key.name || name.type !== key.type)) continue;
      this.ref.set(at, DEAD);
      this.#refusals.set(at, { failure, old: false });
      killed.push(at);
    }
    return killed;
  }

  /** revive lets the fields of a node be bound again, after it was registered; what was bound keeps its key and gets the new number. */
  revive(nodeId: string): void {
    for (const field of this.#byNode.get(nodeId)?.values() ?? []) this.#ask(field);
  }

  /** askAgain lets the fields of a batch that an earlier stream refused be bound on this one; true if there are any. */
  askAgain(batch: UpdateColumns): boolean {
    let any = false;
    for (let at = 0; at < batch.count; at++) {
      const field = batch.fieldAt(at);
      if (this.#refusals.get(field)?.old !== true) continue;
      this.#ask(field);
      any = true;
    }
    return any;
  }

  #ask(field: number): void {
    this.#refusals.delete(field);
    this.ref.set(field, 0);
    this.bound = Math.min(this.bound, field);
    this.#asked = Math.min(this.#asked, field);
  }

  /** retainNewest leaves in a batch, of each field that no later batch has, the newest change; `except` goes in any case. */
  retainNewest(batch: UpdateColumns, except = -1): void {
    const last = this.#lastAt;
    for (let at = 0; at < batch.count; at++) last.set(batch.fieldAt(at), at);
    batch.retain((field, at) => at !== except && this.lastBatch.data[field] === batch.id && last.data[field] === at);
  }

  /** overtakenBy is the newest batch that has a newer change of something in this one; 0 for none. */
  overtakenBy(batch: UpdateColumns): number {
    let newest = 0;
    for (let at = 0; at < batch.count; at++) {
      const last = this.lastBatch.data[batch.fieldAt(at)] as number;
      if (last !== batch.id) newest = Math.max(newest, last);
    }
    return newest;
  }

  /** unbind forgets all numbers: the stream is over. */
  unbind(): void {
    this.bound = 0;
    for (const refusal of this.#refusals.values()) refusal.old = true;
  }
}
