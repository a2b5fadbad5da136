import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import type { ReplicaId } from "./engine.ts";
import type { ReplicaEffect, ReplicaFrame } from "./replica-messages.ts";

/** A question that was not answered is asked again after this, ms: it, or its answer, may be lost. */
const AGAIN_MS = 500;

/** A peer has leadership handed over at most this often by one leader, ms. */
const PEER_MS = 5_000;

/** Own requests that wait; more are refused. */
const WAITING_MAX = 64;

/** Wanted is a request of this hub: another one is to lead. */
interface Wanted {
  readonly to: string;
  readonly end: number;
  /** The question under way, and who was asked; 0 before the first. */
  id: number;
  asked: string;
  askAt: number;
}

/** Remote is a peer's request that this hub, who leads, carries out. */
interface Remote {
  readonly peer: string;
  readonly id: number;
  readonly to: string;
}

type Frame<K extends ReplicaFrame<never>["kind"]> = Extract<ReplicaFrame<never>, { readonly kind: K }>;

/** HandoverOptions are what a hub's handovers work with. */
export interface HandoverOptions {
  /** This hub. */
  readonly hubId: string;
  /** A request of this hub waits so long, ms. */
  readonly patienceMs: number;
  /** newId draws a number for a question or a call; none twice, none 0. */
  readonly newId: () => number;
  /** replicaOf is the replica of a member; undefined of a hub that is none. */
  readonly replicaOf: (hubId: string) => ReplicaId | undefined;
  /** transfer has the engine hand leadership over; what becomes of it comes back to `over`. */
  readonly transfer: (now: Now, call: number, to: ReplicaId) => void;
}

/**
 * Handovers brings the wish that another hub leads to whoever leads, and takes such wishes of others.
 *
 * HO1 a wish is fulfilled when this hub itself sees that the other one leads, whoever says so before.
 * HO2 it is refused by the word of the hub that was asked last alone, or when its time is over: OUTCOME_UNKNOWN if anyone was asked.
 * HO3 a peer has one wish at a time here, and one fulfilled in `PEER_MS`: leadership does not go round because one hub asks on and on.
 */
export class Handovers {
  readonly #o: HandoverOptions;
  readonly #wanted = new Map<number, Wanted>();
  /** Peers' wishes under way, by the engine's call. */
  readonly #remote = new Map<number, Remote>();
  /** When a peer's wish was last fulfilled here, mono ms. */
  readonly #taken = new Map<string, number>();

  constructor(options: HandoverOptions) {
    this.#o = options;
  }

  /** want has another hub lead; `call` is answered by `done` or `refused`. */
  want<F>(now: Now, call: number, to: string, leader: string | undefined, out: ReplicaEffect<F>[]): void {
    if (this.#wanted.size >= WAITING_MAX) {
      const message = "too many requests that another hub leads wait here; look who leads, and try again";
      return void out.push({ kind: "refused", call, failure: { reason: "OVERLOADED", message } });
    }
    this.#wanted.set(call, { to, end: now.mono + this.#o.patienceMs, id: 0, asked: "", askAt: now.mono });
    this.turn(now, leader, out);
  }

  cancel(call: number): void {
    this.#wanted.delete(call);
  }

