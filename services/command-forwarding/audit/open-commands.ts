import { Reader, WireError, type Writer } from "../codec/wire.ts";
import { type Entry, Journal } from "../journal/journal.ts";
import type { CommandEffect } from "../messages.ts";
import { WAY, type Way } from "./batch.ts";

/** OPEN_LOG is the log of the commands that have begun, in the service's store. */
export const OPEN_LOG = "open";

/** Kinds of records in it. A number is never given another meaning. */
const GROUP = 1;
const ENDED = 2;

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
      // What the journal itself has of a command is not written twice.
      if (this.way === WAY.FORWARDED) continue;
      writer.string(command.nodeId);
      writer.string(command.capability);
    }
  }
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
 * BG1 a record is in the transaction in which its command is journalled, or is written while its task is on its way.
 * BG2 a command of this hub's callers for its own node that is journalled nowhere else is noted when it ends, in the transaction of its audit:
 *    what is found after a stop has no outcome in the audit. Of all others the journal says that.
 */
export class OpenCommands {
  readonly #journal = new Journal(OPEN_LOG);
  #groups: Group[] = [];

  /** begin notes that a command begins in this step. */
  begin(way: Way, who: string, epoch: number, wallMs: number, command: OpenCommand): void {
    let group = this.#groups.at(-1);
    if (group === undefined || group.way !== way || group.epoch !== epoch || group.who !== who)
      this.#groups.push((group = new Group(way, who, epoch, wallMs)));
    group.add(command);
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
    for (const group of this.#groups) if (group.live > 0) this.#journal.add(group);
    if (this.#groups.length > 0) this.#groups = [];
    this.#journal.flush(out);
  }

  /** dirty: something began or ended that is not written. */
  get dirty(): boolean {
    return this.#groups.length > 0 || this.#journal.dirty;
  }

  /** restore reads the log; what is found is kept until `end`, or let go at once by `keep`. */
  restore(blobs: Iterable<{ readonly seq: number; readonly bytes: Uint8Array }>): Map<string, Found> {
    const found = new Map<string, Found>();
    for (const { seq, bytes } of blobs) {
      this.#journal.load(seq, bytes.length);
      const reader = new Reader(bytes);
      while (!reader.done) this.#record(reader, found);
    }
    return found;
  }

  #record(reader: Reader, found: Map<string, Found>): void {
    const start = reader.pos;
    const kind = reader.uint();
    if (kind === ENDED) {
      const known = found.get(openName("", reader.uint(), reader.uint()));
      if (known !== undefined) this.#letGo(known, found);
      return;
    }
    if (kind !== GROUP) throw new WireError(`the log of open commands has a record of kind ${kind} that this version does not know`);
    const way = reader.uint() as Way;
    const who = reader.string();
    const group = new Group(way, who, reader.uint(), reader.uint());
    const { epoch, wallMs } = group;
    const detailed = way !== WAY.FORWARDED;
    for (let count = reader.uint(); count > 0; count--) {
      const command: Found = {
        way,
        who,
        epoch,
        wallMs,
        seq: reader.uint(),
        nodeId: detailed ? reader.string() : "",
        capability: detailed ? reader.string() : "",
        begun: undefined,
      };
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

  /** passOn lets what was found before a restart go on as the command that was restored from the journal. */
  passOn(from: Found, to: OpenCommand): void {
    const group = from.begun;
    if (group === undefined) return;
    group.add(to);
    group.gone(from);
  }
}

function nameOfOpen({ way, who, epoch, seq }: Found): string {
  return openName(way === WAY.RECEIVED ? who : "", epoch, seq);
}

/** openName is a command's name as a key: `hub` is that of a peer's, empty for one of this hub. */
export function openName(hub: string, epoch: number, seq: number): string {
  return `${hub}/${epoch}/${seq}`;
}
