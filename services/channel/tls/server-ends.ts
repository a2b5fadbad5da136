import type { Socket } from "node:net";
import type { Clock } from "../clock.ts";
import { Rounds } from "./rounds.ts";

/** How often certificates of servers are compared with the time, ms: as often as those of callers. */
const LOOK_MS = 1_000;

type EndsClock = Pick<Clock, "wall" | "setTimer">;

interface Dialled {
  /** Asked each time: what is trusted may be replaced while the connection lives. */
  readonly endsAtWall: () => number;
  readonly onEnd: () => void;
}

const byClock = new WeakMap<EndsClock, Rounds<Dialled>>();

/**
 * watchServerEnd calls `onEnd`, which is to end the connection, when what the server proved itself with ends. TLS asks for it once, when
 * a connection begins, and what is never asked again outlives its right to be there (PROTOCOL C11).
 */
export function watchServerEnd(socket: Socket, endsAtWall: () => number, clock: EndsClock, onEnd: () => void): void {
  let ends = byClock.get(clock);
  if (ends === undefined) {
    // By the wall clock each time, because that may be set.
    ends = new Rounds(clock, LOOK_MS, (one) => {
      if (clock.wall() >= one.endsAtWall()) one.onEnd();
    });
    byClock.set(clock, ends);
  }
  ends.add({ endsAtWall, onEnd }, socket);
}
