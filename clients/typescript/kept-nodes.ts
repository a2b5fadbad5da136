import type { MessageInitShape } from "@bufbuild/protobuf";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Node, NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { FoedusError, fail } from "#kernel/error.ts";

/** NodeInit is a node as it is written in code. */
export type NodeInit = MessageInitShape<typeof NodeSchema>;

/** Nodes in one RegisterNodes call, their bytes, and the bytes that each may take besides its own. A hub takes so much of any usual content. */
const PAGE = 500;
const PAGE_BYTES = 256 * 1024;
const NODE_OVERHEAD = 8;

/** pagesOf cuts items into calls that are small enough; what is too long goes alone, and is refused alone. */
export function* pagesOf<T>(items: Iterable<T>, bytesOf: (item: T) => number): Iterable<T[]> {
  let page: T[] = [];
  let bytes = 0;
  for (const item of items) {
    const length = bytesOf(item) + NODE_OVERHEAD;
    if (page.length === PAGE || (page.length > 0 && bytes + length > PAGE_BYTES)) {
      yield page;
      page = [];
      bytes = 0;
    }
    page.push(item);
    bytes += length;
  }
  if (page.length > 0) yield page;
}

/** encoded is a node as it stands now, whatever the program does with its object later. Throws FoedusError (INVALID_FIELD). */
function encoded(init: NodeInit): Uint8Array {
  try {
    return toBinary(NodeSchema, create(NodeSchema, init));
  } catch (error) {
    throw fail("INVALID_FIELD", error instanceof Error ? error.message : String(error));
  }
}

/** Change is a call by which the program says something new of nodes. */
interface Change {
  readonly ids: ReadonlySet<string>;
  /** Ends of the repetitions that it crossed: the hub may have taken them after it. */
  readonly crossed: Promise<void>[];
}

/** Repetition is a call that says again what is kept. */
interface Repetition {
  readonly ids: ReadonlySet<string>;
  readonly ended: Promise<void>;
}

/**
 * KeptNodes are the nodes that a client keeps registered, as the program last said, and the hub acknowledged, that they are.
 *
 * KN1 a repetition says of a node what is kept when it is sent, never what it was before.
 * KN2 a change is acknowledged to the program only when no repetition of something older can come after it: one that it crossed, in whichever
 *    order the hub took the two, is waited for, and the change is made again. Neither waits for the other to be sent.
 * KN3 of two changes of a node the second is sent when the first is acknowledged: made again it would come after what the program said later.
 */
export class KeptNodes {
  readonly #nodes = new Map<string, Uint8Array | FoedusError>();
  readonly #changes = new Set<Change>();
  readonly #repetitions = new Set<Repetition>();
  /** Ends of the last changes that are under way, by node. */
  readonly #ends = new Map<string, Promise<void>>();
  #started = false;

  /** start keeps nodes from now on, and all that the hub acknowledges later. */
  start(nodes: readonly NodeInit[]): void {
    this.#started = true;
    for (const node of nodes) this.put(node);
  }

  /** put keeps a node, in place of what was kept of it. */
  put(node: NodeInit): void {
    if (!this.#started) return;
    const nodeId = node.nodeId ?? "";
    try {
      this.#nodes.set(nodeId, encoded(node));
    } catch (error) {
      this.#nodes.set(nodeId, error as FoedusError);
    }
  }

  /** remove keeps a node no longer. */
  remove(nodeId: string): void {
    this.#nodes.delete(nodeId);
  }

  /** unsendable are the nodes that no message can carry, and why. */
  *unsendable(): Iterable<readonly [string, FoedusError]> {
    for (const [nodeId, kept] of this.#nodes) if (kept instanceof FoedusError) yield [nodeId, kept];
  }

  /** pages are the ids of all others, in parts for one call each. */
  pages(): Iterable<string[]> {
    const sendable = [...this.#nodes.keys()].filter((nodeId) => this.#nodes.get(nodeId) instanceof Uint8Array);
    return pagesOf(sendable, (nodeId) => (this.#nodes.get(nodeId) as Uint8Array | undefined)?.length ?? 0);
  }

  /** change makes a call about nodes; `took` keeps what the hub acknowledged. */
  async change<T>(nodeIds: Iterable<string>, call: () => Promise<T>, took: (answer: T) => void): Promise<T> {
    const ids = new Set(nodeIds);
    const earlier = new Set<Promise<void>>();
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    for (const nodeId of ids) {
      const end = this.#ends.get(nodeId);
      if (end !== undefined) earlier.add(end);
      this.#ends.set(nodeId, ended);
    }
    try {
      if (earlier.size > 0) await Promise.all(earlier);
      return await this.#change(ids, call, took);
    } finally {
      for (const nodeId of ids) if (this.#ends.get(nodeId) === ended) this.#ends.delete(nodeId);
      resolve();
    }
  }

  async #change<T>(ids: ReadonlySet<string>, call: () => Promise<T>, took: (answer: T) => void): Promise<T> {
    const crossed = [...this.#repetitions].filter((repetition) => meet(ids, repetition.ids)).map(({ ended }) => ended);
    const change: Change = { ids, crossed };
    this.#changes.add(change);
    let answer: T;
    try {
      answer = await call();
      took(answer);
    } finally {
      this.#changes.delete(change);
    }
    if (crossed.length === 0) return answer;
    await Promise.all(crossed);
    // What is repeated from now on is what this call said.
    answer = await call();
    took(answer);
    return answer;
  }

  /** repeat sends what is kept of these nodes by a call. Undefined if nothing is. */
  async repeat<T>(nodeIds: readonly string[], call: (nodes: Node[]) => Promise<T>): Promise<T | undefined> {
    const nodes: Node[] = [];
    for (const nodeId of nodeIds) {
      const kept = this.#nodes.get(nodeId);
      if (kept instanceof Uint8Array) nodes.push(fromBinary(NodeSchema, kept));
    }
    if (nodes.length === 0) return undefined;
    const ids = new Set(nodes.map(({ nodeId }) => nodeId));
    const { promise, resolve } = Promise.withResolvers<void>();
    const repetition: Repetition = { ids, ended: promise };
    this.#repetitions.add(repetition);
    for (const change of this.#changes) if (meet(change.ids, ids)) change.crossed.push(promise);
    try {
      return await call(nodes);
    } finally {
      this.#repetitions.delete(repetition);
      resolve();
    }
  }
}

/** meet tells whether two sets have something in common. */
function meet(a: ReadonlySet<string>, b: ReadonlySet<string>): boolean {
  const [few, many] = a.size < b.size ? [a, b] : [b, a];
  for (const item of few) if (many.has(item)) return true;
  return false;
}
