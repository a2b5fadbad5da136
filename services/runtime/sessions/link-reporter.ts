import type { Clock, Timer } from "#channel/clock.ts";

/** That a peer was heard of, and how long a ping took, is told this late: on idle links it is all there is to tell, and each telling costs a call. */
const LATER_MS = 5_000;

/** LinkReporter decides when discovery is told of the sessions. */
export class LinkReporter {
  readonly #clock: Clock;
  readonly #tell: (() => void) | undefined;
  #telling = false;
  #later: Timer | undefined;

  /** `tell` is undefined if nobody is to be told. */
  constructor(clock: Clock, tell: (() => void) | undefined) {
    this.#clock = clock;
    this.#tell = tell;
  }

  /** later tells it with what else there will be to tell until then. */
  later(): void {
    this.#later ??= this.#clock.setTimer(LATER_MS, () => this.soon());
  }

  /** soon tells it, once per turn however much changed. */
  soon(): void {
    this.stop();
    if (this.#tell === undefined || this.#telling) return;
    this.#telling = true;
    this.#clock.setImmediate(() => {
      this.#telling = false;
      this.#tell?.();
    });
  }

  /** stop forgets what was to be told later. */
  stop(): void {
    this.#later?.cancel();
    this.#later = undefined;
  }
}
