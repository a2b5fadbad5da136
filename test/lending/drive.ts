import { amountsOf } from "../../services/coordination/resources/amounts.ts";
import { audit } from "../../services/coordination/resources/audit.ts";
import { DEFAULT_POLICY, PRIORITIES, type ResourceCommand } from "../../services/coordination/resources/commands.ts";
import { Violation } from "./checker.ts";
import type { Mutant } from "./mutants.ts";
import { coders, INFERENCE, offer, quota, want } from "./parts.ts";
import { type Hub, World } from "./world.ts";

/** Drive is one run: random commands and faults, then everything heals, and what is held is given back. */
export class Drive {
  readonly world: World;
  #requests = 0;
  readonly #backups = new Map<string, ReturnType<Hub["backup"]>>();

  constructor(seed: number, mutant: Mutant = {}) {
    this.world = new World(seed, 4, mutant);
  }

  run(steps: number): void {
    const { world } = this;
    for (const hub of world.hubs) {
      world.apply(hub.id, { kind: "policy", policy: { ...DEFAULT_POLICY, onDisconnect: this.#one(["keep", "stop", "hand_back"]) } });
      world.apply(hub.id, coders(5, { prices: amountsOf({ agents: 1_000_000 }) }));
    }
    for (let i = 0; i < steps; i++) {
      world.run(world.prng.below(3_000));
      this.#step();
      this.#use();
      if (world.prng.chance(0.02)) world.replicate();
    }
    this.#heal();
  }

  #one<T>(values: readonly T[]): T {
    return values[this.world.prng.below(values.length)] as T;
  }

  /** Hubs that take part. */
  #present(): Hub[] {
    return this.world.hubs.filter(({ removed }) => !removed);
  }

  #step(): void {
    const { prng } = this.world;
    const hub = this.#one(this.#present());
    const p = prng.unit();
    if (p < 0.5) this.#say(hub, this.#request());
    else if (p < 0.72) this.#owner(hub);
    else if (p < 0.84) this.#talk(hub);
    else this.#fault(hub);
  }

