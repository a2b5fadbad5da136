// What happens to the hubs while clients use them, drawn from a seed.
import { create } from "@bufbuild/protobuf";
import { systemClock } from "#channel/clock.ts";
import { BallotVote } from "#gen/foedus/coordination/v1alpha1/ballots_pb.ts";
import {
  AdmitMemberRequestSchema,
  CastVoteRequestSchema,
  FederationState,
  JoinFederationRequestSchema,
  LeaveFederationRequestSchema,
  TransferLeadershipRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import type { Prng } from "#kernel/prng.ts";
import { sleep } from "#runtime/clock.ts";
import { statusOf } from "../support/deciding.ts";
import type { Federation, HubProcess } from "../support/federation.ts";
import { until } from "../support/until.ts";
import type { Star } from "./net.ts";

/** FAULTS are the kinds, in the order in which the help names them. */
export const FAULTS = ["kill", "pause", "part", "transfer", "member"] as const;
export type Fault = (typeof FAULTS)[number];

/** Longest that a fault lasts, and the shortest, ms; the quiet between two has half of that. */
const LONGEST_MS = 3_500;
const SHORTEST_MS = 300;
const CALL = { timeoutMs: 4_000 } as const;

/** NemesisOptions say what it may do. */
export interface NemesisOptions {
  readonly federation: Federation;
  readonly federationId: string;
  readonly hubs: readonly HubProcess[];
  /** Without it there are no partitions. */
  readonly star: Star | undefined;
  readonly prng: Prng;
  readonly faults: readonly Fault[];
}

/** Nemesis does one thing after the other, and takes back each before the next. */
export class Nemesis {
  readonly #o: NemesisOptions;
  /** What it did, for people, with the time since it began in ms. */
  readonly deeds: { readonly at: number; readonly deed: string }[] = [];
  readonly #began = systemClock.mono();

  constructor(options: NemesisOptions) {
    this.#o = options;
  }

  /** run acts until `end` (mono ms); everything is taken back by then. */
  async run(end: number): Promise<void> {
    const { prng, faults } = this.#o;
    while (systemClock.mono() < end) {
      const fault = faults[prng.below(faults.length)]!;
      await this.#do(fault, SHORTEST_MS + prng.below(LONGEST_MS - SHORTEST_MS));
      await sleep(systemClock, (SHORTEST_MS + prng.below(LONGEST_MS - SHORTEST_MS)) / 2);
    }
  }

  #do(fault: Fault, forMs: number): Promise<void> {
    switch (fault) {
      case "kill":
        return this.#kill(forMs);
      case "pause":
        return this.#pause(forMs);
      case "part":
        return this.#part(forMs);
      case "transfer":
        return this.#transfer();
      case "member":
        return this.#leave(forMs);
    }
  }

  #note(deed: string): void {
    this.deeds.push({ at: Math.round(systemClock.mono() - this.#began), deed });
  }

  /** some are one or two of the hubs, whether that leaves a majority or not. */
  #some(): HubProcess[] {
    const { prng, hubs } = this.#o;
    const first = prng.below(hubs.length);
    const second = prng.below(hubs.length);
    return prng.chance(0.3) && second !== first ? [hubs[first]!, hubs[second]!] : [hubs[first]!];
  }

  async #kill(forMs: number): Promise<void> {
    const killed = this.#some();
    this.#note(`kill ${names(killed)}`);
    await Promise.all(killed.map((hub) => hub.end("SIGKILL")));
    await sleep(systemClock, forMs);
    for (const hub of killed) await hub.start();
    this.#note(`started ${names(killed)}`);
  }

  async #pause(forMs: number): Promise<void> {
    const paused = this.#some();
    const pids = paused.flatMap((hub) => [...hub.pids.values()]);
    this.#note(`pause ${names(paused)}`);
    for (const pid of pids) process.kill(pid, "SIGSTOP");
    try {
      await sleep(systemClock, forMs);
    } finally {
      for (const pid of pids) process.kill(pid, "SIGCONT");
      this.#note(`went on ${names(paused)}`);
    }
  }

  async #part(forMs: number): Promise<void> {
    const { star, prng, hubs } = this.#o;
    if (star === undefined) return;
    const order = hubs.map((_, index) => ({ index, key: prng.unit() })).sort((a, b) => a.key - b.key);
    const shuffled = order.map(({ index }) => index);
    if (prng.chance(0.25)) {
      this.#note(`deafen ${hubs[shuffled[0]!]!.id}`);
      star.deafen(shuffled[0]!);
    } else {
      const cut = 1 + prng.below(hubs.length - 1);
      const groups = [shuffled.slice(0, cut), shuffled.slice(cut)];
      this.#note(`part ${groups.map((group) => names(group.map((index) => hubs[index]!))).join(" from ")}`);
      star.part(groups);
    }
    await sleep(systemClock, forMs);
    star.heal();
    this.#note("healed");
  }

  /** transfer asks a hub to hand leadership over; that it cannot is no fault. */
  async #transfer(): Promise<void> {
    const { prng, hubs } = this.#o;
    const to = hubs[prng.below(hubs.length)]!.id;
    this.#note(`transfer to ${to}`);
    await this.#ask(hubs[prng.below(hubs.length)]!, async ({ coordination }) => {
      const { leader } = await statusOf({ coordination });
      const asked = hubs.find(({ id }) => id === leader);
      if (asked === undefined || leader === to) return;
      const request = create(TransferLeadershipRequestSchema, { toHubId: to });
      await this.#ask(asked, async (at) => void (await at.coordination.transferLeadership(request, CALL)));
    });
  }

  /** leave has a hub leave the federation and come back through another one, as another replica. */
  async #leave(forMs: number): Promise<void> {
    const { hubs, prng, federationId } = this.#o;
    const leaver = hubs[prng.below(hubs.length)]!;
    this.#note(`${leaver.id} leaves`);
    const leave = create(LeaveFederationRequestSchema, { federationId });
    await this.#ask(leaver, async ({ coordination }) => void (await coordination.leaveFederation(leave, CALL)));
    await sleep(systemClock, forMs);
    // A call that failed may have been carried out.
    await this.#comeBack(leaver);
  }

  async #comeBack(leaver: HubProcess): Promise<void> {
    const { federationId } = this.#o;
    const admit = create(AdmitMemberRequestSchema, { hubId: leaver.id });
    let ballotId = "";
    await until(
      `${leaver.id} coming back`,
      async () => {
        const { state, leader } = await this.#status(leaver);
        if (state === FederationState.MEMBER && leader !== "") return true;
        const sponsor = await this.#member(leaver);
        if (sponsor === undefined) return false;
        const join = create(JoinFederationRequestSchema, { federationId, via: sponsor.id });
        await this.#ask(leaver, async ({ coordination }) => void (await coordination.joinFederation(join, CALL)));
        // Who was a founder, left and came back lets nobody in by its own word: then the others vote.
        if (ballotId === "")
          await this.#ask(sponsor, async ({ coordination }) => void ({ ballotId } = await coordination.admitMember(admit, CALL)));
        else if (!(await this.#approve(ballotId, leaver))) ballotId = "";
        await sleep(systemClock, 200);
        return false;
      },
      60_000,
    );
    this.#note(`${leaver.id} is back`);
  }

  /** member is another hub that is a member. */
  async #member(leaver: HubProcess): Promise<HubProcess | undefined> {
    for (const hub of this.#o.hubs)
      if (hub !== leaver && (await this.#status(hub).catch(() => undefined))?.state === FederationState.MEMBER) return hub;
    return undefined;
  }

  /** approve has all others vote for a ballot; false once it is no more open, and has not brought the hub in. */
  async #approve(ballotId: string, leaver: HubProcess): Promise<boolean> {
    const request = create(CastVoteRequestSchema, { ballotId, vote: BallotVote.APPROVE });
    let any = false;
    for (const hub of this.#o.hubs)
      if (hub !== leaver)
        any = (await this.#ask(hub, async ({ coordination }) => void (await coordination.castVote(request, CALL)))) || any;
    return any;
  }

  async #status(hub: HubProcess) {
    const clients = hub.clients();
    try {
      return await statusOf(clients);
    } finally {
      clients.close();
    }
  }

  /** ask calls a hub; false if that failed, which it may. */
  async #ask(hub: HubProcess, call: (clients: ReturnType<HubProcess["clients"]>) => Promise<void>): Promise<boolean> {
    const clients = hub.clients();
    try {
      await call(clients);
      return true;
    } catch {
      return false;
    } finally {
      clients.close();
    }
  }
}

function names(hubs: readonly HubProcess[]): string {
  return hubs.map(({ id }) => id).join(" and ");
}
