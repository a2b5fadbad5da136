import type { Now } from "#kernel/instant.ts";
import type { Effect } from "../messages.ts";
import { levelName } from "./evidence.ts";
import { decisionOf, NEVER, type Peer } from "./peer.ts";
import type { PeerTable } from "./peer-table.ts";
import { report } from "./report-event.ts";

/** decideTrust weighs what is known of a peer now. A change of its level is an event with one sentence (DI2). */
export function decideTrust(table: PeerTable, now: Now, peer: Peer, out: Effect[]): void {
  const next = decisionOf(peer, now.wall, table.config);
  const before = peer.decision;
  peer.decision = next;
  peer.lapsesAt = lapsesAt(now, peer, table.config.verificationPeriodMs);
  if (next.level === before.level) return;
  table.touch(peer.hubId);
  const severity = next.level < before.level ? "WARNING" : "INFO";
  const fields = { from: levelName(before.level), to: levelName(next.level) };
  report(out, peer.hubId, "TRUST_DECIDED", severity, `trust in ${peer.hubId} is ${next.sentence}`, fields);
}

/** lapsesAt is when the handshake stops counting as evidence. */
function lapsesAt(now: Now, peer: Peer, verificationPeriodMs: number): number {
  const at = peer.record.certificateAtWall + verificationPeriodMs;
  return peer.record.certificateAtWall === 0 || at <= now.wall ? NEVER : now.mono + (at - now.wall);
}
