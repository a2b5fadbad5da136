import { type Amounts, add, amountsText, ceilingOf, covers, DIMENSIONS } from "./amounts.ts";
import type { LeaseBorrower } from "./borrower.ts";
import { DEFAULT_POLICY, type LeaseView } from "./commands.ts";
import type { LeaseExecutor } from "./executor.ts";
import type { OfferData, ResourceDump } from "./lending/dump.ts";
import { REPORT_MAX } from "./rules.ts";

/** AUDIT_KINDS are what can be wrong: with the book itself, with who runs what, and with who uses what. */
export const AUDIT_KINDS = ["overlent", "shared_unit", "accounts", "orphan", "stuck", "fence", "unheld", "used_after_end"] as const;

/** Finding is one contradiction, as a sentence that says what to do. */
export interface Finding {
  readonly kind: (typeof AUDIT_KINDS)[number];
  readonly hub: string;
  /** 0 if it is of no lease. */
  readonly lease: number;
  readonly message: string;
}

/** Reports are what executors and borrowers say, by hub; a hub that could not be asked is left out. */
export interface Reports {
  readonly executors: ReadonlyMap<string, ReturnType<LeaseExecutor["report"]>>;
  readonly borrowers: ReadonlyMap<string, ReturnType<LeaseBorrower["report"]>>;
}

/** FINDINGS_MAX is how many findings of one hub are given: what a hub says of itself may be anything, and must not hide what is found elsewhere. */
export const FINDINGS_MAX = 64;

/**
 * audit compares the book with what runs and with what is used (RB12), for `foedus resources audit`. What is on its way when the reports are
 * made may be found as well: what is found twice, some seconds apart, is real.
 */
export function audit(book: ResourceDump, { executors, borrowers }: Reports): Finding[] {
  const leases = new Map(book.leases.map(({ view }) => [view.lease, view]));
  return bounded([
    ...units(book),
    ...accounts(book),
    ...[...executors].flatMap(([hub, report]) => runs(hub, report, leases)),
    ...[...borrowers].flatMap(([hub, report]) => uses(hub, report, leases)),
    ...absent(book.leases, executors, borrowers),
  ]);
}

/** bounded sorts findings, and leaves out those of a hub that are too many; the last one left says how many. */
function bounded(found: readonly Finding[]): Finding[] {
  const sorted = [...found].sort((a, b) => (a.hub === b.hub ? a.lease - b.lease : a.hub < b.hub ? -1 : 1));
  return [...Map.groupBy(sorted, ({ hub }) => hub)].flatMap(([hub, own]) => {
    const [further] = own.slice(FINDINGS_MAX);
    if (further === undefined) return own;
    const message = `${own.length - FINDINGS_MAX} further findings of ${hub} are left out; see to these first, and audit again`;
    return [...own.slice(0, FINDINGS_MAX), { ...further, lease: 0, message }];
  });
}

function units({ hubs, offers, leases }: ResourceDump): Finding[] {
  const policies = new Map(hubs.map(({ hub, policy }) => [hub, policy]));
  const used = new Map<string, number[]>(offers.map((data) => [keyOf(data), DIMENSIONS.map(() => 0)]));
  const holders = new Map<string, number>();
  const found: Finding[] = [];
  for (const { view } of leases) {
    const key = `${view.owner}/${view.name}`;
    const sum = used.get(key);
    if (sum === undefined) found.push(finding("overlent", view.owner, view.lease, `lease ${view.lease} is of ${key}, which nobody offers`));
    else add(sum, view.amounts);
    for (const agent of view.agents) {
      const other = holders.get(`${key} ${agent}`);
      if (other !== undefined)
        found.push(
          finding("shared_unit", view.owner, view.lease, `agent ${agent} of ${key} is in leases ${other} and ${view.lease}; stop one`),
        );
      holders.set(`${key} ${agent}`, view.lease);
    }
  }
  for (const data of offers) {
    const ceiling = ceilingOf(data.offer.capacity, (policies.get(data.owner) ?? DEFAULT_POLICY).maxUtilization);
    const sum = used.get(keyOf(data)) as Amounts;
    if (!covers(ceiling, sum))
      found.push(
        finding("overlent", data.owner, 0, `${keyOf(data)} has ${amountsText(sum)} lent of ${amountsText(ceiling)}; reclaim leases`),
      );
  }
  return found;
}

