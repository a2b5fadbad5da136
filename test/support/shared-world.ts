// Hubs that tell each other shared state over a network that loses, repeats and overtakes, beside an implementation that is too simple to
// be wrong: it keeps every change for ever, and looks through all of them to answer.
import { createHash } from "node:crypto";
import { expect } from "vitest";
import type { HlcReading } from "#kernel/crdt/hlc.ts";
import type { Crypto } from "#kernel/crypto.ts";
import type { Now } from "#kernel/instant.ts";
import { Prng } from "#kernel/prng.ts";
import { SharedState } from "../../services/coordination/shared/core.ts";
import {
  KINDS,
  type SharedChange,
  type SharedEffect,
  type SharedFrame,
  type SharedInput,
  type SharedKind,
  type SharedMember,
  type SharedSlot,
} from "../../services/coordination/shared/messages.ts";
import { Part } from "../../services/coordination/shared/part.ts";
import { readStored } from "../../services/coordination/shared/part-bytes.ts";

/** SKEW_MS is how far ahead of a hub's clock a reading may be in these tests. */
export const SKEW_MS = 60_000;
const FEDERATION = new Uint8Array(16).fill(7);

/** publicKeyOf is the key of a hub: its name. */
export function publicKeyOf(hub: string): Uint8Array {
  const key = new Uint8Array(32);
  key.set(Buffer.from(hub));
  return key;
}

function signatureOf(key: Uint8Array, data: Uint8Array): Uint8Array {
  return createHash("sha512").update(key).update(data).digest();
}

/** cryptoOf signs as a hub. Whoever knows a hub's name could, too; these tests do it where they mean to. */
export function cryptoOf(hub: string): Crypto {
  return {
    hash: (data) => createHash("sha256").update(data).digest(),
    sign: (data) => signatureOf(publicKeyOf(hub), data),
    verify: (key, data, signature) => Buffer.compare(signatureOf(key, data), signature) === 0,
  };
}

/** newShared makes the core of a hub. */
export function newShared(hub: string, stored: Iterable<Part> = []): SharedState {
  const times = { maxSkewMs: SKEW_MS, lingerMs: 50, relayMs: 500, syncMs: 5_000 };
  return new SharedState({ hub, federation: FEDERATION, crypto: cryptoOf(hub), ...times }, stored);
}

/** memberOf is a hub as the log has it. */
export function memberOf(hub: string, incarnation = 1): SharedMember {
  return { hub, incarnation, publicKey: publicKeyOf(hub) };
}

/** Op is one word of one hub, as the simple implementation keeps it. */
interface Op extends SharedSlot {
  readonly version: number;
  readonly at: HlcReading;
  readonly priority: number;
  /** "gone": it says nothing any more. "nothing": it says that there is nothing. */
  readonly value: string | "gone" | "nothing";
}

interface Flight {
  readonly from: string;
  readonly to: string;
  readonly frame: SharedFrame;
}

const nameOf = ({ kind, key }: SharedSlot): string => `${kind} ${key}`;
const hex = (bytes: Uint8Array): string => `=${Buffer.from(bytes).toString("hex")}`;

/** Hub is one of them: its core, what is stored, and how wrong its clock is. */
class Hub {
  core: SharedState;
  readonly stored = new Map<string, Uint8Array>();
  readonly name: string;
  readonly clockOffMs: number;
  members: readonly SharedMember[] = [];
  /** How many changes of the members it knows of. */
  learned = 0;
  readonly sessions = new Set<string>();
  /** Greatest version that was ever here, by replica. */
  readonly highest = new Map<string, number>();

  constructor(name: string, clockOffMs: number) {
    this.name = name;
    this.clockOffMs = clockOffMs;
    this.core = newShared(name);
  }
}

/** SharedWorld is all of them. */
export class SharedWorld {
  readonly prng: Prng;
  readonly hubs: readonly Hub[];
  /** Every word that was ever said, by replica and key. */
  readonly #said = new Map<string, Op[]>();
  /** Version of a replica's last words. */
  readonly #lasts = new Map<string, number>();
  readonly #memberships: (readonly SharedMember[])[] = [];
  #flights: Flight[] = [];
  #mono = 0;
  #call = 0;
  /** Inputs with effects of a kind, so that a test sees that something happened. */
  readonly counts = new Map<string, number>();

