import type { Address, DialledMember, ServiceEndpoint } from "./messages.ts";

/** DialRequest says which hub is expected where; its discovery is the only one that counts. */
export interface DialRequest {
  readonly address: Address;
  readonly hubId: string;
  /** CA certificates of that hub, PEM; no other may have signed the server's certificate. */
  readonly caPems: readonly string[];
  /** Thumbprints of revoked leaves: a server that shows one of them is refused. */
  readonly revoked: readonly string[];
  /** Exact SPIFFE id that the server must prove, if it is known; else any service of the hub. */
  readonly spiffeId: string | undefined;
}

/** SeatPort is whether this installation acts for its hub. */
export interface SeatPort {
  /**
   * held is where its hub is dialled while it acts with a fence: here. Undefined for a hub that has no standbys. `acting` is the fence of a
   * process of this hub that asks while it acts; FENCE_STALE if it acted before the installation began to.
   */
  readonly held: (acting?: number) => DialledMember | undefined;
  /**
   * told takes which installation of this hub the federation has dialled, the hubs whose word counts for that, and where other members with
   * standbys are dialled. Undefined: this hub has no standbys.
   */
  readonly told: (own: DialledMember | undefined, hubs: readonly string[], members: readonly DialledMember[]) => void;
  /** refused tells that a peer did not answer, as it knows of another installation of this hub that acts. */
  readonly refused: () => void;
}

/**
 * DiscoveryPorts is what discovery needs from the process it runs in. `Client` is a client of another hub's discovery; the
 * caller of `dialPeer` closes it.
 */
export interface DiscoveryPorts<Client, Verifier> {
  /** dialPeer makes a client that shows this process's present certificate. It does not wait. */
  readonly dialPeer: (request: DialRequest) => Client;
  /** ownEndpoints is where this hub's services are reached by peers; empty if it can only dial out. Asked for each Hello. */
  readonly ownEndpoints: () => readonly ServiceEndpoint[];
  /** seat is this installation's among those of its hub; without it the hub has this one only. */
  readonly seat?: SeatPort;
  /** ownLeaf is the DER of the certificate that `dialPeer` shows. */
  readonly ownLeaf: () => Uint8Array;
  /** tokens checks the renewed tokens of sessions that peers dialled. */
  readonly tokens: Verifier;
}
