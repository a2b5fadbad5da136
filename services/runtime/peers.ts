import type { PeerView } from "#kernel/session/peer-view.ts";

export type { PeerView };

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
