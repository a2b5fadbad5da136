import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Registry } from "prom-client";
import type { ClientOf } from "#channel/call.ts";
import { systemClock } from "#channel/clock.ts";
import { systemEntropy } from "#channel/entropy.ts";
import { createPeerCredentials } from "#channel/tls/peer-credentials.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import type { EventReport } from "#runtime/events.ts";
import type { PeerView, SessionReport } from "#runtime/peers.ts";
import type { Caller } from "#runtime/rpc/call.ts";
import { createClient } from "#runtime/rpc/client/client.ts";
import { createLocalClient } from "#runtime/rpc/client/local-client.ts";
import type { Platform } from "#runtime/service/module.ts";
import { openSqliteStore } from "#runtime/store/sqlite.ts";
import { type AutomationPort, createRegistrySync, type RegistrySync, registrySyncConfig } from "../../services/registry-sync/index.ts";
import { memoryLogger } from "../fakes/memory-logger.ts";
import { type Fixture, serve, testTokens, tokenFor } from "../rpc/fixture.ts";
import type { Credential, TestHub } from "../testca/index.ts";

/** RegistryHubOptions shape one hub of a test. */
export interface RegistryHubOptions {
  /** What goes through the configuration's schema. */
  readonly config?: Parameters<typeof registrySyncConfig.parse>[0];
  readonly automation?: AutomationPort;
}

type Client = ClientOf<typeof RegistrySyncService>;

/** RegistryHub is the registry of one hub as it ships, with store, key and server: only discovery is played by the test. */
export class RegistryHub {
  readonly hub: TestHub;
  readonly dir = mkdtempSync(join(tmpdir(), "foedus-registry-"));
  readonly events: EventReport[] = [];
  reports: readonly SessionReport[] = [];
  module!: RegistrySync;
  fixture!: Fixture;
  identity: Credential;
  metrics = new Registry();
  readonly fatal: unknown[] = [];
  readonly #o: RegistryHubOptions;
  readonly #clients: { close(): void }[] = [];
  #incarnation = 0;
  #views: readonly PeerView[] = [];
  #listener: ((views: readonly PeerView[]) => void) | undefined;

  constructor(hub: TestHub, options: RegistryHubOptions = {}) {
    this.hub = hub;
    this.#o = options;
    this.identity = hub.service();
  }

  get id(): string {
    return this.hub.hubId;
  }

  /** start runs the module and serves it to the CAs of these peers. It may be called again after `stop`: a restart. */
  async start(peers: readonly TestHub[] = []): Promise<this> {
    this.metrics = new Registry();
    const tokens = testTokens();
    this.module = createRegistrySync({
      platform: this.#platform(),
      config: registrySyncConfig.parse(this.#o.config ?? {}),
      ports: {
        peers: {
          current: () => this.#views,
          subscribe: (_service, listener) => {
            this.#listener = listener;
            listener(this.#views);
            return () => {
              this.#listener = undefined;
            };
          },
        },
        sessions: {
          report: (reports) => {
            this.reports = reports;
          },
        },
        connect: (view) => this.#connect(view),
        tokens,
        identity: () => ({ cert: this.identity.chainPem, key: this.identity.keyPem }),
        tuning: { backoff: { baseMs: 20, maxMs: 100, factor: 2, jitter: 0.25 }, times: { settleMs: 500 } },
        ...(this.#o.automation === undefined ? {} : { automation: this.#o.automation }),
      },
      onFatal: (error) => this.fatal.push(error),
    });
    await this.module.start();
    this.fixture = await serve(this.hub, peers, { bindings: this.module.bindings, tokens });
    return this;
  }

  #platform(): Platform {
    return {
      hubId: this.id,
      clock: systemClock,
      entropy: systemEntropy,
      log: memoryLogger(),
      metrics: this.metrics,
      events: { report: (event) => void this.events.push(event) },
      incarnation: ++this.#incarnation,
      packages: ["foedus.registry_sync.v1alpha1"],
      software: "test",
      dataDir: this.dir,
      store: (service) => openSqliteStore({ path: join(this.dir, `${service}.db`), durability: "full" }),
    };
  }

  #connect(view: PeerView): Client {
    const material = { cert: this.identity.certificatePem, key: this.identity.keyPem, ca: view.caPems };
    return createClient(RegistrySyncService, {
      address: `${view.endpoint?.host}:${view.endpoint?.port}`,
      credentials: createPeerCredentials({ hubId: view.hubId, name: "hub" }, material, systemClock),
      clock: systemClock,
    });
  }

  /** setPeers plays discovery: these are all the peers that there are. */
  setPeers(views: readonly PeerView[]): void {
    this.#views = views;
    this.#listener?.(views);
  }

  /** viewOf is what discovery would push about a peer. */
  viewOf(peer: RegistryHub, more: Partial<PeerView> = {}): PeerView {
    const expiresAtWall = systemClock.wall() + 600_000;
    return {
      hubId: peer.id,
      level: 3,
      share: "full",
      endpoint: { host: "127.0.0.1", port: peer.fixture.port, spiffeId: `spiffe://${peer.id}/service/hub` },
      token: { jwt: tokenFor(this.id, this.identity, expiresAtWall), issuedAtWall: systemClock.wall(), expiresAtWall },
      caPems: [peer.hub.caPem],
      bundleSeq: 1,
      revoked: [],
      minTokenIssuedAtWall: 0,
      terminated: false,
      wake: 0,
      ...more,
    };
  }

  /** local is a client in this process with the identity that the test chooses. */
  local(caller: Partial<Caller> = {}): Client {
    const full: Caller = {
      kind: "gateway",
      hubId: this.id,
      name: "test",
      spiffeId: "",
      thumbprint: "",
      notAfterWall: 0,
      level: 0,
      role: 2,
      prefixes: [],
      ...caller,
    };
    return createLocalClient(RegistrySyncService, this.module.bindings[0]!, {
      caller: full,
      clock: systemClock,
      log: memoryLogger(),
      ids: systemEntropy,
    });
  }

  /** remote is a client over mutual TLS. */
  remote(credential: Credential): Client {
    const client = createClient(RegistrySyncService, {
      address: `127.0.0.1:${this.fixture.port}`,
      credentials: this.fixture.credentials(credential),
      clock: systemClock,
    });
    this.#clients.push(client);
    return client;
  }

  /** stop ends everything but keeps the folder, for a restart. */
  async stop(): Promise<void> {
    await this.module.stop(1_000);
    for (const client of this.#clients.splice(0)) client.close();
    await this.fixture.close();
  }

  remove(): void {
    rmSync(this.dir, { recursive: true, force: true });
  }
}
