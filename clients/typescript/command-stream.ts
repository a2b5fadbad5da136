import { whenAborted } from "#channel/abort.ts";
import { type ClientDuplex, type ClientOf, RawMessage, type StreamOpenInit } from "#channel/call.ts";
import { type Clock, systemClock, type Timer } from "#channel/clock.ts";
import type { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import type { BackoffConfig } from "#kernel/backoff.ts";
import type { Failure } from "#kernel/error.ts";
import { parseTrace } from "#kernel/trace-context.ts";
import { valueBytes, valueOf } from "../../services/command-forwarding/codec/codec.ts";
import type { CommandOutcome, CommandRequest } from "../../services/command-forwarding/codec/request.ts";
import {
  decodeStreamResponse,
  encodeStreamOpen,
  encodeStreamRequest,
  type ReceivedResult,
} from "../../services/command-forwarding/codec/stream-codec.ts";
import { VALUE_MAX_BYTES } from "../../services/command-forwarding/codec/value.ts";
import { type Command, NO_VALUE, OUTCOME, type Outcome } from "../../services/command-forwarding/messages.ts";
import { ENDED, KeptStream, type OnError, tellError } from "./kept-stream.ts";
import { type PlainValue, valueOfPlain } from "./plain.ts";

export type { CommandOutcome, CommandRequest } from "../../services/command-forwarding/codec/request.ts";
export { type CommandName, OUTCOME, OUTCOME_NAMES, type Outcome } from "../../services/command-forwarding/messages.ts";
export { type ExecutorAnswer, ExecutorClient, type ExecutorOptions, type ExecutorTask } from "./executor-client.ts";
export { type PlainValue, plainOf, valueOfPlain } from "./plain.ts";

type Client = ClientOf<typeof CommandForwardingService>;

/** PlainCommand is a command with its argument as a JavaScript value. */
export interface PlainCommand extends Omit<CommandRequest, "value"> {
  readonly value?: PlainValue;
}

/** OnResult is told what became of a command. */
export type OnResult = (result: ReceivedResult) => void;

/** CommandStreamOptions shape a stream of commands. */
export interface CommandStreamOptions {
  readonly backoff?: BackoffConfig;
  /** Told what a callback threw. */
  readonly onError?: OnError;
}

type Duplex = ClientDuplex<unknown, unknown>;

const LOST: Failure = { reason: "OUTCOME_UNKNOWN", message: "the stream to the hub was lost before the outcome came" };

/**
 * A burst leaves in two parts, a turn of the event loop apart, so that the hubs and the executor do not wait for each other: one works
 * on the first part while the next has the second. Below this many commands a message of its own costs more than that gains.
 */
const SMALLEST_PART = 64;

/** Commands have deadlines: those that wait for a hub that is away are better told so soon. */
const BACKOFF: BackoffConfig = { baseMs: 200, maxMs: 2_000, factor: 2, jitter: 0.5 };
const NEVER: ReadonlySet<never> = new Set();

/** The longest deadline, which is also that of a command without one: the hub's own default is not known here. */
const TIMEOUT_MAX_MS = 3_600_000;
/** OVERDUE_MS is how long after its deadline a command may be answered: the hub says by then what it knows. */
const OVERDUE_MS = 5_000;
const LOOK_MS = 1_000;
const UNANSWERED: Failure = { reason: "OUTCOME_UNKNOWN", message: "the hub did not say what became of the command" };

/** Waiting is a command without an outcome. */
interface Waiting {
  readonly onResult: OnResult;
  /** When the hub must have answered, mono ms. */
  due: number;
}

const STREAM_CLOSED: Failure = { reason: "CANCELLED", message: "the stream is closed" };
const TOO_LATE: Failure = {
  reason: "DEADLINE_EXPIRED",
  message: "the hub did not come back before the deadline; the command was not sent",
};
/** The hub would say the same, of the whole message if the value is longer than one may be. */
const TOO_LONG: Failure = { reason: "VALUE_OUT_OF_RANGE", message: "value is too long", field: "command.value" };
const NO_TIMEOUT: Failure = { reason: "INVALID_FIELD", message: "timeout is not a number of milliseconds", field: "command.timeout_ms" };
const GIVEN_UP: Failure = { reason: "CANCELLED", message: "the command was given up before it was sent" };

/** impossible is what keeps a command from being sent at all. */
function impossible({ value, timeoutMs }: Omit<Command, "corr">): Failure | undefined {
  if (value.length > VALUE_MAX_BYTES) return TOO_LONG;
  return timeoutMs >= 0 && timeoutMs <= 2 ** 32 - 1 ? undefined : NO_TIMEOUT;
}

/**
 * CommandStream runs many commands over one ExecuteStream: those of one turn of the event loop travel in one message, and so do
 * their results. A lost stream ends what it had sent as UNKNOWN (use idempotency keys to ask again). What was not sent yet goes on
 * the next stream, which a wait separates from a lost one: its deadline runs meanwhile.
 *
 * CS1 each command has one outcome, and is sent once at most; never after its outcome was told.
 * CS2 a command that was sent and is not answered OVERDUE_MS after its deadline is UNKNOWN, whatever the hub does.
 */
export class CommandStream {
  readonly #client: Pick<Client, "executeStream">;
  readonly #clock: Clock;
  readonly #onError: OnError | undefined;
  readonly #kept: KeptStream<Duplex, unknown>;
  readonly #waiting = new Map<number, Waiting>();
  /** Looks for commands that the hub has not answered in time. */
  #overdue: Timer | undefined;
  /** Commands that were not sent yet, in order. */
  #commands: Command[] = [];
  /** Since when commands wait for the next stream, mono ms, for those that do. */
  readonly #since = new Map<number, number>();
  #cancels: number[] = [];
  /** Some of the commands that were not sent are given up. */
  #withdrawn = false;
  #scheduled = false;
  #closed = false;
  #next = 1;

  constructor(client: Pick<Client, "executeStream">, clock: Clock = systemClock, options: CommandStreamOptions = {}) {
    this.#client = client;
    this.#clock = clock;
    this.#onError = options.onError;
    this.#kept = new KeptStream({
      clock,
      backoff: options.backoff ?? BACKOFF,
      open: (number) => this.#open(number),
      onMessage: (message) => this.#onMessage(message as RawMessage),
      onCut: (failure, final) => this.#onCut(failure, final),
      onReady: () => this.#flush(),
      final: NEVER,
      onError: options.onError,
    });
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
      // The result may come before `send` returns.
      let corr = 0;
      let over = false;
      const abort = (): void => this.cancel(corr);
      corr = this.send(command, (received) => {
        signal?.removeEventListener("abort", abort);
        try {
          resolve(outcomeOf(received));
        } catch (error) {
          reject(error);
        }
        over = true;
      });
      if (!over) whenAborted(signal, abort);
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
    const failure = this.#closed ? STREAM_CLOSED : impossible(command);
    this.#waiting.set(corr, { onResult, due: Number.POSITIVE_INFINITY });
    if (failure !== undefined) {
      this.#tell(corr, OUTCOME.REJECTED, failure);
      return corr;
    }
    const { hubId, nodeId, capability, value, timeoutMs, key, hops, trace } = command;
    // What is left of a deadline may be less than a millisecond, and 0 would be the hub's default.
    this.#commands.push({ corr, hubId, nodeId, capability, value, timeoutMs: Math.ceil(timeoutMs), key, hops, trace });
    // Also within `onCut`, where the wait is about to begin.
    if (this.#kept.current === undefined) this.#since.set(corr, this.#clock.mono());
    if (!this.#kept.waiting) this.#schedule();
    return corr;
  }

  /** cancel gives a command up; its result says whether it came too late. One that was not sent yet is not sent any more. */
  cancel(corr: number): void {
    if (!this.#waiting.has(corr)) return;
    // They are sent in the order of their numbers.
    const [unsent] = this.#commands;
    if (unsent !== undefined && corr >= unsent.corr) {
      this.#withdrawn = true;
      return this.#tell(corr, OUTCOME.REJECTED, GIVEN_UP);
    }
    this.#cancels.push(corr);
    this.#schedule();
  }

  /** close ends the stream after what is in flight is answered. */
  close(): void {
    if (this.#closed) return;
    while (this.#commands.length > 0 && this.#kept.open() !== undefined) this.#flush();
    this.#flush();
    this.#closed = true;
    this.#endUnsent(OUTCOME.REJECTED, STREAM_CLOSED);
    this.#kept.current?.end();
    this.#leaveIfDone();
  }

  /** leaveIfDone leaves the stream once nothing on it has to be answered any more. */
  #leaveIfDone(): void {
    if (!this.#closed || (this.#waiting.size > 0 && this.#kept.current !== undefined)) return;
    this.#overdue?.cancel();
    this.#overdue = undefined;
    this.#kept.leave();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#clock.setImmediate(() => this.#flush());
  }

  #flush(): void {
    this.#scheduled = false;
    if (this.#since.size > 0 && !this.#kept.waiting) this.#age();
    if (this.#withdrawn) this.#withdraw();
    if (this.#cancels.length > 0) this.#cancels = this.#cancels.filter((corr) => this.#waiting.has(corr));
    if (this.#commands.length + this.#cancels.length === 0) return;
    const stream = this.#kept.open();
    if (stream === undefined) return;
    // Cancels go with the last part: none may overtake its command.
    const part = this.#commands.splice(0, Math.max(SMALLEST_PART, Math.ceil(this.#waiting.size / 2)));
    const last = this.#commands.length === 0;
    const messages = encodeStreamRequest(part, last ? this.#cancels : []);
    if (last) this.#cancels = [];
    else this.#schedule();
    this.#expect(part);
    // What cannot be sent is lost like what was under way.
    if (!messages.every((bytes) => stream.send(new RawMessage(bytes)))) stream.cancel();
  }

  /** withdraw takes out what was given up before it was sent. */
  #withdraw(): void {
    this.#withdrawn = false;
    this.#commands = this.#commands.filter(({ corr }) => this.#waiting.has(corr));
    for (const corr of this.#since.keys()) if (!this.#waiting.has(corr)) this.#since.delete(corr);
  }

  /** expect notes by when the hub must have answered commands that are sent now (CS2). */
  #expect(commands: readonly Command[]): void {
    const now = this.#clock.mono();
    for (const { corr, timeoutMs } of commands) {
      const waiting = this.#waiting.get(corr);
      if (waiting !== undefined) waiting.due = now + (timeoutMs === 0 ? TIMEOUT_MAX_MS : timeoutMs) + OVERDUE_MS;
    }
    if (commands.length > 0) this.#overdue ??= this.#clock.setTimer(LOOK_MS, () => this.#look());
  }

  /** look tells UNKNOWN to commands that the hub has not answered. */
  #look(): void {
    this.#overdue = undefined;
    const now = this.#clock.mono();
    for (const [corr, { due }] of [...this.#waiting]) if (due <= now) this.#tell(corr, OUTCOME.UNKNOWN, UNANSWERED);
    if (this.#waiting.size > 0) this.#overdue ??= this.#clock.setTimer(LOOK_MS, () => this.#look());
  }

  /** age takes the time that commands have waited off their deadlines. */
  #age(): void {
    const mono = this.#clock.mono();
    const commands: Command[] = [];
    const late: number[] = [];
    for (const command of this.#commands) {
      const waited = mono - (this.#since.get(command.corr) ?? mono);
      if (command.timeoutMs === 0 || waited === 0) commands.push(command);
      else if (waited < command.timeoutMs) commands.push({ ...command, timeoutMs: Math.max(1, Math.floor(command.timeoutMs - waited)) });
      else late.push(command.corr);
    }
    this.#commands = commands;
    this.#since.clear();
    // Callbacks last: they may send, cancel and close.
    for (const corr of late) this.#tell(corr, OUTCOME.EXPIRED, TOO_LATE);
  }

  #open(number: StreamOpenInit): Duplex {
    const duplex = this.#client.executeStream({ rawResponses: true }) as Duplex;
    duplex.send(new RawMessage(encodeStreamOpen(number)));
    return duplex;
  }

  #onMessage({ bytes }: RawMessage): void {
    this.#kept.worked();
    for (const received of decodeStreamResponse(bytes)) this.#received(received);
  }

  #received(received: ReceivedResult): void {
    const onResult = this.#waiting.get(received.corr)?.onResult;
    if (onResult === undefined) return;
    this.#waiting.delete(received.corr);
    if (this.#closed) this.#leaveIfDone();
    try {
      const answer: unknown = onResult(received);
      if (answer instanceof Promise) answer.catch((error: unknown) => tellError(this.#onError, error));
    } catch (error) {
      tellError(this.#onError, error);
    }
  }

  /** onCut tells UNKNOWN to what was sent. What was not is sent on the next stream, if there will be one. */
  #onCut(failure: Failure, final: boolean): void {
    const unsent = new Set(this.#commands.map(({ corr }) => corr));
    const lost = failure === ENDED ? LOST : { ...failure, facts: { ...failure.facts, outcome: "UNKNOWN" } };
    for (const corr of [...this.#waiting.keys()]) if (!unsent.has(corr)) this.#tell(corr, OUTCOME.UNKNOWN, lost);
    if (final) this.#closed = true;
    if (this.#closed) {
      this.#kept.close();
      return this.#endUnsent(OUTCOME.REJECTED, final ? failure : STREAM_CLOSED);
    }
    const mono = this.#clock.mono();
    for (const corr of unsent) if (!this.#since.has(corr)) this.#since.set(corr, mono);
  }

  #endUnsent(outcome: Outcome, failure: Failure): void {
    for (const { corr } of this.#commands.splice(0)) this.#tell(corr, outcome, failure);
    this.#since.clear();
  }

  #tell(corr: number, outcome: Outcome, failure: Failure): void {
    this.#received({ corr, result: { outcome, value: NO_VALUE, failure }, name: undefined, durationMs: 0, replayed: false });
  }
}

function outcomeOf({ result, name, durationMs, replayed }: ReceivedResult): CommandOutcome {
  return { outcome: result.outcome, failure: result.failure, value: valueOf(result.value), name, durationMs, replayed };
}
