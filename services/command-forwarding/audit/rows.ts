/** What a row takes on disk beside its bytes. */
const ROW_BYTES = 64;

/** Row is one stored batch: which records it has. */
export class Row {
  readonly epoch: number;
  readonly first: number;
  readonly count: number;
  readonly bytes: number;

  constructor(epoch: number, first: number, count: number, bytes: number) {
    this.epoch = epoch;
    this.first = first;
    this.count = count;
    this.bytes = bytes + ROW_BYTES;
  }

  /** within tells whether all of its records are at or before a position. */
  within(epoch: number, number: number): boolean {
    return this.epoch < epoch || (this.epoch === epoch && this.first + this.count - 1 <= number);
  }
}

/** Rows knows which batches are stored, the oldest first. The newest is never let go: it says which number comes next. */
export class Rows {
  #rows: Row[] = [];
  /** Those before this place are let go and not trimmed yet. */
  #gone = 0;
  #bytes = 0;

  /** bytes of the rows that are kept. */
  get bytes(): number {
    return this.#bytes;
  }

  push(row: Row): void {
    this.#rows.push(row);
    this.#bytes += row.bytes;
  }

  /** copied lets go what is at or before a position. */
  copied(epoch: number, number: number): void {
    while (this.#gone < this.#rows.length - 1 && (this.#rows[this.#gone] as Row).within(epoch, number)) this.#letGo();
  }

  /** fit lets go the oldest until the others have so many bytes, and answers like `trim`. */
  fit(maxBytes: number, batch: number): number {
    if (this.#bytes <= maxBytes) return this.trim(batch);
    while (this.#bytes > maxBytes && this.#gone < this.#rows.length - 1) this.#letGo();
    return this.trim(1);
  }

  /** trim answers the number below which the log can be trimmed, once so many rows are gone; 0 for not yet. */
  trim(batch: number): number {
    if (this.#gone < batch) return 0;
    this.#rows = this.#rows.slice(this.#gone);
    this.#gone = 0;
    return (this.#rows[0] as Row).first;
  }

  #letGo(): void {
    this.#bytes -= (this.#rows[this.#gone] as Row).bytes;
    this.#gone++;
  }
}
