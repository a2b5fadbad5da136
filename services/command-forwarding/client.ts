import type { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import { parseTrace } from "#kernel/trace-context.ts";
import { type Clock, systemClock } from "#runtime/clock.ts";
import { type ClientDuplex, type ClientOf, RawMessage } from "#runtime/rpc/call.ts";
import type { CommandOutcome, CommandRequest } from "./automation.ts";
import { valueBytes, valueOf } from "./codec.ts";
import { CLOSED } from "./executor-client.ts";
import { type Command, NO_VALUE, OUTCOME } from "./messages.ts";
import { type PlainValue, valueOfPlain } from "./plain.ts";
import { decodeStreamResponse, encodeStreamRequest, type ReceivedResult } from "./stream-codec.ts";
import { VALUE_MAX_BYTES } from "./value.ts";

export type { CommandOutcome, CommandRequest } from "./automation.ts";
export { type ExecutorAnswer, ExecutorClient, type ExecutorOptions, type ExecutorTask } from "./executor-client.ts";
export { type CommandName, OUTCOME, OUTCOME_NAMES, type Outcome } from "./messages.ts";
export { type PlainValue, plainOf, valueOfPlain } from "./plain.ts";

type Client = ClientOf<typeof CommandForwardingService>;

/** PlainCommand is a command with its argument as a JavaScript value. */
export interface PlainCommand extends Omit<CommandRequest, "value"> {
  readonly value?: PlainValue;
}

/** OnResult is told what became of a command; it must not throw. */
export type OnResult = (result: ReceivedResult) => void;

const LOST: Failure = { reason: "OUTCOME_UNKNOWN", message: "the stream to the hub was lost before the outcome came" };

/**
 * A burst leaves in two parts, a turn of the event loop apart, so that the hubs and the executor do not wait for each other: one works
 * on the first part while the next has the second. Below this many commands a message of its own costs more than that gains.
 */
const SMALLEST_PART = 64;

const ENDED: Failure = { reason: "CANCELLED", message: "the stream is closed" };
/** The hub would say the same, of the whole message if the value is longer than one may be. */
const TOO_LONG: Failure = { reason: "VALUE_OUT_OF_RANGE", message: "value is too long", field: "command.value" };

/**
 * CommandStream runs many commands over one ExecuteStream: those of one turn of the event loop travel in one message, and so do
 * their results. A lost stream ends what was in flight as UNKNOWN (use idempotency keys to ask again); the next command opens
 * a new one.
 */
export class CommandStream {
  readonly #client: Pick<Client, "executeStream">;
  readonly #clock: Clock;
  readonly #waiting = new Map<number, OnResult>();
  #duplex: ClientDuplex<unknown, unknown> | undefined;
  #commands: Command[] = [];
  #cancels: number[] = [];
  #scheduled = false;
  #closed = false;
  #next = 1;

  constructor(client: Pick<Client, "executeStream">, clock: Clock = systemClock) {
    this.#client = client;
    this.#clock = clock;
  }

  /** inFlight is how many commands have no outcome yet. */
  get inFlight(): number {
    return this.#waiting.size;
  }

  /**
   * execute runs a command; it resolves with the outcome, whatever it is. It rejects only for a value that cannot be encoded, or that came
   * and cannot be read. `signal` cancels the command.
   */
  execute(command: PlainCommand, signal?: AbortSignal): Promise<CommandOutcome> {
    return new Promise((resolve, reject) => {
      const corr = this.send(command, (received) => {
        signal?.removeEventListener("abort", abort);
        try {
          resolve(outcomeOf(received));
        } catch (error) {
          reject(error);
        }
      });
      const abort = (): void => this.cancel(corr);
      signal?.addEventListener("abort", abort, { once: true });
      if (signal?.aborted === true) abort();
    });
  }

  /** send is `execute` with a callback, for those who count microseconds; the answer is the command's number, for `cancel`. */
  send(command: PlainCommand, onResult: OnResult): number {
    const { hubId = "", nodeId, capability, value, timeoutMs = 0, idempotencyKey = "", hops = [], traceparent, tracestate } = command;
    const trace = traceparent === undefined ? undefined : parseTrace(traceparent, tracestate);
    return this.sendEncoded(
      { hubId, nodeId, capability, value: valueBytes(valueOfPlain(value)), timeoutMs, key: idempotencyKey, hops, trace },
      onResult,
    );
  }

  /** sendEncoded is `send` of a command whose value is already encoded. */
  sendEncoded(command: Omit<Command, "corr">, onResult: OnResult): number {
    const corr = this.#next++;
    const failure = this.#closed ? ENDED : command.value.length > VALUE_MAX_BYTES ? TOO_LONG : undefined;
    if (failure !== undefined) {
      onResult({
        corr,
        result: { outcome: OUTCOME.REJECTED, value: NO_VALUE, failure },
        name: undefined,
        durationMs: 0,
        replayed: false,
      });
      return corr;
    }
    this.#waiting.set(corr, onResult);
    const { hubId, nodeId, capability, value, timeoutMs, key, hops, trace } = command;
    this.#commands.push({ corr, hubId, nodeId, capability, value, timeoutMs, key, hops, trace });
    this.#schedule();
    return corr;
  }

  /** cancel gives a command up; its result says whether it came too late. */
  cancel(corr: number): void {
    if (!this.#waiting.has(corr)) return;
    this.#cancels.push(corr);
    this.#schedule();
  }

  /** close ends the stream after what is in flight is answered. */
  close(): void {
    do this.#flush();
    while (this.#commands.length > 0);
    this.#closed = true;
    this.#duplex?.end();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#clock.setImmediate(() => this.#flush());
  }

  #flush(): void {
    this.#scheduled = false;
    if (this.#commands.length + this.#cancels.length === 0) return;
    // Cancels go with the last part: none may overtake its command.
    const part = this.#commands.splice(0, Math.max(SMALLEST_PART, Math.ceil(this.#waiting.size / 2)));
    const last = this.#commands.length === 0;
    const messages = encodeStreamRequest(part, last ? this.#cancels : []);
    if (last) this.#cancels = [];
    else this.#schedule();
    try {
      const duplex = (this.#duplex ??= this.#open());
      if (!messages.every((bytes) => duplex.send(new RawMessage(bytes)))) this.#lost(duplex);
    } catch {
      this.#closed = true;
      this.#end(CLOSED);
    }
  }

  #open(): ClientDuplex<unknown, unknown> {
    const duplex = this.#client.executeStream({ rawResponses: true }) as ClientDuplex<unknown, unknown>;
    void this.#read(duplex);
    return duplex;
  }

  async #read(duplex: ClientDuplex<unknown, unknown>): Promise<void> {
    try {
      for await (const message of duplex.responses)
        for (const received of decodeStreamResponse((message as RawMessage).bytes)) this.#received(received);
      this.#lost(duplex);
    } catch (error) {
      this.#lost(duplex, error);
    }
  }

  #received(received: ReceivedResult): void {
    const onResult = this.#waiting.get(received.corr);
    this.#waiting.delete(received.corr);
    onResult?.(received);
  }

  #lost(duplex: ClientDuplex<unknown, unknown>, error?: unknown): void {
    if (this.#duplex !== duplex) return;
    this.#duplex = undefined;
    const failure: Failure =
      error instanceof FoedusError ? { ...error.failure, facts: { ...error.failure.facts, outcome: "UNKNOWN" } } : LOST;
    this.#end(failure);
  }

  #end(failure: Failure): void {
    for (const corr of [...this.#waiting.keys()])
      this.#received({
        corr,
        result: { outcome: OUTCOME.UNKNOWN, value: NO_VALUE, failure },
        name: undefined,
        durationMs: 0,
        replayed: false,
      });
  }
}

function outcomeOf({ result, name, durationMs, replayed }: ReceivedResult): CommandOutcome {
  return { outcome: result.outcome, failure: result.failure, value: valueOf(result.value), name, durationMs, replayed };
}