  /** turn ends what is fulfilled or has waited too long, and asks whoever leads where that is due. */
  turn<F>(now: Now, leader: string | undefined, out: ReplicaEffect<F>[]): void {
    for (const [call, wanted] of this.#wanted) {
      if (wanted.to === leader) {
        this.#wanted.delete(call);
        out.push({ kind: "done", call });
      } else if (wanted.end <= now.mono || leader === this.#o.hubId) {
        this.#wanted.delete(call);
        out.push({ kind: "refused", call, failure: leader === this.#o.hubId ? LEADS_ITSELF : lateFailure(wanted) });
      } else if (leader !== undefined && (leader !== wanted.asked || wanted.askAt <= now.mono)) {
        wanted.id = this.#o.newId();
        wanted.asked = leader;
        wanted.askAt = now.mono + AGAIN_MS;
        out.push({ kind: "send", peer: leader, frame: { kind: "lead_ask", id: wanted.id, to: wanted.to }, early: true });
      } else if (wanted.askAt <= now.mono) {
        // Nobody is known to lead; whoever comes to is asked at once.
        wanted.askAt = now.mono + AGAIN_MS;
      }
    }
  }

  /** answered takes an answer; one of a hub that was not asked is nothing. That it is done is seen by who leads (HO1). */
  answered<F>(now: Now, peer: string, { id, failure }: Frame<"lead_answer">, out: ReplicaEffect<F>[]): void {
    const found = [...this.#wanted].find(([, wanted]) => wanted.id === id && wanted.asked === peer && id !== 0);
    if (found === undefined) return void out.push({ kind: "observe", what: "stray_frame" });
    const [call, wanted] = found;
    if (failure === undefined) return;
    // Who does not lead any more has nothing to refuse: whoever does is asked next.
    if (failure.reason === "NOT_LEADER" || failure.reason === "NO_QUORUM") {
      wanted.askAt = now.mono + AGAIN_MS;
      return;
    }
    this.#wanted.delete(call);
    const message = `${peer}, which leads, says: ${failure.message.slice(0, 512)}`;
    out.push({ kind: "refused", call, failure: { reason: failure.reason, message } });
  }

  /** asked takes a peer's wish, and gives it to the engine, which knows whether that can be, and whether this hub leads; or refuses it (HO3). */
  asked<F>(now: Now, peer: string, { id, to }: Frame<"lead_ask">, out: ReplicaEffect<F>[]): void {
    const open = [...this.#remote].find(([, remote]) => remote.peer === peer);
    if (open !== undefined && open[1].to === to) return void this.#remote.set(open[0], { peer, id, to });
    const waitMs = (this.#taken.get(peer) ?? Number.NEGATIVE_INFINITY) + PEER_MS - now.mono;
    const replica = this.#o.replicaOf(to);
    const failure = replica === undefined ? noMember(to) : open !== undefined || waitMs > 0 ? tooOften(peer, waitMs) : undefined;
    if (failure !== undefined || replica === undefined)
      return void out.push({ kind: "send", peer, frame: { kind: "lead_answer", id, failure }, early: true });
    const call = this.#o.newId();
    this.#remote.set(call, { peer, id, to });
    this.#o.transfer(now, call, replica);
  }

  /** over takes that the engine is done with a call; one that is no peer's is nothing here. Only what it carried out counts (HO3). */
  over<F>(now: Now, call: number, failure: Failure | undefined, out: ReplicaEffect<F>[]): void {
    const remote = this.#remote.get(call);
    if (remote === undefined) return;
    this.#remote.delete(call);
    for (const [peer, at] of this.#taken) if (at + PEER_MS <= now.mono) this.#taken.delete(peer);
    if (failure === undefined) this.#taken.set(remote.peer, now.mono);
    out.push({ kind: "send", peer: remote.peer, frame: { kind: "lead_answer", id: remote.id, failure }, early: true });
  }

  deadline(): number | undefined {
    let least = Number.POSITIVE_INFINITY;
    for (const { end, askAt } of this.#wanted.values()) least = Math.min(least, end, askAt);
    return least === Number.POSITIVE_INFINITY ? undefined : least;
  }

  describe(): string {
    return `handovers=${this.#wanted.size} remote=${this.#remote.size}`;
  }
}

const LEADS_ITSELF: Failure = { reason: "OVERLOADED", message: "this hub has come to lead itself meanwhile: try again" };

function lateFailure({ asked, to }: Wanted): Failure {
  return asked === ""
    ? { reason: "NO_QUORUM", message: "no leader is known at the moment: a majority of the voters must reach each other; try again" }
    : { reason: "OUTCOME_UNKNOWN", message: `${to} does not lead yet, and may soon: look who does before it is tried again` };
}

function tooOften(peer: string, waitMs: number): Failure {
  const when = waitMs > 0 ? `in ${Math.ceil(waitMs / 1_000)} s` : "when that is over";
  return {
    reason: "OVERLOADED",
    message: `hub ${peer} had leadership handed over a moment ago, or is having it: look who leads, and try again ${when}`,
  };
}

function noMember(hubId: string): Failure {
  return { reason: "PEER_NOT_FOUND", message: `hub ${hubId} is no member`, field: "to_hub_id" };
}
