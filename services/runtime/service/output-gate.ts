/** Lane is a queue of outputs and the ticket that each waits for: two parallel arrays, compacted when half of them is past. */
class Lane<T> {
  #outputs: (T | undefined)[] = [];
  #tickets: number[] = [];
  #head = 0;
  /** Newest ticket that outputs from now on wait for. */
  raised = 0;

  get size(): number {
    return this.#outputs.length - this.#head;
  }

  put(output: T): void {
    this.#outputs.push(output);
    this.#tickets.push(this.raised);
  }

  open(ticket: number, execute: (output: T) => void): void {
    while (this.#head < this.#outputs.length && (this.#tickets[this.#head] as number) <= ticket) {
      const output = this.#outputs[this.#head] as T;
      this.#outputs[this.#head++] = undefined;
      execute(output);
    }
    this.#compact();
  }

  filter(keep: (output: T) => boolean): void {
    const kept: T[] = [];
    for (let i = this.#head; i < this.#outputs.length; i++) if (keep(this.#outputs[i] as T)) kept.push(this.#outputs[i] as T);
    this.#outputs = kept;
    this.#tickets = kept.map(() => this.raised);
    this.#head = 0;
  }

  #compact(): void {
    if (this.#head === this.#outputs.length) {
      this.#outputs.length = 0;
      this.#tickets.length = 0;
    } else if (this.#head > 1_024 && this.#head * 2 > this.#outputs.length) {
      this.#outputs.splice(0, this.#head);
      this.#tickets.splice(0, this.#head);
    } else return;
    this.#head = 0;
  }
}

/**
 * OutputGate holds outputs in order until the ticket of every `persist` before them is durable (DC2). Those that are early wait for hard
 * persists only, in a lane of their own (DR11). It allocates nothing per output.
 */
export class OutputGate<T> {
  readonly #execute: (output: T) => void;
  readonly #lane = new Lane<T>();
  readonly #early = new Lane<T>();
  /** Newest durable ticket. */
  #opened = 0;

  constructor(execute: (output: T) => void) {
    this.#execute = execute;
  }

  /** size is how many outputs wait. */
  get size(): number {
    return this.#lane.size + this.#early.size;
  }

  /** raise says that something was persisted under this ticket: outputs from now on wait for it, early ones only if it is hard. */
  raise(ticket: number, hard = true): void {
    this.#lane.raised = ticket;
    if (hard) this.#early.raised = ticket;
  }

  /** put lets an output out at once if nothing that it must wait for is pending, else it queues. */
  put(output: T, early = false): void {
    const lane = early ? this.#early : this.#lane;
    if (lane.raised <= this.#opened && lane.size === 0) this.#execute(output);
    else lane.put(output);
  }

  /** open lets out, in order, what waited for tickets up to this one: early outputs first. */
  open(ticket: number): void {
    this.#opened = ticket;
    this.#early.open(ticket, this.#execute);
    this.#lane.open(ticket, this.#execute);
  }

  /** filter keeps what `keep` says, offered oldest first, early ones before others. What is kept waits for the newest ticket. */
  filter(keep: (output: T) => boolean): void {
    this.#early.filter(keep);
    this.#lane.filter(keep);
  }
}
