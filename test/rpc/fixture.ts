import { X509Certificate } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import type { ClientOf } from "#channel/call.ts";
import { type Clock, systemClock } from "#channel/clock.ts";
import { systemEntropy } from "#channel/entropy.ts";
import { createPeerCredentials, type PeerChannelCredentials } from "#channel/tls/peer-credentials.ts";
import { thumbprintOf } from "#channel/tls/peer-identity.ts";
import { FoedusError, fail } from "#kernel/error.ts";
import { sleep } from "#runtime/clock.ts";
import { bind, type CallContext, type ServiceBinding } from "#runtime/rpc/call.ts";
import { type ClientOptions, createClient } from "#runtime/rpc/client/client.ts";
import { createRpcServer, type RpcServer, type RpcServerOptions } from "#runtime/rpc/server/server.ts";
import type { TokenVerifier } from "#runtime/rpc/server/token-verifier.ts";
import { createServerCredentials } from "#runtime/tls/credentials.ts";
import type { PeerAuthority } from "#runtime/tls/peer-authority.ts";
import { type LogLine, memoryLogger } from "../fakes/memory-logger.ts";
import {
  CountResponseSchema,
  EchoResponseSchema,
  EchoService,
  GreetResponseSchema,
  ResetResponseSchema,
  SessionResponseSchema,
  SumResponseSchema,
} from "../proto/echo-service.gen.ts";
import type { Credential, TestHub } from "../testca/index.ts";

/** What the handlers saw, for tests to look at. */
export interface Seen {
  readonly contexts: CallContext[];
  readonly aborts: string[];
}

/** Waits for a call's end without ever resolving by itself. */
function untilAborted(context: CallContext): Promise<never> {
  return new Promise((_, reject) => context.signal.addEventListener("abort", () => reject(context.signal.reason), { once: true }));
}

function noteAbort(seen: Seen, context: CallContext): void {
  seen.contexts.push(context);
  context.signal.addEventListener("abort", () => seen.aborts.push((context.signal.reason as FoedusError).failure.reason), { once: true });
}

/** failBy makes handlers fail in ways that tests name. */
async function failBy(name: string, context: CallContext): Promise<void> {
  if (name === "!bug") throw new TypeError("secret detail of the implementation");
  if (name === "!hang") await untilAborted(context);
  if (name === "!busy") throw fail("OVERLOADED", "the mailbox is full", { facts: { mailbox: "echo", retry_after_ms: "2500" } });
  if (name === "!field") throw fail("VALUE_OUT_OF_RANGE", "too bright", { field: "items[0].size" });
}

/** echoBinding implements the test service. */
export function echoBinding(seen: Seen = { contexts: [], aborts: [] }): ServiceBinding {
  return bind(EchoService, {
    echo: async (request, context) => {
      noteAbort(seen, context);
      if (request.text.startsWith("!")) await failBy(request.text, context);
      return create(EchoResponseSchema, { text: request.text, caller: context.caller.spiffeId });
    },
    greet: (_request, context) => create(GreetResponseSchema, { caller: context.caller.spiffeId }),
    reset: () => create(ResetResponseSchema),
    count: async (request, out, context) => {
      noteAbort(seen, context);
      const padding = new Uint8Array(request.padding);
      for (let n = 1; n <= request.to && !out.closed; n++) {
        out.send(create(CountResponseSchema, { n, padding }));
        await out.drained();
      }
      if (request.fail) throw fail("NODE_OFFLINE", "the node went away");
    },
    sum: async (requests, context) => {
      noteAbort(seen, context);
      let sum = 0;
      for await (const { n } of requests) sum += n;
      return create(SumResponseSchema, { sum });
    },
    session: async (requests, out, context) => {
      noteAbort(seen, context);
      try {
        for await (const { frame } of requests) {
          if (frame.case === "fail") throw fail("TERMINATED", frame.value);
          if (frame.value === "bye") return;
          out.send(create(SessionResponseSchema, { frame: { case: "said", value: frame.value ?? "" } }));
        }
      } catch (error) {
        if (context.signal.aborted) out.send(create(SessionResponseSchema, { frame: { case: "goodbye", value: "so long" } }));
        throw error;
      }
    },
  });
}

/** TestAuthority is a PeerAuthority that tests change. */
export class TestAuthority implements PeerAuthority {
  readonly hubId: string;
  readonly bundles = new Map<string, readonly X509Certificate[]>();
  readonly levels = new Map<string, number>();
  readonly withdrawn = new Set<string>();
  changes = 0;

  constructor(own: TestHub, peers: readonly TestHub[] = []) {
    this.hubId = own.hubId;
    for (const hub of [own, ...peers]) this.trust(hub, hub === own ? 0 : 3);
  }

