import type { Socket } from "node:net";
import type { Clock, Timer } from "#runtime/clock.ts";

/** How often certificates of servers are compared with the time, ms: as often as those of callers. */
const LOOK_MS = 1_000;

type EndsClock = Pick<Clock, "wall" | "setTimer">;

interface Dialled {
  readonly endsAtWall: number;
  readonly onEnd: () => void;
}

/** ServerEnds looks at the certificates of all connections that were dialled, with one timer, while there are any. */
class ServerEnds {
  readonly #clock: EndsClock;
  readonly #all = new Set<Dialled>();
  #timer: Timer | undefined;

  constructor(clock: EndsClock) {
    this.#clock = clock;
  }

  add(socket: Socket, dialled: Dialled): void {
    this.#all.add(dialled);
    this.#arm();
    socket.once("close", () => {
      this.#all.delete(dialled);
      if (this.#all.size > 0) return;
      this.#timer?.cancel();
      this.#timer = undefined;
    });
  }

  /** arm looks by the wall clock each time, because that may be set. */
  #arm(): void {
    this.#timer ??= this.#clock.setTimer(LOOK_MS, () => {
      this.#timer = undefined;
      const now = this.#clock.wall();
      for (const { endsAtWall, onEnd } of [...this.#all]) if (now >= endsAtWall) onEnd();
      if (this.#all.size > 0) this.#arm();
    });
  }
}

const byClock = new WeakMap<EndsClock, ServerEnds>();

/**
 * watchServerEnd calls `onEnd`, which is to end the connection, when what the server proved itself with ends. TLS asks for it once, when
 * a connection begins, and what is never asked again outlives its right to be there (C11).
 */
export function watchServerEnd(socket: Socket, endsAtWall: number, clock: EndsClock, onEnd: () => void): void {
  let ends = byClock.get(clock);
  if (ends === undefined) byClock.set(clock, (ends = new ServerEnds(clock)));
  ends.add(socket, { endsAtWall, onEnd });
}
