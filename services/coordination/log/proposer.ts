import type { AuthorPosition } from "./author-sessions.ts";
import { BATCH_BYTES, BATCH_COMMANDS } from "./batch.ts";

/** ProposerLimits bound what one hub wants decided at a time. */
export interface ProposerLimits {
  /** Batches that are on their way and not decided. */
  readonly window: number;
  /** Commands that wait, decided or not; more are refused. */
  readonly waiting: number;
  /** Bytes of those. */
  readonly waitingBytes: number;
  /** After so long without an answer a batch is sent again, ms. */
  readonly resendMs: number;
}

/** Part of the room that callers may fill (PO6). */
const CALLERS_PART = 7 / 8;

/** Outgoing is a batch to be sent to whoever leads. */
export interface Outgoing {
  readonly session: number;
  readonly first: number;
  readonly payload: Uint8Array;
}

interface Waiting {
  /** Call that is answered; 0 if nobody waits any more. */
  call: number;
  readonly command: Uint8Array;
}

interface Flying extends Outgoing {
  readonly count: number;
}

/**
 * Proposer brings the commands of this hub into the log, each exactly once, whoever leads and however often that changes.
 *
 * PO1 commands are decided in the order in which they were given.
 * PO2 a command that was sent is never given another number, and a number never another command: the log drops what comes again.
 * PO3 what was sent is sent again, in order, when another leader is known and whenever nothing happened for `resendMs`.
 * PO4 what the log says of a number settles the call that waits for it; a call whose session is over without that is unknown.
 * PO5 a command is sent at once when nothing is on its way, and with many others when much is: each batch costs a signature, an entry, and
 *    a message to each replica, whatever is in it.
 * PO6 callers fill seven eighths of the room at the most: there is some for what this hub itself wants decided, that it lives above all.
 */
export class Proposer {
  readonly #limits: ProposerLimits;
  readonly #sign: (session: number, first: number, commands: readonly Uint8Array[]) => Uint8Array;
  #session: number;
  /** Commands from number `#settled + 1` on: those of batches on their way, then those that wait for one. */
  readonly #commands: Waiting[] = [];
  #settled = 0;
  #bytes = 0;
  readonly #flying: Flying[] = [];
  #sent = 0;
  #resendAt = Number.POSITIVE_INFINITY;

  /** `sign` makes the payload of a batch. `session` is larger than every session of this hub before. */
  constructor(limits: ProposerLimits, session: number, sign: Proposer["sign"]) {
    this.#limits = limits;
    this.#session = session;
    this.#sign = sign;
  }

  /** sign makes the payload of a batch. */
  get sign(): (session: number, first: number, commands: readonly Uint8Array[]) => Uint8Array {
    return this.#sign;
  }

  get session(): number {
    return this.#session;
  }

  /** isBehind tells whether the log knows a larger session of this hub, or numbers of this one that were not given here. */
  isBehind({ session, last }: AuthorPosition): boolean {
    return session > this.#session || (session === this.#session && last > this.#settled + this.#sent);
  }

  /** waiting is how many commands are not decided. */
  get waiting(): number {
    return this.#commands.length;
  }

