import { assert } from "#kernel/assert.ts";
import type { Committed, ReplicaId } from "../../log/engine.ts";
import { AGE_UNKNOWN, type Append } from "../frames.ts";
import type { Replica } from "../state/replica.ts";

/** takeAppend does at a follower what the leader of its term says. What it answers waits until all that it stored is durable. */
export function takeAppend(r: Replica, from: ReplicaId, frame: Append): void {
  const { prevIndex, prevTerm, probe } = frame;
  const { term } = r;
  r.isLeased = frame.lease;
  const known = r.log.termAt(prevIndex);
  if (prevIndex >= r.log.base && known !== prevTerm) {
    // Below the commit index no two leaders differ: if they do, nothing here can be believed any more.
    assert(prevIndex > r.commit, "another history than the decided one was sent: this replica stops", { prevIndex, commit: r.commit });
    const hint = r.log.mayAgree(prevIndex, prevTerm);
    r.send(from, { type: "append_answer", term, ok: false, index: prevIndex, hintIndex: hint.index, hintTerm: hint.term, probe });
    return;
  }
  const match = prevIndex + frame.entries.length;
  const fresh = newIn(r, frame.entries);
  const commit = Math.max(r.commit, Math.min(frame.commit, match));
  const problem = problemOf(r, fresh, commit);
  if (problem !== undefined) return r.observe(problem, from, fresh[0]?.index);
  r.append(fresh, commit);
  r.commitTo(commit);
  if (frame.ageMs !== AGE_UNKNOWN && r.commit >= frame.commit) r.freshAt = Math.max(r.freshAt ?? 0, r.now.mono - frame.ageMs);
  r.send(from, { type: "append_answer", term, ok: true, index: match, hintIndex: 0, hintTerm: 0, probe });
}

/** newIn gives the entries from the first one on that is not here. What is here and the same is never cut (zoo 18). */
function newIn(r: Replica, entries: readonly Committed[]): readonly Committed[] {
  const at = entries.findIndex(({ index, term }) => index > r.log.base && r.log.termAt(index) !== term);
  return at < 0 ? [] : entries.slice(at);
}

/** problemOf tells why entries are not taken, whoever sent them; undefined if they are. */
function problemOf(r: Replica, entries: readonly Committed[], commit: number): string | undefined {
  const first = entries[0];
  if (first === undefined) return undefined;
  const time = r.log.timeAt(first.index - 1);
  if (time === undefined || first.time < time) return "append_time_refused";
  const { check } = r.options;
  let pending = r.members.pending !== undefined && r.members.pending.index < first.index && r.members.pending.index > commit ? 1 : 0;
  for (const entry of entries) {
    if (entry.membership !== undefined && entry.index > commit) pending++;
    for (const payload of entry.payloads) if (check?.(payload) !== undefined) return "payload_refused";
  }
  // A second change is written when the first one is committed, and who gets it is told so (RD1).
  return pending > 1 ? "change_refused" : undefined;
}
