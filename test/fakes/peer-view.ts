import type { PeerView } from "#runtime/peers.ts";

/** peerViewOf is a peer of full trust that may be dialled, or only be waited for, with a token for an hour from now (wall ms). */
export function peerViewOf(hubId: string, dialable: boolean, wall: number): PeerView {
  return {
    hubId,
    level: 3,
    share: "full",
    endpoint: dialable ? { host: hubId, port: 1, spiffeId: `spiffe://${hubId}/service/hub` } : undefined,
    token: { jwt: "t", issuedAtWall: wall, expiresAtWall: wall + 3_600_000 },
    caPems: [],
    bundleSeq: 1,
    revoked: [],
    minTokenIssuedAtWall: 0,
    terminated: false,
    wake: 0,
  };
}
