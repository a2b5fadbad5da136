import type { X509Certificate } from "node:crypto";

/**
 * PeerAuthority says what this hub knows about identities: its own CA and those of its peers, how far each peer is trusted,
 * and what was revoked. Discovery fills it; every server reads it on each call, in memory.
 */
export interface PeerAuthority {
  /** This hub. Its own CA set is `bundle(hubId)`. */
  readonly hubId: string;
  /** bundle is the CA set of one hub, or undefined for an unknown hub. Bundles of hubs are never merged. */
  bundle(hubId: string): readonly X509Certificate[] | undefined;
  /** level of a peer: 0 undecided, 1 MINIMAL, 2 LIMITED, 3 FULL. */
  level(hubId: string): number;
  /** revoked tells whether a leaf (base64url of SHA-256 of its DER) was withdrawn. */
  revoked(thumbprint: string): boolean;
  /** minTokenIssuedAt is the wall-clock ms before which tokens of a hub no longer count. */
  minTokenIssuedAt(hubId: string): number;
  /** version grows with every change of what the others answer; caches are dropped when it moves. */
  version(): number;
}
