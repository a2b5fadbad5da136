import type { BackoffConfig } from "#kernel/backoff.ts";
import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import { Prng } from "#kernel/prng.ts";
import { PeerSessions } from "#kernel/session/machine.ts";
import {
  DEFAULT_SESSION_TIMES,
  type SessionConfig,
  type SessionEffect,
  type SessionId,
  type SessionInput,
  showId,
} from "#kernel/session/rules.ts";

export const GONE: Failure = { reason: "PEER_UNREACHABLE", message: "the connection is gone" };
const REFUSED: Failure = { reason: "PEER_UNREACHABLE", message: "nothing listens at the address" };
const WALL = 1_800_000_000_000;
/** How long an end that says TERMINATED waits for the other one. */
const CLOSE_TIMEOUT_MS = 5_000;

/** sessionConfig is a configuration with the times of the requirements. */
export function sessionConfig(hubId: string, incarnation: number, more: Partial<SessionConfig> = {}): SessionConfig {
  return {
    hubId,
    incarnation,
    packages: ["foedus.test.v1"],
    minLevel: 1,
    needsToken: false,
    synchronises: false,
    ...DEFAULT_SESSION_TIMES,
    ...more,
  };
}

interface End {
  readonly hub: SimHub;
  readonly streamId: number;
  over: boolean;
  /** Earliest instant at which this end hears the next thing: streams are ordered. */
  hearsFrom: number;
}

/** Wire is one stream between two hubs. */
interface Wire {
  readonly ends: End[];
  readonly id: SessionId;
  /** A half-open link: nothing arrives any more, and nobody is told. */
  silent: boolean;
}

interface HubOptions {
  readonly hubId: string;
  readonly config: SessionConfig;
  readonly seed: number;
  readonly backoff: BackoffConfig | undefined;
}

class SimHub {
  fsm: PeerSessions;
  incarnation = 1;
  readonly wires = new Map<number, Wire>();
  /** Whether this hub knows where the others are reached, and the network lets it. */
  dialable = true;
  readonly options: HubOptions;

  constructor(options: HubOptions) {
    this.options = options;
    this.fsm = this.#make();
  }

  get hubId(): string {
    return this.options.hubId;
  }
  #make(): PeerSessions {
    return new PeerSessions(
      { ...this.options.config, incarnation: this.incarnation },
      new Prng(this.options.seed + this.incarnation),
      this.options.backoff,
    );
  }
  restart(): void {
    this.incarnation++;
    this.fsm = this.#make();
    this.wires.clear();
  }
}

/** Event that happened at a hub, for checks. */
export interface WorldEvent {
  readonly at: number;
  readonly hub: string;
  readonly effect: SessionEffect;
}

/** SessionWorld lets state machines of several hubs meet over a network that a seed decides about. */
export class SessionWorld {
  mono = 0;
  readonly hubs = new Map<string, SimHub>();
  readonly events: WorldEvent[] = [];
  /** Connections are neither made nor refused: packets vanish. */
  partitioned = false;
  readonly #prng: Prng;
  readonly #maxDelayMs: number;
  readonly #queue: { readonly at: number; readonly order: number; readonly run: () => void }[] = [];
  #order = 0;
  #busy = false;

  constructor(seed: number, maxDelayMs = 300) {
    this.#prng = new Prng(seed);
    this.#maxDelayMs = maxDelayMs;
  }

  addHub(hubId: string, more: Partial<SessionConfig> = {}, backoff?: BackoffConfig): void {
    this.hubs.set(hubId, new SimHub({ hubId, config: sessionConfig(hubId, 1, more), seed: this.#prng.u32(), backoff }));
  }

  now(): Now {
    return { mono: this.mono, wall: WALL + this.mono };
  }

  hub(hubId: string): SimHub {
    return this.hubs.get(hubId) as SimHub;
  }

  /** want makes a hub know another. */
  want(hubId: string, peer: string, dialable = true): void {
    this.step(this.hub(hubId), { kind: "peer_wanted", peer, dialable, level: 3, expiresAtWall: 0 });
  }

  current(hubId: string, peer: string): string | undefined {
    const session = this.hub(hubId).fsm.current(peer);
    return session === undefined ? undefined : showId(session.id);
  }

  /** openWires counts streams of which at least one end is still in use. */
  openWires(): number {
    return new Set([...this.hubs.values()].flatMap((hub) => [...hub.wires.values()])).size;
  }

  /** cut ends a stream as a lost connection does: both ends learn of it, one of them perhaps never. */
  cut(hubId: string, index: number, half: boolean): void {
    const wires = [...this.hub(hubId).wires.values()];
    const wire = wires[index % Math.max(1, wires.length)];
    if (wire === undefined) return;
    if (half) wire.silent = true;
    else for (const end of wire.ends) this.#over(wire, end, GONE);
  }

  restart(hubId: string, half: boolean): void {
    const hub = this.hub(hubId);
    for (const wire of hub.wires.values()) {
      wire.silent = true;
      for (const end of wire.ends) {
        if (end.hub === hub) end.over = true;
        else if (!half) this.#later(this.#delay(), () => this.#over(wire, end, GONE));
      }
    }
    hub.restart();
    for (const peer of this.hubs.keys()) if (peer !== hubId) this.want(hubId, peer, hub.dialable);
  }

  step(hub: SimHub, input: SessionInput): void {
    const out: SessionEffect[] = [];
    hub.fsm.step(this.now(), input, out);
    this.#execute(hub, out);
  }

  /** run lets `ms` pass. It fails when something spins. */
  run(ms: number): void {
    if (this.#busy) throw new Error("the world runs already");
    this.#busy = true;
    const end = this.mono + ms;
    for (let steps = 0; ; steps++) {
      if (steps > 200_000) throw new Error(`no rest at ${this.mono} ms:\n${this.describe()}`);
      const next = this.#next(end);
      if (next === undefined) break;
      this.mono = Math.max(this.mono, next.at);
      next.run();
    }
    this.mono = end;
    this.#busy = false;
  }

  describe(): string {
    return [...this.hubs.values()].map((hub) => `${hub.hubId}\n${hub.fsm.describe()}`).join("\n");
  }

  #next(end: number): { readonly at: number; readonly run: () => void } | undefined {
    let best: { at: number; order: number; run: () => void } | undefined;
    for (const item of this.#queue)
      if (best === undefined || item.at < best.at || (item.at === best.at && item.order < best.order)) best = item;
    let due: { at: number; run: () => void } | undefined = best;
    for (const hub of this.hubs.values()) {
      const at = hub.fsm.deadline();
      if (at !== undefined && (due === undefined || at < due.at)) due = { at, run: () => this.#tick(hub) };
    }
    if (due === undefined || due.at > end) return undefined;
    if (best !== undefined && due === best) this.#queue.splice(this.#queue.indexOf(best), 1);
    return due;
  }

  #tick(hub: SimHub): void {
    const out: SessionEffect[] = [];
    hub.fsm.tick(this.now(), out);
    this.#execute(hub, out);
  }

  #delay(): number {
    return 1 + this.#prng.below(this.#maxDelayMs);
  }

  #later(ms: number, run: () => void): void {
    this.#queue.push({ at: this.mono + ms, order: this.#order++, run });
  }

  /** tell delivers an input to the end of a wire, in order with what was told to it before. */
  #tell(wire: Wire, end: End, input: () => SessionInput): void {
    const at = Math.max(this.mono + this.#delay(), end.hearsFrom);
    end.hearsFrom = at;
    this.#queue.push({
      at,
      order: this.#order++,
      run: () => {
        if (!end.over && !wire.silent && end.hub.wires.get(end.streamId) === wire) this.step(end.hub, input());
      },
    });
  }

