import type { X509Certificate } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import type { ClientOf } from "#channel/call.ts";
import type { Entropy } from "#channel/entropy.ts";
import type { ExpectedPeer } from "#channel/tls/peer-identity.ts";
import { DiscoveryService, SetPeerEnabledRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import type { Core } from "#kernel/core.ts";
import { FoedusError } from "#kernel/error.ts";
import { clockPlausible } from "#runtime/clock.ts";
import type { PeerSource, SessionReporter } from "#runtime/peers.ts";
import type { Caller } from "#runtime/rpc/call.ts";
import { createLocalClient } from "#runtime/rpc/client/local-client.ts";
import { Identities } from "#runtime/rpc/server/identities.ts";
import type { Platform } from "#runtime/service/module.ts";
import { JwtVerifier } from "#runtime/tokens/verify.ts";
import type { DiscoveryCore } from "../../services/discovery/core.ts";
import { createDiscovery, type Discovery, discoveryConfigOf, type Federation as Peers } from "../../services/discovery/index.ts";
import type { Effect, Input } from "../../services/discovery/messages.ts";
import { Flow } from "../../services/hub/flow.ts";
import type { ViewAuthority } from "../../services/hub/peers/authority.ts";
import { SERVICES, type ServiceName } from "../../services/hub/services.ts";
import { SILENT } from "./host.ts";
import type { SimLeaf } from "./pki.ts";
import type { SimServer } from "./server.ts";
import { simTokens } from "./tokens.ts";

/** How long a machine waits whose clock is not set, as the composition root does. */
const CLOCK_RETRY_MS = 5_000;
/** How long an operator waits before telling a hub again that it did not take. */
const OPERATOR_RETRY_MS = 2_000;
/** Services that are told of the peers. The hub tells its other two as well, which make nothing of it. */
const FED: readonly ServiceName[] = ["registry-sync", "command-forwarding"];
const CONFIG = discoveryConfigOf(FED).parse(undefined);

/** Target is a hub to call, and who must be there. */
export interface Target {
  readonly host: string;
  readonly expected: ExpectedPeer;
  readonly caPems: readonly string[];
  readonly revoked: readonly string[];
}

/** SimDiscoveryOptions are what the discovery of one process is made of. */
export interface SimDiscoveryOptions {
  readonly platform: Platform;
  /** This process, and its operator, as callers of its services. */
  readonly self: Caller;
  readonly operator: Caller;
  readonly ids: Entropy;
  readonly leaf: () => SimLeaf;
  readonly ownCas: readonly X509Certificate[];
  readonly dialable: boolean;
  /** What the federation file says now, and whom the operator has ended. */
  readonly peers: () => Peers;
  readonly terminated: (hubId: string) => boolean;
  readonly server: () => SimServer | undefined;
  readonly dial: (target: Target) => ClientOf<typeof DiscoveryService>;
  readonly drive: (core: DiscoveryCore) => Core<Input, Effect>;
  /** Told that it cannot start for what somebody else must mend, such as the disk: the process ends then. */
  readonly onUnable: () => void;
  readonly onFatal: (error: unknown) => void;
}

/** SimDiscovery is the shipping discovery of one process, with what the composition root joins it to the other services with. */
export class SimDiscovery {
  readonly #o: SimDiscoveryOptions;
  readonly module: Discovery;
  readonly client: ClientOf<typeof DiscoveryService>;
  readonly operator: ClientOf<typeof DiscoveryService>;
  readonly #flow: Flow;
  readonly identities: Identities;
  readonly verifier: JwtVerifier;
  /** Which links the operator knows to be enabled, or ended. */
  readonly #taken = new Map<string, boolean>();
  /** Since when a service says that it has no session with a peer, by both; undefined while it has. */
  readonly #down = new Map<string, number | undefined>();
  /** Since when links are ended, and certificates revoked, here. */
  readonly #ended = new Map<string, number>();
  readonly #revoked = new Map<string, number>();
  #serving = false;
  #stopped = false;

  constructor(options: SimDiscoveryOptions) {
    this.#o = options;
    const { platform, self, ids, leaf } = options;
    const { hubId, clock } = platform;
    const tokens = simTokens(ids);
    this.#flow = new Flow({
      hubId,
      services: FED,
      leaf: () => leaf().certificate.raw,
      own: () => options.ownCas,
      discovery: () => (this.#serving ? this.client : undefined),
      server: options.server,
      onKeySet: (jwks) => this.verifier.setKeySet(jwks),
      onCas: () => undefined,
      onOwnRevoked: () => undefined,
      clock,
      log: SILENT,
    });
    this.identities = new Identities(this.authority, clock);
    this.verifier = new JwtVerifier({
      hubId,
      clock,
      authority: this.authority,
      crypto: tokens,
      fetchKeySet: async () => (await this.client.getKeySet({ $typeName: "foedus.discovery.v1alpha1.GetKeySetRequest" })).jwks,
    });
    this.module = createDiscovery({
      platform,
      config: CONFIG,
      federation: options.peers(),
      ground: { tokens, drive: options.drive },
      ports: {
        dialPeer: ({ address, hubId: peer, caPems, revoked }) =>
          options.dial({ host: address.host, expected: { hubId: peer }, caPems, revoked }),
        ownEndpoints: () =>
          options.dialable ? SERVICES.map((service) => ({ service, host: hubId, port: 1, spiffeId: self.spiffeId })) : [],
        ownLeaf: () => leaf().certificate.raw,
        tokens: this.verifier,
      },
      onFatal: options.onFatal,
    });
    const binding = this.module.bindings[0]!;
    const connect = (caller: Caller) => createLocalClient(DiscoveryService, binding, { caller, clock, log: SILENT, ids });
    this.client = connect(self);
    this.operator = connect(options.operator);
  }

  get authority(): ViewAuthority {
    return this.#flow.authority;
  }

  peers(service: ServiceName): PeerSource {
    return this.#flow.peers(service);
  }

  sessions(service: ServiceName): SessionReporter {
    const reporter = this.#flow.sessions(service);
    return {
      report: (reports) => {
        for (const { hubId, state, synced } of reports) this.#said(`${service} ${hubId}`, state === "OPERATIONAL" && synced);
        reporter.report(reports);
      },
    };
  }

  #said(what: string, up: boolean): void {
    if ((this.#down.get(what) === undefined) === up && this.#down.has(what)) return;
    this.#down.set(what, up ? undefined : this.#o.platform.clock.mono());
  }

  /** downMs is for how long a service says itself that it has no session with a peer that is up to date; 0 if it has one. */
  downMs(service: ServiceName, hubId: string): number {
    const since = this.#down.get(`${service} ${hubId}`);
    return since === undefined ? 0 : this.#o.platform.clock.mono() - since;
  }

  /** told: the service has said how its session with a peer stands. */
  told(service: ServiceName, hubId: string): boolean {
    return this.#down.has(`${service} ${hubId}`);
  }

  /** endedMs is for how long a link is ended by the operator; 0 if it is not. */
  endedMs(hubId: string): number {
    const since = this.#ended.get(hubId);
    return since === undefined ? 0 : this.#o.platform.clock.mono() - since;
  }

  /** revokedMs is for how long a certificate is revoked here; 0 if it is not. */
  revokedMs(thumbprint: string): number {
    const since = this.#revoked.get(thumbprint);
    return since === undefined ? 0 : this.#o.platform.clock.mono() - since;
  }

  /** start brings it up once the clock can be right: before that a hub dials nobody. */
  start(): void {
    const { clock } = this.#o.platform;
    if (this.#stopped) return;
    if (clockPlausible(clock.wall()) !== undefined) return void clock.setTimer(CLOCK_RETRY_MS, () => this.start());
    this.module.start().then(
      () => this.#begin(),
      (error: unknown) => {
        if (error instanceof FoedusError && error.failure.reason === "STORE_UNAVAILABLE") this.#o.onUnable();
        else this.#o.onFatal(error);
      },
    );
  }

  #begin(): void {
    if (this.#stopped) return;
    this.#serving = true;
    this.#flow.start();
    this.changed();
  }

  /** changed: the federation file has changed, or an operator ends or enables a link. */
  changed(): void {
    if (!this.#serving) return;
    const peers = this.#o.peers();
    this.module.setFederation(peers);
    const mono = this.#o.platform.clock.mono();
    for (const { revoked } of peers.peers)
      for (const { thumbprint } of revoked) if (!this.#revoked.has(thumbprint)) this.#revoked.set(thumbprint, mono);
    for (const { hubId } of peers.peers) void this.#enable(hubId);
  }

  /** enable is an operator who says it until it is taken. */
  async #enable(hubId: string): Promise<void> {
    const { platform, terminated } = this.#o;
    if (this.#stopped) return;
    const enabled = !terminated(hubId);
    if (this.#taken.get(hubId) === enabled) return;
    this.#taken.set(hubId, enabled);
    try {
      await this.operator.setPeerEnabled(create(SetPeerEnabledRequestSchema, { hubId, enabled }));
      if (this.#taken.get(hubId) !== enabled) return;
      if (enabled) this.#ended.delete(hubId);
      else this.#ended.set(hubId, platform.clock.mono());
    } catch {
      this.#taken.delete(hubId);
      platform.clock.setTimer(OPERATOR_RETRY_MS, () => void this.#enable(hubId));
    }
  }

  /** leafChanged: this process has a new certificate. */
  leafChanged(): void {
    if (!this.#serving) return;
    this.module.leafChanged();
    this.#flow.restart();
  }

  async stop(graceMs: number): Promise<void> {
    this.#stopped = true;
    this.#flow.stop();
    await this.module.stop(graceMs).catch(() => undefined);
    this.#flow.close();
  }
}
