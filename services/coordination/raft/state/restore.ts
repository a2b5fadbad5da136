import { AssertionFailure, assert } from "#kernel/assert.ts";
import { StoredError } from "#kernel/wire/stored-json.ts";
import type { Committed, StoredLog } from "../../log/engine.ts";
import type { RaftOptions } from "../config.ts";
import { count, type Incoming, incomingOf } from "../follow/snapshot-receiver.ts";
import { membershipProblem } from "../frames.ts";
import { LogView } from "./log-view.ts";
import { Members, NOBODY } from "./members.ts";
import { COMMIT, HARD, MANIFEST, Pen, partKey, SNAPSHOT, type StoreNames, storeNames } from "./pen.ts";
import { parseManifest, readCommit, readEntry, readHard, readStoredManifest } from "./record.ts";
import type { Restored } from "./replica.ts";
import { partLength, type Snapshot, SnapshotBox, sameBytes } from "./snapshot-box.ts";

/**
 * restore reads what a replica stored. A store that contradicts itself is told by an AssertionFailure, and nothing of it is guessed: not
 * written by this replica, entries with gaps, terms above the stored one, a snapshot with a part that is missing or another one.
 *
 * What is committed after a start:
 * RS1 at least the snapshot, the stored hint, and every membership but the newest of the log: its entry is written only when the one before
 *    is committed (RD1). So a membership that was in force when the newest one was written is in force again.
 */
export function restore(options: RaftOptions, stored: StoredLog): Restored & { readonly incoming: Incoming | undefined } {
  try {
    return read(options, stored, storeNames(options.name ?? "raft"));
  } catch (error) {
    if (!(error instanceof StoredError)) throw error;
    throw new AssertionFailure(`the stored log is damaged: ${error.message}`, { record: error.record });
  }
}

function read(options: RaftOptions, stored: StoredLog, names: StoreNames): Restored & { readonly incoming: Incoming | undefined } {
  const hardBytes = stored.get(names.space, HARD);
  const hard = hardBytes === undefined ? undefined : readHard(`${names.space}/${HARD}`, hardBytes);
  assert(hard === undefined || hard.replica === options.self, "the stored log is that of another replica", {
    stored: hard?.replica,
    self: options.self,
  });
  const snapshot = readSnapshot(options, stored, names) ?? (hard === undefined ? founding(options) : undefined);
  const entries = [...readEntries(stored, names)];
  assert(hard !== undefined || entries.length === 0, "there are entries, and no term", { entries: entries.length });
  const term = hard?.term ?? 0;
  assert((entries.at(-1)?.term ?? 0) <= term && (snapshot?.manifest.term ?? 0) <= term, "the log is of a later term than the stored one", {
    term,
  });
  const log = logOf(entries, snapshot);
  const at = snapshot?.manifest.index ?? 0;
  const members = new Members({ index: at, membership: snapshot?.manifest.membership ?? NOBODY });
  let [settled, newest] = [at, at];
  for (const { index, membership } of log.range(at + 1, log.last)) {
    if (membership === undefined) continue;
    members.note(index, membership);
    [settled, newest] = [newest, index];
  }
  const hintBytes = stored.get(names.space, COMMIT);
  const hint = hintBytes === undefined ? 0 : readCommit(`${names.space}/${COMMIT}`, hintBytes);
  assert(hint <= log.last, "the commit index lies beyond the end of the log", { hint, last: log.last });
  const commit = Math.max(at, hint, settled);
  members.commit(commit);
  const box = new SnapshotBox(snapshot);
  const pen = new Pen(names, hint);
  const incoming = readIncoming(options, stored, names, commit);
  return { term, vote: hard?.vote, commit, log, members, box, pen, freshFrom: log.last, empty: hard === undefined, incoming };
}

/** founding is the snapshot of nothing, with which the founders of a log begin. */
function founding({ bootstrap, tuning }: RaftOptions): Snapshot | undefined {
  if (bootstrap === undefined) return undefined;
  const problem = membershipProblem(bootstrap);
  assert(problem === undefined, `no log can begin with this membership: ${problem}`);
  const partBytes = tuning?.partBytes ?? 1;
  return { manifest: { sender: "", index: 0, term: 0, time: 0, membership: bootstrap, length: 0, partBytes, digests: [] }, parts: [] };
}

function readSnapshot({ crypto }: RaftOptions, stored: StoredLog, names: StoreNames): Snapshot | undefined {
  const record = `${names.space}/${SNAPSHOT}`;
  const bytes = stored.get(names.space, SNAPSHOT);
  if (bytes === undefined) return undefined;
  const manifest = readStoredManifest(record, bytes);
  const parts = manifest.digests.map((digest, part) => {
    const found = stored.get(names.parts, partKey(part));
    assert(found !== undefined, "a part of the snapshot is missing", { part, index: manifest.index });
    assert(
      found.length === partLength(manifest, part) && sameBytes(crypto.hash(found), digest),
      "a part of the snapshot is not what was written",
      {
        part,
        index: manifest.index,
      },
    );
    return found;
  });
  return { manifest, parts };
}

function* readEntries(stored: StoredLog, names: StoreNames): Iterable<Committed> {
  let before: Committed | undefined;
  for (const { seq, bytes } of stored.read(names.log, 0)) {
    const entry = readEntry(`${names.log}/${seq}`, bytes);
    assert(entry.index === seq && seq > 0, "an entry stands at another position than its own", { seq, index: entry.index });
    assert(before === undefined || seq === before.index + 1, "the log has a gap", { from: before?.index, to: seq });
    assert(before === undefined || (entry.term >= before.term && entry.time >= before.time), "terms or times of the log go back", { seq });
    before = entry;
    yield entry;
  }
}

/** logOf puts the entries after what they stand on: the beginning, the snapshot, or the first of them, which was kept for that. */
function logOf(entries: readonly Committed[], snapshot: Snapshot | undefined): LogView {
  const base = snapshot?.manifest ?? { index: 0, term: 0, time: 0 };
  const first = entries[0];
  if (first === undefined || first.index === base.index + 1) return filled(new LogView(base), entries);
  assert(first.index <= base.index, "entries between the snapshot and the log are missing", { snapshot: base.index, first: first.index });
  const log =
    first.index === 1 ? filled(new LogView({ index: 0, term: 0, time: 0 }), entries) : filled(new LogView(first), entries.slice(1));
  assert(log.last >= base.index, "the log ends before the snapshot", { last: log.last, snapshot: base.index });
  assert(log.termAt(base.index) === base.term, "the log is another one than that of the snapshot", { snapshot: base.index });
  return log;
}

function filled(log: LogView, entries: readonly Committed[]): LogView {
  for (const entry of entries) log.append(entry);
  return log;
}

/** readIncoming goes on with a snapshot that was coming in. What of it cannot be used is fetched again. */
function readIncoming({ crypto }: RaftOptions, stored: StoredLog, names: StoreNames, commit: number): Incoming | undefined {
  const bytes = stored.get(names.incoming, MANIFEST);
  const manifest = bytes === undefined ? undefined : parseManifest(bytes);
  if (bytes === undefined || manifest === undefined || manifest.index <= commit) return undefined;
  const incoming = incomingOf(manifest, bytes);
  manifest.digests.forEach((digest, part) => {
    const found = stored.get(names.incoming, partKey(part));
    if (found?.length === partLength(manifest, part) && sameBytes(crypto.hash(found), digest)) incoming.parts[part] = found;
  });
  count(incoming);
  return incoming;
}
