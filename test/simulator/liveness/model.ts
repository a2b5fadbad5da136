import type { Now } from "#kernel/instant.ts";
import { Prng } from "#kernel/prng.ts";
import { Detector } from "../../../services/coordination/liveness/detector.ts";
import type { LivenessFrame } from "../../../services/coordination/liveness/frames.ts";
import type { LivenessEffect, LivenessInput } from "../../../services/coordination/liveness/messages.ts";
import { DEFAULT_LIVENESS, type LivenessConfig } from "../../../services/coordination/liveness/settings.ts";
import { Scheduler, type Task } from "../scheduler.ts";
import { Plain } from "./plain.ts";
import { type Death, deathOf, Tally } from "./tally.ts";

/** ModelOptions are one run. */
export interface ModelOptions {
  readonly seed: number;
  readonly hubs: number;
  /** Hubs that are starved of CPU: the first ones. */
  readonly starved: number;
  readonly minutes: number;
  /** Part of the messages that is lost. */
  readonly loss: number;
  /** Longest pause, ms; shorter ones are drawn from a heavy tail. */
  readonly longestMs: number;
  /** Whether hubs die. */
  readonly deaths?: boolean;
  /** Changes to the settings, and to how a core is called: for mutants. */
  readonly settings?: Partial<LivenessConfig>;
  readonly wrap?: (core: Detector) => Core;
}

/** Core is the part of a detector that a hub of the model calls. */
export interface Core {
  step(now: Now, input: LivenessInput, out: LivenessEffect[]): void;
  tick(now: Now, out: LivenessEffect[]): void;
  deadline(): number | undefined;
}

type Message = { readonly from: string; readonly frame: LivenessFrame | "heartbeat" };

const INTERVAL_MS = 1_000;
/** Dead hubs come back after this. */
const DEAD_MS = 40_000;

/** Hub is one process: both detectors, one event loop. */
class Hub {
  readonly name: string;
  readonly starved: boolean;
  core!: Core;
  plain!: Plain;
  boot = 0;
  alive = true;
  death: Death | undefined;
  /** Until when the event loop does nothing. */
  stalledUntil = 0;
  inbox: Message[] = [];
  timer: Task | undefined;
  /** Who it suspects at the moment, by our detector. */
  readonly doubts = new Set<string>();

  constructor(name: string, starved: boolean) {
    this.name = name;
    this.starved = starved;
  }
}

/**
 * Model runs both detectors in the same processes over the same network with the same pauses. After a pause an event loop first runs the
 * timers that are due, then what came meanwhile: as Node does.
 */
class Model {
  readonly #options: ModelOptions;
  readonly #prng: Prng;
  readonly #scheduler = new Scheduler();
  readonly #hubs: Hub[];
  readonly tally = new Tally();

