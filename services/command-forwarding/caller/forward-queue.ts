import { Lines } from "../owner/lines.ts";
import { type Pending, Waiting } from "./pending.ts";

/** Bytes that a command counts as beside its value: its texts, and what a frame adds. */
const COMMAND_BYTES = 256;

/**
 * ForwardQueue decides which command goes to a peer next when the peer takes them more slowly than they come.
 *
 * FQ1 what was let out and has not been taken by the session is at most `ahead` bytes, and as many again while an answer to `asked` is on
 *    its way. Everything else stands in line here.
 * FQ2 callers take turns, and so do own callers and all others, and the nodes of one caller (LN1, LN2). Commands of one caller for one node
 *    stay in order.
 * FQ3 a first sending that stands here has no name and no record yet: names rise in the order in which commands are sent (PROTOCOL X11), and
 *    what never left was provably not started.
 * FQ4 while nothing stands here, a command costs two comparisons and a subtraction.
 */
export class ForwardQueue {
  readonly #ahead: number;
  readonly #lines = new Lines<Waiting>(Number.MAX_SAFE_INTEGER);
  #left: number;
  #asked = false;

  constructor(ahead: number) {
    this.#ahead = ahead;
    this.#left = ahead;
  }

  get waiting(): number {
    return this.#lines.waiting;
  }

  /** open: a command need not stand in line. */
  get open(): boolean {
    return this.#left > 0 && this.#lines.waiting === 0;
  }

  /** leaves counts a command that goes out; true asks the caller to have it said when the session has taken everything. */
  leaves({ value }: Pending): boolean {
    this.#left -= COMMAND_BYTES + value.length;
    if (this.#asked || 2 * this.#left > this.#ahead) return false;
    this.#asked = true;
    return true;
  }

  /** taken says that the session has taken everything, or that it is a new one. */
  taken(): void {
    this.#left = this.#ahead;
    this.#asked = false;
  }

  stand(pending: Pending, again: boolean): void {
    pending.waiting = new Waiting(pending, again);
    this.#lines.stand(pending.waiting, pending.principal, false);
  }

  /** next takes what goes out now out of its line; undefined if nothing may, or nothing stands. */
  next(): Waiting | undefined {
    const next = this.#left > 0 ? this.#lines.next() : undefined;
    if (next === undefined) return undefined;
    this.#lines.over(next, true);
    next.pending.waiting = undefined;
    return next;
  }

  /** drop takes a command out of its line. */
  drop(waiting: Waiting): void {
    this.#lines.over(waiting, false);
    waiting.pending.waiting = undefined;
  }

  /** drain takes everything out, each caller's commands for a node in their order. */
  drain(): Waiting[] {
    const all = this.#lines.drain();
    for (const { pending } of all) pending.waiting = undefined;
    return all;
  }
}
