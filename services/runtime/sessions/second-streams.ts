/** SECOND_CONNECTION is how the event begins that says that sessions with a peer have one connection; the peer's name follows. */
export const SECOND_CONNECTION = "the second connection to ";

/** So many dials in a row whose second stream did not come to stand are no accident of the moment. */
const TRIES = 2;
/** Sessions are dialled with one stream for so long, ms. Then a second one is tried again. */
const ONE_MS = 600_000;

/**
 * SecondStreams decides, for one peer, whether a session that is dialled may have two streams (PROTOCOL S5).
 *
 * A firewall, a NAT or a limit of connections may let the first connection through and not the second. A session of one stream is
 * slower, as its windows are narrow, and works; one that needs two would never come up.
 */
export class SecondStreams {
  #failed = 0;
  #oneUntil = Number.NEGATIVE_INFINITY;

  /** two tells whether a dial at this time (mono) may ask for two. */
  two(now: number): boolean {
    return now >= this.#oneUntil;
  }

  stood(): void {
    this.#failed = 0;
  }

  /** failed notes a session whose first stream stood and whose second did not; true if the next ones have one. */
  failed(now: number): boolean {
    this.#failed++;
    if (this.#failed < TRIES) return false;
    this.#oneUntil = now + ONE_MS;
    return true;
  }
}
