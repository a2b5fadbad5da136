import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import { moved } from "../messages.ts";
import type { GateState, Seen } from "./saga.ts";

/** GateLimits bound what waits at a gate while its agent is frozen. */
export interface GateLimits {
  readonly commands: number;
  readonly bytes: number;
  /** Longest time that a command waits, ms. */
  readonly waitMs: number;
}

/** GATE_LIMITS hold unless configuration says otherwise. */
export const GATE_LIMITS: GateLimits = { commands: 1_024, bytes: 4 * 1024 * 1024, waitMs: 5_000 };

interface Waiting<T> {
  readonly command: T;
  readonly bytes: number;
  readonly since: number;
}

/** Passed is what became of commands: those that run, with the fence of their effects, and those that are answered with a failure. */
export interface Passed<T> {
  readonly run: readonly T[];
  readonly fence: number;
  readonly refused: readonly { readonly command: T; readonly failure: Failure }[];
}

/**
 * AgentGate stands before one agent of this hub. Whatever is done to the agent, or by it, passes with the fence of the gate, which
 * executors, the registry and mounts compare with the one that they know.
 *
 * MA1 a command passes only while the gate is open.
 * MA2 it opens after a start of the process only by a linearizable read: this hub owns the agent with this fence, and no TRANSFER of
 *    it stands undecided in the log.
 * MA3 what waits is bounded in number, bytes and time, keeps its order, and is answered AGENT_FROZEN beyond that.
 * MA4 it closes when the log says that its hub was removed.
 * MA5 once the agent has moved, every command is answered MOVED with its hub; the gate of that fence never opens again.
 */
export class AgentGate<T> {
  readonly agent: string;
  readonly #hubId: string;
  readonly #limits: GateLimits;
  readonly #waiting: Waiting<T>[] = [];
  #bytes = 0;
  #state: GateState = "closed";
  /** A saga has closed it: what is read of the log does not open it. */
  #frozen = false;
  #known = false;
  #fence: number;
  /** Where the agent is, and with which fence, once it has moved. */
  #hub: string;
  #fenceThere = 0;

  constructor(hubId: string, agent: string, fence: number, limits: GateLimits = GATE_LIMITS) {
    this.#hubId = hubId;
    this.#hub = hubId;
    this.agent = agent;
    this.#fence = fence;
    this.#limits = limits;
  }

  /** state tells whether commands run, wait, or are sent on. */
  get state(): GateState {
    return this.#state;
  }

  /** fence of every effect of the agent here. */
  get fence(): number {
    return this.#fence;
  }

  /** offer is a command that came: it runs, waits, or is refused. */
  offer(now: Now, command: T, bytes: number): "run" | "wait" | Failure {
    if (this.#state === "open") return "run";
    if (this.#state === "moved") return this.#movedFailure();
    if (this.#waiting.length >= this.#limits.commands || this.#bytes + bytes > this.#limits.bytes) return this.#frozenFailure();
    this.#waiting.push({ command, bytes, since: now.mono });
    this.#bytes += bytes;
    return "wait";
  }

  /** set is told by a saga. A gate of an older fence than `fence` becomes one of that fence. */
  set(state: GateState, fence: number, hub: string): Passed<T> {
    if (fence < this.#fence || (this.#state === "moved" && fence === this.#fence)) return this.#nothing();
    this.#fence = fence;
    this.#hub = hub;
    this.#fenceThere = fence + 1;
    this.#known = true;
    this.#frozen = state === "closed";
    return this.#become(state);
  }

  /** look is told what the log says (MA2). */
  look(seen: Seen): Passed<T> {
    const { agent, migration, linear } = seen;
    if (linear) this.#known = true;
    if (agent === undefined || agent.fence < this.#fence || !this.#known) return this.#nothing();
    if (agent.owner !== this.#hubId) {
      this.#hub = agent.owner;
      this.#fenceThere = agent.fence;
      return this.#become("moved");
    }
    if (this.#state === "moved") return this.#nothing();
    if (agent.lost) return this.#become("closed");
    // A higher fence of our own is for a saga that starts the agent, not for a copy from before.
    if (agent.fence !== this.#fence || this.#frozen) return this.#nothing();
    if (!linear) return this.#nothing();
    const undecided = migration?.status === "open" && migration.step === "TRANSFER" && migration.from === this.#hubId;
    return undecided ? this.#nothing() : this.#become("open");
  }

  /** tick answers what has waited too long. */
  tick(now: Now): Passed<T> {
    const until = now.mono - this.#limits.waitMs;
    const late = this.#waiting.findIndex(({ since }) => since > until);
    const gone = this.#waiting.splice(0, late < 0 ? this.#waiting.length : late);
    for (const { bytes } of gone) this.#bytes -= bytes;
    const failure = this.#frozenFailure();
    return { run: [], fence: this.#fence, refused: gone.map(({ command }) => ({ command, failure })) };
  }

  /** deadline is the `mono` instant at which `tick` has something to answer. */
  deadline(): number | undefined {
    const [first] = this.#waiting;
    return first === undefined ? undefined : first.since + this.#limits.waitMs;
  }

  #become(state: GateState): Passed<T> {
    this.#state = state;
    if (state === "closed") return this.#nothing();
    const commands = this.#waiting.splice(0).map(({ command }) => command);
    this.#bytes = 0;
    if (state === "open") return { run: commands, fence: this.#fence, refused: [] };
    const failure = this.#movedFailure();
    return { run: [], fence: this.#fence, refused: commands.map((command) => ({ command, failure })) };
  }

  #nothing(): Passed<T> {
    return { run: [], fence: this.#fence, refused: [] };
  }

  #movedFailure(): Failure {
    return moved(this.agent, this.#hub, this.#fenceThere);
  }

  #frozenFailure(): Failure {
    const why = this.#frozen ? "is frozen while it moves" : "is not known to be here until the log is read";
    return { reason: "AGENT_FROZEN", message: `the agent ${this.agent} ${why}; try again` };
  }
}
