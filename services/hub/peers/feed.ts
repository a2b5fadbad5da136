import { create } from "@bufbuild/protobuf";
import type { ClientOf } from "#channel/call.ts";
import type { Clock, Timer } from "#channel/clock.ts";
import { type DiscoveryService, WatchPeersRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import type { Endpoint, PeerView as ProtoView } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { PeerView } from "#runtime/peers.ts";
import { ownRetry } from "../own-retry.ts";

type Discovery = ClientOf<typeof DiscoveryService>;

/** Peer is a peer as the services of one process see it: they differ only in where their counterparts are reached. */
export interface Peer {
  /** What all of them are told; its endpoint is that of the first service's counterpart. */
  readonly view: PeerView;
  /** views are the same for each service of this process, with the endpoint of its own counterpart. */
  readonly views: ReadonlyMap<string, PeerView>;
}

/** PeerFeedOptions say for whom peers are watched. */
export interface PeerFeedOptions {
  /** Services of this process; at least one. */
  readonly services: readonly string[];
  /** DER of the leaf with which this process dials peers; tokens are bound to it. Asked again after each reconnect. */
  readonly leaf: () => Uint8Array;
  readonly clock: Clock;
  readonly log: Logger;
  readonly onKeySet: (jwks: string) => void;
  /** onChange is called with all peers after each change, from the first time on that discovery has told all it knows. */
  readonly onChange: (peers: readonly Peer[]) => void;
  /** onSynced is called each time that discovery has told all it knows on a new stream: it may have taken this process for gone meanwhile. */
  readonly onSynced?: () => void;
}

/**
 * PeerFeed is the one watch of a process on discovery, for all its services. When discovery is away the last views stay; what limits them is
 * the life of the tokens in them.
 */
export class PeerFeed {
  readonly #o: PeerFeedOptions;
  readonly #peers = new Map<string, Peer>();
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
    const [service = "", ...also] = this.#o.services;
    try {
      // Views that discovery no longer knows are dropped only after it has told all it knows: empty is not unknown.
      const told = new Set<string>();
      let complete = false;
      const request = create(WatchPeersRequestSchema, { service, also, leaf: this.#o.leaf() });
      for await (const { push } of client.watchPeers(request, { signal })) {
        // What had arrived on a stream that another one took the place of is older than what that says.
        if (signal.aborted) return;
        if (push.case === "jwks") this.#o.onKeySet(push.value);
        if (push.case === "view") {
          const { hubId } = push.value;
          this.#peers.set(hubId, peerFromProto(push.value, this.#o.services));
          told.add(hubId);
        }
        if (push.case === "removed") this.#peers.delete(push.value);
        if (push.case === "synced") {
          for (const hubId of this.#peers.keys()) if (!told.has(hubId)) this.#peers.delete(hubId);
          complete = true;
          this.#synced = true;
          this.#again.reset();
          this.#o.onSynced?.();
        }
        if (complete) this.#o.onChange([...this.#peers.values()]);
      }
    } catch (error) {
      if (!signal.aborted) this.#o.log.debug({ service, error }, "peer watch ended");
    }
    if (signal.aborted) return;
    const mono = this.#o.clock.mono();
    this.#retry = this.#o.clock.setTimer(this.#again.failed(mono) - mono, () => void this.#run(client, signal));
  }
}

const endpointFromProto = ({ host, port, spiffeId }: Endpoint): NonNullable<PeerView["endpoint"]> => ({ host, port, spiffeId });

function peerFromProto(told: ProtoView, services: readonly string[]): Peer {
  const view = viewFromProto(told);
  const [first, ...others] = services;
  const counterpart = (service: string): PeerView["endpoint"] => {
    const found = told.also.find((endpoint) => endpoint.service === service);
    return found === undefined ? undefined : endpointFromProto(found);
  };
  const views = new Map(others.map((service) => [service, { ...view, endpoint: counterpart(service) }]));
  return { view, views: first === undefined ? views : views.set(first, view) };
}

function viewFromProto(view: ProtoView): PeerView {
  return {
    hubId: view.hubId,
    level: view.level,
    share: view.share,
    endpoint: view.endpoint === undefined ? undefined : endpointFromProto(view.endpoint),
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
