import { LIMITS } from "#kernel/limits.ts";
import type { Caller } from "./call.ts";
import { principalOf } from "./principal.ts";

/** Bounds are what one principal may hold at once, over all its connections. */
export interface Bounds {
  readonly connections: number;
  /** Calls that are open, those included that are over and whose answer was not read yet. */
  readonly calls: number;
  /** Bytes of answers that were not read yet. */
  readonly unreadBytes: number;
}

const PEER: Bounds = { connections: LIMITS.connectionsPerPeer, calls: LIMITS.callsPerPeer, unreadBytes: LIMITS.unreadBytesPerPeer };
const OWN: Bounds = { connections: LIMITS.connectionsPerCaller, calls: LIMITS.callsPerCaller, unreadBytes: LIMITS.unreadBytesPerCaller };
const UNBOUNDED = Number.POSITIVE_INFINITY;
/** The other services of a split hub are this hub: what they carry is everybody's. */
const SERVICE: Bounds = { connections: UNBOUNDED, calls: UNBOUNDED, unreadBytes: UNBOUNDED };

/** boundsOf a caller by its kind. Whom this hub does not know gets what a peer gets. */
export function boundsOf(kind: Caller["kind"] | undefined): Bounds {
  if (kind === "service") return SERVICE;
  return kind === undefined || kind === "peer" || kind === "stranger" ? PEER : OWN;
}

/** Account is what one principal holds now. */
export class Account {
  readonly key: string;
  readonly bounds: Bounds;
  /** Not of this hub: a peer, a stranger, or somebody whom it refuses. */
  readonly foreign: boolean;
  connections = 0;
  calls = 0;
  unreadBytes = 0;

  constructor(key: string, bounds: Bounds) {
    this.key = key;
    this.bounds = bounds;
    this.foreign = bounds === PEER;
  }

  get idle(): boolean {
    return this.connections === 0 && this.calls === 0;
  }
}

/** Accounts are those of all who hold something. Whoever holds nothing is forgotten, so connections bound how many there are. */
export class Accounts {
  readonly #byKey = new Map<string, Account>();

  get size(): number {
    return this.#byKey.size;
  }

  /** of finds the account of a caller, or makes it. All whom this hub refuses share one. */
  of(caller: Caller | undefined): Account {
    const key = caller === undefined ? "refused" : principalOf(caller);
    let account = this.#byKey.get(key);
    if (account === undefined) this.#byKey.set(key, (account = new Account(key, boundsOf(caller?.kind))));
    return account;
  }

  /** sum adds up something of all accounts. */
  sum(what: (account: Account) => number): number {
    let total = 0;
    for (const account of this.#byKey.values()) total += what(account);
    return total;
  }

  /** settle forgets an account that holds nothing any more. */
  settle(account: Account): void {
    if (account.idle) this.#byKey.delete(account.key);
  }
}
