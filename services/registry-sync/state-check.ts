import { Growable } from "#kernel/growable.ts";
import type { UpdateBatch } from "./ports.ts";
import { VALUE_TYPE } from "./ports.ts";
import { NO_SLOT } from "./slots.ts";
import { type FeedTable, SECTION, TEXT_LIMIT } from "./table.ts";

/** Problem of one change of a batch, as a number: no object is made for it before somebody must be told. */
export const PROBLEM = { NONE: 0, NO_SLOT: 1, WRONG_TYPE: 2, NOT_A_NUMBER: 3, NOT_A_BOOL: 4, TOO_LONG: 5, SHAPE: 6, NOT_OWNED: 7 } as const;

/** PROBLEM_TEXT says what is wrong, for people. */
export const PROBLEM_TEXT = [
  "nothing is wrong",
  "there is no such node, or it has no such capability",
  "the value has another type than the key",
  "the value is not a number",
  "a bool is 0 or 1",
  "the value is too long",
  "the columns do not fit together",
  "the node does not belong to the caller",
] as const;

/** Exponent bits of a double's high word. */
const EXPONENT = 0x7ff0_0000;

function notANumber(low: number, high: number): boolean {
  return (high & EXPONENT) === EXPONENT && ((high & 0xf_ffff) !== 0 || low !== 0);
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
        if (section === 0 && notANumber(bits[2 * i] as number, bits[2 * i + 1] as number)) return this.#at(i, PROBLEM.NOT_A_NUMBER);
        continue;
      }
      const type = types[slot] as number;
      if (SECTION[type] !== section) return this.#at(i, PROBLEM.WRONG_TYPE);
      if (section !== 0) continue;
      const high = bits[2 * i + 1] as number;
      if (type === VALUE_TYPE.BOOL) {
        if (bits[2 * i] !== 0 || (high !== 0 && high !== 0x3ff0_0000)) return this.#at(i, PROBLEM.NOT_A_BOOL);
      } else if (notANumber(bits[2 * i] as number, high)) return this.#at(i, PROBLEM.NOT_A_NUMBER);
    }
    this.slots.length = from + count;
    return fixed === count ? (batch.data.length === 0 ? PROBLEM.NONE : PROBLEM.SHAPE) : this.#checkTexts(table, batch, from, fixed);
  }

  /** textGrowth is by how much the texts of a table become longer through the batch that was checked last since `begin`, as if each slot came once. */
  textGrowth(table: FeedTable, batch: UpdateBatch, from = 0): number {
    const fixed = batch.numCount + batch.intCount;
    let grown = 0;
    for (let i = fixed; i < batch.count; i++) {
      const slot = this.slots.data[from + i] as number;
      grown += (batch.len[i - fixed] as number) - (slot === NO_SLOT ? 0 : (table.slots.text[slot]?.length ?? 0));
    }
    return grown;
  }

  #checkTexts(table: FeedTable, batch: UpdateBatch, from: number, fixed: number): number {
    let bytes = 0;
    for (let i = fixed; i < batch.count; i++) {
      const length = batch.len[i - fixed] as number;
      const slot = this.slots.data[from + i] as number;
      const type = slot === NO_SLOT ? VALUE_TYPE.JSON : (table.slots.type[slot] as number);
      if (length > (TEXT_LIMIT[type] as number)) return this.#at(i, PROBLEM.TOO_LONG);
      bytes += length;
    }
    return bytes === batch.data.length ? PROBLEM.NONE : this.#at(batch.count - 1, PROBLEM.SHAPE);
  }

  #at(index: number, problem: number): number {
    this.index = index;
    return problem;
  }
}
