import type { Clock, Timer } from "#channel/clock.ts";
import type { PeerSessions } from "#kernel/session/machine.ts";
import type { SessionEffect, SessionInput } from "#kernel/session/rules.ts";

/** PumpOptions are what a pump works with. */
export interface PumpOptions {
  readonly clock: Clock;
  readonly machine: PeerSessions;
  /** look is called when it is time to look whether peers live, before the machine does. */
  look(): void;
  execute(effect: SessionEffect): void;
}

/** SessionPump gives the state machine of sessions its inputs one by one, does what it asks for, and wakes it when something is due. */
export class SessionPump {
  readonly #o: PumpOptions;
  /** Inputs that came while one was being handled (DC1). */
  readonly #inputs: SessionInput[] = [];
  #busy = false;
  #timer: Timer | undefined;
  #armedFor = Number.POSITIVE_INFINITY;

  constructor(options: PumpOptions) {
    this.#o = options;
  }

  /** step gives the state machine an input and does what it asks for; inputs that this causes wait their turn (DC1). */
  step(input: SessionInput): void {
    this.#inputs.push(input);
    if (!this.#busy) this.#pump();
  }

  /** stop lets nothing be due any more. */
  stop(): void {
    this.#timer?.cancel();
  }

  #pump(tick = false): void {
    this.#busy = true;
    const out: SessionEffect[] = [];
    try {
      if (tick || this.#o.clock.mono() >= this.#armedFor) this.#o.look();
      if (tick) this.#o.machine.tick(this.#o.clock.now(), out);
      this.#executeAll(out);
      for (let input = this.#inputs.shift(); input !== undefined; input = this.#inputs.shift()) {
        this.#o.machine.step(this.#o.clock.now(), input, out);
        this.#executeAll(out);
      }
    } finally {
      this.#busy = false;
    }
    this.#arm();
  }

  #executeAll(out: SessionEffect[]): void {
    for (const effect of out.splice(0)) this.#o.execute(effect);
  }

  #arm(): void {
    const due = this.#o.machine.deadline();
    if (due === undefined || due >= this.#armedFor) return;
    this.#timer?.cancel();
    this.#armedFor = due;
    this.#timer = this.#o.clock.setTimer(Math.max(0, due - this.#o.clock.mono()), () => {
      this.#armedFor = Number.POSITIVE_INFINITY;
      this.#pump(true);
    });
  }
}
