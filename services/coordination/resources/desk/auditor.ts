import type { Now } from "#kernel/instant.ts";
import type { Effect } from "../../messages.ts";
import { audit, type Reports } from "../audit.ts";
import type { ResourceBook } from "../book.ts";
import { REPORT_MAX } from "../rules.ts";
import type { LendingFrame, LendingReport } from "./asks.ts";

/** How long reports of other hubs are waited for, ms. */
const WAIT_MS = 2_000;

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
  readonly call: number;
  readonly endsAt: number;
  readonly awaited: Set<string>;
  readonly reports: Map<string, LendingReport>;
}

/** Auditor compares the book with what every hub that can be reached says of itself (RB12); who does not answer is named. */
export class Auditor {
  readonly #ground: AuditorGround;
  readonly #audits = new Map<number, Audit>();
  #last = 0;

  constructor(ground: AuditorGround) {
    this.#ground = ground;
  }

  begin(now: Now, call: number, out: Effect[]): void {
    const { hubId, peers, inContact, own } = this.#ground;
    const id = ++this.#last;
    const awaited = new Set(peers().filter((peer) => peer !== hubId && inContact(peer)));
    this.#audits.set(id, { call, endsAt: now.mono + WAIT_MS, awaited, reports: new Map([[hubId, own()]]) });
    for (const peer of awaited)
      out.push({ kind: "send", peer, early: false, frame: { kind: "lending", frame: { kind: "report_ask", id } } });
    if (awaited.size === 0) this.#finish(id, out);
  }

  frame(_now: Now, peer: string, frame: LendingFrame, out: Effect[]): void {
    if (frame.kind === "report_ask") {
      const { runs, uses } = this.#ground.own();
      const report = { kind: "report", id: frame.id, runs: runs.slice(0, REPORT_MAX), uses: uses.slice(0, REPORT_MAX) } as const;
      return void out.push({ kind: "send", peer, early: false, frame: { kind: "lending", frame: report } });
    }
    const one = this.#audits.get(frame.id);
    if (one?.awaited.delete(peer) !== true) return;
    one.reports.set(peer, frame);
    if (one.awaited.size === 0) this.#finish(frame.id, out);
  }

  tick(now: Now, out: Effect[]): void {
    for (const [id, { endsAt }] of this.#audits) if (now.mono >= endsAt) this.#finish(id, out);
  }

  deadline(): number | undefined {
    return this.#audits.size === 0 ? undefined : Math.min(...[...this.#audits.values()].map(({ endsAt }) => endsAt));
  }

  #finish(id: number, out: Effect[]): void {
    const { call, reports } = this.#audits.get(id)!;
    this.#audits.delete(id);
    const asked = [...reports.keys()].sort();
    const silent = this.#ground.peers().filter((peer) => !reports.has(peer));
    const said: Reports = {
      executors: new Map([...reports].map(([hub, { runs }]) => [hub, [...runs]])),
      borrowers: new Map([...reports].map(([hub, { uses }]) => [hub, [...uses]])),
    };
    const findings = audit(this.#ground.book.dump(), said);
    out.push({ kind: "lent", call, answer: { kind: "audit", findings, asked, silent } });
  }
}