  constructor(options: ModelOptions) {
    this.#options = options;
    this.#prng = new Prng(options.seed);
    this.#hubs = Array.from({ length: options.hubs }, (_, i) => new Hub(`h${i}`, i < options.starved));
    for (const hub of this.#hubs) this.#boot(hub);
    for (const hub of this.#hubs) this.#scheduler.after(this.#prng.unit() * 20_000, () => this.#stallNow(hub));
    if (options.deaths !== false) this.#scheduler.after(60_000, () => this.#kill());
  }

  run(): Tally {
    while (this.#scheduler.next(this.#options.minutes * 60_000));
    return this.tally;
  }

  #boot(hub: Hub): void {
    const names = this.#hubs.map(({ name }) => name);
    hub.boot++;
    hub.alive = true;
    hub.inbox = [];
    hub.doubts.clear();
    const config = { ...DEFAULT_LIVENESS, intervalMs: INTERVAL_MS, ...this.#options.settings, hubId: hub.name, boot: hub.boot };
    const core = new Detector(config, new Prng(this.#prng.u32()));
    hub.core = this.#options.wrap?.(core) ?? core;
    // A process begins at a moment of its own.
    const mono = this.#scheduler.now + this.#prng.unit() * INTERVAL_MS;
    hub.stalledUntil = mono;
    hub.plain = new Plain(
      names.filter((name) => name !== hub.name),
      INTERVAL_MS,
      mono,
    );
    this.#scheduler.at(mono, () => {
      this.#step(hub, { kind: "members", members: names.map((name) => ({ hub: name, failed: false })) });
      this.#arm(hub);
    });
  }

  /** A pause: long ones are rare (Pareto), and sometimes many short ones come one after the other (a busy loop). */
  #stallNow(hub: Hub): void {
    const { longestMs } = this.#options;
    let next = 10_000 + this.#prng.unit() * 30_000;
    if (hub.alive) {
      const tail = (least: number, power: number): number => least / (1 - this.#prng.unit()) ** (1 / power);
      if (!hub.starved) {
        hub.stalledUntil = this.#scheduler.now + Math.min(400, tail(5, 1.2));
        next = this.#prng.unit() * 4_000;
      } else if (this.#prng.chance(0.5)) hub.stalledUntil = this.#scheduler.now + Math.min(longestMs, tail(800, 0.8));
      else {
        hub.stalledUntil = this.#scheduler.now + Math.min(longestMs, tail(60, 1));
        next = hub.stalledUntil - this.#scheduler.now + this.#prng.unit() * 300;
      }
    }
    this.#scheduler.after(next, () => this.#stallNow(hub));
    this.#arm(hub);
  }

  #kill(): void {
    const now = this.#scheduler.now;
    // A death at the very end would not be found by anybody.
    if (now > this.#options.minutes * 60_000 - DEAD_MS) return;
    const able = this.#hubs.filter((hub) => {
      const doubted = this.#hubs.some((other) => other.plain.suspects(hub.name) || other.doubts.has(hub.name));
      return hub.alive && now > hub.stalledUntil && !doubted && this.#hubs.every(({ alive }) => alive);
    });
    const hub = able[this.#prng.below(Math.max(1, able.length))];
    if (hub !== undefined) {
      hub.alive = false;
      if (hub.timer !== undefined) this.#scheduler.cancel(hub.timer);
      hub.death = deathOf(hub.name, now, hub.starved, this.#hubs.length - 1);
      this.tally.deaths.push(hub.death);
      this.#scheduler.after(DEAD_MS, () => this.#boot(hub));
    }
    this.#scheduler.after(hub === undefined ? 1_000 : 90_000 + this.#prng.unit() * 90_000, () => this.#kill());
  }

  #arm(hub: Hub): void {
    if (hub.timer !== undefined) this.#scheduler.cancel(hub.timer);
    if (!hub.alive) return;
    const timers = Math.min(hub.core.deadline() ?? Number.POSITIVE_INFINITY, hub.plain.deadline());
    const due = hub.inbox.length > 0 ? this.#scheduler.now : timers;
    hub.timer = this.#scheduler.at(Math.max(due, hub.stalledUntil, this.#scheduler.now), () => this.#turn(hub));
  }

  /** One turn of the event loop. */
  #turn(hub: Hub): void {
    hub.timer = undefined;
    this.#timers(hub);
    const inbox = hub.inbox;
    hub.inbox = [];
    for (const { from, frame } of inbox) {
      this.#timers(hub);
      const sender = this.#hubs.find(({ name }) => name === from) as Hub;
      // What a process said before it came back is no news of it.
      if (sender.alive) sender.death = undefined;
      if (frame === "heartbeat") hub.plain.heard(from, this.#scheduler.now);
      else this.#step(hub, { kind: "frame", from, frame });
    }
    this.#arm(hub);
  }

  #timers(hub: Hub): void {
    const now = this.#scheduler.now;
    for (let i = 0; i < 64 && (hub.core.deadline() ?? now + 1) <= now; i++) {
      const out: LivenessEffect[] = [];
      hub.core.tick({ mono: now, wall: now }, out);
      this.#effects(hub, out);
    }
    if (hub.plain.deadline() > now) return;
    const { beat, suspects } = hub.plain.tick(now);
    for (const subject of suspects) this.#note("plain", hub, subject);
    if (beat) for (const other of this.#hubs) if (other !== hub) this.#send(hub, other, "heartbeat");
  }

  #step(hub: Hub, input: LivenessInput): void {
    const out: LivenessEffect[] = [];
    hub.core.step({ mono: this.#scheduler.now, wall: this.#scheduler.now }, input, out);
    this.#effects(hub, out);
  }

  #effects(hub: Hub, out: readonly LivenessEffect[]): void {
    for (const effect of out)
      if (effect.kind === "send") this.#send(hub, this.#hubs.find(({ name }) => name === effect.to) as Hub, effect.frame);
      else if (effect.kind === "suspected") {
        hub.doubts.add(effect.hub);
        this.#note("suspected", hub, effect.hub);
      } else if (effect.kind === "cleared") hub.doubts.delete(effect.hub);
      else if (effect.kind === "observe" && effect.what === "held" && hub.starved) this.tally.held++;
      else if (effect.kind === "accuse") this.#note("accused", hub, effect.hub);
  }

  /** Accusations that are repeated until the book has them count once. */
  readonly #accused = new Map<string, number>();

  #note(found: "plain" | "suspected" | "accused", observer: Hub, subject: string): void {
    const hub = this.#hubs.find(({ name }) => name === subject) as Hub;
    const key = `${observer.name} ${subject}`;
    if (found === "suspected") this.#accused.delete(key);
    if (found === "accused") {
      if (this.#accused.has(key)) return;
      this.#accused.set(key, this.#scheduler.now);
    }
    this.tally.note(found, this.#scheduler.now, { hub: observer.name, starved: observer.starved }, hub.starved, hub.death);
  }

  #send(from: Hub, to: Hub, frame: Message["frame"]): void {
    if (this.#prng.chance(this.#options.loss)) return;
    const delay = 1 + Math.min(1_500, 2 / (1 - this.#prng.unit()) ** (1 / 1.1));
    this.#scheduler.after(delay, () => {
      if (!to.alive) return;
      to.inbox.push({ from: from.name, frame });
      if (to.inbox.length === 1) this.#arm(to);
    });
  }
}

/** runModel runs both detectors once. */
export function runModel(options: ModelOptions): Tally {
  return new Model(options).run();
}
