import type { LogInstant } from "../../services/coordination/log/book.ts";
import { type Amounts, ceilingOf, covers, fits, minus, NOTHING, plus } from "../../services/coordination/resources/amounts.ts";
import { audit, type Finding } from "../../services/coordination/resources/audit.ts";
import {
  DEFAULT_POLICY,
  type LeaseView,
  type Policy,
  type ResourceCommand,
  type ResourceNews,
} from "../../services/coordination/resources/commands.ts";
import { matches } from "../../services/coordination/resources/kinds.ts";
import type { OfferData, RequestData, ResourceDump } from "../../services/coordination/resources/lending/dump.ts";
import { costOf } from "../../services/coordination/resources/lending/ledger.ts";
import { RULES } from "../../services/coordination/resources/rules.ts";
import type { Hub, World } from "./world.ts";

/** Violation says which of the twelve rules of lending was broken, and how. */
export class Violation extends Error {
  readonly rule: number;

  constructor(rule: number, message: string) {
    super(`rule ${rule}: ${message}`);
    this.rule = rule;
  }
}

/** Checker looks after every step whether the twelve rules hold. What it knows it has from commands, news and what really runs. */
export class Checker {
  readonly #world: World;
  readonly #policies = new Map<string, Policy>();
  readonly #fences = new Map<string, number>();
  readonly #reserved = new Map<number, number>();
  readonly #over = new Map<number, string>();
  readonly #inForce = new Map<number, { fence: number; live: boolean }>();
  #before: ResourceDump | undefined;
  #newest: LeaseView | undefined;
  steps = 0;
  refusals = 0;

  constructor(world: World) {
    this.#world = world;
  }

  before(): void {
    this.#before = this.#world.book.dump();
  }

  refused(): void {
    this.refusals++;
    this.alike(this.#before as ResourceDump, this.#world.book.dump());
  }

  alike(a: ResourceDump, b: ResourceDump): void {
    if (JSON.stringify(a) !== JSON.stringify(b)) throw new Violation(0, `two books differ\n${JSON.stringify(a)}\n${JSON.stringify(b)}`);
  }

  /** news looks at what became known by one step of the log. */
  news(at: LogInstant, news: readonly ResourceNews[], author: string | undefined, command: ResourceCommand | undefined): void {
    if (command?.kind === "policy") this.#policies.set(author as string, command.policy);
    if (command?.kind === "stopped" && author !== undefined) this.#stoppedBy(author, command.leases);
    for (const one of news) {
      if (one.kind === "request" && one.request.state === "over" && one.request.lease > 0)
        this.#over.set(one.request.lease, one.request.why);
      if (one.kind === "lease") this.#lease(at, one, author, command);
    }
    const noticed = news.flatMap((one) =>
      one.kind === "lease" && one.what === "noticed" && one.lease.notice === "preempted" ? [one.lease] : [],
    );
    for (const lease of noticed) this.#victim(at, lease);
  }

  #stoppedBy(author: string, leases: readonly number[]): void {
    const { running } = this.#world.hub(author);
    const runs = leases.find((lease) => running.has(lease));
    if (runs !== undefined) throw new Violation(11, `${author} says that lease ${runs} has stopped, and it runs`);
  }

