/**
 * OutputGate holds outputs in order until the ticket of every `persist` before them is durable (DC2).
 * It allocates nothing per output: two parallel arrays are used as a queue and compacted when half of them is past.
 */
export class OutputGate<T> {
  readonly #execute: (output: T) => void;
  #outputs: (T | undefined)[] = [];
  #tickets: number[] = [];
  #head = 0;
  /** Newest ticket with an operation, and newest durable ticket. */
  #raised = 0;
  #opened = 0;

  constructor(execute: (output: T) => void) {
    this.#execute = execute;
  }

  /** size is how many outputs wait. */
  get size(): number {
    return this.#outputs.length - this.#head;
  }

  /** raise says that something was persisted under this ticket: outputs from now on wait for it. */
  raise(ticket: number): void {
    this.#raised = ticket;
  }

  /** put lets an output out at once if nothing that it must wait for is pending, else it queues. */
  put(output: T): void {
    if (this.#raised <= this.#opened && this.size === 0) {
      this.#execute(output);
      return;
    }
    this.#outputs.push(output);
    this.#tickets.push(this.#raised);
  }

  /** open lets out, in order, what waited for tickets up to this one. */
  open(ticket: number): void {
    this.#opened = ticket;
    while (this.#head < this.#outputs.length && (this.#tickets[this.#head] as number) <= ticket) {
      const output = this.#outputs[this.#head] as T;
      this.#outputs[this.#head++] = undefined;
      this.#execute(output);
    }
    this.#compact();
  }

  /** filter keeps what `keep` says, offered oldest first. What is kept waits for the newest ticket. */
  filter(keep: (output: T) => boolean): void {
    const kept: T[] = [];
    for (let i = this.#head; i < this.#outputs.length; i++) if (keep(this.#outputs[i] as T)) kept.push(this.#outputs[i] as T);
    this.#outputs = kept;
    this.#tickets = kept.map(() => this.#raised);
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