  #over(wire: Wire, end: End, failure: Failure): void {
    if (end.over) return;
    end.over = true;
    if (end.hub.wires.get(end.streamId) !== wire) return;
    end.hub.wires.delete(end.streamId);
    this.step(end.hub, { kind: "stream_ended", streamId: end.streamId, failure });
  }

  #execute(hub: SimHub, effects: readonly SessionEffect[]): void {
    for (const effect of effects) {
      this.events.push({ at: this.mono, hub: hub.hubId, effect });
      if (effect.kind === "dial") this.#dial(hub, effect.peer, effect.streamId);
      else if (effect.kind === "send_control") this.#send(hub, effect);
      else if (effect.kind === "close") this.#close(hub, effect);
    }
  }

  #dial(hub: SimHub, peer: string, streamId: number): void {
    const id = { dialer: hub.hubId, incarnation: hub.incarnation, n: streamId };
    const mine: End = { hub, streamId, over: false, hearsFrom: this.mono };
    const wire: Wire = { ends: [mine], id, silent: false };
    hub.wires.set(streamId, wire);
    if (this.partitioned) return;
    this.#later(this.#delay(), () => {
      if (mine.over || this.partitioned) return;
      const other = this.hub(peer);
      if (!this.hub(hub.hubId).dialable) return this.#over(wire, mine, REFUSED);
      const theirs: End = { hub: other, streamId: other.fsm.allocate(), over: false, hearsFrom: this.mono };
      wire.ends.push(theirs);
      other.wires.set(theirs.streamId, wire);
      this.#tell(wire, mine, () => ({ kind: "dial_opened", streamId }));
      this.step(other, { kind: "inbound_opened", streamId: theirs.streamId, peer: hub.hubId, expiresAtWall: 0 });
    });
  }

  #send(hub: SimHub, effect: Extract<SessionEffect, { kind: "send_control" }>): void {
    const wire = hub.wires.get(effect.streamId);
    const other = wire?.ends.find((end) => end.hub !== hub);
    if (wire === undefined || other === undefined) return;
    const { streamId } = other;
    const { frame } = effect;
    if (frame.case === "open")
      this.#tell(wire, other, () => ({
        kind: "open_received",
        streamId,
        hubId: hub.hubId,
        incarnation: frame.id.incarnation,
        n: frame.id.n,
        packages: ["foedus.test.v1"],
      }));
    else if (frame.case === "ping") this.#tell(wire, other, () => ({ kind: "ping_received", streamId, n: frame.n }));
    else if (frame.case === "pong") this.#tell(wire, other, () => ({ kind: "pong_received", streamId, n: frame.n }));
  }

  #close(hub: SimHub, effect: Extract<SessionEffect, { kind: "close" }>): void {
    const wire = hub.wires.get(effect.streamId);
    if (wire === undefined) return;
    const mine = wire.ends.find((end) => end.hub === hub) as End;
    const other = wire.ends.find((end) => end.hub !== hub);
    if (other === undefined) return this.#later(0, () => this.#over(wire, mine, effect.failure));
    if (other.over) return this.#later(0, () => this.#over(wire, mine, effect.failure));
    this.#tell(wire, other, () => ({
      kind: "terminated_received",
      streamId: other.streamId,
      failure: effect.failure,
      reconnect: effect.reconnect,
    }));
    this.#later(wire.silent ? CLOSE_TIMEOUT_MS : this.#maxDelayMs * 3, () => {
      this.#over(wire, mine, effect.failure);
      if (!wire.silent) this.#over(wire, other, effect.failure);
    });
  }
}
