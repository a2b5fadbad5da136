import type { ReplicaId } from "../../log/engine.ts";
import type { Replica } from "../state/replica.ts";
import type { Replication } from "./replication.ts";

interface Handover {
  readonly call: number;
  readonly to: ReplicaId;
  readonly dueAt: number;
  /** The term in which it was asked for. */
  readonly term: number;
  told: boolean;
}

/**
 * Transfer gives leadership to another voter.
 *
 * RW1 only to a voter that has answered lately and is not behind by more than what is on its way; it is told when it has everything, and
 *    nothing is proposed meanwhile (zoo 19).
 * RW2 it is over when that voter leads, when another one does, or when its time is; then this leader goes on.
 */
export class Transfer {
  readonly #r: Replica;
  #handover: Handover | undefined;
  /** The newest term in which somebody was told to take over. */
  #toldIn = 0;

  constructor(r: Replica) {
    this.#r = r;
  }

  get dueAt(): number {
    return this.#handover?.dueAt ?? Number.POSITIVE_INFINITY;
  }

  /** to is who is to lead; undefined if no transfer is under way. */
  get to(): ReplicaId | undefined {
    return this.#handover?.to;
  }

  /** mayLease is false while a transfer is under way, and for the rest of a term in which another was told to take over. */
  get mayLease(): boolean {
    return this.#handover === undefined && this.#toldIn !== this.#r.term;
  }

  begin(call: number, to: ReplicaId, replication: Replication): void {
    const r = this.#r;
    if (this.#handover !== undefined) return r.refuse(call, "OVERLOADED", `leadership is on its way to ${this.#handover.to}: wait for it`);
    if (to === r.self) {
      r.out.push({ kind: "done", call });
      return;
    }
    if (!r.membership.voters.includes(to)) return r.refuse(call, "INVALID_FIELD", `${to} is not a voter: only a voter leads`);
    const peer = replication.peers.get(to);
    if (peer?.state !== "replicate" || r.now.mono - peer.heardAt > r.tuning.electionMs)
      return r.refuse(call, "PEER_UNREACHABLE", `${to} has not caught up, or is not heard: wait until it is before it is to lead`);
    this.#handover = { call, to, dueAt: r.now.mono + r.tuning.transferMs, term: r.term, told: false };
    this.onAnswer(replication);
  }

  /** onAnswer tells the other one as soon as it has everything. */
  onAnswer(replication: Replication): void {
    const handover = this.#handover;
    if (handover !== undefined && !handover.told && replication.peers.get(handover.to)?.match === this.#r.log.last) this.#tell(handover);
  }

  /** beat says it again, in case that it was lost. */
  beat(): void {
    if (this.#handover?.told === true) this.#tell(this.#handover);
  }

  /** settle ends a transfer when it is known who leads, or that its time is over. */
  settle(): void {
    const handover = this.#handover;
    const r = this.#r;
    if (handover === undefined) return;
    const { call, to, term, dueAt } = handover;
    const isOver = r.now.mono >= dueAt;
    if (!isOver && (r.term === term || r.leader === undefined) && r.membership.voters.includes(to)) return;
    this.#handover = undefined;
    if (r.leader === to) r.out.push({ kind: "done", call });
    else r.refuse(call, "OUTCOME_UNKNOWN", `${to} does not lead: look who does before it is tried again`);
  }

  #tell(handover: Handover): void {
    handover.told = true;
    this.#toldIn = this.#r.term;
    this.#r.send(handover.to, { type: "transfer_now", term: this.#r.term });
  }
}
