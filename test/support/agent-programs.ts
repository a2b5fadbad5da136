import { inDomain } from "#kernel/wire/bytes.ts";
import { type Checkpoint, wholeOf } from "../../services/coordination/migration/checkpoint/checkpoint.ts";
import type { AgentEffect, AskReply, AskSpec, OfferedAgent } from "../../services/coordination/migration/hosting/messages.ts";
import { fastHash, feedKeyOf, simCrypto } from "../simulator/crypto.ts";
import type { CoordinationHubs } from "./coordination-hubs.ts";

/** Resident is an agent of a program, as the program's disk has it. */
interface Resident {
  fence: number;
  count: number;
  frozen: boolean;
  resumed: number;
  /** The hub said that it may run, or started it. */
  runs: boolean;
}

/** Program is what stands for a program with agents that count, at one hub. */
interface Program {
  host: number;
  readonly agents: Map<string, Resident>;
  readonly moved: Map<string, string>;
  readonly failures: string[];
}

/**
 * AgentPrograms are programs at hubs that are cores (CoordinationHubs), one at each: they answer what the cores ask for, and stand for what
 * seals and opens. Programs outlive their hubs.
 */
export class AgentPrograms {
  readonly #hubs: CoordinationHubs;
  readonly #programs = new Map<string, Program>();
  readonly #kinds: readonly string[];
  readonly #muted = new Set<string>();
  #nextHost = 1;
  /** Bytes that each agent has beside its count. */
  ballast = 100_000;

  constructor(hubs: CoordinationHubs, ids: readonly string[], kinds: readonly string[] = ["counting"]) {
    this.#hubs = hubs;
    this.#kinds = kinds;
    for (const id of ids) this.#programs.set(id, { host: 0, agents: new Map(), moved: new Map(), failures: [] });
  }

  program(id: string): Program {
    return this.#programs.get(id)!;
  }

  /** create puts a new agent into the program of a hub. */
  create(id: string, agent: string): void {
    this.program(id).agents.set(agent, { fence: 0, count: 0, frozen: false, resumed: 0, runs: false });
    if (this.program(id).host !== 0) this.#say(id);
  }

  /** connect connects the program of a hub, as after a cut. */
  connect(id: string): void {
    const program = this.program(id);
    if (program.host !== 0) this.#hubs.tellAgents(id, { kind: "host_gone", host: program.host });
    program.host = this.#nextHost++;
    this.#hubs.agentEffects(id);
    this.#say(id);
  }

  /** add counts at an agent; false if it does not run there. */
  add(id: string, agent: string): boolean {
    const resident = this.program(id).agents.get(agent);
    if (resident?.runs !== true || resident.frozen) return false;
    resident.count++;
    return true;
  }

