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

/** PeerSource is the port through which services learn of peers: a subscription, never a query per request. */
export interface PeerSource {
  /** current is the last known set; empty until the first push. */
  current(): readonly PeerView[];
  /** synced is true once the set is all that discovery knows: from then on what is missing is gone. Absent: with the first set that is not empty. */
  readonly synced?: boolean;
  /** subscribe calls back at once with the current set and on every change; the returned function ends it. */
  subscribe(service: string, listener: (views: readonly PeerView[]) => void): () => void;
}

/** SessionReport is how one service's session with a peer stands; discovery derives the link state from all of them. */
export interface SessionReport {
  readonly hubId: string;
  readonly service: string;
  readonly state: "INIT" | "DISCOVERING" | "CONNECTING" | "SYNCING" | "OPERATIONAL" | "RECOVERING" | "TERMINATED";
  readonly dialer: string;
  readonly rttMs: number;
  /** True once the first synchronisation on it is finished (services that do not synchronise: when it is up). */
  readonly synced: boolean;
  readonly failure: { readonly reason: string; readonly message: string } | undefined;
  /** Rises with every authenticated frame after a pause of 1 s or more, and with every opened session: wakes other services' dials. */
  readonly heard: number;
}

/** SessionReporter is the port through which services tell discovery of their sessions. */
export interface SessionReporter {
  report(reports: readonly SessionReport[]): void;
}
