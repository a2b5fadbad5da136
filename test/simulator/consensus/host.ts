import type { Core, StoreOp } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import type {
  Committed,
  EngineEffect,
  EngineInput,
  EngineSnapshot,
  LogEngine,
  ReplicaId,
  StoredLog,
} from "../../../services/coordination/log/engine.ts";
import { type Applied, type Command, encodeCommand, type Register, RegisterApp } from "./app.ts";

/** Ask is what a client or an operator wants of a hub. */
export type Ask =
  | { readonly kind: "write"; readonly command: Command }
  | { readonly kind: "read"; readonly key: string }
  /** What this hub has, as old as it may be. */
  | { readonly kind: "local"; readonly key: string }
  | { readonly kind: "reconfigure"; readonly voters: readonly ReplicaId[]; readonly learners: readonly ReplicaId[] }
  | { readonly kind: "transfer"; readonly to: ReplicaId };

/** Answer is what it was told. */
export type Answer =
  | ({ readonly kind: "written" } & Applied)
  | { readonly kind: "value"; readonly register: Register | undefined; readonly applied: number }
  | { readonly kind: "done" }
  /** The position that a proposal had was decided with something else. */
  | { readonly kind: "lost" }
  | { readonly kind: "refused"; readonly reason: string; readonly leader: ReplicaId | undefined };

/** HostInput is what the core of a simulated coordination service takes. */
export type HostInput<F> =
  | { readonly kind: "engine"; readonly input: EngineInput<F> }
  | { readonly kind: "ask"; readonly ticket: number; readonly ask: Ask };

/** HostEffect is what it asks for. */
export type HostEffect<F> =
  | Extract<EngineEffect<F>, { readonly kind: "persist" | "send" | "stored" | "observe" }>
  | { readonly kind: "answer"; readonly ticket: number; readonly answer: Answer };

/** HostWatch sees what happens inside, at once and before any gate; it changes nothing. */
export interface HostWatch<F> {
  effect(effect: EngineEffect<F>): void;
  /** A position was applied with the commands in it, or without an entry: a state was loaded. */
  applied(app: RegisterApp, entry: Committed | undefined, done: readonly (Command & Applied)[]): void;
  /** A step is over. */
  stepped(): void;
  /** The engine did not do what its interface says. */
  broken(text: string): void;
}

/** HostOptions are drawn from the seed of a run. */
export interface HostOptions {
  /** The state of the application is stored with its position after each step; otherwise it is made anew from snapshot and log. */
  readonly durableApp: boolean;
}

/** HostSabotage breaks what this layer promises. Empty in every run that means it seriously. */
export interface HostSabotage {
  /** The state is stored one step after its applied position (zoo 24). */
  readonly splitsState?: boolean;
  /** Local reads are answered before what they speak of is durable. */
  readonly eagerReads?: boolean;
  /** Local reads are answered by a replica that has not yet heard of the others (zoo 23). */
  readonly showsAnyAge?: boolean;
}

const SPACE = "app";

interface Placed {
  readonly index: number;
  readonly term: number;
  readonly ticket: number;
  readonly client: string;
  readonly serial: number;
}

/** HostCore joins an engine to an application, as the coordination service does: it is the core that the shipping driver runs. */
export class HostCore<F> implements Core<HostInput<F>, HostEffect<F>> {
  readonly engine: LogEngine<F>;
  readonly app = new RegisterApp();
  readonly #watch: HostWatch<F>;
  readonly #o: HostOptions;
  readonly #sabotage: HostSabotage;
  #nextCall = 1;
  readonly #tickets = new Map<number, { readonly ticket: number; readonly ask: Ask }>();
  /** Proposals that have a position, and reads that wait for one to be applied. */
  readonly #placed = new Map<number, Placed>();
  #reads: { readonly index: number; readonly ticket: number; readonly key: string }[] = [];
  #inner: EngineEffect<F>[] = [];
  readonly #late: StoreOp[] = [];