  /** running lists the hubs whose program runs an agent. */
  running(agent: string): string[] {
    return [...this.#programs.keys()].filter((id) => {
      const resident = this.program(id).agents.get(agent);
      return resident?.runs === true && !resident.frozen;
    });
  }

  /** until lets time pass, with programs answering, until something holds. */
  until(holds: () => boolean, forMs = 120_000): void {
    this.#hubs.until(() => {
      this.pump();
      return holds();
    }, forMs);
  }

  /** mute has the program of a hub, and what seals and opens there, answer nothing until it is let speak again. */
  mute(id: string, muted = true): void {
    if (muted) this.#muted.add(id);
    else this.#muted.delete(id);
  }

  /** pump answers what the cores have asked for. */
  pump(): void {
    for (const id of this.#programs.keys())
      if (!this.#muted.has(id)) for (const effect of this.#hubs.agentEffects(id)) this.#one(id, effect);
  }

  #say(id: string): void {
    const { host, agents, moved } = this.program(id);
    const nodeKey = (agent: string) => feedKeyOf(`node ${agent}`);
    const offered: OfferedAgent[] = [...agents].map(([agent, { fence }]) => ({ agent, nodeKey: nodeKey(agent), fence }));
    for (const agent of moved.keys()) if (!agents.has(agent)) offered.push({ agent, nodeKey: nodeKey(agent), fence: 0 });
    this.#hubs.tellAgents(id, { kind: "host", host, principal: `program-${id}`, offer: { agents: offered, kinds: this.#kinds } });
  }

  #one(id: string, effect: AgentEffect): void {
    switch (effect.kind) {
      case "hosted":
        if (effect.host !== this.program(id).host) return;
        for (const { agent, fence, runs, movedTo, failure } of effect.agents) {
          const resident = this.program(id).agents.get(agent);
          if (movedTo !== "") this.program(id).moved.set(agent, movedTo);
          if (failure !== undefined) this.program(id).failures.push(failure.message);
          if (resident === undefined) continue;
          if (resident.fence === 0 && movedTo === "" && failure === undefined) resident.fence = fence;
          if (resident.fence === fence || !runs) resident.runs = runs;
        }
        return;
      case "ask": {
        if (effect.host !== this.program(id).host) return;
        const reply = this.#carryOut(id, effect.spec);
        return this.#hubs.tellAgents(id, { kind: "replied", host: effect.host, ask: effect.ask, reply });
      }
      case "seal": {
        const { transfer, round, numbers, key, info, aad, raw } = effect;
        const lock = fastHash(Uint8Array.from([...key, ...info, ...aad]));
        const parcel = { enc: key, sealed: Uint8Array.from([...lock, ...raw]) };
        return this.#hubs.tellAgents(id, { kind: "sealed", transfer, round, numbers, parcel });
      }
      case "open": {
        const { transfer, round, numbers, info, aad, sealed, rawLength } = effect;
        const lock = fastHash(Uint8Array.from([...this.#hubs.sealingKey(id), ...info, ...aad]));
        const fits = lock.every((byte, at) => byte === sealed[at]) && sealed.length === 32 + rawLength;
        return this.#hubs.tellAgents(id, { kind: "opened", transfer, round, numbers, raw: fits ? sealed.slice(32) : undefined });
      }
    }
  }

  #carryOut(id: string, spec: AskSpec): AskReply {
    const { agents, moved } = this.program(id);
    const { agent, fence, deed, transfer } = spec;
    const resident = agents.get(agent);
    if (deed === "START") {
      if (resident === undefined || resident.fence < fence) {
        agents.set(agent, { fence, count: countIn(wholeOf(spec.checkpoint!)), frozen: false, resumed: 0, runs: true });
        moved.delete(agent);
        this.#say(id);
      }
      return {};
    }
    if (deed === "DISCARD") {
      if (resident !== undefined && resident.fence <= fence) agents.delete(agent);
      moved.set(agent, spec.hub);
      return {};
    }
    if (resident?.fence !== fence) return { failure: { reason: "MIGRATION_STEP", message: `${agent} has another fence` } };
    switch (deed) {
      case "CAPTURE":
      case "FREEZE":
        if (transfer <= resident.resumed) return { failure: { reason: "MIGRATION_STEP", message: "resumed" } };
        if (deed === "FREEZE") resident.frozen = true;
        return { checkpoint: this.#checkpointOf(resident) };
      case "CLAIM":
        return { signature: simCrypto(`node ${agent}`).sign(inDomain("foedus.agent-claim.v1", spec.claim)) };
      case "RESUME":
        if (spec.checkpoint !== undefined) resident.count = countIn(wholeOf(spec.checkpoint));
        resident.frozen = false;
        resident.runs = true;
        resident.resumed = Math.max(resident.resumed, transfer);
        return {};
    }
  }

  #checkpointOf({ count }: Resident): Checkpoint {
    const memory = Uint8Array.from({ length: this.ballast }, (_none, at) => (Math.imul(at + 1, 2654435761) >>> 13) & 0xff);
    new DataView(memory.buffer).setUint32(0, count);
    return { memory, context: new TextEncoder().encode(`counted ${count}`), progress: 0, dependencies: ["counting"] };
  }
}

/** countIn reads the count of a checkpoint; it throws for one that is not whole. */
function countIn({ memory, context, dependencies }: Checkpoint): number {
  const count = new DataView(memory.buffer, memory.byteOffset).getUint32(0);
  const whole = new TextDecoder().decode(context) === `counted ${count}` && dependencies.join() === "counting";
  if (!whole) throw new Error("the checkpoint is not what it was");
  return count;
}
