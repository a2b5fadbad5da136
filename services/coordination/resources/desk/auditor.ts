import type { Rate } from "#kernel/bounds/token-bucket.ts";
import { TokenBuckets } from "#kernel/bounds/token-buckets.ts";
import type { Now } from "#kernel/instant.ts";
import type { Effect } from "../../messages.ts";
import { audit, type Reports } from "../audit.ts";
import type { ResourceBook } from "../book.ts";
import { REPORT_MAX } from "../rules.ts";
import type { LendingFrame, LendingReport } from "./asks.ts";

/** How long reports of other hubs are waited for, ms. */
const WAIT_MS = 2_000;

/** An audit begins so long after the one before, ms: every member makes a report for it, and all that is lent is gone through. */
const GAP_MS = 1_000;

/** Reports that one member gets: an honest one asks once in GAP_MS. */
const REPORTS: Rate = { perSecond: 2, burst: 8 };

/** AuditorGround is what the auditor looks at. */
export interface AuditorGround {
  readonly hubId: string;
  readonly book: ResourceBook;
  readonly own: () => LendingReport;
  /** Members, this hub among them. */
  readonly peers: () => readonly string[];
  readonly inContact: (hubId: string) => boolean;
}

interface Audit {
  readonly id: number;
  readonly calls: readonly number[];
  readonly endsAt: number;
  readonly awaited: Set<string>;
  readonly reports: Map<string, LendingReport>;
}

/**
 * Auditor compares the book with what every hub that can be reached says of itself (RB12); who does not answer is named.
 *
 * AU1 one audit is under way at a time, and who asks meanwhile gets the answer of the next one: many callers cost no more than one.
 */
export class Auditor {
  readonly #ground: AuditorGround;
  /** Calls that wait for the next audit. */
  #waiting: number[] = [];
  #audit: Audit | undefined;
  #nextAt = Number.NEGATIVE_INFINITY;
  #last = 0;
  readonly #rates = new TokenBuckets();

  constructor(ground: AuditorGround) {
    this.#ground = ground;
  }

  /** begin has the next audit answer a call too. */
  begin(now: Now, call: number, out: Effect[]): void {
    this.#waiting.push(call);
    this.#next(now, out);
  }

  frame(now: Now, peer: string, frame: LendingFrame, out: Effect[]): void {
    if (frame.kind === "report_ask") return this.#report(now, peer, frame.id, out);
    if (this.#audit?.id !== frame.id || !this.#audit.awaited.delete(peer)) return;
    this.#audit.reports.set(peer, frame);
    if (this.#audit.awaited.size === 0) this.#finish(this.#audit, out);
  }

  tick(now: Now, out: Effect[]): void {
    if (this.#audit !== undefined && now.mono >= this.#audit.endsAt) this.#finish(this.#audit, out);
    this.#next(now, out);
  }

  deadline(): number | undefined {
    return this.#audit?.endsAt ?? (this.#waiting.length === 0 ? undefined : this.#nextAt);
  }

  #next({ mono }: Now, out: Effect[]): void {
    if (this.#audit !== undefined || this.#waiting.length === 0 || mono < this.#nextAt) return;
    const { hubId, peers, inContact, own } = this.#ground;
    this.#nextAt = mono + GAP_MS;
    const id = ++this.#last;
    const awaited = new Set(peers().filter((peer) => peer !== hubId && inContact(peer)));
    this.#audit = { id, calls: this.#waiting, endsAt: mono + WAIT_MS, awaited, reports: new Map([[hubId, own()]]) };
    this.#waiting = [];
    for (const peer of awaited)
      out.push({ kind: "send", peer, early: false, frame: { kind: "lending", frame: { kind: "report_ask", id } } });
    if (awaited.size === 0) this.#finish(this.#audit, out);
  }

  #report({ mono }: Now, peer: string, id: number, out: Effect[]): void {
    if (this.#rates.take(peer, REPORTS, mono) > 0) return;
    const { runs, uses } = this.#ground.own();
    const report = { kind: "report", id, runs: runs.slice(0, REPORT_MAX), uses: uses.slice(0, REPORT_MAX) } as const;
    out.push({ kind: "send", peer, early: false, frame: { kind: "lending", frame: report } });
  }

  #finish({ calls, reports }: Audit, out: Effect[]): void {
    this.#audit = undefined;
    const asked = [...reports.keys()].sort();
    const silent = this.#ground.peers().filter((peer) => !reports.has(peer));
    const said: Reports = {
      executors: new Map([...reports].map(([hub, { runs }]) => [hub, [...runs]])),
      borrowers: new Map([...reports].map(([hub, { uses }]) => [hub, [...uses]])),
    };
    const findings = audit(this.#ground.book.dump(), said);
    for (const call of calls) out.push({ kind: "lent", call, answer: { kind: "audit", findings, asked, silent } });
  }
}