  /** add takes a command; false if too many wait already. Calls of this hub itself are below 1. */
  add(call: number, command: Uint8Array): boolean {
    const { waiting, waitingBytes } = this.#limits;
    const part = call < 1 ? 1 : CALLERS_PART;
    if (this.#commands.length >= part * waiting || this.#bytes + command.length > part * waitingBytes) return false;
    this.#commands.push({ call, command });
    this.#bytes += command.length;
    return true;
  }

  /** next gives the batches that may be sent now. */
  next(mono: number): Outgoing[] {
    const batches: Outgoing[] = [];
    while (this.#flying.length < this.#limits.window && this.#isWorthwhile) {
      const commands: Uint8Array[] = [];
      let bytes = 0;
      for (let i = this.#sent; i < this.#commands.length && commands.length < BATCH_COMMANDS; i++) {
        const { command } = this.#commands[i] as Waiting;
        if (bytes + command.length > BATCH_BYTES) break;
        bytes += command.length;
        commands.push(command);
      }
      const first = this.#settled + this.#sent + 1;
      const batch = { session: this.#session, first, count: commands.length, payload: this.#sign(this.#session, first, commands) };
      this.#sent += commands.length;
      this.#flying.push(batch);
      batches.push(batch);
    }
    if (batches.length > 0 && this.#resendAt === Number.POSITIVE_INFINITY) this.#resendAt = mono + this.#limits.resendMs;
    return batches;
  }

  /** isWorthwhile: something waits, and it is not little beside what is on its way (PO5). */
  get #isWorthwhile(): boolean {
    const unsent = this.#commands.length - this.#sent;
    return unsent > 0 && (unsent >= this.#sent || unsent >= BATCH_COMMANDS);
  }

  /** again gives all that is on its way, to be sent once more: to a new leader, or because nothing happened for long (PO3). */
  again(mono: number): readonly Outgoing[] {
    this.#resendAt = this.#flying.length === 0 ? Number.POSITIVE_INFINITY : mono + this.#limits.resendMs;
    return this.#flying;
  }

  /** deadline is when `again` is due. */
  deadline(): number | undefined {
    return this.#resendAt === Number.POSITIVE_INFINITY ? undefined : this.#resendAt;
  }

  /** settle notes that the log decided a command; it gives the call that waits for that, or undefined. */
  settle(mono: number, session: number, number: number): number | undefined {
    if (session !== this.#session || number !== this.#settled + 1 || this.#sent === 0) return undefined;
    const waiting = this.#commands.shift() as Waiting;
    this.#bytes -= waiting.command.length;
    this.#settled = number;
    this.#sent--;
    this.#land(mono);
    return waiting.call === 0 ? undefined : waiting.call;
  }

  /**
   * passOver notes that the log is further than what it told here, because a snapshot took the place of entries: it gives the calls whose
   * commands were carried out, or not, in between.
   */
  passOver(mono: number, session: number, last: number): number[] {
    if (session < this.#session) return [];
    const decided = session === this.#session ? Math.max(0, Math.min(last - this.#settled, this.#sent)) : this.#sent;
    const calls = this.#commands.splice(0, decided).map((waiting) => {
      this.#bytes -= waiting.command.length;
      return waiting.call;
    });
    this.#settled += decided;
    this.#sent -= decided;
    this.#land(mono);
    return calls.filter((call) => call !== 0);
  }

  /**
   * renew begins another session, because the log knows a larger one of this hub: nothing that was sent can be carried out any more. All
   * that waits is given new numbers.
   */
  renew(session: number): void {
    this.#session = session;
    this.#settled = 0;
    this.#sent = 0;
    this.#flying.length = 0;
    this.#resendAt = Number.POSITIVE_INFINITY;
  }

  /** abandon notes that nobody waits for a call any more. A command that was not sent is dropped; one that was may still happen: true. */
  abandon(call: number): boolean {
    const at = this.#commands.findIndex((waiting) => waiting.call === call);
    if (at < 0) return false;
    const waiting = this.#commands[at] as Waiting;
    waiting.call = 0;
    if (at < this.#sent) return true;
    this.#commands.splice(at, 1);
    this.#bytes -= waiting.command.length;
    return false;
  }

  /** dropUnsent gives up what was not sent, and gives the calls that wait for it. */
  dropUnsent(): number[] {
    return this.#commands
      .splice(this.#sent)
      .map((waiting) => {
        this.#bytes -= waiting.command.length;
        return waiting.call;
      })
      .filter((call) => call !== 0);
  }

  describe(): string {
    return `session=${this.#session} settled=${this.#settled} sent=${this.#sent} waiting=${this.#commands.length}`;
  }

  #land(mono: number): void {
    while (this.#flying.length > 0) {
      const { first, count } = this.#flying[0] as Flying;
      if (first + count - 1 > this.#settled) break;
      this.#flying.shift();
    }
    this.#resendAt = this.#flying.length === 0 ? Number.POSITIVE_INFINITY : mono + this.#limits.resendMs;
  }
}
