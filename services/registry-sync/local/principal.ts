import type { Scope } from "../messages.ts";

/** Principal is a node or gateway that speaks for nodes of this hub. */
export class Principal {
  readonly no: number;
  /** As its certificate said when it last opened a stream or registered a node. */
  scope: Scope;
  streams = 0;
  /** Its nodes stay online until then without a stream, mono ms. */
  leaseUntil = Number.NEGATIVE_INFINITY;
  alive = false;
  /** It is among those whose lease ends some time. */
  waits = false;
  /** About how much memory its nodes take, with their texts. */
  bytes = 0;
  /** Nodes that it spoke for last. Most have one, which is a number for less than a set takes. */
  #only = 0;
  #refs: Set<number> | undefined;

  constructor(no: number, scope: Scope) {
    this.no = no;
    this.scope = scope;
  }

  /** nodes is how many it spoke for last. */
  get nodes(): number {
    if (this.#refs !== undefined) return this.#refs.size;
    return this.#only === 0 ? 0 : 1;
  }

  /** refs are their numbers. What comes while they are gone through may be among them or not, and what goes is not. */
  refs(): IterableIterator<number> {
    if (this.#refs !== undefined) return this.#refs.values();
    return (this.#only === 0 ? [] : [this.#only]).values();
  }

  add(ref: number): void {
    if (this.#refs !== undefined) this.#refs.add(ref);
    else if (this.#only === 0) this.#only = ref;
    else if (this.#only !== ref) {
      this.#refs = new Set([this.#only, ref]);
      this.#only = 0;
    }
  }

  delete(ref: number): void {
    if (this.#only === ref) this.#only = 0;
    this.#refs?.delete(ref);
  }

  clear(): void {
    this.#only = 0;
    this.#refs = undefined;
  }
}

/** covers tells whether a scope includes a node. */
export function covers(scope: Scope, nodeId: string): boolean {
  return scope.ids.includes(nodeId) || scope.prefixes.some((prefix) => nodeId.startsWith(prefix));
}

export function sameScope(a: Scope, b: Scope): boolean {
  return a === b || (a.ids.join() === b.ids.join() && a.prefixes.join() === b.prefixes.join());
}
