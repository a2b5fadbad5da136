import type { Committed, Membership } from "../../../services/coordination/log/engine.ts";

/** Command is what clients want done in their turn. `serial` counts up per client; the same one again is the same command. */
export interface Command {
  readonly client: string;
  readonly serial: number;
  readonly do:
    | readonly ["put", string, string]
    | readonly ["cas", string, string, string]
    /** A lock for so many ms of log time: its answer is a fence, or nothing. */
    | readonly ["lock", string, number];
}

/** Applied is the answer to a command: where in the log it was done, and what came of it. */
export interface Applied {
  readonly index: number;
  readonly term: number;
  readonly result: string;
}

/** Register is the value of a key, and the position that wrote it. */
export interface Register {
  readonly value: string;
  readonly index: number;
}

interface Lock {
  readonly owner: string;
  readonly fence: number;
  readonly until: number;
}

interface Session extends Applied {
  readonly serial: number;
}

/** Dump is the state of the application as plain data. */
interface Dump {
  readonly applied: number;
  readonly time: number;
  readonly chain: number;
  readonly keys: readonly (readonly [string, Register])[];
  readonly sessions: readonly (readonly [string, Session])[];
  readonly locks: readonly (readonly [string, Lock])[];
  readonly membership: Membership | undefined;
}

const ENCODER = new TextEncoder();
const DECODER = new TextDecoder();

/** encodeCommand writes a command as a payload. */
export function encodeCommand(command: Command): Uint8Array {
  return ENCODER.encode(JSON.stringify([command.client, command.serial, command.do]));
}

/** decodeCommand reads a payload. */
export function decodeCommand(payload: Uint8Array): Command {
  const [client, serial, what] = JSON.parse(DECODER.decode(payload)) as [string, number, Command["do"]];
  return { client, serial, do: what };
}

/** hashOf is FNV-1a over text. */
export function hashOf(text: string, from = 0x811c9dc5): number {
  let hash = from;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** hashBytes is FNV-1a over bytes. */
export function hashBytes(bytes: Uint8Array, from = 0x811c9dc5): number {
  let hash = from;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

/** membershipText is one membership as text that is equal for equal ones. */
export function membershipText({ voters, outgoing, learners }: Membership): string {
  return `${voters.join(",")}|${outgoing.join(",")}|${learners.join(",")}`;
}

/** digestOf is a digest of a position with all that is in it. */
export function digestOf({ index, term, time, payloads, membership }: Committed): number {
  let hash = hashOf(`${index} ${term} ${time} ${membership === undefined ? "" : membershipText(membership)} ${payloads.length}`);
  for (const payload of payloads) hash = hashBytes(payload, hash);
  return hash;
}

/**
 * RegisterApp is a small application of the log: registers, locks with a fence, and one session per client, so that a command that got into
 * the log twice is done once.
 */
export class RegisterApp {
  applied = 0;
  time = 0;
  /** Digest of every position up to `applied`. */
  chain = 0;
  membership: Membership | undefined;
  readonly #keys = new Map<string, Register>();
  readonly #sessions = new Map<string, Session>();
  readonly #locks = new Map<string, Lock>();

  get(key: string): Register | undefined {
    return this.#keys.get(key);
  }

  /** done is the answer to a command that was done, if it was the last one of its client. */
  done(client: string, serial: number): Applied | undefined {
    const last = this.#sessions.get(client);
    return last?.serial === serial ? { index: last.index, term: last.term, result: last.result } : undefined;
  }

  /** apply does what a position says, and answers its commands in order. */
  apply(entry: Committed): (Command & Applied)[] {
    this.applied = entry.index;
    this.time = entry.time;
    this.chain = hashOf(`${this.chain} ${digestOf(entry)}`);
    if (entry.membership !== undefined) this.membership = entry.membership;
    return entry.payloads.map((payload) => {
      const command = decodeCommand(payload);
      return { ...command, ...this.#once(command, entry) };
    });
  }

  /** state is a digest of all that it holds. */
  state(): number {
    let sum = this.chain ^ this.applied;
    for (const [key, { value, index }] of this.#keys) sum = (sum + hashOf(`k ${key} ${value} ${index}`)) | 0;
    for (const [client, { serial, index, result }] of this.#sessions) sum = (sum + hashOf(`s ${client} ${serial} ${index} ${result}`)) | 0;
    for (const [name, { owner, fence, until }] of this.#locks) sum = (sum + hashOf(`l ${name} ${owner} ${fence} ${until}`)) | 0;
    return sum >>> 0;
  }

  dump(): Uint8Array {
    const { applied, time, chain, membership } = this;
    const sorted = <T>(map: Map<string, T>): [string, T][] => [...map].sort(([a], [b]) => (a < b ? -1 : 1));
    const dump: Dump = {
      applied,
      time,
      chain,
      keys: sorted(this.#keys),
      sessions: sorted(this.#sessions),
      locks: sorted(this.#locks),
      membership,
    };
    return ENCODER.encode(JSON.stringify(dump));
  }

  load(bytes: Uint8Array): void {
    const dump = JSON.parse(DECODER.decode(bytes)) as Dump;
    this.applied = dump.applied;
    this.time = dump.time;
    this.chain = dump.chain;
    this.membership = dump.membership;
    fill(this.#keys, dump.keys);
    fill(this.#sessions, dump.sessions);
    fill(this.#locks, dump.locks);
  }

  #once(command: Command, entry: Committed): Applied {
    const { index, term } = entry;
    const last = this.#sessions.get(command.client);
    if (last !== undefined && command.serial === last.serial) return { index: last.index, term: last.term, result: last.result };
    if (last !== undefined && command.serial < last.serial) return { index, term, result: "stale" };
    const result = this.#do(command, entry);
    this.#sessions.set(command.client, { serial: command.serial, index, term, result });
    return { index, term, result };
  }

  #do({ client, do: what }: Command, { index, time }: Committed): string {
    switch (what[0]) {
      case "put":
        this.#keys.set(what[1], { value: what[2], index });
        return "ok";
      case "cas": {
        const [, key, expected, value] = what;
        if ((this.#keys.get(key)?.value ?? "") !== expected) return "differs";
        this.#keys.set(key, { value, index });
        return "ok";
      }
      case "lock": {
        const [, name, ttl] = what;
        const held = this.#locks.get(name);
        if (held !== undefined && held.until > time) return "held";
        this.#locks.set(name, { owner: client, fence: index, until: time + ttl });
        return "ok";
      }
    }
  }
}

function fill<T>(map: Map<string, T>, entries: readonly (readonly [string, T])[]): void {
  map.clear();
  for (const [key, value] of entries) map.set(key, value);
}
