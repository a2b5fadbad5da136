import { createHash } from "node:crypto";
import { AgentCard, formatSSEEvent, type Message, type Part, Role, SSE_HEADERS, TaskState, type TaskStatus } from "@a2a-js/sdk";
import { isLegacyJsonRpcMethod } from "@a2a-js/sdk/compat/v0_3";
import { LegacyJsonRpcTransportHandler } from "@a2a-js/sdk/compat/v0_3/server";
import {
  AgentEvent,
  type AgentExecutor,
  DefaultRequestHandler,
  type ExecutionEventBus,
  JsonRpcTransportHandler,
  type RequestContext,
  ServerCallContext,
} from "@a2a-js/sdk/server";
import {
  type Clock,
  type CommandResult,
  type Hub,
  type PlainValue,
  plainOf,
  remedyOf,
  VALUE_TYPE,
} from "../../clients/typescript/index.ts";
import { create, registrySync } from "../../clients/typescript/schema.ts";
import { type Asked, Listener, type ListenOptions, problem } from "../shared/http/index.ts";
import { clipped, type Signer, TASK } from "./card.ts";
import { agentAt, agentCard, catalogueCard, legacyFields, type Meant, meantBy, OFFERED_MAX, type Offered, offeredOf } from "./offered.ts";
import { textOf } from "./outcome.ts";
import { BoundedTaskStore } from "./store.ts";

/** ServingParts are what the server works with. */
export interface ServingParts {
  readonly hub: Hub;
  readonly clock: Clock;
  /** Undefined: cards are not signed. */
  readonly signer: Signer | undefined;
  /** Deadline of a command, ms. */
  readonly timeoutMs: number;
  /** Makes ids of messages and artifacts. */
  readonly id: () => string;
  readonly onError: (error: unknown) => void;
}

/** Commands that run at the same time for local agents: a client need not wait for its task. */
const RUNNING_MAX = 64;

const CARD_PATH = "/.well-known/agent-card.json";
const KEYS_PATH = "/.well-known/jwks.json";
/** How long what is offered counts as current, ms. */
const CURRENT_MS = 1_000;

/** valueFor reads a message as a value of a capability's type; a text is why it is none. */
export function valueFor(parts: readonly Part[], type: number): { readonly value: PlainValue | undefined } | string {
  const data = parts.flatMap(({ content }) => (content?.$case === "data" ? [content.value as unknown] : []));
  const text = textOf(parts);
  if (type === VALUE_TYPE.NONE) return { value: undefined };
  if (type === VALUE_TYPE.STRING) return text === "" ? "the skill takes text, and the message has none" : { value: text };
  if (data.length > 1) return "the skill takes one part with data, and the message has more";
  if (data.length === 1) return { value: { json: JSON.stringify(data[0]) } };
  try {
    JSON.parse(text);
    return { value: { json: text } };
  } catch {
    return "the skill takes data, and the message has none";
  }
}

function partOf(value: PlainValue | undefined): Part {
  const base = { metadata: undefined, filename: "" };
  if (typeof value === "object" && !(value instanceof Uint8Array))
    return { ...base, mediaType: "application/json", content: { $case: "data", value: JSON.parse(value.json) as unknown } };
  if (value instanceof Uint8Array)
    return { ...base, mediaType: "application/octet-stream", content: { $case: "raw", value: Buffer.from(value) } };
  return { ...base, mediaType: "text/plain", content: { $case: "text", value: value === undefined ? "done" : String(value) } };
}

/** Runner runs what local agents ask for as commands of the hub. */
class Runner implements AgentExecutor {
  readonly #p: ServingParts;
  readonly #offered: () => Promise<readonly Offered[]>;
  readonly #running = new Map<string, AbortController>();

  constructor(parts: ServingParts, offered: () => Promise<readonly Offered[]>) {
    this.#p = parts;
    this.#offered = offered;
  }

