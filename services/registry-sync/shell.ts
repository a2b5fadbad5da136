import { type Failure, FoedusError, fail } from "#kernel/error.ts";
import type { Driver } from "#runtime/driver.ts";
import type { Input, Output } from "./messages.ts";

/** CallOutput is an output that answers one call. */
export type CallOutput = Extract<Output, { readonly call: number }>;

/** StreamOutput is for one UpdateState stream. */
export type StreamOutput = Extract<Output, { readonly stream: number }>;

/** WatchOutput is for one Watch. */
export type WatchOutput = Extract<Output, { readonly watch: number }>;

interface Waiting {
  readonly resolve: (output: CallOutput) => void;
  readonly reject: (error: FoedusError) => void;
}

const FULL: Failure = { reason: "OVERLOADED", message: "the registry's mailbox is full; retry with backoff" };

/** Shell stands between the handlers and the driver: it numbers what waits for an answer and finds it again. */
export class Shell {
  readonly #calls = new Map<number, Waiting>();
  readonly streams = new Map<number, (output: StreamOutput) => void>();
  readonly watches = new Map<number, (output: WatchOutput) => void>();
  /** Called when the hub stops: ends streams and watches. */
  readonly onStop = new Set<(failure: Failure) => void>();
  #driver: Driver<Input> | undefined;
  #lastId = 0;
  #stopped = false;

  /** attach starts to pass inputs on. */
  attach(driver: Driver<Input>): void {
    this.#driver = driver;
  }

  get driver(): Driver<Input> {
    if (this.#driver === undefined) throw fail("SHUTTING_DOWN", "the registry is not running; retry in a moment");
    return this.#driver;
  }

  get running(): boolean {
    return this.#driver !== undefined;
  }

  /** id is a number that was not used before: for calls, streams and watches. */
  id(): number {
    return ++this.#lastId;
  }

  /** ask posts an input and waits for its answer. OVERLOADED when the mailbox is full. */
  ask<K extends CallOutput["kind"]>(make: (call: number) => Input): Promise<Extract<CallOutput, { readonly kind: K }>> {
    const call = this.id();
    const { promise, resolve, reject } = Promise.withResolvers<CallOutput>();
    this.#calls.set(call, { resolve, reject });
    try {
      if (!this.driver.post(make(call))) throw new FoedusError(FULL);
    } catch (error) {
      this.#calls.delete(call);
      throw error;
    }
    return promise as Promise<Extract<CallOutput, { readonly kind: K }>>;
  }

  /** offer posts an input and waits for room if there is none: its caller reads no further meanwhile. Undefined when it was taken at once. */
  offer(input: Input): Promise<void> | undefined {
    return this.driver.post(input) ? undefined : this.#offerLater(input);
  }

  async #offerLater(input: Input): Promise<void> {
    do {
      const room = await this.driver.drainSpace();
      if (!room || this.#over()) throw fail("SHUTTING_DOWN", "the registry is stopping");
    } while (!this.driver.post(input));
  }

  /** tell posts what must not get lost, past the bound for ordinary inputs; after the stop it says nothing. */
  tell(input: Input): void {
    const driver = this.#driver;
    if (driver === undefined || driver.postControl(input) || this.#over()) return;
    void driver.drainSpace().then((room) => room && this.tell(input));
  }

  /** over: nothing is taken any more, so that waiting for room would wait for ever. */
  #over(): boolean {
    return this.#stopped || this.driver.state === "stopped" || this.driver.state === "failed";
  }

  /** route hands an output to whoever waits for it; false for outputs that nobody here waits for. */
  route(output: Output): boolean {
    if ("call" in output) {
      this.#calls.get(output.call)?.resolve(output);
      this.#calls.delete(output.call);
    } else if ("stream" in output) this.streams.get(output.stream)?.(output);
    else if ("watch" in output) this.watches.get(output.watch)?.(output);
    else return false;
    return true;
  }

  /** reject ends a call whose change the store refused; "keep" for what stays in line until it is true. */
  reject(output: Output, failure: Failure): "drop" | "keep" {
    if (!("call" in output)) return "keep";
    this.#calls.get(output.call)?.reject(new FoedusError(failure));
    this.#calls.delete(output.call);
    return "drop";
  }

  /** stop ends everything that waits. */
  stop(failure: Failure): void {
    this.#stopped = true;
    for (const end of [...this.onStop]) end(failure);
    for (const { reject } of this.#calls.values()) reject(new FoedusError(failure));
    this.#calls.clear();
  }
}
