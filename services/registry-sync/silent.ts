import type { OwnFeed } from "./feed.ts";
import type { PeerSession } from "./session.ts";
import { failure, type World } from "./world.ts";

/** A peer that owes an answer twice in a row, so long apart, and has not moved in between, takes nothing. */
export const SILENT_MS = 60_000;

/**
 * lookForSilence says when a peer, although its link stands, neither asks for what it is offered nor acknowledges what it is sent, and when
 * it does again. It looks at each session once a minute, so that nothing is done for it per segment.
 */
export function lookForSilence(world: World, session: PeerSession, feed: OwnFeed | undefined): void {
  const { mono } = world.now;
  if (session.lookAt > mono) return;
  session.lookAt = mono + SILENT_MS;
  const debt = debtOf(session, feed, mono);
  const silent = debt !== undefined && debt === session.debt;
  session.debt = debt;
  if (silent === session.silent) return;
  session.silent = silent;
  session.trouble.unanswered(
    silent ? failure("DEADLINE_EXPIRED", "it has neither asked for the feed nor acknowledged any of it for a minute") : undefined,
  );
  if (silent) world.event("feed", "WARNING", "a peer takes nothing of what it is sent", { hub: session.peer, share: feed?.share ?? "" });
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
