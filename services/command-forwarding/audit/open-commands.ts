import type { Now } from "#kernel/instant.ts";
import { Reader, WireError, type Writer } from "../codec/wire.ts";
import { type Entry, Journal } from "../journal/journal.ts";
import type { CommandEffect } from "../messages.ts";
import { WAY, type Way } from "./batch.ts";

/** OPEN_LOG is the log of the commands that have begun, in the service's store. */
export const OPEN_LOG = "open";

/** Kinds of records in it. A number is never given another meaning. */
const GROUP = 1;
const ENDED = 2;
const MARK = 3;

/** A peer's command that runs for so long is noted with what it is, ms. Until then the journal alone says that it began. */
const RIPE_MS = 100;

/** Changes of the caller that are remembered: as many as commands may be under way. */
const MARKS_MAX = 16_384;

/** Items of a group before those that have ended are let go. */
const SPARSE = 16;

/** OpenCommand is what has begun: a command of a caller of this hub, or a run of a peer's. */
export interface OpenCommand {
  readonly seq: number;
  readonly nodeId: string;
  readonly capability: string;
  begun: Group | undefined;
}

/** Group is the commands of one caller that began in one step. Its record names those that have not ended. */
export class Group implements Entry {
  blob = 0;
  recordBytes = 0;
  readonly way: Way;
  readonly who: string;
  readonly epoch: number;
  readonly wallMs: number;
  live = 0;
  #items: OpenCommand[] = [];

  constructor(way: Way, who: string, epoch: number, wallMs: number) {
    this.way = way;
    this.who = who;
    this.epoch = epoch;
    this.wallMs = wallMs;
  }

  add(command: OpenCommand): void {
    command.begun = this;
    this.live++;
    this.#items.push(command);
  }

  /** gone lets a command go; true for the last one. */
  gone(command: OpenCommand): boolean {
    command.begun = undefined;
    this.live--;
    // One that goes on for long must not keep alive in memory what began with it.
    if (this.#items.length > SPARSE && this.#items.length > 2 * this.live) this.#items = this.#items.filter(({ begun }) => begun === this);
    return this.live === 0;
  }

  write(writer: Writer): void {
    writer.uint(GROUP);
    writer.uint(this.way);
    writer.string(this.who);
    writer.uint(this.epoch);
    writer.uint(this.wallMs);
    writer.uint(this.live);
    for (const command of this.#items) {
      if (command.begun !== this) continue;
      writer.uint(command.seq);
      writer.string(command.nodeId);
      writer.string(command.capability);
    }
  }
}

/** Mark says whose the forwarded commands are from a position on, up to the next mark. */
class Mark implements Entry {
  blob = 0;
  recordBytes = 0;
  readonly epoch: number;
  readonly seq: number;
  readonly who: string;

  constructor(epoch: number, seq: number, who: string) {
    this.epoch = epoch;
    this.seq = seq;
    this.who = who;
  }

  write(writer: Writer): void {
    writer.uint(MARK);
    writer.uint(this.epoch);
    writer.uint(this.seq);
    writer.string(this.who);
  }
}

/** Begun is what is known of commands that had begun when the hub stopped. */
export interface Begun {
  readonly found: Map<string, Found>;
  /** callerOf is whose a forwarded command was. */
  readonly callerOf: (epoch: number, seq: number) => string;
}

/** Found is a command that had begun when the hub stopped. */
export interface Found extends OpenCommand {
  readonly way: Way;
  readonly who: string;
  readonly epoch: number;
  readonly wallMs: number;
}

/**
 * OpenCommands keeps on disk, beside the journal, what the audit needs of a command that has no outcome if the hub stops before that: who
 * sent it, and what it was. It is a journal of its own, because software that does not audit reads the other one.
 *
 * BG1 whose a forwarded command is, which has its own record in the journal, stands in the same transaction: a mark where the caller changes.
 * BG2 a command of this hub's callers for its own node that is journalled nowhere else is noted as its task leaves, and when it ends, in the
 *    transaction of its audit: what is found after a stop has no outcome in the audit.
 * BG3 of a peer's command the journal says that it began. What it is stands here once it runs for a while: most are over before that.
 */
export class OpenCommands {
  readonly #journal = new Journal(OPEN_LOG);
  /** Groups and marks that are written with this step. */
  #groups: Group[] = [];
  #fresh: Mark[] = [];
  /** Groups that may be over before they have to be written, the oldest first. */
  #young: { readonly group: Group; readonly at: number }[] = [];
  #marks: Mark[] = [];
  /** Where commands of this step are added. */
  #current: Group | undefined;

