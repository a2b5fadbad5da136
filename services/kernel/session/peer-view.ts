/**
 * PeerView is what a service needs to talk to a peer and to authorise it: discovery decides it and pushes it; a service
 * acts on the last one it got, also while discovery is away (hard limit: the life of a token).
 */
export interface PeerView {
  readonly hubId: string;
  /** Decided trust level: 0 none, 1 MINIMAL, 2 LIMITED, 3 FULL. */
  readonly level: number;
  /** Share of ours that it gets; empty for none. */
  readonly share: string;
  /** Where the counterpart of this service is reached; undefined if the peer can only dial out. */
  readonly endpoint: { readonly host: string; readonly port: number; readonly spiffeId: string } | undefined;
  /** Our token there, bound to this process's certificate; undefined until Hello was answered. Times are by our wall clock. */
  readonly token: { readonly jwt: string; readonly issuedAtWall: number; readonly expiresAtWall: number } | undefined;
  /** CA certificates of the peer, PEM. Never merged with another hub's. */
  readonly caPems: readonly string[];
  readonly bundleSeq: number;
  /** Thumbprints (x5t#S256) of revoked leaves. */
  readonly revoked: readonly string[];
  /** Tokens issued by us to it before this instant (wall ms) are void. */
  readonly minTokenIssuedAtWall: number;
  /** True if an operator ended the link. */
  readonly terminated: boolean;
  /** Rises when any service heard from the peer: wakes one dial. */
  readonly wake: number;
}
