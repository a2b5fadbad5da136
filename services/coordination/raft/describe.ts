import type { Membership, ReplicaId } from "../log/engine.ts";
import type { Replication } from "./lead/replication.ts";
import type { Replica } from "./state/replica.ts";

function showMembership({ voters, outgoing, learners }: Membership): string {
  const joint = outgoing.length === 0 ? "" : ` outgoing=${outgoing.join(",")}`;
  return `voters=${voters.join(",") || "-"}${joint}${learners.length === 0 ? "" : ` learners=${learners.join(",")}`}`;
}

/** describeReplica draws a replica as stable, readable text. */
export function describeReplica(
  r: Replica,
  replication: Replication | undefined,
  transfer: ReplicaId | undefined,
  incoming: string | undefined,
): string {
  const { role, term, vote, leader, commit, log, box, members } = r;
  const lines = [
    `${r.self} ${role} term=${term} vote=${vote ?? "-"} leader=${leader ?? "-"} commit=${commit} log=${log.base}+${log.last - log.base} last=${log.last}@${log.lastTerm} snapshot=${box.index}`,
    showMembership(members.active),
  ];
  if (members.pending !== undefined) lines.push(`pending at ${members.pending.index}: ${showMembership(members.pending.membership)}`);
  if (transfer !== undefined) lines.push(`transfer to ${transfer}`);
  if (incoming !== undefined) lines.push(`incoming snapshot ${incoming}`);
  for (const [id, { state, match, next, inFlight, paused }] of replication?.peers ?? [])
    lines.push(`${id} ${state} match=${match} next=${next} flying=${inFlight}${paused ? " paused" : ""}`);
  return lines.join("\n");
}
