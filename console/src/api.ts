import { after } from "./browser.ts";

/** CallError is a call that failed: with the code of Connect and the reason of the hub, or "unreachable" if no hub answered. */
export class CallError extends Error {
  readonly code: string;
  readonly reason: string;
  readonly facts: Readonly<Record<string, string>>;

  constructor(code: string, message: string, reason = "", facts: Readonly<Record<string, string>> = {}) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.facts = facts;
  }
}

/** Standing is how the page stands to its hub. */
export type Standing = "connected" | "lost" | "out";

let standing: Standing = "connected";
const listeners = new Set<(now: Standing) => void>();

/** onStanding tells how the page stands to its hub, now and whenever that changes, until what it gives is called. */
export function onStanding(listen: (now: Standing) => void): () => void {
  listeners.add(listen);
  listen(standing);
  return () => listeners.delete(listen);
}

function stand(now: Standing): void {
  if (now === standing) return;
  standing = now;
  for (const listen of listeners) listen(now);
}

/** Wait of a call that does not say how long it may take, ms; what the network holds back longer counts as lost. */
const WAIT_MS = 10_000;
const MARGIN_MS = 2_000;

interface Options {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number;
}

async function post(path: string, body: BodyInit, type: string, options: Options, limit: AbortSignal | undefined): Promise<Response> {
  const signals = [options.signal, limit].filter((signal) => signal !== undefined);
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: {
        "content-type": type,
        "x-foedus-console": "1",
        ...(options.timeoutMs === undefined ? {} : { "connect-timeout-ms": String(options.timeoutMs) }),
      },
      body,
      signal: AbortSignal.any(signals),
    });
    stand(answer.status === 401 ? "out" : "connected");
    return answer;
  } catch (error) {
    if (options.signal?.aborted === true) throw new CallError("canceled", "given up");
    stand("lost");
    throw new CallError("unreachable", error instanceof Error ? error.message : "the hub does not answer");
  }
}

/** call makes one call of the hub. */
export async function call<T>(path: string, request: object = {}, options: Options = {}): Promise<T> {
  const limit = new AbortController();
  const cancel = after((options.timeoutMs ?? WAIT_MS) + MARGIN_MS, () => limit.abort());
  try {
    const answer = await post(`/${path}`, JSON.stringify(request), "application/json", options, limit.signal);
    const text = await answer.text().catch(() => {
      if (options.signal?.aborted === true) throw new CallError("canceled", "given up");
      stand("lost");
      throw new CallError("unreachable", "the answer broke off");
    });
    const body = parsed(text);
    if (!answer.ok) throw errorIn(body, answer.status);
    return body as T;
  } finally {
    cancel();
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new CallError("internal", "the hub answered what is no JSON");
  }
}

interface WireError {
  readonly code?: string;
  readonly message?: string;
  readonly details?: readonly { readonly debug?: { readonly reason?: string; readonly metadata?: Readonly<Record<string, string>> } }[];
}

function errorIn(body: unknown, status: number): CallError {
  const { code = `http ${status}`, message = "the hub refused", details = [] } = (body ?? {}) as WireError;
  const info = details.find(({ debug }) => debug?.reason !== undefined)?.debug;
  return new CallError(code, message, info?.reason ?? "", info?.metadata ?? {});
}

/** Head of an envelope: a byte of flags and four of length. Flag 2 marks the last one. */
const HEAD_BYTES = 5;
const LAST = 2;
/** MESSAGE_BYTES is the longest message of a stream that is taken. */
export const MESSAGE_BYTES = 4 * 1024 * 1024;

/** Envelopes takes pieces of a stream apart into messages. */
export class Envelopes {
  #rest = new Uint8Array();

  /** take gives the messages that are complete with this piece. */
  take(piece: Uint8Array): { readonly last: boolean; readonly text: string }[] {
    const bytes = new Uint8Array(this.#rest.length + piece.length);
    bytes.set(this.#rest);
    bytes.set(piece, this.#rest.length);
    const found: { last: boolean; text: string }[] = [];
    let at = 0;
    for (; bytes.length - at >= HEAD_BYTES; ) {
      const length = new DataView(bytes.buffer, at + 1, 4).getUint32(0);
      if (length > MESSAGE_BYTES) throw new CallError("internal", "the hub sent a message that is too long");
      if (bytes.length - at - HEAD_BYTES < length) break;
      const text = new TextDecoder().decode(bytes.subarray(at + HEAD_BYTES, at + HEAD_BYTES + length));
      found.push({ last: ((bytes[at] ?? 0) & LAST) !== 0, text });
      at += HEAD_BYTES + length;
    }
    this.#rest = bytes.subarray(at);
    return found;
  }
}

function wrapped(request: object): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(JSON.stringify(request));
  const bytes = new Uint8Array(HEAD_BYTES + text.length);
  new DataView(bytes.buffer).setUint32(1, text.length);
  bytes.set(text, HEAD_BYTES);
  return bytes;
}

/** stream makes a call that is answered by many messages, and gives each to `take`. It resolves when the hub ends it. */
export async function stream<T>(path: string, request: object, signal: AbortSignal, take: (message: T) => void): Promise<void> {
  const answer = await post(`/${path}`, wrapped(request), "application/connect+json", { signal }, undefined);
  if (!answer.ok || answer.body === null) throw errorIn(parsed(await answer.text()), answer.status);
  const reader = answer.body.getReader();
  const envelopes = new Envelopes();
  for (;;) {
    const piece = await reader.read().catch(() => ({ done: true, value: undefined }) as const);
    if (signal.aborted) return;
    if (piece.done) throw new CallError("unreachable", "the stream broke off");
    for (const { last, text } of envelopes.take(piece.value)) {
      const message = parsed(text);
      if (!last) take(message as T);
      else if ((message as { error?: WireError }).error !== undefined) throw errorIn((message as { error: WireError }).error, 200);
      else return;
    }
  }
}

/** RPC names what the page calls. */
export const RPC = {
  status: "foedus.hub.v1alpha1.HubService/GetStatus",
  listNodes: "foedus.registry_sync.v1alpha1.RegistrySyncService/ListNodes",
  getNode: "foedus.registry_sync.v1alpha1.RegistrySyncService/GetNode",
  listFeeds: "foedus.registry_sync.v1alpha1.RegistrySyncService/ListFeeds",
  execute: "foedus.command_forwarding.v1alpha1.CommandForwardingService/Execute",
  listPeers: "foedus.discovery.v1alpha1.DiscoveryService/ListPeers",
  listEvents: "foedus.telemetry.v1alpha1.TelemetryService/ListEvents",
  watchEvents: "foedus.telemetry.v1alpha1.TelemetryService/WatchEvents",
  listLinks: "foedus.telemetry.v1alpha1.TelemetryService/ListLinkCounters",
  federation: "foedus.coordination.v1alpha1.CoordinationService/GetFederation",
  listBallots: "foedus.coordination.v1alpha1.CoordinationService/ListBallots",
  listAllocations: "foedus.coordination.v1alpha1.CoordinationService/ListAllocations",
  listMigrations: "foedus.coordination.v1alpha1.CoordinationService/ListMigrations",
} as const;
