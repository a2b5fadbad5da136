import { assert } from "#kernel/assert.ts";
import type { Crypto } from "#kernel/crypto.ts";
import { Prng } from "#kernel/prng.ts";
import { CoordinationCore } from "../../services/coordination/core.ts";
import type {
  Answer,
  Effect,
  FederationStatus,
  FoundRequest,
  Frame,
  Input,
  Output,
  Request,
} from "../../services/coordination/messages.ts";
import type { AgentEffect, AgentInput } from "../../services/coordination/migration/hosting/messages.ts";
import type { RaftTuning } from "../../services/coordination/raft/config.ts";
import { MemoryStore } from "../fakes/memory-store.ts";
import { fastHash, feedKeyOf, simCrypto } from "../simulator/crypto.ts";

/** WALL is the wall clock at the start, ms. */
const WALL = 1_800_000_000_000;

/** Delivery of a frame between hubs, ms. */
const DELAY_MS = 2;

/** REBALANCE_MS is how often hubs with room for agents look whether some should move. */
export const REBALANCE_MS = 5_000;

interface Hub {
  readonly id: string;
  core: CoordinationCore;
  store: MemoryStore;
  running: boolean;
  life: number;
  /** When the core wants to be ticked, as it said after its last step; undefined: it has to be asked again. */
  due: number | undefined;
  readonly answers: Map<number, Answer | Extract<Output, { kind: "refused" }>>;
  readonly events: string[];
  /** Hubs that it reported. */
  readonly misconduct: string[];
  /** What it has counted. */
  readonly observed: string[];
  /** What the core wants of programs and keys, oldest first. */
  readonly agents: AgentEffect[];
}

/**
 * CoordinationHubs are cores of several hubs with sessions between them, on one clock that moves by itself: for specs of what hubs do
 * together. Disks are synchronous, frames take two milliseconds and arrive in order; the simulator has everything that is worse.
 */
export class CoordinationHubs {
  readonly #hubs = new Map<string, Hub>();
  readonly #cut = new Set<string>();
  #queue: { readonly at: number; readonly run: () => void }[] = [];
  readonly #forged = new Map<string, (frame: Frame, to: string) => Frame | readonly Frame[]>();
  #sent: (from: string, to: string, frame: Frame) => void = () => undefined;
  #raft: Partial<RaftTuning> = {};
  #rooms: Readonly<Record<string, number>> = {};
  readonly #steps = new Map<string, number>();
  #mono = 1_000;
  #calls = 0;

