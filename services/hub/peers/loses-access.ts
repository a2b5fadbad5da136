import type { PeerView } from "#runtime/peers.ts";
import type { Peer } from "./feed.ts";

const lost = (before: readonly string[], after: readonly string[]): boolean => before.some((item) => !after.includes(item));

/**
 * losesAccess tells whether a peer may do less than before: its level fell, its link was ended, certificates or tokens of it were
 * withdrawn, or it is no longer a peer. Another share counts too, for what the old one showed must not be shown any longer, whatever the new one shows.
 */
export function losesAccess(before: PeerView, after: PeerView | undefined): boolean {
  if (after === undefined || after.level < before.level || after.share !== before.share) return true;
  if (after.terminated && !before.terminated) return true;
  if (after.minTokenIssuedAtWall > before.minTokenIssuedAtWall) return true;
  return lost(before.caPems, after.caPems) || lost(after.revoked, before.revoked);
}

/**
 * fallen is the set of peers in between: those that fall are as they will be, all others as they were. Undefined if nobody falls. A peer that
 * falls in one respect and rises in another has fallen: it gets nothing before what it loses is gone everywhere.
 */
export function fallen(before: readonly Peer[], after: readonly Peer[]): readonly Peer[] | undefined {
  const next = new Map(after.map((peer) => [peer.view.hubId, peer]));
  let any = false;
  const between = before.flatMap((peer) => {
    const then = next.get(peer.view.hubId);
    if (!losesAccess(peer.view, then?.view)) return [peer];
    any = true;
    return then === undefined ? [] : [then];
  });
  return any ? between : undefined;
}
