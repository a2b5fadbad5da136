import { assert } from "#kernel/assert.ts";
import { type Rate, TokenBucket } from "#kernel/bounds/token-bucket.ts";
import type { Core } from "#kernel/core.ts";
import { Hlc, tooFarAhead } from "#kernel/crdt/hlc.ts";
import { lwwProblem } from "#kernel/crdt/lww.ts";
import { VersionVector } from "#kernel/crdt/version-vector.ts";
import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import { compareBytes, compareText, copyOf } from "#kernel/wire/bytes.ts";
import { checkChanges, checkPart, HASH_BYTES, hasTombstones, slotOf, validHead } from "./check.ts";
import {
  KINDS,
  type PartFrame,
  type PartHead,
  SHARED_LIMITS,
  SHARED_SPACE,
  type SharedChange,
  type SharedEffect,
  type SharedEntry,
  type SharedFrame,
  type SharedInput,
  type SharedKind,
  type SharedMember,
  type SharedSlot,
} from "./messages.ts";
import { compareHeads, type Difference, Part, type PartKeys } from "./part.ts";
import { rootBytes, writeStored } from "./part-bytes.ts";
import { type Resolved, resolve, type Said } from "./resolve.ts";

/** SharedSettings are what the core is made of. Times in ms. */
export interface SharedSettings extends PartKeys {
  /** This hub. */
  readonly hub: string;
  /** How far ahead of this hub's clock a reading may be (D-9). */
  readonly maxSkewMs: number;
  /** Own changes are gathered for so long before they go out. */
  readonly lingerMs: number;
  /** What came from one hub is announced to the others after so long, for those that have no session with it. */
  readonly relayMs: number;
  /** What there is is compared with each peer this often. */
  readonly syncMs: number;
}

/** Peer is a hub that a session stands with. */
interface Peer {
  /** What it has, as far as it said or was sent it, by hub. */
  readonly known: Map<string, PartHead>;
  /** What it was sent last, whatever it says that it has, by hub. */
  readonly sent: Map<string, PartHead>;
  readonly wholes: TokenBucket;
}

/** Whole parts, and what it had before, that one peer is sent: as many as there are hubs at once, and what a slow link carries after that. */
const WHOLES: Rate = { perSecond: 4, burst: 2 * SHARED_LIMITS.hubs };

/**
 * SharedState is what the hubs of a federation tell each other beside the log (S1-7): each hub has a part, which it alone writes, signs and
 * counts up; parts travel by whoever has them. What several hubs say under one key is decided when it is read.
 *
 * SH1 a hub's part is what that hub signed last, and nobody else's doing: who carries it can only withhold it.
 * SH2 a part never goes back, and what was removed does not come back with an old state (B2-4).
 * SH3 hubs that have exchanged what they have read the same, and have the same root, whatever was lost, repeated or overtaken meanwhile.
 * SH4 a change is checked whole, stored, and then sent (S4-17): a version that went out is never used for something else.
 * SH5 a part with anything wrong in it, or with a time too far ahead (D-9), is refused whole; what is here stays.
 * SH6 of who is not a member nothing is kept, and memory is bounded: by hubs, and each hub's entries and bytes.
 * SH7 an edit made after another was seen wins over it where time decides, whatever the clocks.
 */
export class SharedState implements Core<SharedInput, SharedEffect> {
  readonly #settings: SharedSettings;
  readonly #parts = new Map<string, Part>();
  readonly #members = new Map<string, SharedMember>();
  readonly #peers = new Map<string, Peer>();
  /** Hubs that a session stands with, members or not yet. */
  readonly #sessions = new Set<string>();
  #clock: Hlc;
  #root: Uint8Array | undefined;
  /** `mono` instants; undefined where nothing is to be done. */
  #pushAt: number | undefined;
  #relayAt: number | undefined;
  #syncAt: number | undefined;

  /** `stored` are the parts of a run before. */
  constructor(settings: SharedSettings, stored: Iterable<Part> = []) {
    this.#settings = settings;
    this.#clock = new Hlc(settings.maxSkewMs);
    for (const part of stored) {
      this.#parts.set(part.head.hub, part);
      this.#hear(part.entries.values(), Number.MAX_SAFE_INTEGER - settings.maxSkewMs);
    }
  }

