import type { Snapshot } from "../state/snapshot-box.ts";

/** Sending is a snapshot on its way to one replica. */
export interface Sending {
  readonly snapshot: Snapshot;
  /** The signed manifest, as it is sent. */
  readonly manifest: Uint8Array;
  readonly signature: Uint8Array;
  /** Parts that the replica has, from the first on, and the next one to send; undefined until it has answered the offer. */
  have: number | undefined;
  next: number;
  /** Heartbeats since the last answer. */
  quiet: number;
}

/**
 * Progress is what a leader knows of one replica, and what it has sent to it.
 *
 * "probe": where the logs agree is not known; one append at a time. "replicate": appends follow each other within the window. "snapshot":
 * what it lacks is no longer in the log.
 */
export class Progress {
  state: "probe" | "replicate" | "snapshot" = "probe";
  /** The logs are the same up to here, durably at the replica. */
  match = 0;
  /** The next entry to send. */
  next: number;
  /** "probe": one append is on its way. */
  paused = false;
  /** Appends on their way, by their last position. */
  readonly #flights: { readonly index: number; readonly bytes: number }[] = [];
  #flying = 0;
  /** When a frame of this term came from it, `mono`. */
  heardAt: number;
  /** The newest probe that it answered, and when that probe began. */
  probe = 0;
  probedAt = Number.NEGATIVE_INFINITY;
  /** The commit index that it was told. */
  told = 0;
  sending: Sending | undefined;
  /** It needed a snapshot, and has not had everything since (RX6). */
  behind = false;

  constructor(next: number, heardAt: number) {
    this.next = next;
    this.heardAt = heardAt;
  }

  /** isFull tells whether the window has no room. */
  isFull(messages: number, bytes: number): boolean {
    return this.#flights.length >= messages || this.#flying >= bytes;
  }

  get inFlight(): number {
    return this.#flights.length;
  }

  /** sent notes that an append up to a position is on its way. */
  sent(index: number, bytes: number): void {
    this.next = index + 1;
    this.#flights.push({ index, bytes });
    this.#flying += bytes;
  }

  /** acknowledge takes an answer that the logs agree up to a position. */
  acknowledge(index: number): void {
    this.match = Math.max(this.match, index);
    this.next = Math.max(this.next, this.match + 1);
    let landed = 0;
    for (const { index: at, bytes } of this.#flights) {
      if (at > index) break;
      landed++;
      this.#flying -= bytes;
    }
    this.#flights.splice(0, landed);
  }

  /** become changes the state; what was on its way is forgotten. */
  become(state: "probe" | "replicate" | "snapshot", next = this.match + 1): void {
    this.state = state;
    this.next = Math.max(next, this.match + 1);
    this.paused = false;
    this.#flights.length = 0;
    this.#flying = 0;
    this.sending = undefined;
  }
}
