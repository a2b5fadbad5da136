import type { Clock } from "#channel/clock.ts";
import type { Shared } from "#kernel/bounds/holdings.ts";
import { LIMITS } from "#kernel/bounds/limits.ts";
import type { Rate } from "#kernel/bounds/token-bucket.ts";
import type { Caller } from "../call.ts";
import { CallPace } from "../server/call-pace.ts";
import { principalOf } from "./principal.ts";

/** Bounds are what one principal may hold at once, over all its connections. */
export interface Bounds {
  readonly connections: number;
  /** Connections that are made, however short they live: each costs two milliseconds. Undefined: as many as come. */
  readonly made: Rate | undefined;
  /** Calls that are open, those included that are over and whose answer was not read yet. */
  readonly calls: number;
  /** Bytes of answers that were not read yet and of requests that were not taken yet, together. */
  readonly bytes: number;
  /**
   * Streams that begin, also those that are reset at once and those that are refused. Each costs a good part of a millisecond, and one
   * read of a socket brings hundreds. Undefined: as many as come.
   */
  readonly streams: Rate | undefined;
}

/** An honest hub begins a few streams when it connects; its services make a few connections, and wait when one is lost. */
const PEER: Bounds = {
  connections: LIMITS.connectionsPerPeer,
  made: { perSecond: 5, burst: 2 * LIMITS.connectionsPerPeer },
  calls: LIMITS.callsPerPeer,
  bytes: LIMITS.unreadBytesPerPeer,
  streams: { perSecond: 100, burst: 600 },
};
/**
 * All programs of a caller come back at once, and once more when that goes wrong. Of this hub's own callers each call is a stream: twice what one of
 * them has ever come to, and all that may be open, at once.
 */
const OWN: Bounds = {
  connections: LIMITS.connectionsPerCaller,
  made: { perSecond: 50, burst: 2 * LIMITS.connectionsPerCaller },
  calls: LIMITS.callsPerCaller,
  bytes: LIMITS.unreadBytesPerCaller,
  streams: { perSecond: 10_000, burst: LIMITS.callsPerCaller },
};
const UNBOUNDED = Number.POSITIVE_INFINITY;
/** The other services of a split hub are this hub: what they carry is everybody's. */
const SERVICE: Bounds = { connections: UNBOUNDED, made: undefined, calls: UNBOUNDED, bytes: UNBOUNDED, streams: undefined };
/** Of the bytes that may wait to be read, the part from which on no call begins: the rest is for answers of calls that have begun. */
const CROWDED_PART = 0.5;

/** The part of the heap that requests and unread answers may take: most of the rest is for nodes and values. */
const HEAP_PART = 1 / 4;

/** heldBytesIn is what all principals together may hold in a process with a heap of so many bytes. */
export function heldBytesIn(heapBytes: number): number {
  return Math.min(LIMITS.heldBytes, Math.floor(heapBytes * HEAP_PART));
}

/** boundsOf a caller by its kind. Whom this hub does not know gets what a peer gets. */
export function boundsOf(kind: Caller["kind"] | undefined): Bounds {
  if (kind === "service") return SERVICE;
  return kind === undefined || kind === "peer" || kind === "stranger" ? PEER : OWN;
}

/**
 * Pool is what all principals together hold in bytes. From half of it on each has an eighth at most, and the last eighth is for this hub's
 * own callers, as in a room (`kernel/bounds/room.ts`): a few who hold all they may do not take it away from the others.
 */
interface Pool {
  readonly max: number;
  bytes: number;
  /** Calls that are open. */
  calls: number;
}
const SHARE = 8;
/** What an open call takes of the heap besides its bytes, about: its stream, its handler and what waits for that (5 KiB, measured). */
const CALL_BYTES = 8 * 1024;

/** Account is what one principal holds now. */
export class Account {
  readonly key: string;
  readonly bounds: Bounds;
  /** Not of this hub: a peer, a stranger, or somebody whom it refuses. */
  readonly foreign: boolean;
  /** One principal: neither a stranger nor one of all who are refused. */
  readonly known: boolean;
  /** When its next call begins. */
  readonly pace: CallPace;
  connections = 0;
  /** Streams that are open, also of connections that are gone: what is under way on one is still counted here. */
  streams = 0;
  #calls = 0;
  readonly #pool: Pool | undefined;
  #unreadBytes = 0;
  #requestBytes = 0;
  #decodedBytes = 0;
  #unpacking: Promise<unknown> = Promise.resolve();

  constructor(key: string, kind: Caller["kind"] | undefined, clock: Clock, pool: Pool) {
    const bounds = boundsOf(kind);
    this.key = key;
    this.bounds = bounds;
    this.foreign = bounds === PEER;
    this.known = kind !== undefined && kind !== "stranger";
    this.pace = new CallPace(clock);
    this.#pool = bounds === SERVICE ? undefined : pool;
  }

  /** calls that are open. */
  get calls(): number {
    return this.#calls;
  }