  execute = async (request: RequestContext, bus: ExecutionEventBus): Promise<void> => {
    const { taskId, contextId } = request;
    const told = new Told(request, bus, this.#p);
    bus.publish(
      AgentEvent.task({ id: taskId, contextId, status: told.status(SUBMITTED), artifacts: [], history: [], metadata: undefined }),
    );
    if (this.#running.size >= RUNNING_MAX)
      return told.end(TaskState.TASK_STATE_REJECTED, `${RUNNING_MAX} tasks run already; wait for one to end`);
    const controller = new AbortController();
    this.#running.set(taskId, controller);
    try {
      const meant = await this.#meant(request);
      if (typeof meant === "string") return told.end(TaskState.TASK_STATE_REJECTED, meant);
      told.update(TaskState.TASK_STATE_WORKING);
      await this.#run(meant, request, told, controller.signal);
    } catch (error) {
      this.#p.onError(error);
      told.end(TaskState.TASK_STATE_FAILED, "the command could not be sent");
    } finally {
      this.#running.delete(taskId);
    }
  };

  async #meant({ userMessage, context }: RequestContext): Promise<(Meant & { readonly value: PlainValue | undefined }) | string> {
    const all = await this.#offered();
    const [hubId, nodeId] = (context.tenant ?? "").split("/");
    const one = all.find((offered) => offered.hubId === hubId && offered.nodeId === nodeId);
    if ((context.tenant ?? "") !== "" && one === undefined) return "there is no such agent any more";
    const meant = meantBy(userMessage.metadata?.["skill"], one, all);
    if (typeof meant === "string") return meant;
    const given = valueFor(userMessage.parts, meant.capability.type);
    return typeof given === "string" ? given : { ...meant, value: given.value };
  }

  async #run(
    { offered, capability, value: given }: Meant & { readonly value: PlainValue | undefined },
    request: RequestContext,
    told: Told,
    signal: AbortSignal,
  ): Promise<void> {
    const { hub, timeoutMs, id } = this.#p;
    const { context, userMessage } = request;
    // A message that is sent again does not act again.
    const named = JSON.stringify([context.tenant, userMessage.messageId || id()]);
    const idempotencyKey = `a2a-${createHash("sha256").update(named).digest("base64url").slice(0, 40)}`;
    const over = new AbortController();
    void this.#progress(offered, told, over.signal);
    try {
      const target = { hubId: offered.hubId, nodeId: offered.nodeId, capability: capability.name };
      const value = given === undefined ? {} : { value: given };
      const result = await hub.execute({ ...target, ...value, timeoutMs, idempotencyKey }, { signal });
      told.result(result, signal.aborted);
    } finally {
      over.abort();
    }
  }

  /** progress tells what an agent that shows the state of its task says while it works. */
  async #progress({ hubId, nodeId, record }: Offered, told: Told, signal: AbortSignal): Promise<void> {
    if (record.node?.capabilities.some(({ name, readable }) => name === TASK && readable) !== true) return;
    const changes = this.#p.hub.changes({
      filter: { hubIds: [hubId], nodeIdPrefix: nodeId },
      latestOnly: true,
      giveUp: () => true,
      signal,
    });
    let current = false;
    try {
      for await (const change of changes) {
        current ||= change.kind === "current";
        if (!current || change.kind !== "event" || change.event.name?.nodeId !== nodeId || change.event.change.case !== "state") continue;
        const { key, value } = change.event.change.value;
        const says = key === TASK ? saysOf(plainOf(value)) : "";
        if (says !== "") told.update(TaskState.TASK_STATE_WORKING, says);
      }
    } catch {
      // Over, or not to be watched: the answer comes all the same.
    }
  }

  cancelTask = (taskId: string): Promise<void> => {
    this.#running.get(taskId)?.abort();
    return Promise.resolve();
  };

  /** close gives up all that runs. */
  close(): void {
    for (const controller of this.#running.values()) controller.abort();
  }
}

