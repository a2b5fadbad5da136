import { Prng } from "#kernel/prng.ts";
import { hubOf, type Membership, type ReplicaId } from "../../../services/coordination/log/engine.ts";
import type { Cluster } from "./cluster.ts";
import type { Hub } from "./hub.ts";

/** By then a decision is on the disks of those that it is for, ms. */
const SETTLED_MS = 3_000;

type Change = Pick<Membership, "voters" | "learners">;

/** Operator changes who keeps the log and who leads it, and replaces what was lost. */
export class Operator<F> {
  readonly #cluster: Cluster<F>;
  readonly #prng: Prng;
  /** Changes whose outcome is not known: they may still come into force. */
  readonly #open = new Set<Change>();
  /** Hubs whose replica was a voter and is lost. */
  readonly #owed = new Set<string>();
  #busy = false;
  #mending = false;

  constructor(cluster: Cluster<F>) {
    this.#cluster = cluster;
    this.#prng = new Prng(cluster.options.seed ^ 0x0be7);
  }

  start(): void {
    const { faults } = this.#cluster.options;
    if (this.#cluster.subject.changes && (faults.has("members") || faults.has("transfer") || faults.has("wipe") || faults.has("restore")))
      this.#later();
  }

  /** mend is all that it does from now on: it replaces what was lost. */
  mend(): void {
    this.#mending = true;
    this.#busy = false;
    if (this.#cluster.subject.changes) this.#repairSoon();
  }

  /** mended tells whether the members that are in force all are there. */
  get mended(): boolean {
    return this.#cluster.invariants.canon.membership.outgoing.length === 0 && this.#repair() === undefined;
  }

  /** mayLose tells whether a replica may lose its disk without that anything is lost, whichever members are in force, anywhere. */
  mayLose(hub: Hub<F>): boolean {
    const { subject, invariants, hubs, scheduler } = this.#cluster;
    const believed = hubs.flatMap(({ up, process }) => (up && process !== undefined ? [process.membership] : []));
    const gone = (id: ReplicaId): boolean => id === hub.replica || !this.#cluster.intact(id);
    const bears = (ids: readonly ReplicaId[]): boolean =>
      ids.length === 0 || ids.filter((id) => !gone(id)).length >= subject.enough(ids.length);
    const inForce = [...invariants.canon.recent(scheduler.now - SETTLED_MS), ...believed];
    return (
      inForce.every(({ voters, outgoing }) => bears(voters) && bears(outgoing)) && [...this.#open].every(({ voters }) => bears(voters))
    );
  }

  #later(): void {
    const { operatorMs } = this.#cluster.options;
    this.#cluster.scheduler.after(operatorMs * (0.2 + 1.6 * this.#prng.unit()), () => {
      if (this.#mending) return;
      this.#turn();
      this.#later();
    });
  }

  #turn(): void {
    const { faults } = this.#cluster.options;
    if (faults.has("transfer") && this.#prng.chance(0.4)) this.#transfer();
    if (this.#busy && !(faults.has("members") && this.#prng.chance(0.3))) return;
    const change = this.#repair() ?? (faults.has("members") ? this.#draw() : undefined);
    // It never asks for members that could not decide.
    if (change !== undefined && !this.#viable(change)) return;
    if (change !== undefined) this.#ask(change, this.#target());
    // Another operator wants something else at the same time.
    if (change !== undefined && faults.has("members") && this.#prng.chance(0.2)) {
      const other = this.#draw();
      if (other !== undefined && this.#viable(other)) this.#ask(other, this.#prng.chance(0.5) ? this.#target() : this.#any());
    }
  }

  #viable({ voters }: Change): boolean {
    return voters.filter((id) => this.#cluster.intact(id)).length >= this.#cluster.subject.enough(voters.length);
  }

  #transfer(): void {
    const { voters } = this.#cluster.invariants.canon.membership;
    const to = this.#prng.chance(0.9) ? (voters[this.#prng.below(voters.length)] as ReplicaId) : this.#any().replica;
    this.#cluster.note(-1, "ask transfer", () => to);
    const hub = this.#target();
    this.#cluster.ask(hub, { kind: "transfer", to }, () => undefined);
    if (hub.process !== undefined) this.#cluster.onMoment(hub.process, "handover");
  }

  #target(): Hub<F> {
    const leader = this.#cluster.leader();
    return leader !== undefined && this.#prng.chance(0.85) ? leader : this.#any();
  }

  #any(): Hub<F> {
    return this.#cluster.hubs[this.#prng.below(this.#cluster.hubs.length)] as Hub<F>;
  }

  #repairSoon(): void {
    if (!this.#busy) {
      const change = this.#repair();
      if (change !== undefined) this.#ask(change, this.#target());
    }
    this.#cluster.scheduler.after(300, () => this.#repairSoon());
  }

