import { type AgentCard, type Message, Role, type SendMessageRequest } from "@a2a-js/sdk";
import { type Client, ClientFactory, ClientFactoryOptions, JsonRpcTransportFactory, RestTransportFactory } from "@a2a-js/sdk/client";
import { type Clock, type ExecutorAnswer, FoedusError, fail, type PlainValue, whenAborted } from "../../clients/typescript/index.ts";
import { ASK } from "./card.ts";
import { answerOf, type Heard, hear, isOver, LOST, NOTHING_HEARD } from "./outcome.ts";

/** Waits between two looks at a task whose agent does not stream, or whose stream was cut, ms. */
const LOOK_LEAST_MS = 250;
const LOOK_MOST_MS = 5_000;
/** Looks that may fail in a row before nobody knows what became of a task. */
const FAILED_LOOKS_MAX = 5;
/** How long the cancelling of a task may take, ms. */
const CANCEL_WITHIN_MS = 5_000;

/** Order is a command for an agent. */
export interface Order {
  readonly capability: string;
  readonly value: PlainValue | undefined;
  /** Aborts when the caller gave up or the deadline passed. */
  readonly signal: AbortSignal;
  /** Told what the agent says meanwhile. */
  readonly onProgress: (heard: Heard) => void;
}

/** clientFor makes a client of an agent, of version 1.0 or 0.3, over JSON-RPC or HTTP+JSON. */
export function clientFor(card: AgentCard, fetchImpl: typeof fetch): Promise<Client> {
  const legacyCompat = { enabled: true };
  const transports = [new JsonRpcTransportFactory({ fetchImpl, legacyCompat }), new RestTransportFactory({ fetchImpl, legacyCompat })];
  return new ClientFactory(ClientFactoryOptions.createFrom(ClientFactoryOptions.default, { transports })).createFromAgentCard(card);
}

/** messageOf writes a command as a message: its value as text or data, and the skill that is meant. */
export function messageOf({ capability, value }: Pick<Order, "capability" | "value">, messageId: string): Message {
  const base = { metadata: undefined, filename: "", mediaType: "" };
  const json = typeof value === "object" && !(value instanceof Uint8Array) ? (JSON.parse(value.json) as unknown) : undefined;
  const part =
    json === undefined
      ? { ...base, content: { $case: "text" as const, value: value === undefined ? "" : String(value) }, mediaType: "text/plain" }
      : { ...base, content: { $case: "data" as const, value: json }, mediaType: "application/json" };
  const metadata = capability === ASK ? undefined : { skill: capability };
  return { messageId, contextId: "", taskId: "", role: Role.ROLE_USER, parts: [part], metadata, extensions: [], referenceTaskIds: [] };
}

/** neverSent tells whether a call ended before the agent could have heard of it. */
function neverSent(error: unknown): boolean {
  if (error instanceof FoedusError && error.reason === "INVALID_FIELD") return true;
  const causes = [error, (error as { cause?: unknown })?.cause].map((one) => (one as { code?: unknown })?.code);
  return causes.some((code) =>
    ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "CERT_HAS_EXPIRED", "DEPTH_ZERO_SELF_SIGNED_CERT"].includes(String(code)),
  );
}

const isRefusal = (error: unknown): error is Error => error instanceof Error && typeof (error as { reason?: unknown }).reason === "string";

/** Calls sends commands to one agent. */
export class Calls {
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #id: () => string;

  constructor(client: Client, clock: Clock, id: () => string) {
    this.#client = client;
    this.#clock = clock;
    this.#id = id;
  }

  /** run sends one command, follows its task to the end, and cancels it when the caller gives up. */
  async run(order: Order): Promise<ExecutorAnswer> {
    let heard = NOTHING_HEARD;
    const add = (next: Heard): void => {
      heard = next;
      if (heard.state !== undefined) order.onProgress(heard);
    };
    const request: SendMessageRequest = {
      tenant: "",
      message: messageOf(order, this.#id()),
      configuration: {
        acceptedOutputModes: ["text/plain", "application/json"],
        taskPushNotificationConfig: undefined,
        returnImmediately: false,
      },
      metadata: undefined,
    };
    try {
      for await (const event of this.#client.sendMessageStream(request, { signal: order.signal })) {
        add(hear(heard, event));
        if (isOver(heard)) return answerOf(heard);
      }
    } catch (error) {
      if (order.signal.aborted) return this.#cancelled(heard);
      if (heard.taskId === "") return refusedOrLost(error);
    }
    return this.#followed(heard, order, add);
  }

  /** followed asks for a task until it is over: its agent does not stream, or the stream was cut. */
  async #followed(first: Heard, { signal }: Order, add: (heard: Heard) => void): Promise<ExecutorAnswer> {
    let heard = first;
    if (heard.taskId === "") return LOST;
    let waitMs = LOOK_LEAST_MS;
    for (let failed = 0; failed < FAILED_LOOKS_MAX && !isOver(heard); ) {
      await this.#wait(waitMs, signal);
      if (signal.aborted) return this.#cancelled(heard);
      waitMs = Math.min(LOOK_MOST_MS, waitMs * 2);
      try {
        const task = await this.#client.getTask({ tenant: "", id: heard.taskId, historyLength: 0 }, { signal });
        heard = hear(heard, { payload: { $case: "task", value: task } });
        add(heard);
        failed = 0;
      } catch {
        failed++;
      }
    }
    return isOver(heard) ? answerOf(heard) : LOST;
  }

  /** cancelled asks the agent to stop. What it did until then nobody here knows, unless it says that the task is over. */
  async #cancelled(heard: Heard): Promise<ExecutorAnswer> {
    if (heard.taskId === "") return LOST;
    try {
      const signal = AbortSignal.timeout(CANCEL_WITHIN_MS);
      const task = await this.#client.cancelTask({ tenant: "", id: heard.taskId, metadata: undefined }, { signal });
      return answerOf(hear(heard, { payload: { $case: "task", value: task } }));
    } catch {
      return LOST;
    }
  }

  #wait(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        timer.cancel();
        signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = this.#clock.setTimer(ms, done);
      whenAborted(signal, done);
    });
  }
}

/** refusedOrLost says what became of a message of which no task is known. */
function refusedOrLost(error: unknown): ExecutorAnswer {
  if (neverSent(error)) return { failure: { reason: "NODE_OFFLINE", message: "the agent cannot be reached" } };
  // What the agent answers with an error of the protocol, it has not begun.
  if (isRefusal(error))
    return { failure: fail("CAPABILITY_ACCESS", `the agent refused the message: ${error.message.slice(0, 300)}`).failure };
  return LOST;
}
