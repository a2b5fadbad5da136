import type { Offer, Scope } from "../messages.ts";

/** OFFERED_MAX is how many nodes all executors together may offer, each counted once for each executor that offers it. */
export const OFFERED_MAX = 262_144;
/** OFFERING_COST is what an offer takes beside what is in it, with its executor: executor.spec.ts measures it. */
export const OFFERING_COST = 1_536;
const CAPABILITY_COST = 64;

/** Offerer is who offers: an executor. */
export interface Offerer {
  readonly name: string;
  readonly scope: Scope;
}

/** Offering is what one attach offers. */
export class Offering<E extends Offerer> {
  readonly executor: E;
  /** Who its places are counted for. */
  readonly holder: string;
  /** Undefined means all. */
  readonly capabilities: ReadonlySet<string> | undefined;
  readonly shared: boolean;
  /** What it takes beside its nodes. */
  readonly bytes: number;
  readonly nodes = new Set<string>();
  /** Nobody is given anything for it any more. Its nodes are given up bit by bit. */
  over = false;
  /** Where it waits for that, once it is over. */
  waits: Set<Offering<E>> | undefined;
  /** Which older ones it leaves nothing to, of those that were met. */
  readonly #covers = new Map<Offering<E>, boolean>();

  constructor(executor: E, { capabilities, shared }: Offer) {
    this.executor = executor;
    this.holder = holderOf(executor.name, executor.scope);
    this.capabilities = capabilities.length === 0 ? undefined : new Set(capabilities);
    this.shared = shared;
    this.bytes = offeringCost(capabilities);
  }

  /** covers tells whether it leaves nothing to an older one. */
  covers(old: Offering<E>): boolean {
    if (old.executor === this.executor) return true;
    let covers = this.#covers.get(old);
    if (covers === undefined) this.#covers.set(old, (covers = this.#coversAll(old)));
    return covers;
  }

  /** complete: it will meet no other. */
  complete(): void {
    this.#covers.clear();
  }

  #coversAll(old: Offering<E>): boolean {
    if (this.shared && old.shared) return false;
    const names = this.capabilities;
    if (names === undefined) return true;
    return old.capabilities !== undefined && [...old.capabilities].every((name) => names.has(name));
  }
}

/** offeringCost is what an offer takes beside its nodes. */
export function offeringCost(capabilities: readonly string[]): number {
  return capabilities.reduce((sum, name) => sum + CAPABILITY_COST + name.length, OFFERING_COST);
}

/** wait moves an offer that is over to where it waits to be given up. */
export function wait<E extends Offerer>(over: Offering<E>, place: Set<Offering<E>>): void {
  over.waits = place;
  place.add(over);
}

/** holderOf is who an executor, and what it offers, is counted for. */
export function holderOf(name: string, scope: Scope): string {
  return `${scope.kind}/${name}`;
}
