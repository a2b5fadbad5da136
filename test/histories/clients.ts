// Clients that write, read and compare-and-set few keys through different hubs, and what they saw: a history for the checker.
import { create } from "@bufbuild/protobuf";
import type { ClientOf } from "#channel/call.ts";
import { systemClock } from "#channel/clock.ts";

import {
  ChangeValueRequestSchema,
  CoordinationService,
  GetValueRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import { Prng } from "#kernel/prng.ts";
import { sleep } from "#runtime/clock.ts";
import type { HubProcess } from "../support/federation.ts";
import type { HistoryOp } from "../support/porcupine.ts";

/** A call waits so long, ms: longer than a hub lets a command wait, so that it mostly says itself what became of it. */
const CALL_MS = 6_000;
/** Pause after a call that failed, ms: a hub that is down is not asked a thousand times. */
const REST_MS = 150;
/** Operations, and operations without a known outcome, after which a key is given up: a checker tries all orders of what overlaps. */
const KEY_OPERATIONS = 400;
const KEY_UNKNOWN = 6;

/** Refusals of a hub that say for certain that nothing was done, now or later (RO1). */
const NOTHING_DONE: ReadonlySet<string> = new Set(["NO_QUORUM", "OVERLOADED", "RATE_LIMITED", "NOT_FEDERATED", "SHUTTING_DOWN"]);

/** Seen is what a client knows of a key: its value and version, absent at first. */
interface Seen {
  readonly value: string | null;
  readonly version: bigint;
}

/** Keys are the few that are in use; one that was used enough gives way to a new one. */
class Keys {
  readonly #prefix: string;
  readonly #counts: { key: string; operations: number; unknown: number }[];
  #next = 0;

  constructor(prefix: string, count: number) {
    this.#prefix = prefix;
    this.#counts = Array.from({ length: count }, () => this.#fresh());
  }

  take(prng: Prng): string {
    const at = prng.below(this.#counts.length);
    const found = this.#counts[at]!;
    const { key } = found;
    if (++found.operations >= KEY_OPERATIONS || found.unknown >= KEY_UNKNOWN) this.#counts[at] = this.#fresh();
    return key;
  }

  unknown(key: string): void {
    const found = this.#counts.find((one) => one.key === key);
    if (found !== undefined) found.unknown++;
  }

  #fresh(): { key: string; operations: number; unknown: number } {
    return { key: `${this.#prefix}/${this.#next++}`, operations: 0, unknown: 0 };
  }
}

/** Tally counts what became of the calls. */
export interface Tally {
  done: number;
  refused: number;
  unknown: number;
  /** Reads that failed; they say nothing, and are not in the history. */
  lostReads: number;
  /** Why outcomes are unknown, and how often. */
  readonly why: Map<string, number>;
}

/** Clients call hubs in closed loops until they are told to stop. */
export class Clients {
  readonly history: HistoryOp[] = [];
  readonly tally: Tally = { done: 0, refused: 0, unknown: 0, lostReads: 0, why: new Map() };
  readonly #hubs: readonly HubProcess[];
  readonly #keys: Keys;
  readonly #seed: number;
  readonly #loops: Promise<void>[] = [];
  readonly #writes = { next: 0 };
  #running = true;

  constructor(hubs: readonly HubProcess[], seed: number) {
    this.#hubs = hubs;
    this.#seed = seed;
    this.#keys = new Keys("h", 3);
  }

  /** start starts so many clients, each at another hub as far as there are hubs. */
  start(count: number): void {
    for (let client = 0; client < count; client++) this.#loops.push(this.#loop(client));
  }

  /** stop resolves when the last call has ended. */
  async stop(): Promise<void> {
    this.#running = false;
    await Promise.all(this.#loops);
  }

  async #loop(client: number): Promise<void> {
    const prng = new Prng(this.#seed * 64 + client + 1);
    const hub = this.#hubs[client % this.#hubs.length]!;
    const rpc = hub.client(CoordinationService);
    const seen = new Map<string, Seen>();
    try {
      while (this.#running) {
        const key = this.#keys.take(prng);
        const ok = await this.#one(client, rpc, key, seen, prng.unit());
        if (!ok) await sleep(systemClock, REST_MS);
      }
    } finally {
      rpc.close();
    }
  }

  #one(client: number, rpc: Rpc, key: string, seen: Map<string, Seen>, chance: number): Promise<boolean> {
    if (chance < 0.4) return this.#read(client, rpc, key, seen);
    if (chance < 0.65) return this.#write(client, rpc, key, seen);
    return this.#cas(client, rpc, key, seen);
  }

  async #read(client: number, rpc: Rpc, key: string, seen: Map<string, Seen>): Promise<boolean> {
    const call_ns = nowNs();
    try {
      const { value } = await rpc.getValue(create(GetValueRequestSchema, { key }), { timeoutMs: CALL_MS });
      const result = value === undefined ? null : new TextDecoder().decode(value.value);
      this.history.push({ client, call_ns, return_ns: nowNs(), key, op: "read", result });
      seen.set(key, { value: result, version: value?.version ?? 0n });
      this.tally.done++;
      return true;
    } catch {
      this.tally.lostReads++;
      return false;
    }
  }

  async #write(client: number, rpc: Rpc, key: string, seen: Map<string, Seen>): Promise<boolean> {
    const value = this.#unique(client);
    const timed = { client, call_ns: nowNs(), key };
    try {
      const version = await change(rpc, key, value);
      this.history.push({ ...timed, return_ns: nowNs(), op: "write", value });
      seen.set(key, { value, version });
      this.tally.done++;
      return true;
    } catch (error) {
      if (this.#failed(error, key)) this.history.push({ ...timed, return_ns: null, op: "write", value });
      return false;
    }
  }

  /** cas writes only to what this client saw last. Values are written once, so that a version and a value stand for each other. */
  async #cas(client: number, rpc: Rpc, key: string, seen: Map<string, Seen>): Promise<boolean> {
    const { value: expect, version } = seen.get(key) ?? { value: null, version: 0n };
    const value = this.#unique(client);
    const timed = { client, call_ns: nowNs(), key };
    try {
      const changed = await change(rpc, key, value, version);
      this.history.push({ ...timed, return_ns: nowNs(), op: "cas", expect, value, result: true });
      seen.set(key, { value, version: changed });
      this.tally.done++;
      return true;
    } catch (error) {
      if (reasonOf(error) === "VERSION_CONFLICT") {
        this.history.push({ ...timed, return_ns: nowNs(), op: "cas", expect, value, result: false });
        seen.delete(key);
        this.tally.done++;
        return this.#read(client, rpc, key, seen);
      }
      // With an open end the checker lets it take effect if the value fits then, or never.
      if (this.#failed(error, key)) this.history.push({ ...timed, return_ns: null, op: "cas", expect, value, result: true });
      return false;
    }
  }

  /** failed counts a change that failed; true if nobody knows what became of it. */
  #failed(error: unknown, key: string): boolean {
    const reason = reasonOf(error);
    const text = error instanceof FoedusError ? error.failure.message : "";
    // A hub says of a command that it gave up before it was sent that nothing was done; a call that ran out of time says nothing. Where no
    // hub listens nothing was sent.
    const certain = NOTHING_DONE.has(reason) || text.includes("nothing was done") || neverSent(error);
    if (certain) this.tally.refused++;
    else {
      this.tally.unknown++;
      this.tally.why.set(reason, (this.tally.why.get(reason) ?? 0) + 1);
      this.#keys.unknown(key);
    }
    return !certain;
  }

  #unique(client: number): string {
    return `${client}.${this.#writes.next++}`;
  }
}

type Rpc = ClientOf<typeof CoordinationService>;

async function change(rpc: Rpc, key: string, value: string, expect?: bigint): Promise<bigint> {
  const condition = expect === undefined ? {} : { conditional: true, expect };
  const put = { key, value: new TextEncoder().encode(value), ...condition };
  const request = create(ChangeValueRequestSchema, { change: { change: { case: "put", value: put } } });
  return (await rpc.changeValue(request, { timeoutMs: CALL_MS })).version;
}

/** neverSent tells whether a call failed because there was no connection for it. */
function neverSent(error: unknown): boolean {
  const cause = error instanceof FoedusError ? (error.cause as { readonly details?: unknown } | undefined)?.details : undefined;
  return typeof cause === "string" && cause.startsWith("No connection established");
}

function reasonOf(error: unknown): string {
  return error instanceof FoedusError ? error.failure.reason : "";
}

function nowNs(): number {
  return Math.round(systemClock.mono() * 1e6);
}