  /** own notes whose a forwarded command is. */
  own(who: string, epoch: number, seq: number): void {
    const last = this.#marks.at(-1);
    if (last !== undefined && last.who === who && last.epoch === epoch) return;
    const mark = new Mark(epoch, seq, who);
    this.#marks.push(mark);
    this.#fresh.push(mark);
    if (this.#marks.length < 2 * MARKS_MAX) return;
    for (const old of this.#marks.slice(0, MARKS_MAX)) this.#journal.drop(old);
    this.#marks = this.#marks.slice(MARKS_MAX);
  }

  /** begin notes that a command begins in this step. */
  begin(way: Way, who: string, epoch: number, now: Now, command: OpenCommand): void {
    let group = this.#current;
    if (group === undefined || group.way !== way || group.epoch !== epoch || group.who !== who) {
      group = new Group(way, who, epoch, Math.max(0, Math.floor(now.wall)));
      this.#current = group;
      if (way === WAY.RECEIVED) this.#young.push({ group, at: now.mono + RIPE_MS });
      else this.#groups.push(group);
    }
    group.add(command);
  }

  /** ripensAt is when something that still runs is to be written, mono ms. */
  get ripensAt(): number | undefined {
    return this.#young[0]?.at;
  }

  /** ripen takes what runs for so long that it is to be written. */
  ripen(nowMono: number): void {
    let done = 0;
    for (const { group, at } of this.#young) {
      if (group.live > 0 && at > nowMono) break;
      if (group.live > 0) this.#groups.push(group);
      done++;
    }
    if (done > 0) this.#young = this.#young.slice(done);
  }

  /** end notes that a command is over. */
  end(command: OpenCommand): void {
    const group = command.begun;
    if (group === undefined) return;
    const last = group.gone(command);
    if (group.blob === 0) return;
    if (group.way === WAY.LOCAL)
      this.#journal.note((writer) => {
        writer.uint(ENDED);
        writer.uint(group.epoch);
        writer.uint(command.seq);
      });
    if (last) this.#journal.drop(group);
  }

  /** flush makes what began in this step, and what ended, durable. */
  flush(out: CommandEffect[]): void {
    this.#current = undefined;
    for (const group of this.#groups) if (group.live > 0) this.#journal.add(group);
    if (this.#groups.length > 0) this.#groups = [];
    for (const mark of this.#fresh) this.#journal.add(mark);
    if (this.#fresh.length > 0) this.#fresh = [];
    this.#journal.flush(out);
  }

  /** dirty: something began or ended that is not written. */
  get dirty(): boolean {
    return this.#groups.length > 0 || this.#fresh.length > 0 || this.#journal.dirty;
  }

  /** restore reads the log; what is found is kept until `end`. */
  restore(blobs: Iterable<{ readonly seq: number; readonly bytes: Uint8Array }>): Begun {
    const found = new Map<string, Found>();
    const marks = new Map<string, Mark>();
    for (const { seq, bytes } of blobs) {
      this.#journal.load(seq, bytes.length);
      const reader = new Reader(bytes);
      while (!reader.done) this.#record(reader, found, marks);
    }
    this.#marks = [...marks.values()];
    const callerOf = (epoch: number, seq: number): string => {
      let best: Mark | undefined;
      for (const mark of this.#marks)
        if (mark.epoch === epoch && mark.seq <= seq && (best === undefined || mark.seq > best.seq)) best = mark;
      return best?.who ?? "";
    };
    return { found, callerOf };
  }

  #record(reader: Reader, found: Map<string, Found>, marks: Map<string, Mark>): void {
    const start = reader.pos;
    const kind = reader.uint();
    if (kind === ENDED) {
      const known = found.get(openName("", reader.uint(), reader.uint()));
      if (known !== undefined) this.#letGo(known, found);
      return;
    }
    if (kind === MARK) {
      const mark = new Mark(reader.uint(), reader.uint(), reader.string());
      const name = `${mark.epoch}/${mark.seq}`;
      const older = marks.get(name);
      if (older !== undefined) this.#journal.drop(older);
      marks.set(name, mark);
      return this.#journal.adopt(mark, reader.pos - start);
    }
    if (kind !== GROUP) throw new WireError(`the log of open commands has a record of kind ${kind} that this version does not know`);
    const way = reader.uint() as Way;
    const who = reader.string();
    const group = new Group(way, who, reader.uint(), reader.uint());
    const { epoch, wallMs } = group;
    for (let count = reader.uint(); count > 0; count--) {
      const seq = reader.uint();
      const command: Found = { way, who, epoch, wallMs, seq, nodeId: reader.string(), capability: reader.string(), begun: undefined };
      const name = nameOfOpen(command);
      const older = found.get(name);
      if (older !== undefined) this.#letGo(older, found);
      group.add(command);
      found.set(name, command);
    }
    this.#journal.adopt(group, reader.pos - start);
  }

  #letGo(command: Found, found: Map<string, Found>): void {
    const group = command.begun;
    found.delete(nameOfOpen(command));
    if (group?.gone(command) === true) this.#journal.drop(group);
  }
}

function nameOfOpen({ way, who, epoch, seq }: Found): string {
  return openName(way === WAY.RECEIVED ? who : "", epoch, seq);
}

/** openName is a command's name as a key: `hub` is that of a peer's, empty for one of this hub. */
export function openName(hub: string, epoch: number, seq: number): string {
  return `${hub}/${epoch}/${seq}`;
}
