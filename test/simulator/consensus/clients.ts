import { Prng } from "#kernel/prng.ts";
import type { ReplicaId } from "../../../services/coordination/log/engine.ts";
import type { Command } from "./app.ts";
import type { Cluster } from "./cluster.ts";
import { Executor } from "./executor.ts";
import { History } from "./history.ts";
import type { Answer } from "./host.ts";
import type { Hub, Process } from "./hub.ts";

const KEYS = ["a", "b", "c"];
const LOCKS = ["l", "m"];
/** Log time that a lock is held, ms. */
const LOCK_MS = 400;

/** Clients use the log: some of them, each with one command at a time and serial numbers of its own, which it repeats until it is told. */
export class Clients<F> {
  readonly history: History<F>;
  readonly executor: Executor;
  readonly #clients: Client<F>[];
  readonly #cluster: Cluster<F>;
  readonly #prng: Prng;

  constructor(cluster: Cluster<F>) {
    this.#cluster = cluster;
    this.#prng = new Prng(cluster.options.seed ^ 0x100c);
    this.history = new History(cluster.invariants);
    this.executor = new Executor(cluster.invariants, cluster.sabotage.ignoresFences === true);
    this.#clients = Array.from(
      { length: cluster.options.clients },
      (_, no) => new Client(cluster, this.history, this.executor, no, new Prng(cluster.options.seed * 17 + no)),
    );
  }

  start(): void {
    this.#cluster.onStart = (hub) => this.#look(hub);
    for (const client of this.#clients) client.start();
  }

  /** look asks a hub that has just started what it has, as its own users do. */
  #look(hub: Hub<F>): void {
    for (let i = 0; i < 3; i++) {
      const key = pick(this.#prng, KEYS);
      this.#cluster.scheduler.after(1 + 60 * this.#prng.unit(), () => local(this.#cluster, this.history, hub, key));
    }
  }

  /** expect makes every client prove that it is served: with a write and a linearizable read of its own. */
  expect(): void {
    for (const client of this.#clients) client.expect();
  }

  /** unserved names the clients that were not served since `expect`. */
  unserved(): string[] {
    return this.#clients.flatMap((client) => client.unserved());
  }

  /** stop lets nothing begin any more, until `go`. */
  stop(): void {
    for (const client of this.#clients) client.stopped = true;
  }

  go(): void {
    for (const client of this.#clients) client.go();
  }
}

/** Dice below this, and not below that of locks, are a read. */
const READ_BELOW = 0.87;
const READ = 0.86;
const WRITE = 0;

class Client<F> {
  readonly name: string;
  stopped = false;
  readonly #cluster: Cluster<F>;
  readonly #history: History<F>;
  readonly #executor: Executor;
  readonly #prng: Prng;
  #serial = 0;
  #value = 0;
  #leader: ReplicaId | undefined;
  /** Writes and reads that were answered since `expect`. */
  #wrote = false;
  #read = false;
  #expected = false;
  /** Counts how often it was stopped: what was begun before does not go on. */
  #round = 0;

  constructor(cluster: Cluster<F>, history: History<F>, executor: Executor, no: number, prng: Prng) {
    this.#cluster = cluster;
    this.#history = history;
    this.#executor = executor;
    this.#prng = prng;
    this.name = `c${no}`;
  }

  start(): void {
    this.#next();
  }

  go(): void {
    if (!this.stopped) return;
    this.stopped = false;
    this.#round++;
    this.#next();
  }

  expect(): void {
    this.#expected = true;
    this.#wrote = false;
    this.#read = false;
  }

  unserved(): string[] {
    if (!this.#expected || (this.#wrote && this.#read)) return [];
    return [`${this.name}${this.#wrote ? "" : " write"}${this.#read ? "" : " read"}`];
  }

  #next(): void {
    const think = -this.#cluster.options.thinkMs * Math.log(1 - this.#prng.unit());
    const round = this.#round;
    this.#cluster.scheduler.after(think + 1, () => {
      if (!this.stopped && round === this.#round) this.#begin();
    });
  }

  #begin(): void {
    const chance = this.#prng.unit();
    const key = pick(this.#prng, KEYS);
    // What is waited for is not left to chance.
    const dice = this.#expected && this.#wrote !== this.#read ? (this.#read ? WRITE : READ) : chance;
    if (dice < 0.4) this.#write(["put", key, this.#fresh()]);
    else if (dice < 0.5) this.#write(["cas", key, this.#history.guess(key), this.#fresh()]);
    else if (dice < 0.57) this.#write(["lock", pick(this.#prng, LOCKS), LOCK_MS]);
    else if (dice < READ_BELOW) this.#readOnce(key, 0);
    else this.#local(key);
  }

  #fresh(): string {
    return `${this.name}.${++this.#value}`.padEnd(this.#cluster.options.valueLength, ".");
  }

  #target(): Hub<F> {
    const { hubs } = this.#cluster;
    const hint = this.#leader === undefined ? undefined : this.#cluster.hubFor(this.#leader);
    return hint !== undefined && this.#prng.chance(0.8) ? hint : pick(this.#prng, hubs);
  }

  #write(what: Command["do"]): void {
    const command: Command = { client: this.name, serial: ++this.#serial, do: what };
    const floor = this.#history.invoke(command);
    let open = true;
    const patience = this.#prng.chance(0.1) ? 2 + this.#prng.below(3) : Number.POSITIVE_INFINITY;
    let tries = 0;
    const round = this.#round;
    const end = (): void => {
      open = false;
      if (round === this.#round) this.#next();
    };
    const attempt = (): void => {
      if (!open || this.stopped || round !== this.#round) return;
      if (++tries > patience && !this.#cluster.healed) {
        end();
        return;
      }
      let answered = false;
      this.#cluster.ask(this.#target(), { kind: "write", command }, (answer) => {
        answered = true;
        if (answer.kind === "written") {
          this.#history.wrote(command, floor, answer);
          if (!open) return;
          this.#wrote = true;
          if (what[0] === "lock" && answer.result === "ok") this.#hold(what[1], answer.index);
          end();
        } else if (open) this.#again(answer, attempt);
      });
      this.#cluster.scheduler.after(200 + 500 * this.#prng.unit(), () => {
        if (answered) return;
        this.#doubt();
        attempt();
      });
    };
    attempt();
  }

  #readOnce(key: string, tries: number, round = this.#round): void {
    if (this.stopped || round !== this.#round) return;
    const floor = this.#history.floor;
    let answered = false;
    const again = (): void => {
      // Where answers take longer than a client waits, one that asked again for ever would never do anything else.
      if (this.#expected && this.#read) this.#next();
      else if (tries < 5 || this.#cluster.healed) this.#readOnce(key, tries + 1, round);
      else this.#next();
    };
    this.#cluster.ask(this.#target(), { kind: "read", key }, (answer) => {
      if (answer.kind === "value") {
        this.#history.read(this.name, key, floor, answer.register?.value, answer.applied);
        // As with writes, what is answered late was served.
        this.#read = true;
        if (answered) return;
        answered = true;
        if (round === this.#round) this.#next();
      } else if (!answered) {
        answered = true;
        this.#again(answer, again);
      }
    });
    this.#cluster.scheduler.after(200 + 500 * this.#prng.unit(), () => {
      if (answered) return;
      this.#doubt();
      answered = true;
      again();
    });
  }

  #local(key: string): void {
    local(this.#cluster, this.#history, pick(this.#prng, this.#cluster.hubs), key);
    this.#next();
  }

  /** doubt: who does not answer may not lead any more. */
  #doubt(): void {
    if (this.#prng.chance(0.7)) this.#leader = undefined;
  }

  #again(answer: Answer, attempt: () => void): void {
    this.#leader = answer.kind === "refused" ? answer.leader : undefined;
    this.#cluster.scheduler.after(10 + 60 * this.#prng.unit(), attempt);
  }

  /** hold works under a lock for as long as its owner believes to have it, and is sometimes stopped in the middle of it. */
  #hold(name: string, fence: number): void {
    const { scheduler } = this.#cluster;
    let left = 3;
    const work = (): void => {
      this.#executor.act(name, this.name, fence);
      if (--left > 0) scheduler.after(this.#prng.chance(0.2) ? 2 * LOCK_MS * this.#prng.unit() : 40, work);
    };
    scheduler.after(5, work);
  }
}

/** local asks a hub what it has. What counts is what it says, in the order in which it says it. */
function local<F>(cluster: Cluster<F>, history: History<F>, hub: Hub<F>, key: string): void {
  const emitted = (process: Process<F>, answer: Answer): void => {
    if (answer.kind === "value") history.local(process.hub, key, answer.register?.value, answer.applied);
  };
  cluster.ask(hub, { kind: "local", key }, () => undefined, emitted);
}

function pick<T>(prng: Prng, items: readonly T[]): T {
  return items[prng.below(items.length)] as T;
}
