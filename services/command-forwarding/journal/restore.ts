import type { Now } from "#kernel/instant.ts";
import { auditFound } from "../audit/audited.ts";
import type { Begun } from "../audit/open-commands.ts";
import type { CallerSide, Parts } from "../caller/caller.ts";
import { leftOf } from "../caller/idempotency.ts";
import { Keyed, OUTCOME_DATE, Pending } from "../caller/pending.ts";
import { Reader, WireError, Writer } from "../codec/wire.ts";
import { type Command, NO_VALUE, OUTCOME, type Result } from "../messages.ts";
import type { OwnerSide } from "../owner/owner.ts";
import { Run } from "../owner/run.ts";
import { ownValue, RECORD, readResult, readTexts } from "./records.ts";

/** META_SPACE and META_KEY are the space and the key of the journal's epochs in the service's store. */
export const META_SPACE = "meta";
export const META_KEY = "journal";

/** StoredBlob is one blob of the journal. */
export interface StoredBlob {
  readonly seq: number;
  readonly bytes: Uint8Array;
}

/** Epochs are the two lineages of a journal: as owner it lives as long as the store, as caller it is new with every start. */
export interface Epochs {
  readonly owner: number;
  readonly caller: number;
  /** Newer ones as caller, of single peers (CA9); what was stored before there were any has none. */
  readonly raised: ReadonlyMap<string, number>;
}

export function writeEpochs(epochs: Epochs): Uint8Array {
  const writer = new Writer(32);
  writer.uint(epochs.owner);
  writer.uint(epochs.caller);
  for (const [hubId, epoch] of epochs.raised) {
    writer.string(hubId);
    writer.uint(epoch);
  }
  return writer.take();
}

/** Epochs are wall times of starts, or a little more. What is far beyond any of those leaves no room for the next ones. */
const EPOCH_MAX = 2 ** 52;

export function readEpochs(bytes: Uint8Array): Epochs {
  const reader = new Reader(bytes);
  const raised = new Map<string, number>();
  const epochs = { owner: reader.uint(), caller: reader.uint(), raised };
  while (!reader.done) raised.set(reader.string(), reader.uint());
  for (const epoch of [epochs.owner, epochs.caller, ...raised.values()])
    if (epoch > EPOCH_MAX) throw new WireError("an epoch is out of bounds");
  return epochs;
}

/**
 * Restoration rebuilds both sides of the core from the journal. Records are applied in order, the later one of an entry
 * replacing the earlier; what is left of the callers' commands is asked again, what was started here and has no outcome is UNKNOWN.
 */
export class Restoration {
  readonly #p: Parts;
  readonly #caller: CallerSide;
  readonly #owner: OwnerSide;
  readonly #pending = new Map<string, Pending>();
  readonly #keyed = new Map<string, Keyed>();
  /** The same by the names that they stand for. */
  readonly #keyedByName = new Map<string, Keyed>();
  /** When the newest outcome of a key came. */
  #newestWall = 0;
  /** Where the record that is being read begins in its blob. */
  #start = 0;

  constructor(parts: Parts, caller: CallerSide, owner: OwnerSide) {
    this.#p = parts;
    this.#caller = caller;
    this.#owner = owner;
  }

  /** blob applies one blob. A journal that cannot be read is not guessed at: it throws. */
  blob(now: Now, blob: StoredBlob): void {
    this.#p.journal.load(blob.seq, blob.bytes.length);
    const reader = new Reader(blob.bytes);
    while (!reader.done) {
      this.#start = reader.pos;
      this.#record(now, reader);
    }
  }

