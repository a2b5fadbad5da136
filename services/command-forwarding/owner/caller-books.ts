import type { Now } from "#kernel/instant.ts";
import type { Parts } from "../caller/caller.ts";
import { keptBytes } from "../journal/records.ts";
import type { InvocationsFrame } from "../messages.ts";
import { unknown } from "./results.ts";
import { CallerBook, type CallerEpoch, RUN, type Run } from "./run.ts";

/** CallerBooks is what the owner keeps for callers' hubs: outcomes until they are acknowledged, and which names are finished (OW3, OW4, OW8). */
export class CallerBooks {
  readonly #p: Parts;
  readonly callers = new Map<string, CallerBook>();
  /** Callers' epochs with a floor that is not logged. */
  readonly #floors = new Set<CallerEpoch>();

  constructor(parts: Parts) {
    this.#p = parts;
  }

  /** peerUp tells a caller's hub what came late while it was away. */
  peerUp(hubId: string): void {
    for (const caller of this.callers.get(hubId)?.epochs.values() ?? [])
      for (const run of caller.runs.values())
        if (run.late && run.result !== undefined) this.#p.outbox.answer(caller, run.seq, run.result, true, run.trace);
  }

  /** log writes floors that moved by age: after a restart those names must still not be run. */
  log(): void {
    for (const caller of this.#floors) this.#p.journal.add(caller);
    this.#floors.clear();
  }

  /** newest is the highest journal epoch that we know of a caller's hub. */
  newest(hubId: string): number {
    return this.callers.get(hubId)?.newest() ?? 0;
  }

  /** find is a run by its name, while it or its outcome is kept. */
  find(hubId: string, epoch: number, seq: number): Run | undefined {
    return this.callers.get(hubId)?.epochs.get(epoch)?.runs.get(seq);
  }

  /** recover takes over a run from before a restart (OW2). */
  recover(now: Now, run: Run): void {
    const caller = run.origin as CallerEpoch;
    const known = caller.runs.get(run.seq);
    if (known === undefined) caller.book.kept++;
    else this.#p.journal.drop(known);
    caller.book.keptBytes -= known?.bytes ?? 0;
    run.bytes = run.result === undefined ? 0 : keptBytes(run.result);
    caller.book.keptBytes += run.bytes;
    if (known !== undefined) this.#p.deadlines.remove(known);
    caller.runs.set(run.seq, run);
    caller.maxSeen = Math.max(caller.maxSeen, run.seq);
    run.state = RUN.DONE;
    this.#p.deadlines.add(run, now.mono + run.keepMs);
  }

  /** finishRecovery gives every INTENT without an outcome its outcome: UNKNOWN. It answers those runs. */
  finishRecovery(): Run[] {
    const all = [...this.callers.values()].flatMap((book) => [...book.epochs.values()].flatMap((caller) => [...caller.runs.values()]));
    const unfinished = all.filter(({ result }) => result === undefined);
    for (const run of unfinished) {
      run.result = unknown("the hub stopped after it was started");
      this.#p.journal.add(run);
    }
    return unfinished;
  }

  /** book is that of a caller's hub, made when it is first asked for. */
  book(hubId: string): CallerBook {
    let book = this.callers.get(hubId);
    if (book === undefined) this.callers.set(hubId, (book = new CallerBook(hubId)));
    return book;
  }

  /** acks takes what a caller's hub says that it needs no longer. */
  acks(caller: CallerEpoch, frame: InvocationsFrame): void {
    for (const seq of caller.settle(frame.acks)) this.#acked(caller, seq);
    if (frame.ackedBelow <= caller.floor) return;
    caller.floor = frame.ackedBelow;
    caller.settled.below(caller.floor);
    for (const seq of caller.runs.keys()) {
      if (seq >= caller.floor) break;
      this.#acked(caller, seq);
    }
  }

  #acked(caller: CallerEpoch, seq: number): void {
    const run = caller.runs.get(seq);
    if (run === undefined) return;
    if (run.state === RUN.DONE) this.forget(caller, run);
    else run.forgotten = true;
  }

  /** forget drops an outcome. */
  forget(caller: CallerEpoch, run: Run): void {
    if (!caller.runs.delete(run.seq)) return;
    caller.book.kept--;
    caller.book.keptBytes -= run.bytes;
    this.#p.deadlines.remove(run);
    this.#p.journal.drop(run);
  }

  /** age drops an outcome that its caller can no longer ask for; the floor makes sure that it never runs again (OW4). */
  age(run: Run): void {
    const caller = run.origin as CallerEpoch;
    this.forget(caller, run);
    caller.floor = Math.max(caller.floor, run.seq + 1);
    caller.settled.below(caller.floor);
    this.#floors.add(caller);
    this.forgetEpochs(caller.book);
  }

  /** forgetEpochs drops epochs of a caller that are over, and those that are too many (OW8). */
  forgetEpochs(book: CallerBook): void {
    if (book.epochs.size < 2) return;
    const newest = book.newest();
    for (const caller of [...book.epochs.values()].sort((a, b) => a.epoch - b.epoch)) {
      if (caller.epoch === newest) return;
      if (caller.runs.size > 0) {
        if (book.epochs.size <= this.#p.settings.epochsPerCaller) return;
        this.#abandonEpoch(caller);
      }
      book.epochs.delete(caller.epoch);
      book.epochFloor = Math.max(book.epochFloor, caller.epoch + 1);
      this.#p.journal.drop(caller);
      this.#floors.delete(caller);
      this.#floors.add(book.epoch(newest));
    }
  }

  /** abandonEpoch keeps outcomes of an epoch no longer: only a hub that began a great many epochs since can miss them (OW8). */
  #abandonEpoch(caller: CallerEpoch): void {
    for (const run of [...caller.runs.values()]) {
      if (run.state === RUN.DONE) this.forget(caller, run);
      else run.forgotten = true;
    }
  }
}
