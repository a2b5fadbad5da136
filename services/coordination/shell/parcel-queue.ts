/** Bytes that wait for one peer; what is beyond is lost, and asked for again. */
const WAITING_BYTES = 4 * 1024 * 1024;

/** ParcelLinks are the sessions over which parcels are sent. */
export interface ParcelLinks<F> {
  send(peer: string, frame: F): boolean;
  writable(peer: string): boolean;
}

/**
 * ParcelQueue lets parcels of checkpoints leave only while nothing waits on the session: a vote that comes meanwhile waits for what is under
 * way, and for no parcel that is not.
 */
export class ParcelQueue<F> {
  readonly #links: () => ParcelLinks<F>;
  readonly #waiting = new Map<string, { readonly frame: F; readonly bytes: number }[]>();
  readonly #bytes = new Map<string, number>();

  constructor(links: () => ParcelLinks<F>) {
    this.#links = links;
  }

  /** send sends a parcel at once, or when there is room. */
  send(peer: string, frame: F, bytes: number): void {
    const waiting = this.#waiting.get(peer);
    if (waiting === undefined && this.#links().writable(peer)) return void this.#links().send(peer, frame);
    const all = this.#bytes.get(peer) ?? 0;
    if (all + bytes > WAITING_BYTES) return;
    this.#bytes.set(peer, all + bytes);
    if (waiting === undefined) this.#waiting.set(peer, [{ frame, bytes }]);
    else waiting.push({ frame, bytes });
  }

  /** room is called when a session has room again. */
  room(peer: string): void {
    const waiting = this.#waiting.get(peer);
    if (waiting === undefined) return;
    const links = this.#links();
    while (waiting.length > 0 && links.writable(peer)) {
      const { frame, bytes } = waiting.shift()!;
      this.#bytes.set(peer, (this.#bytes.get(peer) ?? 0) - bytes);
      links.send(peer, frame);
    }
    if (waiting.length === 0) this.drop(peer);
  }

  /** drop forgets what waits for a peer: its session is over. */
  drop(peer: string): void {
    this.#waiting.delete(peer);
    this.#bytes.delete(peer);
  }
}
