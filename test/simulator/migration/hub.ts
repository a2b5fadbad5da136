import type { Effect } from "#kernel/core.ts";
import { MigrationBook } from "../../../services/coordination/migration/book.ts";
import { type Checkpoint, wholeOf } from "../../../services/coordination/migration/checkpoint/checkpoint.ts";
import { claimBytes } from "../../../services/coordination/migration/claim.ts";
import { frameProblem, type MigrationFrame } from "../../../services/coordination/migration/frames.ts";
import type { Migration } from "../../../services/coordination/migration/messages.ts";
import { DestinationSaga } from "../../../services/coordination/migration/saga/destination.ts";
import type { DestinationEffect, DestinationInput } from "../../../services/coordination/migration/saga/destination-messages.ts";
import { AgentGate, type Passed } from "../../../services/coordination/migration/saga/gate.ts";
import {
  chunkSpace,
  readRecord,
  recordSpace,
  type Seen,
  type Side,
  type StoredSaga,
  sideNeeded,
} from "../../../services/coordination/migration/saga/saga.ts";
import { SOURCE_SETTINGS, SourceSaga } from "../../../services/coordination/migration/saga/source.ts";
import type { SourceEffect, SourceInput } from "../../../services/coordination/migration/saga/source-messages.ts";
import { MemoryStore } from "../../fakes/memory-store.ts";
import { fastHash, feedKeyOf, simCrypto } from "../crypto.ts";
import { agentOf, checkpointOf, type ToyAgent } from "./agent.ts";
import { carryOut } from "./log.ts";
import type { World } from "./world.ts";

const TIMES = { againMs: 40, windowBytes: 40 * 1024 };
const SETTINGS = { ...SOURCE_SETTINGS, ...TIMES, enoughBytes: 8 * 1024, rounds: 3 };

interface Running {
  readonly side: Side;
  readonly saga: SourceSaga | DestinationSaga;
  readonly migration: Pick<Migration, "transfer" | "agent" | "from" | "to">;
}

/** Command is what a client sends to the agent. */
export interface Command {
  readonly serial: number;
  readonly answer: (outcome: "done" | { readonly moved: string } | "retry") => void;
}

/** sealKeyOf is the sealing key of a hub of the model. */
export const sealKeyOf = (hub: string): Uint8Array => feedKeyOf(`sealing ${hub}`);

/** ToyHub is a hub of the model: disk, agents, a copy of the log, and the shipping cores. */
export class ToyHub {
  readonly name: string;
  readonly #world: World;
  up = true;
  /** It is stopped (SIGSTOP): nothing happens in it, and it does not know. */
  #paused = false;
  store = new MemoryStore();
  agents = new Map<string, ToyAgent>();
  gates = new Map<string, AgentGate<Command>>();
  /** What its program was shown of an agent that may come, and of which move. It does not outlive the program's stream. */
  staged = new Map<string, { readonly transfer: number; readonly checkpoint: Checkpoint }>();
  running = new Map<string, Running>();
  #book: MigrationBook;
  #applied = 0;
  /** Entries that its copy of the log holds on its disk: a restart reads them at once. */
  replica = 0;
  #linear = false;
  #reading: number | undefined;
  /** Counts lives: what was under way in an older one does not come back. */
  #life = 0;
  #outbox: (() => void)[] = [];
  #committing = false;

  constructor(world: World, name: string) {
    this.#world = world;
    this.name = name;
    this.#book = new MigrationBook(simCrypto(name));
  }

  /** backup is all that its disk has. */
  backup(): () => void {
    const store = this.store.backup();
    const agents = structuredClone([...this.agents]);
    const { replica } = this;
    return () => {
      this.store = store.backup();
      this.agents = new Map(structuredClone(agents));
      this.replica = replica;
    };
  }

