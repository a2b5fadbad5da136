import type { Clock, Timer } from "#channel/clock.ts";
import type { NodeInit } from "../kept-nodes.ts";

/** AgentRegistry is where agents are found: the registry of the hub. */
export interface AgentRegistry {
  register(node: NodeInit): Promise<unknown>;
  deregister(nodeId: string): Promise<unknown>;
}

/** What the registry did not take is tried again after so long, ms. */
const AGAIN_MS = 1_000;

interface Wanted {
  /** Undefined: it is not to be found here. */
  readonly node: NodeInit | undefined;
}

/**
 * Registered has the registry say where agents are: what was wanted last of each, for as long as it takes.
 *
 * AI1 of one agent one thing is asked at a time, so that what was wanted last is what stands in the end.
 * AI2 what fails is tried again until it is done, something else is wanted, or it is closed.
 */
export class Registered {
  readonly #registry: AgentRegistry;
  readonly #clock: Clock;
  readonly #onError: (error: unknown) => void;
  readonly #wanted = new Map<string, Wanted>();
  readonly #busy = new Map<string, Promise<void>>();
  readonly #timers = new Map<string, Timer>();
  #closed = false;

  constructor(registry: AgentRegistry, clock: Clock, onError: (error: unknown) => void) {
    this.#registry = registry;
    this.#clock = clock;
    this.#onError = onError;
  }

  /** want says whether, and as what, an agent is to be found at this hub; it resolves when that was tried once. */
  want(agent: string, node: NodeInit | undefined): Promise<void> {
    this.#wanted.set(agent, { node });
    this.#timers.get(agent)?.cancel();
    const tried = (this.#busy.get(agent) ?? Promise.resolve()).then(() => this.#try(agent));
    this.#busy.set(agent, tried);
    void tried.then(() => {
      if (this.#busy.get(agent) === tried) this.#busy.delete(agent);
    });
    return tried;
  }

  close(): void {
    this.#closed = true;
    for (const timer of this.#timers.values()) timer.cancel();
  }

  async #try(agent: string): Promise<void> {
    const wanted = this.#wanted.get(agent);
    if (wanted === undefined || this.#closed) return;
    try {
      if (wanted.node === undefined) await this.#registry.deregister(agent);
      else await this.#registry.register(wanted.node);
      if (this.#wanted.get(agent) === wanted) this.#wanted.delete(agent);
    } catch (error) {
      this.#onError(error);
      if (this.#wanted.get(agent) === wanted && !this.#closed)
        this.#timers.set(
          agent,
          this.#clock.setTimer(AGAIN_MS, () => void this.want(agent, wanted.node)),
        );
    }
  }
}