  constructor(seed: number, names: readonly string[]) {
    this.prng = new Prng(seed);
    this.hubs = names.map((name) => new Hub(name, this.prng.below(SKEW_MS / 2)));
    this.#memberships.push(names.map((name) => memberOf(name)));
    for (const hub of this.hubs) this.input(hub, { kind: "members", members: this.#memberships[0]! });
  }

  now(hub: Hub): Now {
    return { mono: this.#mono, wall: 1_000_000 + this.#mono + hub.clockOffMs };
  }

  /** input gives a hub's core one input, does what it asks for, and compares it with the simple implementation. */
  input(hub: Hub, input: SharedInput | "tick"): void {
    const out: SharedEffect[] = [];
    if (input === "tick") hub.core.tick(this.now(hub), out);
    else hub.core.step(this.now(hub), input, out);
    if (input !== "tick" && input.kind === "members") this.#join(hub, input.members);
    if (input !== "tick" && input.kind === "change") this.#record(hub, input.changes, out);
    for (const effect of out) this.#carryOut(hub, effect);
    this.#check(hub);
  }

  /** #join: who is let go by all is told nothing more, and what a hub had of who went may begin anew. */
  #join(hub: Hub, members: readonly SharedMember[]): void {
    hub.members = members.some((member) => member.hub === hub.name) ? members : [];
    const there = new Set(hub.members.map((member) => `${member.hub}/${member.incarnation}`));
    for (const replica of hub.highest.keys()) if (!there.has(replica)) hub.highest.delete(replica);
  }

  #carryOut(hub: Hub, effect: SharedEffect): void {
    this.#count(effect.kind === "observe" ? effect.what : effect.kind === "send" ? `send ${effect.frame.kind}` : effect.kind);
    if (effect.kind === "send") this.#flights.push({ from: hub.name, to: effect.to, frame: effect.frame });
    if (effect.kind !== "persist") return;
    for (const op of effect.ops) {
      if (op.op === "put") hub.stored.set(op.key, op.bytes);
      else if (op.op === "delete") hub.stored.delete(op.key);
      else throw new Error(`${op.op} is not asked for here`);
    }
  }

  #count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  /** step does something, whatever comes up. */
  step(): void {
    const { prng } = this;
    const hub = this.hubs[prng.below(this.hubs.length)]!;
    const other = this.hubs[prng.below(this.hubs.length)]!;
    const what = prng.below(100);
    if (what < 30) this.input(hub, { kind: "change", call: this.#call++, changes: this.#changes(hub) });
    else if (what < 75) this.#deliver();
    else if (what < 85) this.#pass(prng.below(400));
    else if (what < 93) this.#session(hub, other, prng.chance(0.7));
    else if (what < 96) this.restart(hub);
    else if (what < 97) this.#membership(hub);
    else this.#learn(hub);
  }

  /** heal lets all sessions stand and all frames arrive, until nobody has anything to say. */
  heal(): void {
    for (const hub of this.hubs) while (hub.learned < this.#memberships.length - 1) this.#learn(hub);
    for (const a of this.hubs) for (const b of this.hubs) if (a !== b) this.#session(a, b, true);
    for (let round = 0; round < 4; round++) {
      for (let flight = this.#flights.shift(); flight !== undefined; flight = this.#flights.shift()) this.#arrive(flight);
      this.#pass(6_000);
    }
  }

  /** restart loses all but what is stored. */
  restart(hub: Hub): void {
    hub.core = newShared(
      hub.name,
      [...hub.stored.values()].map((bytes) => Part.load(readStored(bytes))),
    );
    this.input(hub, { kind: "members", members: hub.members });
    for (const other of [...hub.sessions]) this.#session(hub, this.#hub(other), true);
  }

  #hub(name: string): Hub {
    return this.hubs.find((hub) => hub.name === name)!;
  }

  #session(a: Hub, b: Hub, up: boolean): void {
    if (a === b) return;
    for (const [hub, peer] of [
      [a, b],
      [b, a],
    ] as const) {
      if (up) hub.sessions.add(peer.name);
      else hub.sessions.delete(peer.name);
      this.input(hub, { kind: "peer", hub: peer.name, up });
    }
  }

  #pass(ms: number): void {
    this.#mono += ms;
    for (const hub of this.hubs) {
      const deadline = hub.core.deadline();
      if (deadline !== undefined && deadline <= this.#mono) this.input(hub, "tick");
    }
  }

  /** #deliver takes any of the frames on their way: it arrives, arrives and stays on its way, or is lost. */
  #deliver(): void {
    const { prng } = this;
    if (this.#flights.length === 0) return;
    const at = prng.below(this.#flights.length);
    const flight = this.#flights[at]!;
    const fate = prng.below(10);
    if (fate > 1) this.#flights.splice(at, 1);
    if (fate > 2) this.#arrive(flight);
    if (this.#flights.length > 200) this.#flights.splice(0, 100);
  }

  #arrive({ from, to, frame }: Flight): void {
    this.input(this.#hub(to), { kind: "frame", from, frame });
  }

  /** #membership lets a hub go, or come back as another replica. */
  #membership(hub: Hub): void {
    const last = this.#memberships.at(-1)!;
    const there = last.some((member) => member.hub === hub.name);
    if (there && last.length < this.hubs.length) return;
    const incarnation = 1 + this.#memberships.length;
    this.#memberships.push(there ? last.filter((member) => member.hub !== hub.name) : [...last, memberOf(hub.name, incarnation)]);
  }

  #learn(hub: Hub): void {
    hub.learned = Math.min(this.#memberships.length - 1, hub.learned + 1);
    const next = this.#memberships[hub.learned]!;
    this.input(hub, { kind: "members", members: next });
  }

  #slots(hub: Hub): SharedSlot[] {
    return [
      { kind: "swarms", key: hub.name },
      { kind: "resources", key: `${hub.name}/gpu` },
      { kind: "allocations", key: "gpu-1" },
      { kind: "allocations", key: "gpu-2" },
      { kind: "facts", key: "one" },
      { kind: "facts", key: "two" },
    ];
  }

  #changes(hub: Hub): SharedChange[] {
    const { prng } = this;
    const slots = this.#slots(hub).filter(() => prng.chance(0.3));
    return slots.map((slot) => ({
      ...slot,
      priority: slot.kind === "allocations" ? prng.below(3) : 0,
      value: prng.chance(0.35) ? undefined : Uint8Array.of(prng.below(3)),
    }));
  }

  // The simple implementation.

  /** #record keeps what a hub has just said, by rules of its own; only the time is that of the core. */
  #record(hub: Hub, changes: readonly SharedChange[], out: readonly SharedEffect[]): void {
    const changed = out.find((effect) => effect.kind === "changed");
    if (changed === undefined) return expect(changes.length === 0 || hub.members.length === 0).toBe(true);
    const mine = this.#replica(hub, hub.name)!;
    const others = hub.members.filter((member) => member.hub !== hub.name).map((member) => this.#replica(hub, member.hub)!);
    const highest = this.#version(hub, hub.name) - (this.#version(hub, hub.name) === this.#last(mine) ? 0 : 1);
    const version = highest + 1;
    const othersSay = (slot: SharedSlot): boolean =>
      others.some((replica) => (this.#word(replica, slot, this.#version(hub, replica.split("/")[0]!))?.value ?? "gone") !== "gone");
    const ops: Op[] = [];
    const say = (slot: SharedSlot, priority: number, value: string): void => {
      const at = this.#stamp(hub, slot) ?? { wallMs: 0, logical: 0 };
      ops.push({ kind: slot.kind, key: slot.key, priority, value, version, at });
    };
    for (const { kind, key, priority = 0, value } of changes) {
      const before = this.#word(mine, { kind, key }, highest);
      const silent = before === undefined || before.value === "gone";
      if (value === undefined && !(KINDS[kind].conflict === "timestamp" && !KINDS[kind].owned && othersSay({ kind, key }))) {
        if (!silent) say({ kind, key }, 0, "gone");
        continue;
      }
      const word = value === undefined ? "nothing" : hex(value);
      const counts = this.#read(hub, { kind, key }, highest);
      const stands = word === "nothing" ? counts === undefined : counts?.hub === hub.name;
      if (silent || before.priority !== priority || before.value !== word || !stands) say({ kind, key }, priority, word);
    }
    for (const slot of this.#slots(hub)) {
      if (changes.some((change) => nameOf(change) === nameOf(slot))) continue;
      if (this.#word(mine, slot, highest)?.value === "nothing" && !othersSay(slot)) say(slot, 0, "gone");
    }
    for (const op of ops) {
      const name = `${mine} ${nameOf(op)}`;
      this.#said.set(name, [...(this.#said.get(name) ?? []), op]);
    }
    if (ops.length > 0) this.#lasts.set(mine, version);
    expect(changed.version).toBe(ops.length === 0 ? highest : version);
  }

  #last(replica: string): number {
    return this.#lasts.get(replica) ?? 0;
  }

  /** #replica names the replica of a hub that another one knows. */
  #replica(hub: Hub, of: string): string | undefined {
    const member = hub.members.find((one) => one.hub === of);
    return member === undefined ? undefined : `${of}/${member.incarnation}`;
  }

  #version(hub: Hub, of: string): number {
    for (const { head } of hub.core.parts()) if (head.hub === of) return head.version;
    return 0;
  }

  /** #stamp is the time of what a hub has just said. */
  #stamp(hub: Hub, { kind, key }: SharedSlot): HlcReading | undefined {
    return [...hub.core.parts()].find((part) => part.head.hub === hub.name)?.entries.get(`${kind} ${key}`)?.at;
  }

  /** #word is the last word of a replica under a key, up to a version. */
  #word(replica: string, slot: SharedSlot, version: number): Op | undefined {
    return (this.#said.get(`${replica} ${nameOf(slot)}`) ?? []).findLast((op) => op.version <= version);
  }

  /** #read is what counts for a hub under a key, by sorting all that it knows. */
  #read(
    hub: Hub,
    slot: SharedSlot,
    ownVersion = this.#version(hub, hub.name),
  ): { readonly hub: string; readonly value: string } | undefined {
    const words = hub.members.flatMap((member) => {
      const version = member.hub === hub.name ? ownVersion : this.#version(hub, member.hub);
      const word = this.#word(`${member.hub}/${member.incarnation}`, slot, version);
      return word === undefined || word.value === "gone" ? [] : [{ word, hub: member.hub }];
    });
    const order = ({ word, hub: who }: (typeof words)[number]): string => {
      const time = `${String(word.at.wallMs).padStart(16, "0")} ${String(word.at.logical).padStart(6, "0")} ${who}`;
      return KINDS[slot.kind].conflict === "priority" ? `${String(255 - word.priority).padStart(4, "0")} ${time}` : time;
    };
    const sorted = words.sort((a, b) => (order(a) < order(b) ? -1 : 1));
    const best = KINDS[slot.kind].conflict === "priority" ? sorted[0] : sorted.at(-1);
    return best === undefined || best.word.value === "nothing" ? undefined : { hub: best.hub, value: best.word.value };
  }

  #check(hub: Hub): void {
    for (const member of hub.members) {
      const replica = `${member.hub}/${member.incarnation}`;
      const version = this.#version(hub, member.hub);
      if (version < (hub.highest.get(replica) ?? 0)) throw new Error(`${hub.name} went back to ${version} of ${replica}`);
      hub.highest.set(replica, version);
    }
    for (const kind of Object.keys(KINDS) as SharedKind[])
      for (const { entry, hub: by } of hub.core.list(kind))
        if (hub.core.read(entry)?.hub !== by) throw new Error(`${hub.name} lists ${nameOf(entry)} otherwise than it reads it`);
    for (const slot of this.hubs.flatMap((one) => this.#slots(one))) {
      const read = hub.core.read(slot);
      const said = read === undefined ? undefined : { hub: read.hub, value: hex(read.entry.value!) };
      const simple = this.#read(hub, slot);
      if (said?.hub !== simple?.hub || said?.value !== simple?.value) expect(said, `${hub.name} reads ${nameOf(slot)}`).toEqual(simple);
    }
  }
}