  step(now: Now, input: SharedInput, out: SharedEffect[]): void {
    this.#syncAt ??= now.mono + this.#settings.syncMs;
    switch (input.kind) {
      case "change":
        return this.#change(now, input.call, input.changes, out);
      case "members":
        return this.#setMembers(now, input.members, out);
      case "peer":
        return this.#peer(now, input.hub, input.up, out);
      case "frame":
        return this.#frame(now, input.from, input.frame, out);
    }
  }

  tick(now: Now, out: SharedEffect[]): void {
    const due = (at: number | undefined): boolean => at !== undefined && at <= now.mono;
    if (due(this.#pushAt)) {
      this.#pushAt = undefined;
      const mine = this.#parts.get(this.#settings.hub);
      if (mine !== undefined) for (const hub of this.#peers.keys()) this.#bring(now, hub, mine, out);
    }
    if (due(this.#relayAt) || due(this.#syncAt)) {
      this.#relayAt = undefined;
      if (due(this.#syncAt)) this.#syncAt = now.mono + this.#settings.syncMs;
      for (const hub of this.#peers.keys())
        out.push({ kind: "send", to: hub, frame: { kind: "heads", root: this.root(), heads: [], answer: false } });
    }
  }

  deadline(): number | undefined {
    const all = [this.#pushAt, this.#relayAt, this.#syncAt].filter((at) => at !== undefined);
    return all.length === 0 ? undefined : Math.min(...all);
  }

  /** read is what counts under a key (S4-14); undefined where there is nothing. */
  read({ kind, key }: SharedSlot): Resolved | undefined {
    const slot = slotOf({ kind, key });
    const said = [...this.#parts.values()].flatMap(({ head, entries }) => {
      const entry = entries.get(slot);
      return entry === undefined ? [] : [{ hub: head.hub, entry }];
    });
    return resolve(KINDS[kind].conflict, said);
  }

  /** list is all that counts of a kind, sorted by key. */
  list(kind: SharedKind): Resolved[] {
    const said = new Map<string, Said[]>();
    for (const { head, entries } of this.#parts.values())
      for (const entry of entries.values()) {
        if (entry.kind !== kind) continue;
        const ofKey = said.get(entry.key);
        if (ofKey === undefined) said.set(entry.key, [{ hub: head.hub, entry }]);
        else ofKey.push({ hub: head.hub, entry });
      }
    return [...said].sort(([a], [b]) => compareText(a, b)).flatMap(([, ofKey]) => resolve(KINDS[kind].conflict, ofKey) ?? []);
  }

  /** parts are what is here, by no order. */
  parts(): Iterable<Part> {
    return this.#parts.values();
  }

  /** own is what this hub says, by place; undefined if it has said nothing yet. */
  own(): ReadonlyMap<string, SharedEntry> | undefined {
    return this.#parts.get(this.#settings.hub)?.entries;
  }

  /** versions is how much is here of each hub (S1-7). */
  versions(): VersionVector {
    return new VersionVector(
      SHARED_LIMITS.hubs,
      [...this.#parts.values()].map(({ head }) => ({ writer: head.hub, count: head.version })),
    );
  }

  /** root is one digest of all parts: the same at hubs that have the same (S1-10). */
  root(): Uint8Array {
    this.#root ??= this.#settings.crypto.hash(rootBytes(this.#heads()));
    return this.#root;
  }

  describe(): string {
    const parts = this.#heads().map(
      ({ hub, incarnation, version }) => `${hub}/${incarnation} at ${version}, ${this.#parts.get(hub)!.entries.size} entries`,
    );
    return [`members ${[...this.#members.keys()].sort().join(" ")}`, ...parts, `peers ${[...this.#peers.keys()].sort().join(" ")}`].join(
      "\n",
    );
  }

  #heads(): PartHead[] {
    return [...this.#parts.values()].map(({ head }) => head).sort((a, b) => compareText(a.hub, b.hub));
  }

  // Changes of this hub.

  #change(now: Now, call: number, changes: readonly SharedChange[], out: SharedEffect[]): void {
    const { hub } = this.#settings;
    const refused = (failure: Failure): void => void out.push({ kind: "refused", call, failure });
    const member = this.#members.get(hub);
    if (member === undefined)
      return refused({ reason: "NOT_CONFIGURED", message: "this hub is in no federation; found or join one first" });
    const failure = checkChanges(hub, changes);
    if (failure !== undefined) return refused(failure);
    const before = this.#parts.get(hub);
    const version = (before?.head.version ?? 0) + 1;
    const difference = this.#difference(now, version, changes);
    if (difference.set.length + difference.removed.length === 0) return void out.push({ kind: "changed", call, version: version - 1 });
    const part = Part.next(before, { hub, incarnation: member.incarnation, version }, difference, this.#settings);
    if ("reason" in part) return refused(part);
    this.#keep(part, [...difference.set, ...difference.removed], out);
    out.push({ kind: "changed", call, version });
    this.#pushAt ??= now.mono + this.#settings.lingerMs;
  }

  /** #difference is what changes do to this hub's part; own words that there is nothing go when there is nothing left to say it of. */
  #difference(now: Now, version: number, changes: readonly SharedChange[]): Difference {
    const mine = this.own();
    const wrong = this.#fromWrongClock(now);
    const at = this.#clock.tick(now.wall);
    const set: SharedEntry[] = [];
    const removed: SharedSlot[] = [];
    const changed = new Set(changes.map(slotOf));
    for (const { kind, key, priority = 0, value } of changes) {
      const before = mine?.get(slotOf({ kind, key }));
      if (value === undefined && !(hasTombstones(KINDS[kind]) && this.#othersSay({ kind, key }))) {
        if (before !== undefined) removed.push({ kind, key });
      } else if (wrong.has(slotOf({ kind, key })) || !this.#saidAlready({ kind, key }, before, priority, value)) {
        set.push({ kind, key, version, at, priority, value: value === undefined ? undefined : copyOf(value) });
      }
    }
    for (const [slot, entry] of mine ?? []) {
      if (changed.has(slot)) continue;
      const { kind, key, value } = entry;
      if (value === undefined && !this.#othersSay({ kind, key })) removed.push({ kind, key });
      else if (wrong.has(slot)) set.push({ ...entry, version, at });
    }
    return { set, removed };
  }

  /**
   * #fromWrongClock are own entries of a time when this hub's clock was far ahead. The others have refused them, so they are written anew,
   * and the clock goes on from what others have said.
   */
  #fromWrongClock(now: Now): ReadonlySet<string> {
    const { hub, maxSkewMs } = this.#settings;
    if (!tooFarAhead(this.#clock.last, now.wall, maxSkewMs)) return new Set();
    this.#clock = new Hlc(maxSkewMs);
    for (const { entries } of this.#parts.values()) this.#hear(entries.values(), now.wall);
    const mine = [...(this.#parts.get(hub)?.entries ?? [])];
    return new Set(mine.filter(([, { at }]) => tooFarAhead(at, now.wall, maxSkewMs)).map(([slot]) => slot));
  }

  #othersSay(slot: SharedSlot): boolean {
    const name = slotOf(slot);
    for (const [hub, { entries }] of this.#parts) if (hub !== this.#settings.hub && entries.has(name)) return true;
    return false;
  }

  /** #saidAlready tells whether this hub says just that, and it is what counts. */
  #saidAlready(slot: SharedSlot, before: SharedEntry | undefined, priority: number, value: Uint8Array | undefined): boolean {
    if (before === undefined || before.priority !== priority) return false;
    if (value === undefined || before.value === undefined) return value === before.value && this.read(slot) === undefined;
    return compareBytes(value, before.value) === 0 && this.read(slot)?.hub === this.#settings.hub;
  }

  // Members and peers.

  #setMembers(now: Now, members: readonly SharedMember[], out: SharedEffect[]): void {
    assert(members.length <= SHARED_LIMITS.hubs, "more members than a federation has", { members: members.length });
    this.#members.clear();
    const inside = members.some(({ hub }) => hub === this.#settings.hub);
    for (const member of inside ? members : []) this.#members.set(member.hub, member);
    for (const [hub, part] of this.#parts) {
      if (this.#members.get(hub)?.incarnation === part.head.incarnation) continue;
      this.#parts.delete(hub);
      this.#root = undefined;
      for (const { known, sent } of this.#peers.values()) for (const map of [known, sent]) map.delete(hub);
      out.push({ kind: "persist", ops: [{ op: "delete", space: SHARED_SPACE, key: hub }] });
      out.push({ kind: "news", hub, slots: slotsOf(part.entries.values()) });
    }
    for (const hub of this.#peers.keys()) if (!this.#members.has(hub)) this.#peers.delete(hub);
    for (const hub of this.#sessions) if (!this.#peers.has(hub)) this.#meet(now, hub, out);
  }

  #peer(now: Now, hub: string, up: boolean, out: SharedEffect[]): void {
    this.#peers.delete(hub);
    if (up) this.#sessions.add(hub);
    else this.#sessions.delete(hub);
    if (up) this.#meet(now, hub, out);
  }

  /** #meet begins with a hub that a session stands with, once it is a member. */
  #meet(now: Now, hub: string, out: SharedEffect[]): void {
    if (!this.#members.has(hub)) return;
    this.#peers.set(hub, { known: new Map(), sent: new Map(), wholes: new TokenBucket(WHOLES, now.mono) });
    this.#sendHeads(hub, false, out);
  }

  #sendHeads(to: string, answer: boolean, out: SharedEffect[]): void {
    out.push({ kind: "send", to, frame: { kind: "heads", root: this.root(), heads: this.#heads(), answer } });
  }

  /** #bring sends a peer a part, as far as it does not have it. */
  #bring(now: Now, to: string, part: Part, out: SharedEffect[], whole = false): void {
    const peer = this.#peers.get(to)!;
    const known = peer.known.get(part.head.hub);
    if (!whole && known !== undefined && compareHeads(known, part.head) >= 0) return;
    const since = whole || known?.incarnation !== part.head.incarnation ? 0 : known.version;
    const frame = part.frame(since);
    // It says that it does not have what it was sent.
    const sent = peer.sent.get(part.head.hub);
    const isAgain = sent !== undefined && (known === undefined || compareHeads(known, sent) < 0);
    // What is not sent now is found missing at the next comparison.
    if ((frame.since === 0 || isAgain) && peer.wholes.take(WHOLES, now.mono) > 0) return;
    for (const map of [peer.known, peer.sent]) map.set(part.head.hub, part.head);
    out.push({ kind: "send", to, frame });
  }

  // Frames of other hubs.

  #frame(now: Now, from: string, frame: SharedFrame, out: SharedEffect[]): void {
    const peer = this.#peers.get(from);
    if (peer === undefined) return;
    if (frame.kind === "part") return this.#part(now, from, peer, frame, out);
    if (frame.kind === "heads") return this.#compare(now, from, peer, frame, out);
    for (const hub of new Set(frame.hubs.slice(0, SHARED_LIMITS.wants))) {
      const part = this.#parts.get(hub);
      if (part !== undefined) this.#bring(now, from, part, out, true);
    }
  }

  /** #compare sends what the peer lacks, and asks for what is lacking here by saying what is here (S1-12, S4-12). */
  #compare(now: Now, from: string, peer: Peer, frame: SharedFrame & { readonly kind: "heads" }, out: SharedEffect[]): void {
    const { root, heads, answer } = frame;
    if (root.length !== HASH_BYTES || heads.length > SHARED_LIMITS.hubs || !heads.every(validHead)) return;
    if (heads.length === 0 && !answer) {
      if (compareBytes(root, this.root()) !== 0) this.#sendHeads(from, false, out);
      return;
    }
    const theirs = new Map(
      heads.filter(({ hub, incarnation }) => this.#members.get(hub)?.incarnation === incarnation).map((head) => [head.hub, head]),
    );
    peer.known.clear();
    for (const [hub, head] of theirs) peer.known.set(hub, { ...head, digest: copyOf(head.digest) });
    for (const part of this.#parts.values()) this.#bring(now, from, part, out);
    const lacking = [...theirs].some(([hub, head]) => {
      const here = this.#parts.get(hub)?.head;
      return here === undefined || compareHeads(here, head) < 0;
    });
    if (lacking && !answer) this.#sendHeads(from, true, out);
  }

  /** #part takes a part: checked whole, of a member, signed by it, newer than what is here (SH1, SH2, SH5). */
  #part(now: Now, from: string, peer: Peer, frame: PartFrame, out: SharedEffect[]): void {
    const { hub } = frame;
    const refused = (failure: Failure): void => void out.push({ kind: "observe", what: "refused", hub, from, failure });
    const failure = checkPart(frame) ?? this.#tooFarAhead(now, frame);
    if (failure !== undefined) return refused(failure);
    const member = this.#members.get(hub);
    if (member?.incarnation !== frame.incarnation) return;
    const before = this.#parts.get(hub);
    if (before !== undefined && compareHeads(frame, before.head) <= 0) return void out.push({ kind: "observe", what: "old", hub, from });
    if (!Part.signed(frame, member.publicKey, this.#settings))
      return refused({ reason: "SEGMENT_INVALID", message: `the part is not signed by ${hub}`, field: "signature" });
    if (before?.head.version === frame.version) out.push({ kind: "observe", what: "fork", hub, from });
    const part = Part.take(before, kept(frame), this.#settings.crypto);
    if (part === "base") {
      out.push({ kind: "observe", what: "base", hub, from });
      out.push({ kind: "send", to: from, frame: { kind: "want", hubs: [hub] } });
      return;
    }
    if ("reason" in part) return refused(part);
    this.#hear(part.entries.values(), now.wall);
    peer.known.set(hub, part.head);
    out.push({ kind: "observe", what: "taken", hub, from });
    this.#keep(part, changedSlots(before, part), out);
    this.#relayAt ??= now.mono + this.#settings.relayMs;
  }

  #tooFarAhead(now: Now, { hub, entries }: PartFrame): Failure | undefined {
    const at = entries.findIndex(
      (entry) => lwwProblem({ at: entry.at, writer: hub, value: entry.value }, now.wall, this.#settings.maxSkewMs) !== undefined,
    );
    if (at < 0) return undefined;
    return {
      reason: "CLOCK_NOT_SET",
      message: "the time of the entry is too far ahead; one of the two hubs has a wrong clock",
      field: `entries[${at}].at`,
    };
  }

  #hear(entries: Iterable<SharedEntry>, wall: number): void {
    for (const { at } of entries) this.#clock.receive(at, wall);
  }

  #keep(part: Part, slots: readonly SharedSlot[], out: SharedEffect[]): void {
    const { hub } = part.head;
    this.#parts.set(hub, part);
    this.#root = undefined;
    out.push({ kind: "persist", ops: [{ op: "put", space: SHARED_SPACE, key: hub, bytes: writeStored(part.dump()) }] });
    out.push({ kind: "news", hub, slots: slotsOf(slots) });
  }
}

function slotsOf(slots: Iterable<SharedSlot>): SharedSlot[] {
  return [...slots].map(({ kind, key }) => ({ kind, key }));
}

/** kept is a frame whose bytes pin no buffer of the network. */
function kept(frame: PartFrame): PartFrame {
  return {
    ...frame,
    digest: copyOf(frame.digest),
    signature: copyOf(frame.signature),
    entries: frame.entries.map((entry) => ({ ...entry, value: entry.value === undefined ? undefined : copyOf(entry.value) })),
  };
}

function changedSlots(before: Part | undefined, after: Part): SharedSlot[] {
  const gone = [...(before?.entries.values() ?? [])].filter((entry) => !after.entries.has(slotOf(entry)));
  const set = [...after.entries].filter(([slot, entry]) => before?.entries.get(slot) !== entry).map(([, entry]) => entry);
  return [...gone, ...set];
}