  /** mayBegin tells whether there is room for another call. Whoever has none may always begin. */
  mayBegin(): boolean {
    const pool = this.#pool;
    if (this.#calls === 0 || pool === undefined) return true;
    const after = pool.bytes + (pool.calls + 1) * CALL_BYTES;
    if (after > pool.max * (this.foreign ? 1 - 1 / SHARE : 1)) return false;
    return after <= pool.max / 2 || this.bytes + (this.#calls + 1) * CALL_BYTES <= pool.max / SHARE;
  }

  /** called counts calls that begin, or with a negative number end. */
  called(calls: number): void {
    this.#calls += calls;
    if (this.#pool !== undefined) this.#pool.calls += calls;
  }

  /** unreadBytes of answers that were not read yet. */
  get unreadBytes(): number {
    return this.#unreadBytes;
  }

  /** requestBytes that arrived and that nobody has taken: of messages that are not complete, or whose handler is not done with them. */
  get requestBytes(): number {
    return this.#requestBytes;
  }

  /** bytes that it holds. */
  get bytes(): number {
    return this.#unreadBytes + this.#requestBytes + this.#decodedBytes;
  }

  /** fits tells whether it may hold so many more. Whoever holds nothing may always begin. */
  fits(bytes: number): boolean {
    const held = this.bytes;
    const pool = this.#pool;
    if (held === 0 || pool === undefined) return true;
    const after = pool.bytes + bytes;
    if (held + bytes > this.bounds.bytes || after > pool.max * (this.foreign ? 1 - 1 / SHARE : 1)) return false;
    return after <= pool.max / 2 || held + bytes <= pool.max / SHARE;
  }

  /** answers counts bytes that wait to be read, or with a negative number gives them back. */
  answers(bytes: number): void {
    this.#unreadBytes += bytes;
    if (this.#pool !== undefined) this.#pool.bytes += bytes;
  }

  /** requests counts bytes that arrived, or with a negative number gives them back. */
  requests(bytes: number): void {
    this.#requestBytes += bytes;
    if (this.#pool !== undefined) this.#pool.bytes += bytes;
  }

  /**
   * decode counts a request that takes so much memory once it is decoded, until `decoded` gives it back; false when that is too much. One
   * of each caller may take what is left of the room of all: it would else be refused however often it is sent.
   */
  decode(bytes: number): boolean {
    const pool = this.#pool;
    const alone = this.#decodedBytes === 0 && (pool === undefined || pool.bytes + bytes <= pool.max * (this.foreign ? 1 - 1 / SHARE : 1));
    if (!alone && !this.fits(bytes)) return false;
    this.decoded(bytes);
    return true;
  }

  /** decoded counts bytes that decoded requests take, or with a negative number gives them back. */
  decoded(bytes: number): void {
    this.#decodedBytes += bytes;
    if (this.#pool !== undefined) this.#pool.bytes += bytes;
  }

  /**
   * unpack runs one decompression after the other: a kilobyte becomes a megabyte, and a read of a socket brings dozens, whose bytes are
   * known, and counted, only when they are there.
   */
  unpack<T>(work: () => T | Promise<T>): Promise<T> {
    const next = this.#unpacking.then(work);
    this.#unpacking = next.catch(() => undefined);
    return next;
  }

  /** crowded: so many answers wait to be read that no call may begin that only reads. */
  get crowded(): boolean {
    return this.#unreadBytes > 0 && this.#unreadBytes >= this.bounds.bytes * CROWDED_PART;
  }

  get idle(): boolean {
    return this.connections === 0 && this.streams === 0 && this.calls === 0 && this.bytes === 0;
  }
}

/** Accounts are those of all who hold something. Whoever holds nothing is forgotten, so connections bound how many there are. */
export class Accounts {
  readonly #clock: Clock;
  readonly #byKey = new Map<string, Account>();
  readonly #pool: Pool;

  /** `maxBytes` is what all principals may hold together. */
  constructor(clock: Clock, maxBytes: number = LIMITS.heldBytes) {
    this.#clock = clock;
    this.#pool = { max: maxBytes, bytes: 0, calls: 0 };
  }

  get size(): number {
    return this.#byKey.size;
  }

  /** of finds the account of a caller, or makes it. All whom this hub refuses share one. */
  of(caller: Caller | undefined): Account {
    const key = caller === undefined ? "refused" : principalOf(caller);
    let account = this.#byKey.get(key);
    if (account === undefined) this.#byKey.set(key, (account = new Account(key, caller?.kind, this.#clock, this.#pool)));
    return account;
  }

  /** sum adds up something of all accounts. */
  sum(what: (account: Account) => number): number {
    let total = 0;
    for (const account of this.#byKey.values()) total += what(account);
    return total;
  }

  /** heldBytes of all but this hub's own services. */
  get heldBytes(): number {
    return this.#pool.bytes;
  }

  /** shared is who holds how much: connections, and calls with the bytes of requests and answers that wait. */
  shared(): Shared[] {
    const accounts = [...this.#byKey.values()];
    return [
      { what: "connections", holdings: accounts.map(({ key, connections }) => ({ holder: key, count: connections, bytes: 0 })) },
      { what: "calls", holdings: accounts.map(({ key, calls, bytes }) => ({ holder: key, count: calls, bytes })) },
    ];
  }

  /** settle forgets an account that holds nothing any more. */
  settle(account: Account): void {
    // Its principal may have come back meanwhile, and have another one.
    if (account.idle && this.#byKey.get(account.key) === account) this.#byKey.delete(account.key);
  }
}
