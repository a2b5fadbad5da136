/** Plain is what is measured against: heartbeats every interval, and whoever missed three of them in a row is suspected at once. */
export class Plain {
  readonly #intervalMs: number;
  readonly #heardAt = new Map<string, number>();
  readonly #suspected = new Set<string>();
  #beatAt: number;

  constructor(members: readonly string[], intervalMs: number, mono: number) {
    this.#intervalMs = intervalMs;
    this.#beatAt = mono;
    for (const hub of members) this.#heardAt.set(hub, mono);
  }

  /** heard notes a heartbeat. */
  heard(hub: string, mono: number): void {
    this.#heardAt.set(hub, mono);
    this.#suspected.delete(hub);
  }

  /** tick answers whether heartbeats are to be sent, and who is suspected from now on. */
  tick(mono: number): { beat: boolean; suspects: string[] } {
    const suspects: string[] = [];
    for (const [hub, at] of this.#heardAt)
      if (mono >= at + 3 * this.#intervalMs && !this.#suspected.has(hub)) {
        this.#suspected.add(hub);
        suspects.push(hub);
      }
    const beat = mono >= this.#beatAt;
    if (beat) this.#beatAt = mono + this.#intervalMs;
    return { beat, suspects };
  }

  suspects(hub: string): boolean {
    return this.#suspected.has(hub);
  }

  /** deadline is when `tick` has something to do: exactly at the third missed heartbeat, as early as it can know. */
  deadline(): number {
    let due = this.#beatAt;
    for (const [hub, at] of this.#heardAt) if (!this.#suspected.has(hub)) due = Math.min(due, at + 3 * this.#intervalMs);
    return due;
  }
}
