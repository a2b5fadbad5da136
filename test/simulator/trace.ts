/** Trace is a running hash over everything that happened: two runs of one seed must agree on it. It keeps lines when asked to. */
export class Trace {
  readonly lines: string[] = [];
  /** How often each event happened: shows that a run was about something. */
  readonly counts = new Map<string, number>();
  readonly #keep: boolean;
  #a = 0x811c9dc5;
  #b = 0x1b873593;

  constructor(keep: boolean) {
    this.#keep = keep;
  }

  get hash(): string {
    return ((this.#a >>> 0).toString(16).padStart(8, "0") + (this.#b >>> 0).toString(16).padStart(8, "0")).slice(0, 16);
  }

  /** note adds an event: when, at which hub, what. */
  note(at: number, hub: number, what: string, detail: () => string = () => ""): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
    this.#mix(Math.floor(at * 1_000));
    this.#mix(hub);
    for (let i = 0; i < what.length; i++) this.#mix(what.charCodeAt(i));
    if (this.#keep) this.lines.push(`${at.toFixed(2).padStart(10)} ${hub < 0 ? "-" : `hub-${hub}`} ${what} ${detail()}`.trimEnd());
  }

  /** add counts something that has no instant. */
  add(what: string, count: number): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + count);
  }

  /** mix adds a number. */
  #mix(value: number): void {
    this.#a = Math.imul(this.#a ^ (value & 0xffff), 0x01000193);
    this.#b = Math.imul(this.#b ^ value, 0xcc9e2d51) ^ (this.#a >>> 15);
  }
}