  trust(hub: TestHub, level: number): void {
    this.bundles.set(hub.hubId, [new X509Certificate(hub.caPem)]);
    this.levels.set(hub.hubId, level);
    this.changes++;
  }
  bundle(hubId: string): readonly X509Certificate[] | undefined {
    return this.bundles.get(hubId);
  }
  level(hubId: string): number {
    return this.levels.get(hubId) ?? 0;
  }
  revoked(thumbprint: string): boolean {
    return this.withdrawn.has(thumbprint);
  }
  minTokenIssuedAt(): number {
    return 0;
  }
  version(): number {
    return this.changes;
  }
}

/** tokenFor gives the token that `testTokens` accepts for a certificate: who it was issued to, and the certificate it is bound to. */
export function tokenFor(hubId: string, credential: Credential, expiresAtWall = systemClock.wall() + 600_000): string {
  return [hubId, thumbprintOf(new X509Certificate(credential.certificatePem)), expiresAtWall].join("~");
}

/** testTokens checks binding and expiry as a JWT verifier does; only the signature is missing. It counts how often it is asked. */
export function testTokens(): TokenVerifier & { asked: number } {
  return {
    asked: 0,
    async verify(token, thumbprint) {
      this.asked++;
      const [hubId = "", bound, expires] = token.split("~");
      await sleep(systemClock, 0);
      if (bound !== thumbprint) throw fail("TOKEN_INVALID", "the token is bound to another certificate");
      if (Number(expires) <= systemClock.wall()) throw fail("TOKEN_EXPIRED", "the token has expired");
      return { hubId, expiresAtWall: Number(expires), id: `id-of-${hubId}` };
    },
  };
}

/** Fixture is a running server and what it said. */
export interface Fixture {
  readonly server: RpcServer;
  readonly port: number;
  readonly authority: TestAuthority;
  readonly metrics: Registry;
  readonly lines: readonly LogLine[];
  readonly seen: Seen;
  /** dial makes a client that shows the given credential. */
  dial(credential: Credential, options?: Partial<ClientOptions>): ClientOf<typeof EchoService>;
  /** credentials for clients of the server. */
  credentials(credential: Credential): PeerChannelCredentials;
  /** metric reads the sum of a metric over the given labels. */
  metric(name: string, labels?: Readonly<Record<string, string>>): Promise<number>;
  close(): Promise<void>;
}

/** serve starts a server of the hub on a free port of the loopback interface. */
export async function serve(own: TestHub, peers: readonly TestHub[], options: Partial<RpcServerOptions> = {}): Promise<Fixture> {
  const authority = new TestAuthority(own, peers);
  const metrics = new Registry();
  const log = memoryLogger();
  const seen: Seen = { contexts: [], aborts: [] };
  const identity = own.service();
  const credentials = createServerCredentials({
    cert: identity.certificatePem,
    key: identity.keyPem,
    ca: [own.caPem, ...peers.map((peer) => peer.caPem)],
  });
  const base = {
    bindings: [echoBinding(seen)],
    credentials,
    authority,
    tokens: testTokens(),
    metrics,
    log,
    clock: systemClock,
    ids: systemEntropy,
  };
  const server = createRpcServer({ ...base, ...options });
  const port = await server.listen("127.0.0.1", 0);
  const clients: { close(): void }[] = [];
  const peerCredentials = (credential: Credential): PeerChannelCredentials =>
    createPeerCredentials(
      { hubId: own.hubId, name: "hub" },
      { cert: credential.certificatePem, key: credential.keyPem, ca: [own.caPem] },
      systemClock,
    );
  return {
    server,
    port,
    authority,
    metrics,
    lines: log.lines,
    seen,
    credentials: peerCredentials,
    dial: (credential, more = {}) => {
      const client = createClient(EchoService, {
        address: `127.0.0.1:${port}`,
        credentials: peerCredentials(credential),
        clock: systemClock,
        ...more,
      });
      clients.push(client);
      return client;
    },
    metric: async (name, labels = {}) => {
      const values = (await metrics.getSingleMetric(name)?.get())?.values ?? [];
      const matches = (found: Readonly<Record<string, unknown>>): boolean =>
        Object.entries(labels).every(([key, value]) => found[key] === value);
      return values.filter(({ labels: found }) => matches(found)).reduce((sum, { value }) => sum + value, 0);
    },
    close: async () => {
      for (const client of clients) client.close();
      await server.drain(0);
    },
  };
}

/** failureOfCall waits for a call to fail and gives the failure. */
export async function failureOfCall(call: Promise<unknown>): Promise<FoedusError["failure"]> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof FoedusError)) throw new Error("the call should have failed with a FoedusError", { cause: error });
  return error.failure;
}

/** collect reads a stream to its end. */
export async function collect<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const message of stream) all.push(message);
  return all;
}

/** until polls the event loop until something holds; the test's time limit bounds it. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await sleep(systemClock, 1);
}

/** bearer is the metadata that carries a token. */
export function bearer(token: string): { readonly metadata: Readonly<Record<string, string>> } {
  return { metadata: { authorization: `Bearer ${token}` } };
}

/** shiftedClock is the machine's clock with another wall reading. */
export function shiftedClock(shiftMs: () => number): Clock {
  return { ...systemClock, wall: () => systemClock.wall() + shiftMs() };
}
