import type { X509Certificate } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { ErrorReason } from "#gen/foedus/common/v1/error_pb.ts";
import type { DiscoveryService } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { ReportSessionsRequestSchema, WatchPeersRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { LinkState, type PeerView as ProtoView } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import type { Reason } from "#kernel/error.ts";
import type { Clock, Timer } from "#runtime/clock.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { PeerSource, PeerView, SessionReport, SessionReporter } from "#runtime/peers.ts";
import type { ClientOf } from "#runtime/rpc/call.ts";
import type { RpcServer } from "#runtime/rpc/server/server.ts";
import { parseCertificates } from "#runtime/tls/credentials.ts";
import type { PeerAuthority } from "#runtime/tls/peer-authority.ts";
import { ownRetry } from "./own-retry.ts";

type Discovery = ClientOf<typeof DiscoveryService>;

/** Two reports of sessions are this far apart if the second one came during the first. */
const PACE_MS = 500;

/** PeerFeedOptions say for whom peers are watched. */
export interface PeerFeedOptions {
  readonly service: string;
  /** DER of the leaf with which this process dials peers; tokens are bound to it. Asked again after each reconnect. */
  readonly leaf: () => Uint8Array;
  readonly clock: Clock;
  readonly log: Logger;
  readonly onKeySet: (jwks: string) => void;
  readonly onChange: () => void;
  /** Called each time that discovery has told all it knows on a new stream: it may have taken this service for gone meanwhile. */
  readonly onSynced?: () => void;
}

/**
 * PeerFeed holds the last views that discovery pushed for one service. When discovery is away the last views stay;
 * what limits them is the life of the tokens in them.
 */
export class PeerFeed implements PeerSource {
  readonly #o: PeerFeedOptions;
  #views = new Map<string, PeerView>();
  #listeners = new Set<(views: readonly PeerView[]) => void>();
  #stop: AbortController | undefined;
  #retry: Timer | undefined;
  readonly #again = ownRetry();
  #synced = false;

  constructor(options: PeerFeedOptions) {
    this.#o = options;
  }

  /** synced is true once all views of the start were received. */
  get synced(): boolean {
    return this.#synced;
  }

  current(): readonly PeerView[] {
    return [...this.#views.values()];
  }

  subscribe(_service: string, listener: (views: readonly PeerView[]) => void): () => void {
    this.#listeners.add(listener);
    listener(this.current());
    return () => this.#listeners.delete(listener);
  }

  /** start watches for ever: a cut stream is opened again. */
  start(client: Discovery): void {
    this.#stop = new AbortController();
    void this.#run(client, this.#stop.signal);
  }

  /** restart opens the stream anew, with the present leaf. */
  restart(client: Discovery): void {
    this.stop();
    this.start(client);
  }

  stop(): void {
    this.#retry?.cancel();
    this.#stop?.abort();
  }

  async #run(client: Discovery, signal: AbortSignal): Promise<void> {
    try {
      // Views that discovery no longer knows are dropped only after it has told all it knows: empty is not unknown.
      const told = new Set<string>();
      let complete = false;
      const request = create(WatchPeersRequestSchema, { service: this.#o.service, leaf: this.#o.leaf() });
      for await (const { push } of client.watchPeers(request, { signal })) {
        if (push.case === "jwks") this.#o.onKeySet(push.value);
        if (push.case === "view") {
          const view = viewFromProto(push.value);
          this.#views.set(view.hubId, view);
          told.add(view.hubId);
        }
        if (push.case === "removed") this.#views.delete(push.value);
        if (push.case === "synced") {
          for (const hubId of this.#views.keys()) if (!told.has(hubId)) this.#views.delete(hubId);
          complete = true;
          this.#synced = true;
          this.#again.reset();
          this.#o.onSynced?.();
        }
        if (complete) this.#publish();
      }
    } catch (error) {
      if (!signal.aborted) this.#o.log.debug({ service: this.#o.service, error }, "peer watch ended");
    }
    if (signal.aborted) return;
    const mono = this.#o.clock.mono();
    this.#retry = this.#o.clock.setTimer(this.#again.failed(mono) - mono, () => void this.#run(client, signal));
  }

  #publish(): void {
    this.#o.onChange();
    const views = this.current();
    for (const listener of this.#listeners) listener(views);
  }
}

function viewFromProto(view: ProtoView): PeerView {
  const { endpoint } = view;
  return {
    hubId: view.hubId,
    level: view.level,
    share: view.share,
    endpoint: endpoint === undefined ? undefined : { host: endpoint.host, port: endpoint.port, spiffeId: endpoint.spiffeId },
    token:
      view.token === ""
        ? undefined
        : { jwt: view.token, issuedAtWall: Number(view.tokenIssuedMs), expiresAtWall: Number(view.tokenExpiresMs) },
    caPems: view.caPems,
    bundleSeq: Number(view.bundleSeq),
    revoked: view.revoked,
    minTokenIssuedAtWall: Number(view.minTokenIssuedMs),
    terminated: view.terminated,
    wake: Number(view.wake),
  };
}

/** ViewAuthority answers who is who from the last views and this hub's own CA set. */
export class ViewAuthority implements PeerAuthority {
  readonly hubId: string;
  readonly #own: () => readonly X509Certificate[];
  #views = new Map<string, { readonly view: PeerView; readonly bundle: readonly X509Certificate[] }>();
  #revoked: ReadonlySet<string> = new Set();
  #version = 1;
  #rests = "";

  constructor(hubId: string, own: () => readonly X509Certificate[]) {
    this.hubId = hubId;
    this.#own = own;
  }

  /** update takes the views; a bundle that cannot be read counts as unknown, so that it can admit nobody. */
  update(views: readonly PeerView[], log: Logger): void {
    const next = new Map<string, { readonly view: PeerView; readonly bundle: readonly X509Certificate[] }>();
    for (const view of views) {
      const before = this.#views.get(view.hubId);
      if (before !== undefined && before.view.caPems.join() === view.caPems.join()) {
        next.set(view.hubId, { view, bundle: before.bundle });
        continue;
      }
      try {
        next.set(view.hubId, { view, bundle: parseCertificates(view.caPems) });
      } catch (error) {
        log.error({ peer: view.hubId, error }, "peer bundle cannot be read");
      }
    }
    this.#views = next;
    // Views come with each new token, too: what was decided about callers stays, unless what it rests on changed.
    const rests = JSON.stringify(
      views.map((view) => [view.hubId, view.level, view.caPems, view.revoked, view.terminated, view.minTokenIssuedAtWall]),
    );
    if (rests !== this.#rests) this.#version++;
    this.#rests = rests;
  }

  /** bump drops caches after the own CA set changed. */
  bump(): void {
    this.#version++;
  }

  /** revokeOwn replaces the thumbprints of this hub's own certificates that are refused. */
  revokeOwn(thumbprints: ReadonlySet<string>): void {
    this.#revoked = thumbprints;
    this.#version++;
  }

  /** ownRevoked are those thumbprints. */
  get ownRevoked(): readonly string[] {
    return [...this.#revoked];
  }

  /** pems are the CA certificates of all known peers, for the TLS layer: who a caller is, is decided per bundle. */
  pems(): string[] {
    return [...this.#views.values()].flatMap(({ view }) => (view.terminated ? [] : view.caPems));
  }

  bundle(hubId: string): readonly X509Certificate[] | undefined {
    return hubId === this.hubId ? this.#own() : this.#views.get(hubId)?.bundle;
  }

  level(hubId: string): number {
    return this.#views.get(hubId)?.view.level ?? 0;
  }

  revoked(thumbprint: string): boolean {
    if (this.#revoked.has(thumbprint)) return true;
    for (const { view } of this.#views.values()) if (view.revoked.includes(thumbprint)) return true;
    return false;
  }

  minTokenIssuedAt(hubId: string): number {
    return this.#views.get(hubId)?.view.minTokenIssuedAtWall ?? 0;
  }

  version(): number {
    return this.#version;
  }
}

/** How long the connections of a peer that an operator ended stay, so that its sessions can say so. */
const GOODBYE_MS = 1_000;

/** ViewFollower is what the views of a process decide about. */
export interface ViewFollower {
  readonly authority: ViewAuthority;
  /** The server of this process, once it listens. */
  readonly server: () => Pick<RpcServer, "cut" | "recheck"> | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  /** onCas is called when the CA certificates of the peers are others. */
  readonly onCas: () => void;
}

/** followViews takes new views: who may connect, and whose connections end at once (D-15). `current` are the views of the moment. */
export function followViews({ authority, server, clock, log, onCas }: ViewFollower, current: () => readonly PeerView[]): void {
  const views = current();
  const before = authority.pems().join();
  const version = authority.version();
  authority.update(views, log);
  if (authority.pems().join() !== before) onCas();
  server()?.cut(({ hubId, thumbprint }) => authority.bundle(hubId) === undefined || authority.revoked(thumbprint));
  if (authority.version() !== version) server()?.recheck();
  const terminated = (hubId: string): boolean => current().some((view) => view.terminated && view.hubId === hubId);
  if (views.some((view) => view.terminated))
    // Its tokens are void already; its sessions get the time to say why they end.
    clock.setTimer(GOODBYE_MS, () => server()?.cut(({ hubId }) => terminated(hubId)));
}

/**
 * createSessionReporter tells discovery how sessions stand: at once when something changes, in one call per turn. `again` repeats the last
 * report, for a discovery that may have forgotten it.
 */
export function createSessionReporter(
  service: string,
  client: () => Discovery | undefined,
  clock: Clock,
  log: Logger,
): SessionReporter & { again(): void; stop(): void } {
  let pending: readonly SessionReport[] | undefined;
  let last: readonly SessionReport[] | undefined;
  let busy = false;
  let timer: Timer | undefined;
  let stopped = false;
  const retry = ownRetry();
  const send = async (): Promise<void> => {
    const to = client();
    // A report that comes while discovery is away waits for the next try, with those before it.
    if (busy || !retry.due(clock.mono()) || stopped || pending === undefined) return;
    busy = true;
    const reports = pending;
    pending = undefined;
    try {
      if (to === undefined) throw new Error("discovery is not connected");
      await to.reportSessions(create(ReportSessionsRequestSchema, { service, reports: reports.map(reportToProto) }), { timeoutMs: 2_000 });
      retry.reset();
    } catch (error) {
      retry.failed(clock.mono());
      pending ??= reports;
      log.debug({ service, error }, "session report was not taken");
    }
    busy = false;
    timer?.cancel();
    if (pending !== undefined && !stopped) timer = clock.setTimer(Math.max(PACE_MS, retry.dueAt - clock.mono()), () => void send());
  };
  return {
    report: (reports) => {
      pending = last = reports;
      void send();
    },
    again: () => {
      pending ??= last;
      void send();
    },
    stop: () => {
      stopped = true;
      timer?.cancel();
    },
  };
}

function reportToProto(report: SessionReport) {
  return {
    hubId: report.hubId,
    session: {
      service: report.service,
      state: LinkState[report.state],
      dialer: report.dialer,
      rttMs: report.rttMs,
      synced: report.synced,
      heard: BigInt(report.heard),
      ...(report.failure === undefined
        ? {}
        : {
            failure: { reason: ErrorReason[report.failure.reason as Reason] ?? ErrorReason.UNSPECIFIED, message: report.failure.message },
          }),
    },
  };
}
