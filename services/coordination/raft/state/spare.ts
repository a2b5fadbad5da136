/**
 * Spare is the time that a replica gives others because it did not run itself: what they sent meanwhile waits to be read.
 *
 * RP1 how late a replica was called after it asked to be (a busy event loop, SIGSTOP, a sleeping machine) is no silence of others. A pause that
 *    ends within `jitterMs` of that instant is not seen; what comes of it is a question to those who hear the leader (RL1).
 * RP2 for one heartbeat after it was that late nobody is given up.
 * RP3 for one silence others get at most `mostMs` more than without, counted from when it ran again: a hub that is always late gives
 *    them up in time, too.
 */
export class Spare {
  #given = 0;

  /** anew begins another silence. */
  anew(): void {
    this.#given = 0;
  }

  /** until is when others are given up that were to be at `due`, which is not infinity, after a call at `mono` that was `lateMs` late. */
  until(due: number, mono: number, lateMs: number, leastMs: number, mostMs: number): number {
    const from = Math.max(due, mono);
    const until = Math.min(Math.max(due + lateMs, mono + leastMs), from + mostMs - this.#given);
    this.#given += Math.max(0, until - from);
    return Math.max(from, until);
  }
}
