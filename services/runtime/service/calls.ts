import { type Failure, FoedusError, fail } from "#kernel/error.ts";
import type { Inlet } from "./driver.ts";

interface Waiting<A> {
  readonly resolve: (answer: A) => void;
  readonly reject: (error: FoedusError) => void;
}

/**
 * Calls is the shell of every service: the only way in which handlers, sessions and timers give its core an input. There are three
 * kinds of input, and each has one guarantee.
 *
 * CL1 `ask` is a question: it ends with its answer or with a failure, never with silence. A full mailbox refuses it (OVERLOADED), and
 *    so does the stop of the service (SHUTTING_DOWN), also while it waits.
 * CL2 `offer` is what its sender can hold back: while the mailbox is full it waits, and whoever reads the stream it came from reads no
 *    further, so that HTTP/2 pushes back. It costs no promise when there is room. It throws once the service takes nothing any more.
 *    What does not stand any more when there is room, because its sender was replaced meanwhile, is dropped.
 * CL3 `tell` is what must not be lost: who came and went, what ended, what is configured, how something that the core asked for went.
 *    A full mailbox does not stop it. Its source is bounded (one end per stream, one outcome per effect), or it says by `key` which
 *    older news it makes worthless, and by `merge` what stands for both.
 * CL4 inputs reach the core in the order in which they were taken, whatever their kind; an offer that waits is not taken yet.
 */
export class Calls<I, A> {
  readonly #service: string;
  readonly #waiting = new Map<number, Waiting<A>>();
  #inlet: Inlet<I> | undefined;
  #lastId = 0;
  #ended: Failure | undefined;

  /** `service` is its name in failures, such as "telemetry". */
  constructor(service: string) {
    this.#service = service;
  }

  /** attach starts to pass inputs on. */
  attach(inlet: Inlet<I>): void {
    this.#inlet = inlet;
  }

  /** running tells whether there is a core to talk to. */
  get running(): boolean {
    return this.#inlet !== undefined && this.#ended === undefined;
  }

  /** id is a number that was not used before: for calls, streams and watches. */
  id(): number {
    return ++this.#lastId;
  }

  /** ask gives the core an input that it answers under the number `call` (CL1). */
  ask<T extends A = A>(make: (call: number) => I): Promise<T> {
    const call = this.id();
    const { promise, resolve, reject } = Promise.withResolvers<A>();
    this.#waiting.set(call, { resolve, reject });
    try {
      if (!this.#require().post(make(call))) throw fail("OVERLOADED", `the mailbox of ${this.#service} is full; retry with backoff`);
    } catch (error) {
      this.#waiting.delete(call);
      return Promise.reject(error);
    }
    return promise as Promise<T>;
  }

  /**
   * offer gives the core an input and waits for room if there is none (CL2). Undefined when it was taken at once. `bytes` is about what it
   * holds, where others decide how much that is: of long ones a mailbox takes fewer.
   */
  offer(input: I, bytes = 0, stands?: () => boolean): Promise<void> | undefined {
    return this.#require().post(input, bytes) ? undefined : this.#offerLater(input, bytes, stands);
  }

  async #offerLater(input: I, bytes: number, stands?: () => boolean): Promise<void> {
    do {
      if (!(await this.#require().drainSpace())) throw this.#over();
      if (stands?.() === false) return;
    } while (!this.#require().post(input, bytes));
  }

  /** tell gives the core an input that must not be lost (CL3). After the stop there is nobody to tell. */
  tell(input: I, key?: string, merge?: (older: I, newer: I) => I): void {
    this.#inlet?.tell(input, key, merge);
  }

  /** answer settles a question; false if nobody waits for it. */
  answer(call: number, answer: A): boolean {
    const waiting = this.#waiting.get(call);
    this.#waiting.delete(call);
    waiting?.resolve(answer);
    return waiting !== undefined;
  }

  /** refuse settles a question with a failure; false if nobody waits for it. */
  refuse(call: number, failure: Failure): boolean {
    const waiting = this.#waiting.get(call);
    this.#waiting.delete(call);
    waiting?.reject(new FoedusError(failure));
    return waiting !== undefined;
  }

  /**
   * end refuses all that comes, and all that waits unless `last` makes an answer for it. What is told is still passed on, because the
   * core has to come to its end.
   */
  end(failure: Failure, last?: (call: number) => A): void {
    this.#ended ??= failure;
    for (const [call, { resolve, reject }] of this.#waiting) {
      if (last === undefined) reject(new FoedusError(failure));
      else resolve(last(call));
    }
    this.#waiting.clear();
  }

  #require(): Inlet<I> {
    if (this.#inlet === undefined || this.#ended !== undefined) throw this.#over();
    return this.#inlet;
  }

  #over(): FoedusError {
    return this.#ended === undefined
      ? fail("SHUTTING_DOWN", `${this.#service} is not running; retry in a moment`)
      : new FoedusError(this.#ended);
  }
}
