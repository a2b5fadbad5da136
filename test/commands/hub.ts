// A hub that is nothing but command-forwarding: the real service, store and transport, with the other services' ports played by the test.

import { X509Certificate } from "node:crypto";
import { join } from "node:path";
import { Registry } from "prom-client";
import type { ClientOf } from "#channel/call.ts";
import { systemClock } from "#channel/clock.ts";
import { systemEntropy } from "#channel/entropy.ts";
import { createPeerCredentials } from "#channel/tls/peer-credentials.ts";
import { thumbprintOf } from "#channel/tls/peer-identity.ts";
import { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import type { EventReport } from "#runtime/events.ts";
import type { PeerView, SessionReport } from "#runtime/peers.ts";
import { createClient } from "#runtime/rpc/client/client.ts";
import { createRpcServer, type RpcServer } from "#runtime/rpc/server/server.ts";
import type { Platform } from "#runtime/service/module.ts";
import { openSqliteStore } from "#runtime/store/sqlite.ts";
import { createServerCredentials } from "#runtime/tls/credentials.ts";
import type { PeerAuthority } from "#runtime/tls/peer-authority.ts";
import {
  type CapabilityInfo,
  type CommandForwarding,
  type CommandForwardingConfig,
  commandForwardingConfig,
  createCommandForwarding,
  type DirectoryChange,
  type SharePolicy,
} from "../../services/command-forwarding/index.ts";
import { type LogLine, memoryLogger } from "../fakes/memory-logger.ts";
import { testTokens } from "../rpc/fixture.ts";

/** Pem is a certificate with its key, as the test CA or files give it. */
export interface Pem {
  readonly certificatePem: string;
  readonly keyPem: string;
  readonly caPem: string;
}

/** CommandHubOptions describe one hub. */
export interface CommandHubOptions {
  readonly hubId: string;
  readonly credential: Pem;
  readonly peerCaPems: Readonly<Record<string, string>>;
  readonly dataDir: string;
  readonly config?: Partial<CommandForwardingConfig>;
  readonly incarnation?: number;
}

/** capability makes one for tests; it may be invoked and read. */
export function capability(name: string, type: number, more: Partial<CapabilityInfo> = {}): CapabilityInfo {
  return {
    name,
    type,
    invocable: true,
    readable: true,
    idempotent: false,
    min: undefined,
    max: undefined,
    step: undefined,
    allowed: [],
    ...more,
  };
}

/** CommandHub is the running hub. */
export class CommandHub {
  readonly hubId: string;
  readonly service: CommandForwarding;
  readonly server: RpcServer;
  readonly metrics = new Registry();
  readonly events: EventReport[] = [];
  readonly presence: string[] = [];
  readonly fatal: unknown[] = [];
  readonly lines: readonly LogLine[];
  port = 0;
  reports: readonly SessionReport[] = [];
  readonly #o: CommandHubOptions;
  readonly #views = new Map<string, PeerView>();
  readonly #clients: { close(): void }[] = [];
  #onPeers: ((views: readonly PeerView[]) => void) | undefined;
  #onDirectory: ((changes: readonly DirectoryChange[]) => void) | undefined;
  #onPolicy: ((policy: SharePolicy) => void) | undefined;
  readonly #authority: PeerAuthority;

  constructor(options: CommandHubOptions) {
    this.#o = options;
    this.hubId = options.hubId;
    const log = memoryLogger();
    this.lines = log.lines;
    const platform: Platform = {
      hubId: options.hubId,
      clock: systemClock,
      entropy: systemEntropy,
      log,
      metrics: this.metrics,
      events: { report: (event) => void this.events.push(event) },
      incarnation: options.incarnation ?? Math.floor(systemClock.wall()),
      packages: ["foedus.command_forwarding.v1alpha1"],
      software: "test",
      dataDir: options.dataDir,
      store: (service) => openSqliteStore({ path: join(options.dataDir, `${service}.db`), durability: "full" }),
    };
    this.service = createCommandForwarding({
      platform,
      config: commandForwardingConfig.parse(options.config ?? {}),
      onFatal: (error) => void this.fatal.push(error),
      ports: {
        directory: { subscribe: (listener) => this.#keep(() => (this.#onDirectory = listener)) },
        presence: { report: (nodeIds, online) => void this.presence.push(`${online ? "+" : "-"}${nodeIds.join(",")}`) },
        federation: {
          peers: {
            current: () => [...this.#views.values()],
            subscribe: (_service, listener) =>
              this.#keep(() => {
                this.#onPeers = listener;
                listener([...this.#views.values()]);
              }),
          },
          sessions: { report: (reports) => void (this.reports = reports) },
          sharePolicy: { subscribe: (listener) => this.#keep(() => (this.#onPolicy = listener)) },
          connect: (view) => this.#connect(view),
          tokens: testTokens(),
          links: { backoff: { baseMs: 50, maxMs: 500, factor: 2, jitter: 0.25 } },
        },
      },
    });
    const { credential, peerCaPems } = options;
    const bundles = new Map([
      [options.hubId, [new X509Certificate(credential.caPem)]],
      ...Object.entries(peerCaPems).map(([hubId, pem]) => [hubId, [new X509Certificate(pem)]] as const),
    ]);
    this.#authority = {
      hubId: options.hubId,
      bundle: (hubId) => bundles.get(hubId),
      level: (hubId) => this.#views.get(hubId)?.level ?? 0,
      revoked: () => false,
      minTokenIssuedAt: () => 0,
      version: () => this.#views.size,
    };
    this.server = createRpcServer({
      bindings: this.service.bindings,
      credentials: createServerCredentials({
        cert: credential.certificatePem,
        key: credential.keyPem,
        ca: [credential.caPem, ...Object.values(peerCaPems)],
      }),
      authority: this.#authority,
      tokens: testTokens(),
      metrics: this.metrics,
      log,
      clock: systemClock,
      ids: systemEntropy,
    });
  }

  async start(): Promise<this> {
    await this.service.start();
    this.port = await this.server.listen("127.0.0.1", 0);
    return this;
  }

  /** peer makes another hub known; without a port it is dial-only for us. */
  peer(hubId: string, options: { readonly port?: number; readonly level?: number } = {}): void {
    const { port, level = 3 } = options;
    const caPem = this.#o.peerCaPems[hubId];
    if (caPem === undefined) throw new Error(`no CA of ${hubId}`);
    const expiresAtWall = systemClock.wall() + 3_600_000;
    const jwt = [this.hubId, thumbprintOf(new X509Certificate(this.#o.credential.certificatePem)), expiresAtWall].join("~");
    this.#views.set(hubId, {
      hubId,
      level,
      share: "full",
      endpoint: port === undefined ? undefined : { host: "127.0.0.1", port, spiffeId: `spiffe://${hubId}/service/hub` },
      token: { jwt, issuedAtWall: systemClock.wall(), expiresAtWall },
      caPems: [caPem],
      bundleSeq: 1,
      revoked: [],
      minTokenIssuedAtWall: 0,
      terminated: false,
      wake: 0,
    });
    this.#onPeers?.([...this.#views.values()]);
  }

  directory(...changes: DirectoryChange[]): void {
    this.#onDirectory?.(changes);
  }

  policy(policy: SharePolicy): void {
    this.#onPolicy?.(policy);
  }

  /** client calls this hub with a certificate of its own. */
  client(credential: Pem): ClientOf<typeof CommandForwardingService> {
    const credentials = createPeerCredentials(
      { hubId: this.hubId, name: "hub" },
      { cert: credential.certificatePem, key: credential.keyPem, ca: [this.#o.credential.caPem] },
      systemClock,
    );
    const client = createClient(CommandForwardingService, { address: `127.0.0.1:${this.port}`, credentials, clock: systemClock });
    this.#clients.push(client);
    return client;
  }

  async stop(graceMs = 200): Promise<void> {
    for (const client of this.#clients) client.close();
    await this.service.stop(graceMs);
    await this.server.drain(0);
  }

  /** keep subscribes and gives the function that would end it; a test's hub is never unsubscribed from. */
  #keep(subscribe: () => void): () => void {
    subscribe();
    return () => undefined;
  }

  #connect(view: PeerView): ClientOf<typeof CommandForwardingService> {
    const { endpoint } = view;
    if (endpoint === undefined) throw new Error("no endpoint");
    const { certificatePem, keyPem } = this.#o.credential;
    const credentials = createPeerCredentials(
      { hubId: view.hubId, name: "hub" },
      { cert: certificatePem, key: keyPem, ca: view.caPems },
      systemClock,
    );
    return createClient(CommandForwardingService, { address: `${endpoint.host}:${endpoint.port}`, credentials, clock: systemClock });
  }
}
