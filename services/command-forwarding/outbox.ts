import type { TraceContext } from "#kernel/trace-context.ts";
import type { Book, Peer } from "./caller/peers.ts";
import type { Journal } from "./journal/journal.ts";
import type { Answer, CommandEffect, Invocation, Invoke, Result, Task } from "./messages.ts";
import type { CallerEpoch } from "./owner/run.ts";

type Tasks = Extract<CommandEffect, { readonly kind: "tasks" }>;

/**
 * Outbox gathers what one step wants to say, so that one peer, caller or executor gets one effect per step, and lets it
 * out behind the step's persist.
 */
export class Outbox {
  readonly #journal: Journal;
  readonly #first: CommandEffect[] = [];
  readonly #effects: CommandEffect[] = [];
  readonly #books: Book[] = [];
  readonly #early: Book[] = [];
  readonly #responding: CallerEpoch[] = [];
  readonly #tasks = new Map<number, Tasks>();
  /** Executors that are given something in this step which must be durable first. */
  readonly #journalled = new Set<number>();
  ownerEpoch = 0;

  constructor(journal: Journal) {
    this.#journal = journal;
  }

  /** before puts an effect in front of the step's own persist. */
  before(effect: CommandEffect): void {
    this.#first.push(effect);
  }

  push(effect: CommandEffect): void {
    this.#effects.push(effect);
  }

  /** invoke is this step's message to an owner, under one journal epoch of ours. It waits for the step's persist. */
  invoke(peer: Peer, book: Book): Invoke {
    if (book.invoke === undefined) {
      book.invoke = newInvoke(peer, book);
      this.#books.push(book);
    }
    return book.invoke;
  }

  /**
   * submit sends a new command. It does not wait for its own record if nobody could ask for it again (CA1), unless one before it waits:
   * an owner takes first sendings in their order only. Records of earlier steps are durable when it leaves, because outputs stay in line.
   */
  submit(peer: Peer, book: Book, item: Invocation, asksAgain: boolean): void {
    if (asksAgain || book.invoke !== undefined) return void this.invoke(peer, book).items.push(item);
    if (book.early === undefined) {
      book.early = newInvoke(peer, book);
      this.#early.push(book);
    }
    book.early.items.push(item);
  }

  /** answer tells a caller's hub an outcome. */
  answer(caller: CallerEpoch, seq: number, result: Result, late: boolean, trace: TraceContext | undefined): void {
    if (caller.respond === undefined) {
      caller.respond = this.#respond(caller.book.hubId, caller.epoch, []);
      this.#responding.push(caller);
    }
    caller.respond.items.push({ seq, result, late, trace });
  }

  /** greet tells a peer our journal epoch, and the newest of its own that we know. */
  greet(hubId: string, epoch: number): void {
    this.push(this.#respond(hubId, epoch, []));
  }

  /** task hands out a task. With `journalled` its executor sees it, and all others of this step, only when the step is durable. */
  task(executor: number, task: Task, journalled: boolean): void {
    if (journalled) this.#journalled.add(executor);
    let tasks = this.#tasks.get(executor);
    if (tasks === undefined) this.#tasks.set(executor, (tasks = { kind: "tasks", executor, items: [] }));
    tasks.items.push(task);
  }

  /** flush ends the step: its persist first, then all that must wait for it. `audit` has records that go with it. */
  flush(out: CommandEffect[], audit?: { flush(out: CommandEffect[]): void }): void {
    for (const effect of this.#first) out.push(effect);
    this.#first.length = 0;
    for (const book of this.#early) {
      out.push(book.early as Invoke);
      book.early = undefined;
    }
    this.#early.length = 0;
    for (const [executor, tasks] of this.#tasks) {
      if (this.#journalled.has(executor)) continue;
      out.push(tasks);
      this.#tasks.delete(executor);
    }
    this.#journalled.clear();
    this.#journal.flush(out);
    audit?.flush(out);
    for (const effect of this.#effects) out.push(effect);
    this.#effects.length = 0;
    for (const book of this.#books) {
      out.push(book.invoke as Invoke);
      book.invoke = undefined;
    }
    this.#books.length = 0;
    for (const caller of this.#responding) {
      // The position may have moved with the persist of this very step.
      if (caller.respond !== undefined) out.push({ ...caller.respond, ownerPosition: this.#journal.told });
      caller.respond = undefined;
    }
    this.#responding.length = 0;
    for (const tasks of this.#tasks.values()) out.push(tasks);
    this.#tasks.clear();
  }

  #respond(peer: string, epoch: number, items: Answer[]): Extract<CommandEffect, { readonly kind: "respond" }> {
    return { kind: "respond", peer, epoch, ownerEpoch: this.ownerEpoch, ownerPosition: this.#journal.told, items };
  }
}

function newInvoke({ hubId, ownerEpoch, ownerPosition }: Peer, book: Book): Invoke {
  const { epoch, low } = book;
  book.sent = true;
  return { kind: "invoke", peer: hubId, epoch, ownerEpoch, ownerPosition, ackedBelow: low, acks: [], items: [], cancels: [] };
}
