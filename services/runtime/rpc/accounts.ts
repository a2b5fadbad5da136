import type { Shared } from "#kernel/holdings.ts";
import { LIMITS } from "#kernel/limits.ts";
import type { Rate } from "#kernel/token-bucket.ts";
import type { Clock } from "#runtime/clock.ts";
import type { Caller } from "./call.ts";
import { CallPace } from "./call-pace.ts";
import { principalOf } from "./principal.ts";

/** Bounds are what one principal may hold at once, over all its connections. */
export interface Bounds {
  readonly connections: number;
  /** Calls that are open, those included that are over and whose answer was not read yet. */
  readonly calls: number;
  /** Bytes of answers that were not read yet. */
  readonly unreadBytes: number;
  /**
   * Streams that begin, also those that are reset at once and those that are refused. Each costs a good part of a millisecond, and one
   * read of a socket brings hundreds. Undefined: as many as come.
   */
  readonly streams: Rate | undefined;
}

/** An honest hub begins a few streams when it connects. */
const PEER: Bounds = {
  connections: LIMITS.connectionsPerPeer,
  calls: LIMITS.callsPerPeer,
  unreadBytes: LIMITS.unreadBytesPerPeer,
  streams: { perSecond: 100, burst: 600 },
};
/** Of this hub's own callers each call is a stream: twice what one of them has ever come to, and all that may be open, at once. */
const OWN: Bounds = {
  connections: LIMITS.connectionsPerCaller,
  calls: LIMITS.callsPerCaller,
  unreadBytes: LIMITS.unreadBytesPerCaller,
  streams: { perSecond: 10_000, burst: LIMITS.callsPerCaller },
};
const UNBOUNDED = Number.POSITIVE_INFINITY;
/** The other services of a split hub are this hub: what they carry is everybody's. */
const SERVICE: Bounds = { connections: UNBOUNDED, calls: UNBOUNDED, unreadBytes: UNBOUNDED, streams: undefined };
/** Of the bytes that may wait to be read, the part from which on no call begins: the rest is for answers of calls that have begun. */
const CROWDED_PART = 0.5;

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
  /** When its next call begins. */
  readonly pace: CallPace;
  connections = 0;
  calls = 0;
  unreadBytes = 0;

  constructor(key: string, bounds: Bounds, clock: Clock) {
    this.key = key;
    this.bounds = bounds;
    this.foreign = bounds === PEER;
    this.pace = new CallPace(clock);
  }

  /** crowded: so many answers wait to be read that no call may begin that only reads. */
  get crowded(): boolean {
    return this.unreadBytes > 0 && this.unreadBytes >= this.bounds.unreadBytes * CROWDED_PART;
  }

  get idle(): boolean {
    return this.connections === 0 && this.calls === 0;
  }
}

/** Accounts are those of all who hold something. Whoever holds nothing is forgotten, so connections bound how many there are. */
export class Accounts {
  readonly #clock: Clock;
  readonly #byKey = new Map<string, Account>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#byKey.size;
  }

  /** of finds the account of a caller, or makes it. All whom this hub refuses share one. */
  of(caller: Caller | undefined): Account {
    const key = caller === undefined ? "refused" : principalOf(caller);
    let account = this.#byKey.get(key);
    if (account === undefined) this.#byKey.set(key, (account = new Account(key, boundsOf(caller?.kind), this.#clock)));
    return account;
  }

  /** sum adds up something of all accounts. */
  sum(what: (account: Account) => number): number {
    let total = 0;
    for (const account of this.#byKey.values()) total += what(account);
    return total;
  }

  /** shared is who holds how much: connections, and calls with the bytes of their answers that were not read yet. */
  shared(): Shared[] {
    const accounts = [...this.#byKey.values()];
    return [
      { what: "connections", holdings: accounts.map(({ key, connections }) => ({ holder: key, count: connections, bytes: 0 })) },
      { what: "calls", holdings: accounts.map(({ key, calls, unreadBytes }) => ({ holder: key, count: calls, bytes: unreadBytes })) },
    ];
  }

  /** settle forgets an account that holds nothing any more. */
  settle(account: Account): void {
    if (account.idle) this.#byKey.delete(account.key);
  }
}