  #say(hub: Hub, command: ResourceCommand): void {
    if (!hub.up) return;
    if (this.world.prng.chance(0.5)) this.world.apply(hub.id, command);
    else this.world.propose(hub, command, () => {});
  }

  #request(): ResourceCommand {
    const { prng } = this.world;
    const id = prng.chance(0.1) ? `r${Math.max(1, this.#requests)}` : `r${++this.#requests}`;
    const named = prng.chance(0.4);
    return want(id, 1 + prng.below(prng.chance(0.1) ? 6 : 3), {
      owner: named ? this.#one(this.#present()).id : "",
      name: named ? "coders" : "",
      durationMs: 20_000 + prng.below(300_000),
      priority: this.#one(PRIORITIES),
      maxCostMicro: prng.chance(0.1) ? 1_000 : 1_000_000_000,
      waitMs: prng.chance(0.6) ? prng.below(200_000) : 0,
    });
  }

  #owner(hub: Hub): void {
    const { book, prng } = this.world;
    const leases = book.leases({ owner: hub.id });
    const p = prng.unit();
    if (p < 0.2)
      this.#say(hub, coders(4 + prng.below(4), { automatic: prng.chance(0.7), prices: amountsOf({ agents: prng.below(5_000_000) }) }));
    else if (p < 0.3) this.#say(hub, offer("gpus", INFERENCE, { gpuMilli: 1_000 + prng.below(4_000), memoryMb: 64_000 }));
    else if (p < 0.4) {
      this.world.apply(hub.id, { kind: "withdraw", name: "coders" });
    } else if (p < 0.65) {
      const to = this.#one(this.#present());
      const nominal = prng.below(3);
      this.world.apply(hub.id, quota(to.id, nominal, nominal + prng.below(4)));
    } else if (p < 0.75) {
      const maxUtilization = this.#one([600, 800, 1_000]);
      const policy = { ...book.policy(hub.id), maxUtilization, maxAgents: 3 + prng.below(4), preemption: prng.chance(0.8) };
      this.world.apply(hub.id, { kind: "policy", policy });
    } else if (p < 0.85 && leases.length > 0)
      this.#say(hub, { kind: "reclaim", lease: this.#one(leases).lease, graceMs: prng.below(60_000) });
    else this.#say(hub, { kind: "refence", name: "coders" });
  }

  #talk(hub: Hub): void {
    const { book, prng } = this.world;
    const request = this.#one(book.requests().filter(({ owner, borrower }) => owner === hub.id || borrower === hub.id));
    if (request === undefined) return;
    const { borrower, id, round, terms } = request;
    const p = prng.unit();
    if (p < 0.45) this.#say(hub, { kind: "accept", borrower, id, round: Math.max(1, round - (prng.chance(0.1) ? 1 : 0)) });
    else if (p < 0.75)
      this.#say(hub, { kind: "counter", borrower, id, round: Math.max(1, round), terms: { ...terms, costMicro: prng.below(1_000_000) } });
    else this.#say(hub, { kind: "decline", borrower, id });
  }

  /** use takes what was reserved, mostly, and gives back what is held, now and then; old and forged leases are renewed and released. */
  #use(): void {
    const { book, prng } = this.world;
    for (const hub of this.#present()) {
      if (!hub.up || hub.cut) continue;
      for (const { id, state, terms } of book.requests({ borrower: hub.id }))
        if (state === "reserved" && prng.chance(0.5)) this.world.borrower(hub, { kind: "take", id, durationMs: terms.durationMs });
      for (const { id } of hub.borrower.report()) if (prng.chance(0.03)) this.world.borrower(hub, { kind: "give_back", id });
      const lease = this.#one(book.leases());
      if (lease === undefined || !prng.chance(0.1)) continue;
      const fence = Math.max(1, lease.fence - prng.below(3));
      if (lease.borrower !== hub.id || fence !== lease.fence)
        this.#say(hub, { kind: "renew", lease: lease.lease, fence, durationMs: 60_000 });
      if (fence !== lease.fence) this.world.executor(this.world.hub(lease.owner), { kind: "admit", call: 2, lease: lease.lease, fence });
    }
  }

  #fault(hub: Hub): void {
    const { world } = this;
    const { prng } = world;
    const p = prng.unit();
    if (p < 0.25) this.#cut(hub);
    else if (p < 0.5 && hub.up) {
      world.crash(hub, prng.chance(0.5));
      world.after(prng.below(60_000), () => this.#start(hub));
    } else if (p < 0.6) this.#backups.set(hub.id, hub.backup());
    else if (p < 0.75) world.setLeaderClock(prng.below(1_000) - 500);
    // The clock of whoever leads is set: by a minute or an hour.
    else if (p < 0.8) world.setLeaderClock(prng.chance(0.5) ? 60_000 : 3_600_000);
    else if (p < 0.92) {
      const absent = prng.chance(0.4);
      world.federation((book, at) => book.setAbsent(at, hub.id, absent), `${hub.id} is ${absent ? "away" : "there"}`);
    } else if (p < 0.94 && this.#present().length > 3) {
      hub.removed = true;
      world.federation((book, at) => book.remove(at, hub.id), `${hub.id} is removed`);
    }
  }

  #cut(hub: Hub): void {
    const { world } = this;
    world.note(`${hub.id} is cut off`);
    hub.cut = true;
    for (const other of world.hubs) if (other !== hub && other.up) world.executor(other, { kind: "connected", hub: hub.id, up: false });
    world.after(world.prng.below(150_000), () => this.#join(hub));
  }

  #join(hub: Hub): void {
    const { world } = this;
    if (hub.cut) world.note(`${hub.id} is back`);
    hub.cut = false;
    for (const other of world.hubs) if (other !== hub && other.up) world.executor(other, { kind: "connected", hub: hub.id, up: true });
    world.deliver(hub);
  }

  #start(hub: Hub): void {
    if (hub.up) return;
    const backup = this.#backups.get(hub.id);
    const old = backup !== undefined && this.world.prng.chance(0.3);
    if (old) hub.store = new Map([...backup].map(([space, rows]) => [space, new Map(rows)]));
    this.world.note(`${hub.id} starts${old ? " from a backup" : ""}`);
    this.world.start(hub);
  }

  #heal(): void {
    const { world } = this;
    world.note("everything heals");
    world.calm = true;
    for (const hub of world.hubs) {
      this.#start(hub);
      this.#join(hub);
      world.federation((book, at) => book.setAbsent(at, hub.id, false), `${hub.id} is there`);
    }
    world.run(400_000);
    this.#audit("after healing");
    for (const hub of this.#present()) for (const { id } of hub.borrower.report()) world.borrower(hub, { kind: "give_back", id });
    world.run(4_000_000);
    this.#audit("when all was given back");
    world.replicate();
    const left = world.book.describe();
    if (world.book.leases().length > 0) throw new Violation(12, `something is still lent:\n${left}`);
    for (const hub of this.#present())
      if (hub.running.size > 0 || hub.using.size > 0 || hub.executor.report().length > 0)
        throw new Violation(12, `${hub.id} still has something:\n${hub.executor.describe()}\n${hub.borrower.describe()}`);
  }

  #audit(when: string): void {
    const { book } = this.world;
    const there = this.#present();
    const executors = new Map(there.map((hub) => [hub.id, hub.executor.report()]));
    const borrowers = new Map(there.map((hub) => [hub.id, hub.borrower.report()]));
    const found = audit(book.dump(), { executors, borrowers });
    if (found.length > 0) throw new Violation(12, `${when}: ${found.map(({ message }) => message).join("; ")}`);
  }
}