  constructor(...ids: readonly string[]) {
    for (const id of ids) {
      const store = new MemoryStore();
      this.#hubs.set(id, {
        id,
        core: this.#core(id, store, 1),
        store,
        running: true,
        life: 1,
        due: undefined,
        answers: new Map(),
        events: [],
        misconduct: [],
        observed: [],
        agents: [],
      });
    }
    for (const a of ids) for (const b of ids) if (a !== b) this.#give(a, { kind: "up", peer: b });
  }

  get now() {
    return { mono: this.#mono, wall: WALL + this.#mono };
  }

  /** tune sets times and bounds of replicas, for hubs that start from then on. */
  tune(raft: Partial<RaftTuning>): void {
    this.#raft = raft;
  }

  /** rooms sets for how many agents hubs have room, for hubs that start from then on. */
  rooms(rooms: Readonly<Record<string, number>>): void {
    this.#rooms = rooms;
  }

  /** step steps the wall clock of a hub, ms. */
  step(id: string, ms: number): void {
    this.#steps.set(id, (this.#steps.get(id) ?? 0) + ms);
  }

  /** at is the present instant as a hub reads its clocks. */
  at(id: string) {
    const { mono, wall } = this.now;
    return { mono, wall: wall + (this.#steps.get(id) ?? 0) };
  }

  core(id: string): CoordinationCore {
    return this.#hub(id).core;
  }

  /** crypto is that of a hub. */
  crypto(id: string): Crypto {
    return simCrypto(id);
  }

  /** agentEffects gives what the core of a hub wants of programs and keys since the last time. */
  agentEffects(id: string): AgentEffect[] {
    return this.#hub(id).agents.splice(0);
  }

  /** tellAgents gives a core what its shell would tell of programs and keys. */
  tellAgents(id: string, input: AgentInput): void {
    this.#give(id, { kind: "agent", input });
  }

  running(id: string): boolean {
    return this.#hub(id).running;
  }

  /** stored is what a hub has on its disk. */
  stored(id: string): MemoryStore {
    return this.#hub(id).store;
  }

  sealingKey(id: string): Uint8Array {
    return sealingKeyOf(id);
  }

  events(id: string): readonly string[] {
    return this.#hub(id).events;
  }

  /** observed is what a hub has counted. */
  observed(id: string): readonly string[] {
    return this.#hub(id).observed;
  }

  /** reported are hubs of which a hub has told that they broke the protocol. */
  reported(id: string): readonly string[] {
    return this.#hub(id).misconduct;
  }

  /** ask calls a hub and lets time pass until it answers; it throws what is refused. */
  ask<K extends Answer["kind"]>(id: string, kind: K, request: Request): Extract<Answer, { kind: K }> {
    const answer = this.wait(id, this.call(id, request));
    if (answer.kind === "refused") throw new Error(`${answer.failure.reason}: ${answer.failure.message}`);
    if (answer.kind !== kind) throw new Error(`${answer.kind} instead of ${kind}`);
    return answer as Extract<Answer, { kind: K }>;
  }

  /** status is how a federation stands at a hub. */
  status(id: string): FederationStatus {
    return this.ask(id, "status", { kind: "status" }).status;
  }

  /** found has hubs found the federation "street" together, and lets time pass until each of them can decide. */
  found(ids: readonly string[], more: Partial<Omit<FoundRequest, "kind" | "founders">> = {}): this {
    const [first = "", ...founders] = ids;
    this.advance(10);
    this.ask(first, "standing", {
      kind: "found",
      federationId: "street",
      name: "",
      engine: "raft",
      admission: "founder",
      ...more,
      founders,
    });
    this.advance(10);
    for (const id of founders) this.ask(id, "standing", { kind: "join", federationId: "street", via: "" });
    this.until(() => ids.every((id) => this.status(id).canDecide));
    return this;
  }

  call(id: string, request: Request): number {
    const call = ++this.#calls;
    this.#give(id, { kind: "call", call, request });
    return call;
  }

  /** answered is what a call got so far. */
  answered(id: string, call: number): Answer | Extract<Output, { kind: "refused" }> | undefined {
    return this.#hub(id).answers.get(call);
  }

  wait(id: string, call: number, forMs = 20_000): Answer | Extract<Output, { kind: "refused" }> {
    const { answers } = this.#hub(id);
    this.until(() => answers.has(call), forMs);
    return answers.get(call)!;
  }

  /** until lets time pass until something holds; it throws after a while. */
  until(holds: () => boolean, forMs = 20_000): void {
    for (const end = this.#mono + forMs; !holds(); this.advance(1))
      if (this.#mono > end)
        throw new Error(
          `it does not come true:\n${[...this.#hubs.values()].map((hub) => `${hub.id}: ${hub.events.join("; ")}`).join("\n")}\n${[...this.#hubs.values()].map((hub) => `${hub.id}: ${hub.core.describe()}`).join("\n")}`,
        );
  }

  advance(ms: number): void {
    for (const end = this.#mono + ms; this.#mono < end; this.#mono++) {
      const due = this.#queue.filter(({ at }) => at <= this.#mono);
      this.#queue = this.#queue.filter(({ at }) => at > this.#mono);
      for (const { run } of due) run();
      for (const hub of this.#hubs.values()) {
        if (!hub.running) continue;
        hub.due ??= hub.core.deadline() ?? Number.POSITIVE_INFINITY;
        assert(!Number.isNaN(hub.due), "a deadline is an instant");
        if (hub.due > this.#mono) continue;
        const out: Effect[] = [];
        hub.due = undefined;
        hub.core.tick(this.at(hub.id), out);
        this.#route(hub, out);
      }
    }
  }

  /** starve lets time pass in which no hub runs, as on a machine that has other things to do. */
  starve(ms: number): void {
    // Each has said before when it wants to be called.
    this.advance(1);
    this.#mono += ms;
    this.advance(1);
  }

  /** cut ends the sessions of a hub with others, or of two hubs. */
  cut(a: string, b?: string): void {
    for (const other of this.#hubs.keys()) {
      if (other === a || (b !== undefined && other !== b)) continue;
      this.#cut.add(key(a, other));
      this.#give(a, { kind: "down", peer: other });
      this.#give(other, { kind: "down", peer: a });
    }
  }

  heal(): void {
    for (const pair of this.#cut) {
      const [a = "", b = ""] = pair.split(" ");
      this.#give(a, { kind: "up", peer: b });
      this.#give(b, { kind: "up", peer: a });
    }
    this.#cut.clear();
  }

  /** renew replaces the session of a hub with a peer; the peer moved to it, and greeted on it, before. */
  renew(id: string, peer: string): void {
    this.#give(id, { kind: "up", peer });
  }

  /** restart ends a hub and starts it again on what it stored. */
  restart(id: string): void {
    this.stop(id);
    this.start(id);
  }

  stop(id: string): void {
    const hub = this.#hub(id);
    hub.running = false;
    for (const other of this.#hubs.values()) if (other !== hub) this.#give(other.id, { kind: "down", peer: id });
  }

  /** backup is a copy of what a hub has stored, for `start`. */
  backup(id: string): MemoryStore {
    return this.#hub(id).store.backup();
  }

  /** watch calls back for each frame that is sent. */
  watch(sent: (from: string, to: string, frame: Frame) => void): void {
    this.#sent = sent;
  }

  /** forge changes what a hub sends, before it is sent: to another frame, or to any number of them. */
  forge(id: string, change: (frame: Frame, to: string) => Frame | readonly Frame[]): void {
    this.#forged.set(id, change);
  }

  /** say has a hub send a frame of which its core knows nothing. */
  say(from: string, to: string, frame: Frame): void {
    this.#send(from, to, frame);
  }

  /** start starts a hub that was stopped: on what it stored, or on what was put back instead; `doubt` is what its witness says to that. */
  start(id: string, store?: MemoryStore, doubt?: string): void {
    const hub = this.#hub(id);
    hub.store = store ?? hub.store.crash("process");
    hub.core = this.#core(id, hub.store, ++hub.life, doubt);
    hub.due = undefined;
    hub.running = true;
    for (const other of this.#hubs.values())
      if (other !== hub && other.running) {
        this.#give(other.id, { kind: "up", peer: id });
        this.#give(id, { kind: "up", peer: other.id });
      }
  }

  #core(id: string, stored: MemoryStore, life: number, doubt?: string): CoordinationCore {
    const core = new CoordinationCore({
      hubId: id,
      publicKey: feedKeyOf(id),
      sealingKey: sealingKeyOf(id),
      crypto: simCrypto(id),
      // Dice of its own for each hub: with the same ones hubs that start at once would ask for votes at once, for ever.
      prng: new Prng([...id].reduce((sum, char) => (Math.imul(sum, 31) + char.charCodeAt(0)) >>> 0, 0) + life),
      life,
      doubt,
      endpoint: () => ({ host: id, port: 18_804 }),
      stored,
      tuning: {
        raft: this.#raft,
        patienceMs: 5_000,
        graceMs: 3_000,
        livenessMs: 1_000,
        agentsMax: this.#rooms[id] ?? 0,
        rebalanceMs: REBALANCE_MS,
      },
    });
    core.restore(this.at(id));
    return core;
  }

  #give(id: string, input: Input): void {
    const hub = this.#hub(id);
    if (!hub.running) return;
    const out: Effect[] = [];
    hub.due = undefined;
    hub.core.step(this.at(id), input, out);
    this.#route(hub, out);
  }

  #route(hub: Hub, out: readonly Effect[]): void {
    for (const effect of out)
      switch (effect.kind) {
        case "persist": {
          const outcome = hub.store.commit(effect.ops) as { ok: boolean; message?: string };
          if (!outcome.ok) throw new Error(outcome.message);
          break;
        }
        case "send":
          for (const frame of [this.#forged.get(hub.id)?.(effect.frame, effect.peer) ?? effect.frame].flat())
            this.#send(hub.id, effect.peer, frame);
          break;
        case "stored": {
          const { mark } = effect;
          this.#later(() => this.#give(hub.id, { kind: "stored", mark }), 0);
          break;
        }
        case "event":
          hub.events.push(effect.message);
          break;
        case "misconduct":
          hub.misconduct.push(effect.hubId);
          break;
        case "agent":
          hub.agents.push(effect.effect);
          break;
        case "observe":
          hub.observed.push(effect.what);
          break;
        case "witnessed":
        case "dialled":
          break;
        default:
          hub.answers.set(effect.call, effect);
      }
  }

  #send(from: string, to: string, frame: Frame): void {
    this.#sent(from, to, frame);
    this.#later(() => this.#deliver(from, to, frame));
  }

  #deliver(from: string, to: string, frame: Frame): void {
    if (this.#cut.has(key(from, to)) || !this.#hub(from).running || !this.#hubs.has(to)) return;
    this.#give(to, { kind: "frame", peer: from, frame });
  }

  #later(run: () => void, delay = DELAY_MS): void {
    this.#queue.push({ at: this.#mono + delay, run });
  }

  #hub(id: string): Hub {
    return this.#hubs.get(id)!;
  }
}

function sealingKeyOf(id: string): Uint8Array {
  return fastHash(new TextEncoder().encode(id), 5);
}

function key(a: string, b: string): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`;
}