  /**
   * repair is the next step by which the replica that a hub has now takes the seat of the one that it had: that one goes, the new one
   * learns, and then it votes. Undefined if all are there.
   */
  #repair(): Change | undefined {
    const { voters, learners, outgoing } = this.#cluster.invariants.canon.membership;
    if (outgoing.length > 0) return undefined;
    const here = (id: ReplicaId): boolean => this.#cluster.intact(id);
    for (const id of voters) if (!here(id)) this.#owed.add(hubOf(id));
    for (const id of voters) if (here(id)) this.#owed.delete(hubOf(id));
    const whole = [...voters, ...learners].every(here);
    // In a log that endures lies the new one takes the seat in the change in which the old one goes.
    const now = (id: ReplicaId): ReplicaId => this.#cluster.hubFor(id)?.replica ?? id;
    if (!whole && !this.#cluster.subject.oneLeader) return change(voters.map(now), learners.map(now));
    if (!whole) return change(voters.filter(here), learners.filter(here));
    const owed = this.#cluster.hubs.filter(({ hubId }) => this.#owed.has(hubId)).map(({ replica }) => replica);
    const strange = owed.filter((id) => !learners.includes(id));
    if (strange.length > 0) return change(voters, [...learners, ...strange]);
    const next = owed.slice(0, Math.max(0, Math.min(1, 7 - voters.length)));
    return next.length === 0
      ? undefined
      : change(
          [...voters, ...next],
          learners.filter((id) => !next.includes(id)),
        );
  }

  #draw(): Change | undefined {
    const { voters, learners, outgoing } = this.#cluster.invariants.canon.membership;
    if (outgoing.length > 0 && !this.#prng.chance(0.2)) return undefined;
    const outside = this.#cluster.hubs.filter(({ hubId }) => ![...voters, ...learners].some((id) => hubOf(id) === hubId));
    const newcomer = this.#fresh(outside[this.#prng.below(Math.max(1, outside.length))]);
    const victim = this.#victim(voters);
    if (victim === undefined) return undefined;
    const rest = voters.filter((id) => id !== victim);
    switch (this.#prng.below(6)) {
      case 0:
        return newcomer === undefined ? undefined : change(voters, [...learners, newcomer]);
      case 1:
        return newcomer === undefined || voters.length >= 7 ? undefined : change([...voters, newcomer], learners);
      case 2:
        return learners.length === 0 || voters.length >= 7 ? undefined : change([...voters, ...learners.slice(0, 1)], learners.slice(1));
      case 3:
        return rest.length < this.#cluster.subject.fewest ? undefined : change(rest, learners);
      case 4:
        return learners.length === 0 ? undefined : change([...rest, ...learners.slice(0, 1)], learners.slice(1));
      default:
        return rest.length < this.#cluster.subject.fewest ? undefined : change(rest, [...learners, victim]);
    }
  }

  /** victim is who is to go: the leader, one that cannot be reached, or any. */
  #victim(voters: readonly ReplicaId[]): ReplicaId | undefined {
    const leader = this.#cluster.leader();
    const any = voters[this.#prng.below(voters.length)];
    if (leader === undefined || !this.#prng.chance(0.7)) return any;
    if (voters.includes(leader.replica) && this.#prng.chance(0.5)) return leader.replica;
    const { network } = this.#cluster;
    return voters.find((id) => {
      const hub = this.#cluster.hubFor(id);
      return hub !== undefined && (!hub.up || hub.paused || network.isCut(leader.no, hub.no));
    });
  }

  /** fresh gives the replica of a hub that is to join: one that left begins anew under another incarnation. */
  #fresh(hub: Hub<F> | undefined): ReplicaId | undefined {
    if (hub === undefined) return undefined;
    const was = this.#cluster.invariants.canon.memberships.some(({ membership: { voters, outgoing, learners } }) =>
      [...voters, ...outgoing, ...learners].includes(hub.replica),
    );
    const wanted = [...this.#open].some(({ voters, learners }) => [...voters, ...learners].includes(hub.replica));
    if (!was || wanted) return hub.replica;
    if (!this.mayLose(hub)) return undefined;
    hub.rejoin(false);
    hub.start();
    return hub.replica;
  }

  #ask(wanted: Change, hub: Hub<F>): void {
    const { scheduler } = this.#cluster;
    this.#busy = true;
    this.#open.add(wanted);
    this.#cluster.note(-1, "ask change", () => `${hub.hubId}: ${wanted.voters.join(",")} | ${wanted.learners.join(",")}`);
    let open = true;
    const end = (): void => {
      if (open) this.#busy = false;
      open = false;
    };
    this.#cluster.ask(hub, { kind: "reconfigure", ...wanted }, (answer) => {
      this.#cluster.note(-1, `change ${answer.kind}`, () => (answer.kind === "refused" ? answer.reason : ""));
      const isRefused = answer.kind === "refused" && answer.reason !== "OUTCOME_UNKNOWN";
      if (answer.kind === "done" || isRefused) this.#open.delete(wanted);
      end();
    });
    scheduler.after(1_500, end);
  }
}

function change(voters: readonly ReplicaId[], learners: readonly ReplicaId[]): Change {
  return { voters: [...voters].sort(), learners: [...learners].sort() };
}
