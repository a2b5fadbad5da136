import type { Clock, Timer } from "#channel/clock.ts";

/** How long a reader waits for a hub's sign of life, once it is asked for. */
const TIMEOUT_MS = 1_000;
/**
 * A hub is asked no more often than this, whoever reads. It may ask as often itself, and each question and each answer counts: a session
 * ends at 64 common frames in 10 s.
 */
const EVERY_MS = 500;

/** Asked is one hub that somebody waits for, or waited for lately. */
interface Asked {
  readonly waiting: Set<() => void>;
  sentAt: number;
  /** The next question, if it must wait for its time. */
  next: Timer | undefined;
}

/** Probes ask hubs for signs of life. Readers that come while one is on its way, or before the next may be sent, share it. */
export class Probes {
  readonly #clock: Clock;
  readonly #send: (hubId: string) => void;
  readonly #asked = new Map<string, Asked>();

  constructor(clock: Clock, send: (hubId: string) => void) {
    this.#clock = clock;
    this.#send = send;
  }

  /** ask resolves when the hub gave a sign of life, or did not for a second after it was asked. */
  async ask(hubId: string): Promise<void> {
    const asked = this.#asked.get(hubId) ?? { waiting: new Set(), sentAt: Number.NEGATIVE_INFINITY, next: undefined };
    this.#asked.set(hubId, asked);
    const { promise, resolve } = Promise.withResolvers<void>();
    const underway = asked.waiting.size > 0;
    asked.waiting.add(resolve);
    const delayMs = Math.max(0, asked.sentAt + EVERY_MS - this.#clock.mono());
    if (delayMs === 0) this.#ask(hubId, asked);
    else if (!underway) asked.next ??= this.#clock.setTimer(delayMs, () => this.#ask(hubId, asked));
    const timer = this.#clock.setTimer(delayMs + TIMEOUT_MS, resolve);
    await promise;
    timer.cancel();
    asked.waiting.delete(resolve);
  }

  #ask(hubId: string, asked: Asked): void {
    asked.next?.cancel();
    asked.next = undefined;
    if (asked.waiting.size === 0) return;
    asked.sentAt = this.#clock.mono();
    this.#send(hubId);
  }

  /** answered: a hub gave a sign of life. */
  answered(hubId: string): void {
    const asked = this.#asked.get(hubId);
    if (asked === undefined) return;
    const waiting = [...asked.waiting];
    asked.waiting.clear();
    for (const wake of waiting) wake();
  }

  /** forget: there is no session with the hub any more. Who waits goes on. */
  forget(hubId: string): void {
    this.answered(hubId);
    this.#asked.get(hubId)?.next?.cancel();
    this.#asked.delete(hubId);
  }

  stop(): void {
    for (const hubId of [...this.#asked.keys()]) this.forget(hubId);
  }
}
