import { type Chunks, lengthOf, type Manifest, missingIn, windowOf } from "../checkpoint/checkpoint.ts";

/**
 * Wanted are the chunks of a manifest that a destination has asked for. There is always something under way: more is asked for as soon as
 * half of a window is here.
 *
 * WC1 what is asked for and not here, with what is being opened, is one window.
 * WC2 nothing is opened that was not asked for, and nothing twice at a time.
 */
export class Wanted {
  readonly #windowBytes: number;
  readonly #asked = new Set<number>();
  readonly #opening = new Set<number>();

  constructor(windowBytes: number) {
    this.#windowBytes = windowBytes;
  }

  /** none tells whether nothing is under way. */
  get none(): boolean {
    return this.#asked.size === 0;
  }

  /** opens tells whether something is being opened. */
  get opens(): boolean {
    return this.#opening.size > 0;
  }

  clear(): void {
    this.#asked.clear();
    this.#opening.clear();
  }

  /** again gives the numbers of a window from the first missing chunk on, whatever was asked for before. */
  again(manifest: Manifest, missing: readonly number[]): readonly number[] {
    this.#asked.clear();
    return this.#ask(windowOf(manifest, missing, this.#windowBytes));
  }

  /** more gives the numbers of further chunks; none while more than half of the window is under way, or if there are none. */
  more(manifest: Manifest, held: Chunks): readonly number[] {
    const room = this.#windowBytes - (lengthOf(manifest, [...this.#asked]) ?? 0);
    if (room * 2 < this.#windowBytes) return [];
    const missing = missingIn(manifest, held).filter((number) => !this.#asked.has(number));
    return this.#ask(windowOf(manifest, missing, room));
  }

  /** take notes that chunks are being opened; false if they were not asked for, or are being opened already. */
  take(numbers: readonly number[]): boolean {
    if (!numbers.every((number) => this.#asked.has(number) && !this.#opening.has(number))) return false;
    for (const number of numbers) this.#opening.add(number);
    return true;
  }

  /** opened notes that they are not any more; false if they were not. */
  opened(numbers: readonly number[]): boolean {
    if (!numbers.every((number) => this.#opening.has(number))) return false;
    for (const number of numbers) {
      this.#opening.delete(number);
      this.#asked.delete(number);
    }
    return true;
  }

  #ask(numbers: readonly number[]): readonly number[] {
    for (const number of numbers) this.#asked.add(number);
    return numbers;
  }
}