  #lease(
    at: LogInstant,
    news: Extract<ResourceNews, { kind: "lease" }>,
    author: string | undefined,
    command: ResourceCommand | undefined,
  ): void {
    const { what, lease } = news;
    const resource = `${lease.owner}/${lease.name}`;
    switch (what) {
      case "reserved": {
        this.#reserved.set(lease.lease, at.time);
        this.#newest = lease;
        const owner = this.#before?.hubs.find(({ hub }) => hub === lease.owner);
        if (owner?.absent === true && author !== undefined) throw new Violation(11, `${lease.owner} is away, and ${resource} was lent`);
        break;
      }
      case "live": {
        const since = this.#reserved.get(lease.lease);
        if (since === undefined || at.time > since + RULES.reserveMs)
          throw new Violation(5, `lease ${lease.lease} began ${since === undefined ? "without" : "long after"} a reservation`);
        const over = this.#over.get(lease.lease);
        if (over !== undefined) throw new Violation(7, `lease ${lease.lease} began, though ${over}`);
        const offer = this.#before?.offers.find((data) => data.owner === lease.owner && data.offer.name === lease.name);
        if (offer?.withdrawn !== false || this.#world.withdrawn.has(resource))
          throw new Violation(7, `lease ${lease.lease} began, though ${resource} was withdrawn`);
        this.#fence(resource, lease);
        break;
      }
      case "refenced":
        this.#fence(resource, lease);
        break;
      case "ended": {
        this.#inForce.set(lease.lease, { fence: lease.fence, live: false });
        break;
      }
      case "freed":
        this.#freed(lease, author, command);
    }
  }

  #fence(resource: string, lease: LeaseView): void {
    if (lease.fence <= (this.#fences.get(resource) ?? 0)) throw new Violation(3, `${resource} has fence ${lease.fence} after a higher one`);
    this.#fences.set(resource, lease.fence);
    this.#inForce.set(lease.lease, { fence: lease.fence, live: true });
  }

  /** A unit is free: nobody uses it, nothing runs under it, and its owner said so. */
  #freed(lease: LeaseView, author: string | undefined, command: ResourceCommand | undefined): void {
    const owner = this.#world.hub(lease.owner);
    // What a hub that left the federation had lent is lent to nobody else.
    if (owner.removed) return;
    if (author !== lease.owner || command?.kind !== "stopped")
      throw new Violation(11, `lease ${lease.lease} of ${lease.owner} is free, and its owner did not say that it has stopped`);
    for (const hub of this.#world.hubs)
      for (const used of hub.using.values())
        if (used.lease === lease.lease) throw new Violation(4, `${hub.id} uses lease ${lease.lease}, whose units are free for others`);
  }

  #victim(at: LogInstant, lease: LeaseView): void {
    const before = this.#before as ResourceDump;
    const was = before.leases.find(({ view }) => view.lease === lease.lease);
    if (was === undefined) return;
    if (lease.endsAt < Math.min(at.time + RULES.graceMs, was.view.endsAt)) throw new Violation(9, `lease ${lease.lease} has no grace`);
    const offer = before.offers.find((data) => data.owner === lease.owner && data.offer.name === lease.name);
    const quota = offer?.quotas.find(({ borrower }) => borrower === lease.borrower);
    const own = before.leases.filter(
      ({ view }) => view.borrower === lease.borrower && view.owner === lease.owner && view.name === lease.name,
    );
    const total = own.reduce((sum, { view }) => plus(sum, view.amounts), minus(lease.amounts, lease.amounts));
    const nominal = this.#world.quotas.get(`${lease.owner}/${lease.name} ${lease.borrower}`) ?? quota?.nominal;
    if (nominal !== undefined && covers(nominal, total))
      throw new Violation(8, `lease ${lease.lease} is within a nominal quota, and a victim`);
  }

  /** admitted is called when an executor let somebody in. */
  admitted(hub: Hub, lease: number, fence: number): void {
    const inForce = this.#inForce.get(lease);
    const heard = this.#world.heard(hub, lease);
    if (inForce === undefined || fence > inForce.fence)
      throw new Violation(3, `${hub.id} let fence ${fence} of lease ${lease} in, which was not given`);
    // News may be on their way to the owner; what it has heard counts.
    if (heard && (fence !== inForce.fence || !inForce.live))
      throw new Violation(3, `${hub.id} let fence ${fence} of lease ${lease} in; in force is ${inForce.live ? inForce.fence : "none"}`);
  }

  /** afterStep looks at the whole state. */
  afterStep(at: LogInstant): void {
    this.steps++;
    const dump = this.#world.book.dump();
    this.#capacity(dump);
    for (const finding of audit(dump, { executors: new Map(), borrowers: new Map() }))
      throw new Violation(ruleOf(finding), finding.message);
    for (const { view } of dump.leases)
      if (view.state === "live" && view.endsAt < at.time)
        throw new Violation(6, `lease ${view.lease} was to end at ${view.endsAt}, and it is ${at.time}`);
    for (const hub of this.#world.hubs) this.#agents(hub);
    this.#nominalFirst(dump);
  }

  #capacity({ offers, leases }: ResourceDump): void {
    for (const { owner, offer } of offers) {
      const ceiling = ceilingOf(offer.capacity, (this.#policies.get(owner) ?? DEFAULT_POLICY).maxUtilization);
      const own = leases.filter(({ view }) => view.owner === owner && view.name === offer.name);
      const used = own.reduce((sum, { view }) => plus(sum, view.amounts), minus(ceiling, ceiling));
      if (!covers(ceiling, used)) throw new Violation(1, `${owner}/${offer.name} has ${used} lent of ${ceiling}`);
    }
  }

  /** An agent works for one lease at a time. */
  #agents(hub: Hub): void {
    const busy = new Map<string, number>();
    for (const [lease, { agents }] of hub.running)
      for (const agent of agents) {
        const other = busy.get(agent);
        if (other !== undefined) throw new Violation(2, `agent ${agent} of ${hub.id} works for leases ${other} and ${lease}`);
        busy.set(agent, lease);
      }
  }

  /** Nobody within a nominal quota waits while there is room, or was when somebody else was given it, whatever the shares. */
  #nominalFirst(dump: ResourceDump): void {
    const newest = this.#newest;
    this.#newest = undefined;
    for (const request of dump.requests) {
      if (request.state !== "waiting") continue;
      for (const data of dump.offers) {
        const resource = `${data.owner}/${data.offer.name}`;
        if (!this.#mayHave(dump, data, request)) continue;
        const here = leasesOf(dump, resource);
        const policy = dump.hubs.find(({ hub }) => hub === data.owner)?.policy ?? DEFAULT_POLICY;
        const ceiling = ceilingOf(data.offer.capacity, policy.maxUtilization);
        const used = sumOf(here);
        // Of several within their quotas, one goes before another: then there is less room.
        const others = dump.requests.some((other) => other.state === "waiting" && other !== request && other.claim === resource);
        if (!others && fits(ceiling, used, request.command.amounts))
          throw new Violation(8, `${request.borrower} waits for ${resource} with room for it, within its nominal quota`);
        if (newest === undefined || `${newest.owner}/${newest.name}` !== resource || newest.borrower === request.borrower) continue;
        const had = sumOf(here.filter(({ borrower }) => borrower === newest.borrower));
        if (covers(this.#nominal(data, newest.borrower), had)) continue;
        if (fits(ceiling, minus(used, newest.amounts), request.command.amounts))
          throw new Violation(8, `${newest.borrower} was given ${resource}, for which ${request.borrower} waits within its nominal quota`);
      }
    }
  }

  #nominal({ owner, offer, quotas }: OfferData, borrower: string): Amounts {
    const quota = quotas.find((data) => data.borrower === borrower);
    return this.#world.quotas.get(`${owner}/${offer.name} ${borrower}`) ?? quota?.nominal ?? NOTHING;
  }

  /** Nothing but room keeps a request from an offer of which it is within the nominal quota. */
  #mayHave(dump: ResourceDump, data: OfferData, { command, borrower }: RequestData): boolean {
    const { owner, offer, withdrawn, quotas } = data;
    if (withdrawn || owner === borrower || !offer.automatic || !matches(offer.what, command.want, command.durationMs)) return false;
    if ((command.owner !== "" && command.owner !== owner) || (command.name !== "" && command.name !== offer.name)) return false;
    if (costOf(offer.prices, command.amounts, command.durationMs) > command.maxCostMicro) return false;
    const hub = dump.hubs.find((item) => item.hub === owner);
    const policy = hub?.policy ?? DEFAULT_POLICY;
    if (hub?.absent === true || command.durationMs > policy.maxDurationMs) return false;
    const own = sumOf(leasesOf(dump, `${owner}/${offer.name}`).filter((view) => view.borrower === borrower));
    const agents = dump.leases
      .filter(({ view }) => view.owner === owner && view.borrower === borrower)
      .reduce((sum, { view }) => sum + view.amounts[0]!, 0);
    const quota = quotas.find((item) => item.borrower === borrower);
    if (agents + command.amounts[0]! > policy.maxAgents || (quota !== undefined && !fits(quota.limit, own, command.amounts))) return false;
    return covers(this.#nominal(data, borrower), plus(own, command.amounts));
  }
}

function leasesOf(dump: ResourceDump, resource: string): LeaseView[] {
  return dump.leases.map(({ view }) => view).filter((view) => `${view.owner}/${view.name}` === resource);
}

function sumOf(leases: readonly LeaseView[]): Amounts {
  return leases.reduce((sum, { amounts }) => plus(sum, amounts), NOTHING);
}

function ruleOf({ kind }: Finding): number {
  return kind === "overlent" ? 1 : kind === "shared_unit" ? 2 : kind === "accounts" ? 10 : 12;
}