  /** pause stops it for a while; what was due comes afterwards. */
  pause(ms: number): void {
    this.#paused = true;
    this.#world.after(ms, () => {
      this.#paused = false;
    });
  }

  get hears(): boolean {
    return this.up && !this.#paused;
  }

  crash(): void {
    this.up = false;
    this.#paused = false;
    this.#life++;
    this.gates.clear();
    this.staged.clear();
    this.running.clear();
    this.#outbox = [];
    this.#committing = false;
  }

  start(): void {
    this.up = true;
    this.#book = new MigrationBook(simCrypto(this.name));
    this.#applied = 0;
    this.#linear = false;
    this.#reading = undefined;
    for (const [agent, { fence }] of this.agents) this.gates.set(agent, new AgentGate(this.name, agent, fence));
    for (const side of ["source", "destination"] as const)
      for (const { bytes } of this.store.space(recordSpace(side))) {
        const record = readRecord(bytes);
        const chunks = new Map(
          [...this.store.space(chunkSpace(side, record.transfer))].map(({ key, bytes: chunk }) => [key, chunk] as const),
        );
        this.#run(side, record, { record, chunks });
      }
    this.catchUp(this.replica);
    for (const running of this.running.values()) this.#tick(running);
    this.read();
  }

  /** catchUp applies what was decided, up to a position. */
  catchUp(to: number): void {
    for (; this.#applied < to; this.#applied++) {
      const entry = this.#world.log.entries[this.#applied]!;
      const refused = carryOut(this.#book, entry).failure?.reason === "MIGRATION_STEP";
      if (!refused || entry.kind !== "command" || entry.author !== this.name || entry.command.kind !== "confirm") continue;
      const running = this.running.get(`destination ${entry.command.transfer}`);
      if (running !== undefined) this.#later(0, () => this.#step(running, { kind: "too_early" }));
    }
    this.replica = Math.max(this.replica, this.#applied);
    if (this.#reading !== undefined && this.#applied >= this.#reading) {
      this.#linear = true;
      this.#reading = undefined;
    }
    this.#tell();
  }

  /** read asks the leader for the position that must be applied. */
  read(): void {
    this.#world.ask(this, () => {
      this.#reading = this.#world.log.entries.length;
      this.catchUp(this.#applied);
    });
  }

  #seen(agent: string, transfer: number): Seen {
    return { index: this.#applied, linear: this.#linear, agent: this.#book.owner(agent), migration: this.#book.migration(transfer) };
  }

  /** tell gives the news to gates and sagas, and starts the sagas that are needed. */
  #tell(): void {
    for (const migration of [...this.#book.migrations(), ...this.#book.history()]) {
      const side = sideNeeded(migration, this.name, this.agents.get(migration.agent)?.fence);
      if (side !== undefined && !this.running.has(`${side} ${migration.transfer}`)) this.#run(side, migration);
    }
    for (const running of [...this.running.values()]) {
      const { agent, transfer } = running.migration;
      this.#step(running, { kind: "log", seen: this.#seen(agent, transfer) });
    }
    for (const gate of this.gates.values()) {
      const open = this.#book.migrations().find(({ agent, status }) => agent === gate.agent && status === "open");
      const seen = this.#seen(gate.agent, open?.transfer ?? 0);
      this.#passed(gate, gate.look(this.#world.mutant === "local" ? { ...seen, linear: true } : seen));
    }
  }

  #run(side: Side, migration: Running["migration"] & { readonly fence: number }, stored?: StoredSaga): void {
    const { transfer, agent, fence, from, to } = migration;
    const id = { transfer, agent, fence, from, to };
    const crypto = simCrypto(this.name);
    const keys = { source: feedKeyOf(from), sealing: sealKeyOf(this.name) };
    const saga = side === "source" ? new SourceSaga(id, crypto, SETTINGS, stored) : new DestinationSaga(id, crypto, keys, TIMES, stored);
    this.running.set(`${side} ${transfer}`, { side, saga, migration });
  }

  #step(running: Running, input: SourceInput | DestinationInput): void {
    if (!this.up) return;
    const out: Effect[] = [];
    const now = this.#world.now();
    if (running.saga instanceof SourceSaga) running.saga.step(now, input as SourceInput, out as SourceEffect[]);
    else running.saga.step(now, this.#forged(input as DestinationInput), out as DestinationEffect[]);
    this.#carryOut(running, out as (SourceEffect | DestinationEffect)[]);
  }

  /** forged is what a destination that does not wait for the commit would read. */
  #forged(input: DestinationInput): DestinationInput {
    const migration = input.kind === "log" ? input.seen.migration : undefined;
    if (this.#world.mutant !== "early" || input.kind !== "log" || migration?.step !== "TRANSFER" || migration.status !== "open")
      return input;
    const agent = input.seen.agent;
    if (agent === undefined) return input;
    const owned = { ...agent, owner: this.name, fence: migration.fence + 1 };
    return { kind: "log", seen: { ...input.seen, linear: true, agent: owned, migration: { ...migration, status: "committed" } } };
  }

  #tick(running: Running): void {
    const out: Effect[] = [];
    if (running.saga instanceof SourceSaga) running.saga.tick(this.#world.now(), out as SourceEffect[]);
    else running.saga.tick(this.#world.now(), out as DestinationEffect[]);
    this.#carryOut(running, out as (SourceEffect | DestinationEffect)[]);
  }

  /** tick does what is due. */
  tick(): void {
    const { mono } = this.#world.now();
    for (const running of [...this.running.values()])
      if ((running.saga.deadline() ?? Number.POSITIVE_INFINITY) <= mono) this.#tick(running);
    for (const gate of this.gates.values())
      if ((gate.deadline() ?? Number.POSITIVE_INFINITY) <= mono) this.#passed(gate, gate.tick(this.#world.now()));
    if (!this.#linear && this.#reading === undefined) this.read();
  }

  /** carryOut is the driver's gate: whatever follows a persist waits until it is durable. */
  #carryOut(running: Running, effects: readonly (SourceEffect | DestinationEffect)[]): void {
    for (const effect of effects) {
      if (effect.kind === "observe") this.#world.observed(effect.what);
      else if (this.#world.mutant === "restart" && effect.kind === "gate" && effect.state === "open") this.#execute(running, effect);
      else if (effect.kind === "persist") {
        this.#outbox.push(() => {
          this.#committing = true;
          this.#later(this.#world.delay(this.#world.diskMs), () => {
            void this.store.commit(effect.ops);
            this.#committing = false;
            this.#drain();
          });
        });
      } else if (isEarly(effect)) this.#later(0, () => this.#execute(running, effect));
      else this.#outbox.push(() => this.#execute(running, effect));
    }
    this.#drain();
  }

  #drain(): void {
    while (!this.#committing) {
      const next = this.#outbox.shift();
      if (next === undefined) return;
      next();
    }
  }

  #later(ms: number, call: () => void): void {
    const life = this.#life;
    const wake = (): void => {
      if (!this.up || life !== this.#life) return;
      if (this.#paused) this.#world.after(10, wake);
      else call();
    };
    this.#world.after(ms, wake);
  }

  #execute(running: Running, effect: Exclude<SourceEffect | DestinationEffect, { kind: "persist" | "observe" }>): void {
    const { agent } = running.migration;
    const later = (input: SourceInput | DestinationInput): void => this.#later(this.#world.delay(3), () => this.#step(running, input));
    switch (effect.kind) {
      case "propose":
        return this.#world.propose(this, { kind: "command", author: this.name, command: effect.command });
      case "read":
        return this.read();
      case "send":
        return this.#world.send(this.name, effect.to, effect.frame);
      case "gate": {
        if (this.#world.mutant === "ungated" && effect.state === "closed") return;
        const gate = this.gates.get(agent) ?? new AgentGate<Command>(this.name, agent, effect.fence);
        this.gates.set(agent, gate);
        return this.#passed(gate, gate.set(effect.state, effect.fence, effect.hub));
      }
      case "over":
        this.running.delete(`${running.side} ${running.migration.transfer}`);
        return;
      case "judge": {
        const until = this.#world.now().wall + this.#world.roomMs;
        return later({ kind: "judged", bytes: 1024 * 1024, until });
      }
      case "claim": {
        const claim = simCrypto(`node ${agent}`).sign(claimBytes(effect.claim));
        return later({ kind: "claimed", round: effect.round, claim });
      }
      case "seal": {
        const lock = fastHash(Uint8Array.from([...effect.key, ...effect.info, ...effect.aad]));
        const sealed = Uint8Array.from([...lock, ...effect.raw]);
        return later({ kind: "sealed", round: effect.round, numbers: effect.numbers, enc: effect.key, sealed });
      }
      case "open":
        return later({ kind: "opened", round: effect.round, numbers: effect.numbers, raw: unsealed(this.name, effect) });
      case "stage":
        return this.#stage(agent, effect);
      case "unstage":
        if (this.#world.mutant !== "hoarding" && this.staged.get(agent)?.transfer === effect.transfer) this.staged.delete(agent);
        return;
      default:
        return this.#later(this.#world.delay(3), () => this.#agentEffect(running, effect));
    }
  }

  #stage(agent: string, { transfer, checkpoint }: Extract<DestinationEffect, { kind: "stage" }>): void {
    const whole = wholeOf(checkpoint);
    if (this.#world.mutant === "stale" && this.staged.get(agent)?.transfer === transfer) return;
    this.staged.set(agent, { transfer, checkpoint: whole });
    if (this.#world.mutant !== "eager" || this.agents.has(agent)) return;
    const fence = (this.#book.owner(agent)?.fence ?? 0) + 1;
    this.#place(agent, fence, whole);
    this.gates.set(agent, new AgentGate(this.name, agent, fence));
    this.gates.get(agent)?.set("open", fence, this.name);
  }

  #agentEffect(
    running: Running,
    effect: Extract<SourceEffect | DestinationEffect, { kind: "capture" | "resume" | "discard" | "start" }>,
  ): void {
    const { agent } = running.migration;
    const here = this.agents.get(agent);
    if (effect.kind === "start") {
      const staged = this.#world.mutant === "stale" ? this.staged.get(agent)?.checkpoint : undefined;
      if (here === undefined || here.fence < effect.fence || this.#world.mutant === "restart")
        this.#place(agent, effect.fence, staged ?? wholeOf(effect.checkpoint));
      if (this.#world.mutant !== "hoarding") this.staged.delete(agent);
      return this.#step(running, { kind: "started" });
    }
    if (effect.kind === "discard") {
      if (here !== undefined && here.fence <= effect.fence) this.agents.delete(agent);
      return this.#step(running, { kind: "discarded" });
    }
    if (here === undefined || here.fence !== effect.fence) return;
    if (effect.kind === "resume") {
      here.frozen = false;
      here.resumed = Math.max(here.resumed, effect.transfer);
      return this.#step(running, { kind: "resumed" });
    }
    if (effect.transfer <= here.resumed) return;
    if (effect.freeze) {
      here.frozen = true;
      this.#world.froze(agent, here);
    }
    const checkpoint = checkpointOf(here);
    this.#step(running, { kind: "captured", round: effect.round, checkpoint });
    if (this.#world.mutant === "impatient" && effect.freeze)
      this.#later(120, () => {
        here.frozen = false;
        this.gates.get(agent)?.set("open", here.fence, this.name);
      });
  }

  #place(agent: string, fence: number, checkpoint: Checkpoint): void {
    if (this.#world.mutant === "corrupt") checkpoint.memory[5]! ^= 1;
    const made = agentOf(checkpoint, fence);
    this.#world.placed(this, agent, made);
    if (made !== undefined) this.agents.set(agent, made);
  }

  /** frame is one that arrived. */
  frame(from: string, frame: MigrationFrame): void {
    if (frameProblem(frame) !== undefined) return this.#world.violated(`a frame out of bounds: ${frame.kind}`);
    for (const running of [...this.running.values()]) {
      const { transfer, from: source, to } = running.migration;
      if (transfer === frame.transfer && from === (running.side === "source" ? to : source)) this.#step(running, { kind: "frame", frame });
    }
  }

  /** command of a client that reached this hub. */
  command(agent: string, command: Command): void {
    const gate = this.gates.get(agent);
    if (gate === undefined) {
      const elsewhere = this.#book.movedTo(this.name, agent) ?? this.#book.owner(agent);
      const hub = elsewhere === undefined ? undefined : "hub" in elsewhere ? elsewhere.hub : elsewhere.owner;
      return command.answer(hub === undefined || hub === this.name ? "retry" : { moved: hub });
    }
    const passed = gate.offer(this.#world.now(), command, 64);
    if (passed === "run") this.#passed(gate, { run: [command], fence: gate.fence, refused: [] });
    else if (passed !== "wait") command.answer(passed.reason === "MOVED" ? { moved: passed.facts?.["hub"] ?? "" } : "retry");
  }

  #passed(gate: AgentGate<Command>, passed: Passed<Command>): void {
    for (const { command, failure } of passed.refused)
      command.answer(failure.reason === "MOVED" ? { moved: failure.facts?.["hub"] ?? "" } : "retry");
    for (const command of passed.run) {
      const agent = this.agents.get(gate.agent);
      if (agent === undefined) {
        command.answer("retry");
        continue;
      }
      if (!agent.done.includes(command.serial)) agent.done.push(command.serial);
      this.#world.ran(this, gate.agent, gate.fence, command.serial);
      command.answer("done");
    }
  }
}

function unsealed(name: string, effect: Extract<DestinationEffect, { kind: "open" }>): Uint8Array | undefined {
  const lock = fastHash(Uint8Array.from([...sealKeyOf(name), ...effect.info, ...effect.aad]));
  const fits = lock.every((byte, at) => byte === effect.sealed[at]) && effect.sealed.length === 32 + effect.rawLength;
  return fits ? effect.sealed.slice(32) : undefined;
}

/** isEarly tells of an effect that it waits for nothing that is being written, as the driver has it. */
function isEarly(effect: SourceEffect | DestinationEffect): boolean {
  return effect.kind === "send" ? effect.early : effect.kind === "seal" || effect.kind === "open" || effect.kind === "stage";
}