const SUBMITTED = TaskState.TASK_STATE_SUBMITTED;

/** saysOf is what the state of a task says, for people; empty for one that says nothing while it works. */
function saysOf(value: PlainValue | undefined): string {
  if (typeof value !== "object" || value instanceof Uint8Array) return "";
  try {
    const { state, says } = JSON.parse(value.json) as { readonly state?: unknown; readonly says?: unknown };
    return state === "working" ? clipped(says, 512) : "";
  } catch {
    return "";
  }
}

/** Told tells a local agent how its task fares. */
class Told {
  readonly #request: RequestContext;
  readonly #bus: ExecutionEventBus;
  readonly #p: Pick<ServingParts, "id" | "clock">;
  #over = false;

  constructor(request: RequestContext, bus: ExecutionEventBus, parts: Pick<ServingParts, "id" | "clock">) {
    this.#request = request;
    this.#bus = bus;
    this.#p = parts;
  }

  /** status is a state, with what is said about it. */
  status(state: TaskState, says = ""): TaskStatus {
    const timestamp = new Date(this.#p.clock.wall()).toISOString();
    return { state, message: says === "" ? undefined : this.#message(says), timestamp };
  }

  /** update tells a state, unless all is told. */
  update(state: TaskState, says = ""): void {
    if (this.#over) return;
    const { taskId, contextId } = this.#request;
    this.#bus.publish(AgentEvent.statusUpdate({ taskId, contextId, status: this.status(state, says), metadata: undefined }));
  }

  /** end tells the last state. */
  end(state: TaskState, says = ""): void {
    if (this.#over) return;
    this.update(state, says);
    this.#over = true;
    this.#bus.finished();
  }

  /** result tells what became of the command. */
  result({ outcome, value, failure }: CommandResult, aborted: boolean): void {
    const { taskId, contextId } = this.#request;
    if (outcome === "DONE") {
      const artifact = {
        artifactId: this.#p.id(),
        name: "answer",
        description: "",
        parts: [partOf(value)],
        metadata: undefined,
        extensions: [],
      };
      this.#bus.publish(AgentEvent.artifactUpdate({ taskId, contextId, artifact, append: false, lastChunk: true, metadata: undefined }));
      return this.end(TaskState.TASK_STATE_COMPLETED);
    }
    const says = failure === undefined ? outcome : `${clipped(failure.message, 512)}. ${remedyOf(failure)}`;
    if (aborted) {
      const begun = outcome === "UNKNOWN" || outcome === "FAILED";
      return this.end(TaskState.TASK_STATE_CANCELED, begun ? `cancelled; it had begun: ${says}` : "cancelled; nothing was done");
    }
    if (outcome === "REJECTED") return this.end(TaskState.TASK_STATE_REJECTED, says);
    this.end(TaskState.TASK_STATE_FAILED, outcome === "UNKNOWN" ? `nobody knows whether it was done: ${says}` : says);
  }

  #message(says: string): Message {
    const { taskId, contextId } = this.#request;
    const part: Part = { content: { $case: "text", value: says }, metadata: undefined, filename: "", mediaType: "text/plain" };
    return {
      messageId: this.#p.id(),
      contextId,
      taskId,
      role: Role.ROLE_AGENT,
      parts: [part],
      metadata: undefined,
      extensions: [],
      referenceTaskIds: [],
    };
  }
}

/** Serving offers agents of other hubs to local agents. */
export class Serving {
  readonly #p: ServingParts;
  readonly #runner: Runner;
  readonly #modern: JsonRpcTransportHandler;
  readonly #legacy: LegacyJsonRpcTransportHandler;
  #listener: Listener | undefined;
  #known: { readonly all: readonly Offered[]; readonly at: number } | undefined;

  private constructor(parts: ServingParts) {
    this.#p = parts;
    this.#runner = new Runner(parts, () => this.#offered());
    const handler = new DefaultRequestHandler(catalogueCard([], parts.hub.hubId, ""), new BoundedTaskStore(), this.#runner);
    this.#modern = new JsonRpcTransportHandler(handler);
    this.#legacy = new LegacyJsonRpcTransportHandler(handler);
  }

  /** open listens. Throws what the system says when it cannot. */
  static async open(options: ListenOptions, parts: ServingParts): Promise<Serving> {
    const serving = new Serving(parts);
    serving.#listener = await Listener.open(options, { answer: (asked) => serving.#answer(asked) }, parts);
    return serving;
  }

  /** origin is where it listens. */
  get origin(): string {
    return this.#listener?.origin ?? "";
  }

  /** close takes no more messages, and gives up what runs. */
  async close(): Promise<void> {
    this.#runner.close();
    await this.#listener?.close();
  }

  async #offered(): Promise<readonly Offered[]> {
    const { hub, clock } = this.#p;
    const now = clock.mono();
    if (this.#known !== undefined && now - this.#known.at < CURRENT_MS) return this.#known.all;
    const request = create(registrySync.ListNodesRequestSchema, {
      filter: create(registrySync.NodeFilterSchema, { kind: 2 }),
      pageSize: 2 * OFFERED_MAX,
    });
    const { records } = await hub.clients.registry.listNodes(request);
    this.#known = { all: offeredOf(records, hub.hubId).slice(0, OFFERED_MAX), at: now };
    return this.#known.all;
  }

  async #answer({ method, path, headers, body }: Asked): Promise<Response> {
    const at = agentAt(path);
    const all = await this.#offered();
    const one = at && all.find(({ hubId, nodeId }) => hubId === at.hubId && nodeId === at.nodeId);
    if (at !== undefined && one === undefined) return problem(404, "there is no such agent");
    const rest = at === undefined ? path : at.rest;
    const { signer } = this.#p;
    if (method === "GET" && path === KEYS_PATH && signer !== undefined) return Response.json(signer.jwks);
    if (method === "GET" && rest === CARD_PATH) {
      const plain = one === undefined ? catalogueCard(all, this.#p.hub.hubId, this.origin) : agentCard(one, this.origin);
      const card = signer === undefined ? plain : await signer.sign(plain);
      const json = AgentCard.toJSON(card) as object;
      return Response.json(headers.get("a2a-version") === "1.0" ? json : { ...json, ...legacyFields(card) });
    }
    if (method !== "POST" || (rest !== "" && rest !== "/"))
      return problem(404, `send messages to ${at === undefined ? "/" : path} with POST; cards are at ${CARD_PATH}`);
    return this.#message(body, one === undefined ? undefined : `${one.hubId}/${one.nodeId}`, headers.get("a2a-version") ?? undefined);
  }

  async #message(body: string, tenant: string | undefined, requestedVersion: string | undefined): Promise<Response> {
    let request: Record<string, unknown>;
    try {
      request = JSON.parse(body) as Record<string, unknown>;
    } catch {
      return Response.json({ jsonrpc: "2.0", error: { code: -32_700, message: "the request is not JSON" }, id: null }, { status: 400 });
    }
    const method = typeof request === "object" && request !== null ? request["method"] : undefined;
    const legacy = typeof method === "string" && isLegacyJsonRpcMethod(method);
    const user = { isAuthenticated: true, userName: "local" };
    const context = new ServerCallContext({
      user,
      requestedVersion: legacy ? "0.3" : (requestedVersion ?? "1.0"),
      ...(tenant === undefined ? {} : { tenant }),
    });
    const answer = await (legacy ? this.#legacy : this.#modern).handle(request, context);
    if (!(Symbol.asyncIterator in answer)) return Response.json(answer);
    return new Response(ReadableStream.from(eventsOf(answer)), { headers: SSE_HEADERS });
  }
}

async function* eventsOf(answers: AsyncIterable<unknown>): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  for await (const answer of answers) yield encoder.encode(formatSSEEvent(answer));
}
