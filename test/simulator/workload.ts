import type { Prng } from "#kernel/prng.ts";
import { VALUE_TYPE } from "../../services/registry-sync/ports.ts";
import type { Update } from "./clients.ts";
import type { Federation } from "./federation.ts";
import type { SimHub } from "./hub.ts";
import { AREAS, INVOCABLE, STATE_KEYS } from "./nodes.ts";

function pick<T>(prng: Prng, values: readonly T[]): T {
  return values[prng.below(values.length)] as T;
}

/** Workload is what the people and devices of all hubs do, drawn from the seed and spread over the time of trouble. */
export class Workload {
  readonly #f: Federation;
  readonly #prng: Prng;
  #counter = 0;

  constructor(f: Federation, prng: Prng) {
    this.#f = f;
    this.#prng = prng;
  }

  /** schedule plans all operations. The first second belongs to registrations, so that there is something to work with. */
  schedule(): void {
    const { scheduler, options } = this.#f;
    for (const hub of this.#f.hubs)
      for (const nodeId of hub.nodeIds)
        if (this.#prng.chance(0.9)) scheduler.after(1_000 * this.#prng.unit(), () => hub.register(nodeId, pick(this.#prng, AREAS)));
    for (let i = 0; i < options.operations; i++) scheduler.after(500 + options.chaosMs * this.#prng.unit(), () => this.#operation());
  }

  #operation(): void {
    const prng = this.#prng;
    const hub = this.#f.hub(prng.below(this.#f.options.hubs));
    const die = prng.unit();
    if (die < 0.08) hub.register(pick(prng, hub.nodeIds), pick(prng, AREAS));
    else if (die < 0.14) hub.clients.deregister(pick(prng, hub.nodeIds));
    else if (die < 0.5) this.#burst(hub);
    else if (die < 0.95) this.#command(hub);
    else if (die < 0.98) hub.clients.cancelLast();
    else hub.clients.clientGone();
  }

  /** burst is a few batches, some within one turn. */
  #burst(hub: SimHub): void {
    const prng = this.#prng;
    const batches = 1 + prng.below(4);
    for (let i = 0; i < batches; i++)
      this.#f.scheduler.after(prng.chance(0.5) ? 0 : 30 * prng.unit(), () => hub.clients.update(this.#updates(hub)));
  }

  #updates(hub: SimHub): Update[] {
    const prng = this.#prng;
    return Array.from({ length: 1 + prng.below(4) }, () => {
      const { name, type } = pick(prng, STATE_KEYS);
      const n = ++this.#counter;
      const value =
        type === VALUE_TYPE.DOUBLE
          ? n + 0.5
          : type === VALUE_TYPE.SINT64
            ? BigInt(n)
            : type === VALUE_TYPE.BOOL
              ? n % 2 === 0
              : `${name} ${n}`;
      return { nodeId: pick(prng, hub.nodeIds), key: name, value };
    });
  }

  #command(hub: SimHub): void {
    const prng = this.#prng;
    const spec = {
      target: prng.below(this.#f.options.hubs),
      nodeId: pick(prng, hub.nodeIds),
      capability: pick(prng, INVOCABLE),
      timeoutMs: pick(prng, [300, 2_000, 2_000, 10_000]),
      keyed: prng.chance(0.5),
    };
    const count = prng.chance(0.2) ? 4 : 1;
    for (let i = 0; i < count; i++) {
      const op = hub.newOp(spec);
      hub.clients.command(op);
      if (op.key === "") continue;
      // A user who got no answer, or none that tells, asks again under the same key.
      for (let again = prng.below(3); again > 0; again--) this.#f.scheduler.after(8_000 * prng.unit(), () => hub.clients.command(op));
    }
  }
}
