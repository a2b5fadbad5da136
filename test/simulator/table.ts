import type { PeerSource, PeerView } from "#runtime/peers.ts";
import type { Caller } from "#runtime/rpc/call.ts";
import type { Federation } from "./federation.ts";
import type { SimHub } from "./hub.ts";
import { NEVER_WALL } from "./server.ts";

/** A token that does not say to which certificate it is bound. */
const UNBOUND = "e30.e30.e30";

/** peerOf is the SPIFFE id with which a hub's services call another hub. */
export const peerOf = (hubId: string): string => `spiffe://${hubId}/service/hub`;

/** SimPeers is what discovery would tell the services of one process, in a run without discovery: the trust of the simulated operators. */
export class SimPeers implements PeerSource {
  readonly synced = true;
  readonly #f: Federation;
  readonly #hub: SimHub;
  readonly #listeners = new Set<(views: readonly PeerView[]) => void>();

  constructor(f: Federation, hub: SimHub) {
    this.#f = f;
    this.#hub = hub;
  }

  current(): readonly PeerView[] {
    return this.#f.hubIds.flatMap((hubId, i) => (i === this.#hub.no ? [] : [this.#view(hubId, i)]));
  }

  subscribe(_service: string, listener: (views: readonly PeerView[]) => void): () => void {
    this.#listeners.add(listener);
    listener(this.current());
    return () => this.#listeners.delete(listener);
  }

  changed(): void {
    for (const listener of [...this.#listeners]) listener(this.current());
  }

  #view(hubId: string, no: number): PeerView {
    const { level, share, terminated } = this.#f.trustOf(this.#hub.no, no);
    const endpoint = this.#hub.dialable(no) ? { host: hubId, port: 1, spiffeId: peerOf(hubId) } : undefined;
    return {
      hubId,
      level,
      share,
      terminated,
      endpoint,
      token: { jwt: UNBOUND, issuedAtWall: 0, expiresAtWall: NEVER_WALL },
      caPems: [],
      bundleSeq: 1,
      revoked: [],
      minTokenIssuedAtWall: 0,
      wake: 0,
    };
  }
}

/** callerOf is who calls a hub with a SPIFFE id that nobody doubts: a client of it, or a peer in a run without discovery. */
export function callerOf(f: Federation, hub: SimHub, spiffeId: string): Caller {
  const [, , hubId = "", kind = "", name = ""] = spiffeId.split("/");
  const peer = hubId !== hub.hubId;
  return {
    kind: peer ? "peer" : (kind as Caller["kind"]),
    hubId,
    name,
    spiffeId,
    thumbprint: spiffeId,
    notAfterWall: NEVER_WALL,
    level: peer ? f.trustOf(hub.no, f.hubIds.indexOf(hubId)).level : 0,
    role: peer || kind !== "operator" ? 0 : 2,
    prefixes: [],
  };
}
