import type { StreamsPerCaller } from "#kernel/bounds/streams-per-caller.ts";
import type { Failure } from "#kernel/error.ts";
import { Calls } from "#runtime/service/calls.ts";
import type { StoreReport } from "#runtime/service/driver.ts";
import type { Input, Output } from "../messages.ts";

/** CallOutput is an output that answers one call. */
export type CallOutput = Extract<Output, { readonly call: number }>;

/** StreamOutput is for one UpdateState stream. */
export type StreamOutput = Extract<Output, { readonly stream: number }>;

/** WatchOutput is for one Watch. */
export type WatchOutput = Extract<Output, { readonly watch: number }>;

/** CANCELLED is how a call ends whose caller has left. */
export const CANCELLED: Failure = { reason: "CANCELLED", message: "the caller has left" };

/** Shell is the calls of this service, with the streams and watches that outputs of its core are for. */
export class Shell {
  readonly #calls = new Calls<Input, CallOutput>("the registry");
  readonly streams = new Map<number, (output: StreamOutput) => void>();
  readonly watches = new Map<number, (output: WatchOutput) => void>();
  /** How many streams of each kind there may be, and who has them. */
  readonly parts: StreamsPerCaller[] = [];
  /** Watches whose last push was dropped, which the core must be told. */
  #withheld: number[] = [];
  /** Called when the hub stops: ends streams and watches. */
  readonly onStop = new Set<(failure: Failure) => void>();

  readonly attach = this.#calls.attach.bind(this.#calls);
  readonly offer = this.#calls.offer.bind(this.#calls);
  readonly tell = this.#calls.tell.bind(this.#calls);

  /** id is a number that was not used before: for calls, streams and watches. */
  id(): number {
    return this.#calls.id();
  }

  /** ask is `Calls.ask` with the answer's type. */
  ask<K extends CallOutput["kind"]>(make: (call: number) => Input): Promise<Extract<CallOutput, { readonly kind: K }>> {
    return this.#calls.ask<Extract<CallOutput, { readonly kind: K }>>(make);
  }

  /** askUntil is `ask` for whoever may leave before the answer, as `signal` says: then the core is told, and the call ends as CANCELLED. */
  async askUntil<K extends CallOutput["kind"]>(
    signal: AbortSignal,
    make: (call: number) => Input,
  ): Promise<Extract<CallOutput, { readonly kind: K }>> {
    let call = 0;
    const answer = this.ask<K>((id) => make((call = id)));
    const gone = (): void => {
      if (this.#calls.refuse(call, CANCELLED)) this.#calls.tell({ kind: "query_gone", call });
    };
    signal.addEventListener("abort", gone, { once: true });
    if (signal.aborted) gone();
    try {
      return await answer;
    } finally {
      signal.removeEventListener("abort", gone);
    }
  }

  /** route hands an output to whoever waits for it; false for outputs that nobody here waits for. */
  route(output: Output): boolean {
    if ("call" in output) this.#calls.answer(output.call, output);
    else if ("stream" in output) this.streams.get(output.stream)?.(output);
    else if ("watch" in output) this.watches.get(output.watch)?.(output);
    else return false;
    return true;
  }

  /** reject ends a call whose change the store refused; "keep" for what stays in line until it is true. */
  reject(output: Output, failure: Failure): "drop" | "keep" {
    if (output.kind === "watch_send") return this.#rejectPush(output);
    if (!("call" in output)) return "keep";
    this.#calls.refuse(output.call, failure);
    return "drop";
  }

  /** rejectPush: news come when they are stored. A watcher in the middle of a copy gets another one instead, of what is stored now. */
  #rejectPush(output: Extract<Output, { readonly kind: "watch_send" }>): "drop" | "keep" {
    if (output.about === "news") return "keep";
    if (output.about === "copy") this.#withheld.push(output.watch);
    else this.route(output);
    return "drop";
  }

  /** stored makes the input that tells the core how a commit ended. */
  stored(report: StoreReport): Input | undefined {
    if (report.ok) return report.recovered ? { kind: "stored", ok: true } : undefined;
    const withheld = this.#withheld;
    this.#withheld = [];
    return { kind: "stored", ok: false, failure: report.failure, unstored: report.unstored, withheld };
  }

  /** stop ends everything that waits. */
  stop(failure: Failure): void {
    for (const end of [...this.onStop]) end(failure);
    this.#calls.end(failure);
  }
}
