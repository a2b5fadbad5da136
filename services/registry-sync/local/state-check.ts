import { Growable } from "#kernel/growable.ts";
import { isJson } from "#kernel/wire/json.ts";
import { checkBytes, isNaNWords, TEXT_LIMIT, VALUE_PROBLEM_TEXT, VALUE_TYPE, type ValueProblem } from "#kernel/wire/value.ts";
import type { UpdateBatch } from "../ports.ts";
import { COST } from "../table/cost.ts";
import { NO_SLOT } from "../table/slots.ts";
import { type FeedTable, SECTION } from "../table/table.ts";

/** PROBLEM is what is wrong with one change of a batch, as a number: no object is made for it before somebody must be told. */
export const PROBLEM = {
  NONE: 0,
  NO_SLOT: 1,
  WRONG_TYPE: 2,
  NOT_A_NUMBER: 3,
  NOT_A_BOOL: 4,
  TOO_LONG: 5,
  SHAPE: 6,
  NOT_OWNED: 7,
  NOT_UTF8: 8,
  NOT_JSON: 9,
} as const satisfies Record<ValueProblem, number> & Record<string, number>;

/** PROBLEM_TEXT says what is wrong, for people. */
export const PROBLEM_TEXT = [
  "nothing is wrong",
  "there is no such node, or it has no such capability",
  "the value has another type than the key",
  VALUE_PROBLEM_TEXT.NOT_A_NUMBER,
  "a bool is 0 or 1",
  VALUE_PROBLEM_TEXT.TOO_LONG,
  "the columns do not fit together",
  "the node does not belong to the caller",
  VALUE_PROBLEM_TEXT.NOT_UTF8,
  VALUE_PROBLEM_TEXT.NOT_JSON,
] as const;

/** TextCheck tells whether bytes are UTF-8. */
export type TextCheck = (bytes: Uint8Array) => boolean;

/** cuts tells whether a position lies within a character: the byte there goes on with one. */
function cuts(data: Uint8Array, at: number): boolean {
  return ((data[at] ?? 0) & 0xc0) === 0x80;
}

/**
 * BatchChecker checks whole batches before any of their changes is applied. It keeps the slots that it looked up, so that applying
 * needs no second look; they are good until the table changes its nodes.
 */
export class BatchChecker {
  /** Slots of the changes, batch after batch, since `begin`. */
  readonly slots = new Growable(Uint32Array, 4_096);
  /** Index of the change at fault. */
  index = 0;
  readonly #isUtf8: TextCheck | undefined;

  /**
   * With `isUtf8` texts are looked into, as is due for what callers write. Without it they are not: a feed of a hub that took them before is
   * no worse for the rest of what is in it, and readers put U+FFFD in the place of what is no text.
   */
  constructor(isUtf8?: TextCheck) {
    this.#isUtf8 = isUtf8;
  }

  /** begin forgets the slots. */
  begin(): void {
    this.slots.clear();
  }

  /**
   * check looks at one batch: its shape, that each (ref, key) has a slot, and each value fits its type. `miss` is asked about a
   * change without slot and may let it pass (it is then skipped when applied); without it such a change is a problem.
   */
  check(table: FeedTable, batch: UpdateBatch, miss?: (ref: number, key: number, section: number) => boolean): number {
    const { count, numCount, intCount, ref, key } = batch;
    const from = this.slots.length;
    const fixed = numCount + intCount;
    this.index = 0;
    if (fixed > count || batch.bits.length < 2 * fixed || batch.len.length !== count - fixed) return PROBLEM.SHAPE;
    this.slots.reserve(from + count);
    const found = this.slots.data;
    const types = table.slots.type;
    const { bits } = batch;
    for (let i = 0; i < count; i++) {
      const slot = table.slots.find(ref[i] as number, key[i] as number);
      found[from + i] = slot;
      const section = i < numCount ? 0 : i < fixed ? 1 : 2;
      if (slot === NO_SLOT) {
        if (miss?.(ref[i] as number, key[i] as number, section) !== true) return this.#at(i, PROBLEM.NO_SLOT);
        if (section === 0 && isNaNWords(bits[2 * i] as number, bits[2 * i + 1] as number)) return this.#at(i, PROBLEM.NOT_A_NUMBER);
        continue;
      }
      const type = types[slot] as number;
      if (SECTION[type] !== section) return this.#at(i, PROBLEM.WRONG_TYPE);
      if (section !== 0) continue;
      const high = bits[2 * i + 1] as number;
      if (type === VALUE_TYPE.BOOL) {
        if (bits[2 * i] !== 0 || (high !== 0 && high !== 0x3ff0_0000)) return this.#at(i, PROBLEM.NOT_A_BOOL);
      } else if (isNaNWords(bits[2 * i] as number, high)) return this.#at(i, PROBLEM.NOT_A_NUMBER);
    }
    this.slots.length = from + count;
    return fixed === count ? (batch.data.length === 0 ? PROBLEM.NONE : PROBLEM.SHAPE) : this.#checkTexts(table, batch, from, fixed);
  }

  /** textGrowth is by how much the texts of a table take more memory through the batch that was checked last since `begin`, as if each slot came once. */
  textGrowth(table: FeedTable, batch: UpdateBatch, from = 0): number {
    const fixed = batch.numCount + batch.intCount;
    let grown = 0;
    for (let i = fixed; i < batch.count; i++) {
      const slot = this.slots.data[from + i] as number;
      if (slot === NO_SLOT) grown += batch.len[i - fixed] as number;
      else grown += (batch.len[i - fixed] as number) + COST.text - table.slots.costOf(slot);
    }
    return grown;
  }

  #checkTexts(table: FeedTable, batch: UpdateBatch, from: number, fixed: number): number {
    const { data } = batch;
    // One look at the whole column tells nearly always that all texts in it are sound.
    const whole = this.#isUtf8?.(data) === true;
    let at = 0;
    for (let i = fixed; i < batch.count; i++) {
      const end = at + (batch.len[i - fixed] as number);
      const slot = this.slots.data[from + i] as number;
      const type = slot === NO_SLOT ? VALUE_TYPE.JSON : (table.slots.type[slot] as number);
      if (end - at > (TEXT_LIMIT[type] as number)) return this.#at(i, PROBLEM.TOO_LONG);
      if (end > data.length) return this.#at(i, PROBLEM.SHAPE);
      if (this.#isUtf8 !== undefined && type !== VALUE_TYPE.BYTES) {
        const utf8 = whole && !cuts(data, at) && !cuts(data, end);
        if (utf8) {
          if (type === VALUE_TYPE.JSON && !isJson(data, at, end)) return this.#at(i, PROBLEM.NOT_JSON);
        } else {
          const problem = checkBytes(type, data.subarray(at, end));
          if (problem !== undefined) return this.#at(i, PROBLEM[problem]);
        }
      }
      at = end;
    }
    return at === data.length ? PROBLEM.NONE : this.#at(batch.count - 1, PROBLEM.SHAPE);
  }

  #at(index: number, problem: number): number {
    this.index = index;
    return problem;
  }
}