  /** finish hands over what is left. */
  finish(now: Now, begun: Begun): void {
    const keys = [...this.#keyed.values()];
    for (const keyed of keys) this.#p.keys.restored(keyed, this.#newestWall, now.mono);
    for (const keyed of keys) if (keyed.expiresMono <= now.mono) this.#p.journal.drop(keyed);
    for (const { keyed } of this.#pending.values()) if (keyed !== undefined) keys.push(keyed);
    keys.sort((a, b) => a.expiresMono - b.expiresMono);
    for (const keyed of keys) if (keyed.expiresMono > now.mono) this.#p.keys.add(keyed);
    for (const pending of this.#pending.values()) {
      pending.principal = pending.keyed?.principal ?? begun.callerOf(pending.epoch, pending.seq);
      this.#resume(now, pending);
    }
    auditFound(this.#p, now, begun.found, this.#owner.books.finishRecovery());
  }

  #record(now: Now, reader: Reader): void {
    const kind = reader.uint();
    switch (kind) {
      case RECORD.SUBMIT:
        return this.#submit(now, reader);
      case RECORD.RESOLVED:
        return this.#resolved(reader);
      case RECORD.KEYED:
        return this.#key(now, reader);
      case RECORD.INTENT:
      case RECORD.OUTCOME:
        return this.#run(now, reader, kind === RECORD.OUTCOME);
      case RECORD.FLOOR:
        return this.#floor(reader);
      default:
        throw new WireError(`journal has a record of kind ${kind} that this version does not know`);
    }
  }

  #submit(now: Now, reader: Reader): void {
    const name = { epoch: reader.uint(), seq: reader.uint() };
    const hubId = reader.string();
    const command: Command = {
      corr: 0,
      hubId,
      nodeId: reader.string(),
      capability: reader.string(),
      value: ownValue(reader.view()),
      timeoutMs: reader.uint(),
      key: "",
      hops: [],
    };
    const deadlineWall = reader.uint();
    const ownerEpoch = reader.uint();
    const hops = readTexts(reader);
    // Never more than it was given: the wall clock may have been set back meanwhile.
    const left = Math.min(Math.max(0, deadlineWall - now.wall), command.timeoutMs);
    const pending = new Pending(name, hubId, command, {
      startedAt: now.mono,
      deadline: now.mono + left,
      deadlineWall,
      timeoutMs: command.timeoutMs,
      ownerEpoch,
      hops,
    });
    pending.recovered = true;
    const id = reader.string();
    if (id !== "") pending.keyed = this.#keyOf(now, id, reader, pending);
    const key = `${name.epoch}/${name.seq}`;
    const older = this.#pending.get(key);
    if (older !== undefined) this.#p.journal.drop(older);
    this.#pending.set(key, pending);
    this.#p.journal.adopt(pending, reader.pos - this.#start);
  }

  #keyOf(now: Now, id: string, reader: Reader, pending: Pending): Keyed {
    const keyed = new Keyed(id, ownValue(reader.view()), this.#expiry(now, reader.uint()));
    keyed.epoch = pending.epoch;
    keyed.seq = pending.seq;
    keyed.pending = pending;
    return keyed;
  }

  /** A stored date of expiry, and when that is by this process's clock. */
  #expiry(now: Now, wall: number): { readonly wall: number; readonly mono: number } {
    const left = leftOf(wall, now.wall, this.#p.settings.keyLifeMs);
    return { wall: Math.max(wall, now.wall + left), mono: now.mono + left };
  }

  #resolved(reader: Reader): void {
    const epoch = reader.uint();
    const bounds = reader.uint();
    for (let i = 0; i < bounds; i += 2) {
      const from = reader.uint();
      const to = reader.uint();
      // A damaged bound may be anything: what is looked at is bounded by what there is, commands and keys that have an outcome.
      if (to - from <= this.#pending.size + this.#keyedByName.size) for (let seq = from; seq < to; seq++) this.#end(`${epoch}/${seq}`);
      else
        for (const named of [this.#pending, this.#keyedByName])
          for (const [key, { epoch: of, seq }] of [...named]) if (of === epoch && seq >= from && seq < to) this.#end(key);
    }
  }

  #end(key: string): void {
    const pending = this.#pending.get(key);
    if (pending !== undefined) this.#p.journal.drop(pending);
    this.#pending.delete(key);
    // What is resolved once more, after its key's outcome was written, was given up for other keys (IK5).
    const keyed = this.#keyedByName.get(key);
    if (keyed === undefined) return;
    this.#keyedByName.delete(key);
    this.#p.journal.drop(keyed);
    if (this.#keyed.get(keyed.id) === keyed) this.#keyed.delete(keyed.id);
  }

  #key(now: Now, reader: Reader): void {
    const epoch = reader.uint();
    const seq = reader.uint();
    const id = reader.string();
    const fingerprint = ownValue(reader.view());
    const date = reader.uint();
    const outcomeWall = Math.max(0, date - OUTCOME_DATE);
    const ends = date > OUTCOME_DATE ? outcomeWall + this.#p.settings.keyLifeMs : date;
    const keyed = new Keyed(id, fingerprint, this.#expiry(now, ends));
    keyed.outcomeWall = outcomeWall;
    this.#newestWall = Math.max(this.#newestWall, outcomeWall);
    keyed.epoch = epoch;
    keyed.seq = seq;
    this.#p.keys.keep(keyed, readResult(reader));
    const name = `${epoch}/${seq}`;
    this.#end(name);
    const older = this.#keyed.get(keyed.id);
    if (older !== undefined) this.#p.journal.drop(older);
    this.#keyed.set(keyed.id, keyed);
    this.#keyedByName.set(name, keyed);
    this.#p.journal.adopt(keyed, reader.pos - this.#start);
  }

  #run(now: Now, reader: Reader, done: boolean): void {
    const caller = this.#owner.books.book(reader.string()).epoch(reader.uint());
    const spec = { seq: reader.uint(), nodeId: "", capability: "", value: NO_VALUE, idempotent: false, deadline: 0, keepMs: reader.uint() };
    const run = new Run(spec, caller, undefined);
    if (done) run.result = readResult(reader);
    this.#owner.books.recover(now, run);
    this.#p.journal.adopt(run, reader.pos - this.#start);
  }

  #floor(reader: Reader): void {
    const book = this.#owner.books.book(reader.string());
    const caller = book.epoch(reader.uint());
    caller.floor = Math.max(caller.floor, reader.uint());
    book.epochFloor = Math.max(book.epochFloor, reader.uint());
    this.#p.journal.adopt(caller, reader.pos - this.#start);
  }

  /** A command of our own node was started, perhaps, and nobody can tell; one for a peer's node is asked again. */
  #resume(now: Now, pending: Pending): void {
    if (pending.hubId === this.#p.hubId) this.#caller.resolve(now, pending, STOPPED);
    else this.#caller.recover(now, pending);
  }
}

const STOPPED: Result = {
  outcome: OUTCOME.UNKNOWN,
  value: NO_VALUE,
  failure: { reason: "OUTCOME_UNKNOWN", message: "the hub stopped after it was started" },
};