function keyOf({ owner, offer }: OfferData): string {
  return `${owner}/${offer.name}`;
}

function finding(kind: Finding["kind"], hub: string, lease: number, message: string): Finding {
  return { kind, hub, lease, message };
}

function accounts({ balances, escrow, writtenOff, leases }: ResourceDump): Finding[] {
  const sum = balances.reduce((all, { micro }) => all + micro, escrow + writtenOff);
  const held = leases.reduce((all, { view }) => all + (view.state === "ended" ? 0 : view.costMicro), 0);
  return [
    ...(sum === 0 ? [] : [finding("accounts", "", 0, `all accounts together are ${sum} instead of nothing; report it, this is a bug`)]),
    ...(held === escrow ? [] : [finding("accounts", "", 0, `${escrow} is in escrow for leases of ${held}; report it, this is a bug`)]),
  ];
}

function runs(hub: string, report: ReturnType<LeaseExecutor["report"]>, leases: ReadonlyMap<number, LeaseView>): Finding[] {
  return report.flatMap(({ lease, fence, ran }) => {
    const view = leases.get(lease);
    if (view === undefined || view.owner !== hub)
      return ran
        ? [finding("orphan", hub, lease, `something runs at ${hub} for lease ${lease}, which it did not lend; stop it there`)]
        : [];
    if (view.state === "live" && view.fence !== fence)
      return [
        finding(
          "fence",
          hub,
          lease,
          `${hub} has fence ${fence} for lease ${lease}, the book ${view.fence}; let ${hub} read the book again`,
        ),
      ];
    return [];
  });
}

function uses(hub: string, report: ReturnType<LeaseBorrower["report"]>, leases: ReadonlyMap<number, LeaseView>): Finding[] {
  return report.flatMap(({ lease, fence, usable }) => {
    if (!usable) return [];
    const view = leases.get(lease);
    if (view === undefined || view.borrower !== hub || view.state !== "live")
      return [finding("used_after_end", hub, lease, `${hub} uses lease ${lease}, which it has not any more; stop it there`)];
    if (view.fence === fence) return [];
    return [
      finding("fence", hub, lease, `${hub} uses lease ${lease} by fence ${fence} instead of ${view.fence}; let it read the book again`),
    ];
  });
}

/** absent finds leases that their owner or borrower knows nothing of: nobody would end them, or use them. */
function absent(leases: ResourceDump["leases"], executors: Reports["executors"], borrowers: Reports["borrowers"]): Finding[] {
  const ran = new Map([...executors].map(([hub, report]) => [hub, new Set(report.map(({ lease }) => lease))]));
  const held = new Map([...borrowers].map(([hub, report]) => [hub, new Set(report.map(({ id }) => id))]));
  // A report that is full has left something out, which is not missing.
  const isWhole = (report: readonly unknown[] | undefined): boolean => report !== undefined && report.length !== REPORT_MAX;
  return leases.flatMap(({ view: { lease, owner, borrower, state, id } }) => {
    if (state === "reserved") return [];
    const found: Finding[] = [];
    if (isWhole(executors.get(owner)) && !ran.get(owner)?.has(lease))
      found.push(
        finding(
          "stuck",
          owner,
          lease,
          `${owner} does not know lease ${lease}, so it never says that it stopped; let it read the book again`,
        ),
      );
    if (state === "live" && isWhole(borrowers.get(borrower)) && !held.get(borrower)?.has(id))
      found.push(finding("unheld", borrower, lease, `${borrower} does not know lease ${lease} of ${owner}; release it`));
    return found;
  });
}
