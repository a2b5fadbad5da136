import { copyOf } from "#kernel/wire/bytes.ts";
import { ProtoReader, WireError } from "#kernel/wire/proto-reader.ts";
import { ProtoWriter } from "#kernel/wire/proto-writer.ts";
import type { StoredLog } from "../../log/engine.ts";
import { BFT_BOUNDS, type Proposal, type Vote } from "../frames.ts";
import { readOr, readProposal, readVote, writeProposal, writeVote } from "../record.ts";
import { persist, type Turn } from "../turn.ts";
import type { TimeoutStep, Verdict } from "./round-machine.ts";

/** JournalRecord is one thing that the height in progress has taken in, in order. Own votes and proposals are among them. */
export type JournalRecord =
  | { readonly kind: "vote"; readonly vote: Vote }
  | { readonly kind: "proposal"; readonly proposal: Proposal }
  | { readonly kind: "value"; readonly bytes: Uint8Array; readonly verdict: Verdict }
  | { readonly kind: "elapsed"; readonly step: TimeoutStep; readonly round: number };

const LOG = "bft.journal";
const VERDICTS: readonly Verdict[] = ["valid", "early", "invalid"];
const STEPS: readonly TimeoutStep[] = ["propose", "prevote", "precommit"];
const NEVER_LONGER = 2 ** 31;

/** journalBytes writes a record of a height (`JournalRecord` of the schema). */
export function journalBytes(height: number, record: JournalRecord): Uint8Array {
  const w = new ProtoWriter().uint(1, height);
  switch (record.kind) {
    case "vote":
      return w.message(2, (inner) => writeVote(inner, record.vote)).finish();
    case "proposal":
      return w.message(3, (inner) => writeProposal(inner, record.proposal)).finish();
    case "value":
      return w.message(4, (inner) => inner.bytes(1, record.bytes).uint(2, VERDICTS.indexOf(record.verdict) + 1)).finish();
    case "elapsed":
      return w.message(5, (inner) => inner.uint(1, STEPS.indexOf(record.step) + 1).uint(2, record.round)).finish();
  }
}

/** readJournal reads what journalBytes wrote; undefined for what it did not. */
export function readJournal(bytes: Uint8Array): { readonly height: number; readonly record: JournalRecord } | undefined {
  return readOr(() => {
    const r = new ProtoReader(bytes);
    let height = 0;
    let record: JournalRecord | undefined;
    for (let field = r.next(); field !== 0; field = r.next())
      if (field === 1) height = r.uint(BFT_BOUNDS.heights);
      else if (field === 2) record = { kind: "vote", vote: r.message(1024, readVote) };
      else if (field === 3) record = { kind: "proposal", proposal: r.message(1024, readProposal) };
      else if (field === 4) record = r.message(NEVER_LONGER, readValue);
      else if (field === 5) record = r.message(64, readElapsed);
      else r.unknown();
    if (record === undefined) throw new WireError("the record says nothing");
    return { height, record };
  });
}

function readValue(r: ProtoReader): JournalRecord {
  let bytes: Uint8Array = new Uint8Array(0);
  let verdict = 0;
  for (let field = r.next(); field !== 0; field = r.next())
    if (field === 1) bytes = copyOf(r.bytes(NEVER_LONGER));
    else if (field === 2) verdict = r.uint(VERDICTS.length);
    else r.unknown();
  return { kind: "value", bytes, verdict: VERDICTS[verdict - 1] ?? "invalid" };
}

function readElapsed(r: ProtoReader): JournalRecord {
  let [step, round] = [0, 0];
  for (let field = r.next(); field !== 0; field = r.next())
    if (field === 1) step = r.uint(STEPS.length);
    else if (field === 2) round = r.uint(BFT_BOUNDS.rounds);
    else r.unknown();
  return { kind: "elapsed", step: STEPS[step - 1] ?? "propose", round };
}

/**
 * Journal writes ahead what a height takes in: before anything follows from it. It is emptied with the decision. After a restart the same
 * records in the same order lead to the same state.
 */
export class Journal {
  readonly records: JournalRecord[] = [];
  #next = 1;

  /** `height` is the one in progress; what is left of others is of no use any more. */
  constructor(stored: StoredLog, height: number) {
    for (const { seq, bytes } of stored.read(LOG, 0)) {
      this.#next = seq + 1;
      const read = readJournal(bytes);
      if (read?.height === height) this.records.push(read.record);
    }
  }

  write(turn: Turn, height: number, record: JournalRecord): void {
    persist(turn, { op: "append", log: LOG, seq: this.#next++, bytes: journalBytes(height, record) });
  }

  /** clear forgets the height, in the transaction of its decision. */
  clear(turn: Turn): void {
    persist(turn, { op: "drop", log: LOG });
    this.#next = 1;
  }
}
