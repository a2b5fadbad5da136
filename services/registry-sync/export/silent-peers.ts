import type { OwnFeed } from "../feed/feed.ts";
import type { FeedPosition } from "../messages.ts";
import { type PeerSession, SILENT_MS } from "../peer-session.ts";
import { failure, type World } from "../world.ts";

/**
 * lookForSilence says when a peer, although its link stands, neither asks for what it is offered nor acknowledges what it is sent, and when
 * it does again. It looks at each session once a minute, so that nothing is done for it per segment. `owed` is how far this hub is with a
 * feed of which the peer offered more.
 */
export function lookForSilence(world: World, session: PeerSession, feed: OwnFeed | undefined, owed: string | undefined): void {
  const { mono } = world.now;
  if (session.lookAt > mono) return;
  session.lookAt = mono + SILENT_MS;
  lookForUnanswered(world, session, feed);
  lookForMissing(world, session, owed);
}

function lookForUnanswered(world: World, session: PeerSession, feed: OwnFeed | undefined): void {
  const debt = debtOf(session, feed, world.now.mono);
  const silent = debt !== undefined && debt === session.debt;
  session.debt = debt;
  if (silent === session.silent) return;
  session.silent = silent;
  session.trouble.unanswered(
    silent ? failure("DEADLINE_EXPIRED", "it has neither asked for the feed nor acknowledged any of it for a minute") : undefined,
  );
  if (silent) world.event("feed", "WARNING", "a peer takes nothing of what it is sent", { hub: session.peer, share: feed?.share ?? "" });
}

/** Incoming is what is held, and under way, of peers' feeds. */
export interface Incoming {
  readonly feeds: ReadonlyMap<string, FeedPosition>;
  readonly receives: { bytesOf(peer: string): number };
}

/** owedBy is how far this hub is with a feed of which its owner offered more, at first on a session; undefined if nothing is owed. */
export function owedBy(session: PeerSession, { feeds, receives }: Incoming): string | undefined {
  const held = feeds.get(session.peer);
  if (session.synced || !session.offerSeen || !session.behind(held)) return undefined;
  return `${held?.epoch ?? 0}/${held?.seq ?? 0}/${receives.bytesOf(session.peer)}`;
}

/** lookForMissing says when a peer sends nothing of what it offered: its feed may be less than it says. */
function lookForMissing(world: World, session: PeerSession, owed: string | undefined): void {
  const missing = owed !== undefined && owed === session.owed;
  session.owed = owed;
  if (missing === session.missing) return;
  session.missing = missing;
  session.trouble.missing(
    missing ? failure("DEADLINE_EXPIRED", "it offered more of its feed than it has, or sends none of it") : undefined,
  );
  if (missing) world.event("feed", "WARNING", "a peer sends nothing of what it offered", { hub: session.peer });
}

/** debtOf is what a peer has to answer, and how far it is with that; undefined if it is this hub's turn, or a pause. */
function debtOf({ out, acked, retry, offerAt }: PeerSession, feed: OwnFeed | undefined, mono: number): string | undefined {
  if (!retry.due(mono) || offerAt < Number.POSITIVE_INFINITY) return undefined;
  switch (out.state) {
    case "idle":
      return undefined;
    case "forgetting":
      return `forget ${[...out.shares].join()}`;
    case "offered":
      // A feed that is too long for a snapshot is not there for anybody.
      return feed === undefined ? undefined : `open ${out.share}`;
    case "snapshot":
      return out.manifestSent ? `snapshot ${out.job}/${out.nextPart}` : undefined;
    case "tail":
      if (feed === undefined || (acked?.epoch === feed.epoch && acked.seq >= feed.seq)) return undefined;
      return `ack ${out.share}/${acked?.epoch ?? 0}/${acked?.seq ?? 0}`;
  }
}
