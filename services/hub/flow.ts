import type { X509Certificate } from "node:crypto";
import type { ClientOf } from "#channel/call.ts";
import type { Clock } from "#channel/clock.ts";
import type { DiscoveryService } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { PeerSource, PeerView, SessionReporter } from "#runtime/peers.ts";
import type { RpcServer } from "#runtime/rpc/server/server.ts";
import { ViewAuthority } from "./peers/authority.ts";
import { type Peer, PeerFeed } from "./peers/feed.ts";
import { fallen } from "./peers/loses-access.ts";
import { createSessionReporter } from "./peers/reporter.ts";

/** How long the connections of a peer that an operator ended stay, so that its sessions can say so. */
const GOODBYE_MS = 1_000;

/** same: nothing else has changed. What did not change is the same object. */
const same = (some: readonly Peer[], others: readonly Peer[]): boolean =>
  some.length === others.length && some.every((peer, i) => peer === others[i]);

/** FlowOptions are what the flow of peers through a process touches. */
export interface FlowOptions {
  readonly hubId: string;
  /** Services of this process, in the order in which they start; at least one. */
  readonly services: readonly string[];
  /** DER of the leaf with which this process dials peers. */
  readonly leaf: () => Uint8Array;
  /** CAs that sign for this hub's own callers. */
  readonly own: () => readonly X509Certificate[];
  readonly discovery: () => ClientOf<typeof DiscoveryService> | undefined;
  /** The server of this process, once it listens. */
  readonly server: () => Pick<RpcServer, "cut" | "recheck"> | undefined;
  readonly onKeySet: (jwks: string) => void;
  /** onCas is called when the CA certificates of the peers are others. */
  readonly onCas: () => void;
  /** onOwnRevoked is called when the list of this hub's own refused certificates is another: what is dialled with rests on it. */
  readonly onOwnRevoked: () => void;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Flow is how what discovery decides of peers reaches the rest of a process: one watch, one authority, and one order in which a change is
 * told. The order:
 *
 * FL1 What falls is told before what rises, also when both come at once, of different peers: nobody gets anything while others still have
 *    what was taken from them. A peer that falls and rises at once has fallen (`losesAccess`).
 * FL2 On a fall the doors close first, then the services are told, those that started last first. The doors come first because a service
 *    that has let go of a peer must not be asked by it again. A service hears of it before those on whose state it rests: a command that
 *    starts meanwhile is done to a thing and cannot be taken back, a node that is seen for a moment longer can be forgotten.
 * FL3 On a rise it is the other way round: the services, those that started first first, then the doors. Nodes are there before commands to
 *    them are, and who comes in finds all services ready for it.
 * FL4 The doors: who may connect and whose tokens count (the authority), then whose CAs are offered to TLS, then connections whose hub or
 *    certificate is not known any more are cut, then what is open is judged by the new levels. In this order nobody who was cut gets in again.
 * FL5 A link that an operator ended has its tokens void at once; its connections stay for GOODBYE_MS, so that its sessions can say why they end.
 * FL6 A service that fails to take a change keeps no other from being told (S0-24).
 */
export class Flow {
  readonly authority: ViewAuthority;
  readonly #o: FlowOptions;
  readonly #feed: PeerFeed;
  readonly #reporters: { again(): void; stop(): void }[] = [];
  readonly #listeners = new Map<string, Set<(views: readonly PeerView[]) => void>>();
  /** Peers as all of this process knows them; while a change is told, those of the step that is told. */
  #told: readonly Peer[] = [];
  #stopped = false;

  constructor(options: FlowOptions) {
    const { hubId, own, services, leaf, clock, log, onKeySet } = options;
    this.#o = options;
    this.authority = new ViewAuthority(hubId, own);
    for (const service of services) this.#listeners.set(service, new Set());
    this.#feed = new PeerFeed({
      services,
      leaf,
      clock,
      log,
      onKeySet,
      onChange: (peers) => this.#changed(peers),
      onSynced: () => {
        for (const reporter of this.#reporters) reporter.again();
      },
    });
  }

  /** peers is the port through which a service of this process learns of peers. */
  peers(service: string): PeerSource {
    const feed = this.#feed;
    const current = (): PeerView[] => this.#viewsFor(service);
    return {
      current,
      get synced() {
        return feed.synced;
      },
      subscribe: (_service, listener) => {
        const listeners = this.#listeners.get(service);
        listeners?.add(listener);
        listener(current());
        return () => void listeners?.delete(listener);
      },
    };
  }

  /** sessions makes the port through which a service of this process tells discovery of its sessions. */
  sessions(service: string): SessionReporter {
    const reporter = createSessionReporter(service, this.#o.discovery, this.#o.clock, this.#o.log);
    this.#reporters.push(reporter);
    return reporter;
  }

  /** start begins to watch, once discovery can be reached. */
  start(): void {
    const discovery = this.#o.discovery();
    if (discovery !== undefined) this.#feed.start(discovery);
  }

  /** restart watches with the present leaf: tokens are bound to it. Not once it was stopped: certificates are renewed until the very end. */
  restart(): void {
    if (this.#stopped) return;
    const discovery = this.#o.discovery();
    if (discovery !== undefined) this.#feed.restart(discovery);
  }

  /** stop ends the watch; what was told stays as it is. */
  stop(): void {
    this.#stopped = true;
    this.#feed.stop();
  }

  /** close ends the reports of sessions, when their services have stopped. */
  close(): void {
    for (const reporter of this.#reporters) reporter.stop();
  }

  /** revokeOwn refuses this hub's own certificates with these thumbprints, in the order of FL4: they may not connect, then what is open ends. */
  revokeOwn(thumbprints: ReadonlySet<string>): void {
    this.authority.revokeOwn(thumbprints);
    this.#o.onOwnRevoked();
    this.#o.server()?.cut(({ thumbprint }) => thumbprints.has(thumbprint));
  }

  describe(): string {
    return `${this.#told.length} peers${this.#feed.synced ? "" : ", not told yet"}`;
  }

  #changed(peers: readonly Peer[]): void {
    const { services } = this.#o;
    const between = fallen(this.#told, peers);
    if (between !== undefined) {
      this.#told = between;
      this.#doors();
      for (const service of services.toReversed()) this.#tell(service);
      if (same(between, peers)) return;
    }
    this.#told = peers;
    for (const service of services) this.#tell(service);
    this.#doors();
  }

  #tell(service: string): void {
    const listeners = this.#listeners.get(service);
    if (listeners === undefined || listeners.size === 0) return;
    const views = this.#viewsFor(service);
    for (const listener of listeners) {
      try {
        listener(views);
      } catch (error) {
        this.#o.log.error({ service, error }, "service did not take a change of the peers");
      }
    }
  }

  #viewsFor(service: string): PeerView[] {
    return this.#told.map(({ view, views }) => views.get(service) ?? view);
  }

  #doors(): void {
    const { authority } = this;
    const { server, onCas, clock, log } = this.#o;
    const views = this.#told.map(({ view }) => view);
    const before = authority.pems().join();
    const version = authority.version();
    authority.update(views, log);
    if (authority.pems().join() !== before) onCas();
    server()?.cut(({ hubId, thumbprint }) => authority.bundle(hubId) === undefined || authority.revoked(thumbprint));
    if (authority.version() !== version) server()?.recheck();
    if (views.some((view) => view.terminated)) clock.setTimer(GOODBYE_MS, () => server()?.cut(({ hubId }) => this.#terminated(hubId)));
  }

  #terminated(hubId: string): boolean {
    return this.#told.some(({ view }) => view.terminated && view.hubId === hubId);
  }
}
