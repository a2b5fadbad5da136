/** RemoteRead is a read that a peer asked this hub, who leads, to confirm. */
export interface RemoteRead {
  readonly peer: string;
  readonly id: number;
}

interface Read {
  readonly call: number;
  readonly end: number;
  /** The question that covers it; 0 until there is one. */
  asked: number;
  /** Position that must be applied; undefined until it is confirmed. */
  index: number | undefined;
}

/** Time after which a question that has no answer is asked again, ms: it, or its answer, may be lost. */
const AGAIN_MS = 500;

/** Reads that peers wait for here; the oldest give way, and are asked again. */
const REMOTE_MAX = 4_096;

/**
 * ReadDesk brings reads that must see all that is decided to a confirmation: one question at a time to who leads, for all reads that wait.
 *
 * RJ1 a read is confirmed only by the answer to a question that was asked after it came.
 * RJ2 it is served when what was applied reaches the position of the answer.
 */
export class ReadDesk {
  readonly #patienceMs: number;
  readonly #reads: Read[] = [];
  readonly #remote = new Map<number, RemoteRead>();
  /** The question under way; 0 for none. */
  #asking = 0;
  #againAt = Number.POSITIVE_INFINITY;

  constructor(patienceMs: number) {
    this.#patienceMs = patienceMs;
  }

  add(call: number, mono: number): void {
    this.#reads.push({ call, end: mono + this.#patienceMs, asked: 0, index: undefined });
  }

  cancel(call: number): void {
    const at = this.#reads.findIndex((read) => read.call === call);
    if (at >= 0) this.#reads.splice(at, 1);
  }

  /** ask begins a question for all reads that none covers; undefined if one is under way, or nobody waits. */
  ask(id: number, mono: number): number | undefined {
    if (this.#asking !== 0 || !this.#reads.some((read) => read.asked === 0)) return undefined;
    for (const read of this.#reads) if (read.asked === 0) read.asked = id;
    this.#asking = id;
    this.#againAt = mono + AGAIN_MS;
    return id;
  }

  /** answered takes the answer to a question; undefined: it could not be confirmed. Late ones, to questions that were given up, are nothing. */
  answered(id: number, index: number | undefined): void {
    if (id !== this.#asking || id === 0) return;
    this.#asking = 0;
    this.#againAt = Number.POSITIVE_INFINITY;
    for (const read of this.#reads)
      if (read.asked === id) {
        if (index === undefined) read.asked = 0;
        else read.index = index;
      }
  }

  /** again gives up the question under way: who leads is another one, or did not answer. */
  again(mono: number): void {
    this.answered(this.#asking, undefined);
    this.#againAt = this.#reads.some((read) => read.asked === 0) ? mono + AGAIN_MS : Number.POSITIVE_INFINITY;
  }

  /** due tells whether it is time to ask again; it gives up a question that has no answer. */
  due(mono: number): boolean {
    if (this.#againAt > mono) return false;
    this.again(mono);
    return true;
  }

  /** waiting tells whether reads wait for a question that could be asked now. */
  waiting(mono: number): boolean {
    return this.#asking === 0 && this.#againAt > mono && this.#reads.some((read) => read.asked === 0);
  }

  /** served gives the reads whose position is applied. */
  served(applied: number): number[] {
    const calls: number[] = [];
    for (let i = 0; i < this.#reads.length; ) {
      const { call, index } = this.#reads[i] as Read;
      if (index !== undefined && index <= applied) {
        calls.push(call);
        this.#reads.splice(i, 1);
      } else i++;
    }
    return calls;
  }

  /** expired gives up the reads that waited too long. */
  expired(mono: number): number[] {
    const calls: number[] = [];
    while (this.#reads.length > 0 && (this.#reads[0] as Read).end <= mono) calls.push((this.#reads.shift() as Read).call);
    return calls;
  }

  /** remote notes that a peer asked. */
  remote(call: number, peer: string, id: number, _mono: number): void {
    this.#remote.set(call, { peer, id });
    if (this.#remote.size > REMOTE_MAX) for (const oldest of this.#remote.keys()) return void this.#remote.delete(oldest);
  }

  /** confirmed takes the engine's word for a question: of a peer, who is then told, or our own. */
  confirmed(call: number, index: number): RemoteRead | undefined {
    const remote = this.#remote.get(call);
    if (remote === undefined) this.answered(call, index);
    else this.#remote.delete(call);
    return remote;
  }

  /** refused tells whose question the engine could not confirm: a peer's, our own, or none that is known. */
  refused(call: number): RemoteRead | "own" | undefined {
    const remote = this.#remote.get(call);
    if (remote !== undefined) this.#remote.delete(call);
    return remote ?? (call === this.#asking && call !== 0 ? "own" : undefined);
  }

  deadline(): number | undefined {
    const times = [this.#againAt, this.#reads[0]?.end ?? Number.POSITIVE_INFINITY];
    const least = Math.min(...times);
    return least === Number.POSITIVE_INFINITY ? undefined : least;
  }

  describe(): string {
    return `reads=${this.#reads.length} asking=${this.#asking} remote=${this.#remote.size}`;
  }
}