  constructor(engine: LogEngine<F>, stored: StoredLog, watch: HostWatch<F>, options: HostOptions, sabotage: HostSabotage) {
    this.engine = engine;
    this.#watch = watch;
    this.#o = options;
    this.#sabotage = sabotage;
    const state = options.durableApp ? stored.get(SPACE, "state") : undefined;
    if (state === undefined) return;
    this.app.load(state);
    const applied = stored.get(SPACE, "applied");
    if (applied !== undefined) this.app.applied = Number(new TextDecoder().decode(applied));
    watch.applied(this.app, undefined, []);
  }

  step(now: Now, input: HostInput<F>, out: HostEffect<F>[]): void {
    const before = this.app.applied;
    if (input.kind === "ask") this.#ask(now, input.ticket, input.ask, out);
    else this.engine.step(now, input.input, this.#inner);
    this.#settle(now, out, before);
  }

  tick(now: Now, out: HostEffect<F>[]): void {
    const before = this.app.applied;
    this.engine.tick(now, this.#inner);
    this.#settle(now, out, before);
  }

  deadline(): number | undefined {
    return this.engine.deadline();
  }

  describe(): string {
    return `${this.engine.describe()}\napplied ${this.app.applied}, state ${this.app.state().toString(16)}`;
  }

  #ask(now: Now, ticket: number, ask: Ask, out: HostEffect<F>[]): void {
    if (ask.kind === "local") {
      // Until it has heard of the others a replica does not know how old it is, and after a restart it may be older than it was.
      if (this.engine.status(now).ageMs === undefined && this.#sabotage.showsAnyAge !== true) {
        out.push({ kind: "answer", ticket, answer: { kind: "refused", reason: "NOT_READY", leader: undefined } });
        return;
      }
      out.push({ kind: "answer", ticket, answer: { kind: "value", register: this.app.get(ask.key), applied: this.app.applied } });
      return;
    }
    const call = this.#nextCall++;
    this.#tickets.set(call, { ticket, ask });
    this.#forgetOldest();
    if (ask.kind === "write") this.engine.step(now, { kind: "propose", call, payload: encodeCommand(ask.command) }, this.#inner);
    else if (ask.kind === "read") this.engine.step(now, { kind: "read", call }, this.#inner);
    else this.engine.step(now, { ...ask, call }, this.#inner);
  }

  /** forgetOldest bounds what waits for an engine that never answers: whoever asked has given up by then. */
  #forgetOldest(): void {
    for (const map of [this.#tickets, this.#placed]) {
      if (map.size <= 512) continue;
      for (const key of map.keys()) {
        map.delete(key);
        break;
      }
    }
  }

  #settle(now: Now, out: HostEffect<F>[], before: number): void {
    let capture = false;
    do {
      capture = false;
      const effects = this.#inner;
      this.#inner = [];
      for (const effect of effects) {
        this.#watch.effect(effect);
        if (effect.kind === "capture") capture = true;
        else this.#take(effect, out);
      }
      if (capture) this.engine.step(now, { kind: "captured", index: this.app.applied, state: this.app.dump() }, this.#inner);
    } while (this.#inner.length > 0);
    if (this.#o.durableApp && this.app.applied !== before) this.#persist(out);
    this.#answerReads(out);
    this.#watch.stepped();
  }

  #persist(out: HostEffect<F>[]): void {
    const applied = new TextEncoder().encode(String(this.app.applied));
    const state = this.app.dump();
    const ops: StoreOp[] = [
      { op: "put", space: SPACE, key: "applied", bytes: applied },
      { op: "put", space: SPACE, key: "state", bytes: state },
    ];
    const split = this.#sabotage.splitsState === true;
    if (split) ops.splice(1, 1, ...this.#late.splice(0));
    if (split) this.#late.push({ op: "put", space: SPACE, key: "state", bytes: state });
    out.push({ kind: "persist", ops, hard: false });
  }

  #take(effect: EngineEffect<F>, out: HostEffect<F>[]): void {
    switch (effect.kind) {
      case "persist":
      case "send":
      case "stored":
      case "observe":
        out.push(effect);
        return;
      case "committed":
        for (const entry of effect.entries) this.#apply(entry, out);
        return;
      case "install":
        this.#install(effect.snapshot);
        return;
      case "accepted":
        this.#accepted(effect.call, effect.index, effect.term);
        return;
      case "readable": {
        const waiting = this.#tickets.get(effect.call);
        this.#tickets.delete(effect.call);
        if (waiting?.ask.kind === "read") this.#reads.push({ index: effect.index, ticket: waiting.ticket, key: waiting.ask.key });
        return;
      }
      case "done":
        this.#answer(effect.call, { kind: "done" }, out);
        return;
      case "refused": {
        this.#refused(effect.call, effect.failure, out);
        return;
      }
      case "role":
      case "evidence":
      case "capture":
        return;
    }
  }

  /** refused: a command that the engine knows to be decided already is answered with what came of it. */
  #refused(call: number, { reason, facts }: Failure, out: HostEffect<F>[]): void {
    const ask = this.#tickets.get(call)?.ask;
    const command = ask?.kind === "write" && reason === "ALREADY_EXISTS" ? ask.command : undefined;
    const done = command === undefined ? undefined : this.app.done(command.client, command.serial);
    this.#answer(call, done === undefined ? { kind: "refused", reason, leader: facts?.["leader"] } : { kind: "written", ...done }, out);
  }

  #answer(call: number, answer: Answer, out: HostEffect<F>[]): void {
    const waiting = this.#tickets.get(call);
    if (waiting === undefined) return;
    this.#tickets.delete(call);
    out.push({ kind: "answer", ticket: waiting.ticket, answer });
  }

  #accepted(call: number, index: number, term: number): void {
    const waiting = this.#tickets.get(call);
    this.#tickets.delete(call);
    if (waiting?.ask.kind !== "write") return;
    const { client, serial } = waiting.ask.command;
    this.#placed.set(call, { index, term, ticket: waiting.ticket, client, serial });
  }

  #install(snapshot: EngineSnapshot): void {
    // A state that was stored by itself may be newer than the snapshot that an engine starts from.
    if (snapshot.index <= this.app.applied) return;
    this.app.load(snapshot.state);
    this.#watch.applied(this.app, undefined, []);
  }

  #apply(entry: Committed, out: HostEffect<F>[]): void {
    if (entry.index <= this.app.applied) return;
    const done = this.app.apply(entry);
    this.#watch.applied(this.app, entry, done);
    for (const [call, placed] of this.#placed) {
      if (placed.index > entry.index) continue;
      this.#placed.delete(call);
      const found = placed.index === entry.index && placed.term === entry.term;
      const mine = found ? done.find(({ client, serial }) => client === placed.client && serial === placed.serial) : undefined;
      if (found && mine === undefined) this.#watch.broken(`a proposal accepted at ${entry.index} in term ${entry.term} is not in it`);
      const { ticket } = placed;
      const answer: Answer =
        mine === undefined ? { kind: "lost" } : { kind: "written", index: mine.index, term: mine.term, result: mine.result };
      out.push({ kind: "answer", ticket, answer });
    }
  }

  #answerReads(out: HostEffect<F>[]): void {
    if (this.#reads.length === 0) return;
    const waiting = this.#reads;
    this.#reads = [];
    for (const read of waiting) {
      if (read.index > this.app.applied) this.#reads.push(read);
      else {
        const answer: Answer = { kind: "value", register: this.app.get(read.key), applied: this.app.applied };
        out.push({ kind: "answer", ticket: read.ticket, answer });
      }
    }
  }
}
