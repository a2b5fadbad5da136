type Labels = Readonly<Record<string, string>>;

/** Things of each kind that are kept to be shared. When there are more, all of them are given up and the next ones are kept. */
const ALIKE_MAX = 4_096;
/** Longer texts, and labels that are longer as JSON, are hardly the same twice. */
const TEXT_MAX = 64;
const LABELS_MAX = 192;
const KEYS_MAX = 64;

const NONE: Labels = Object.freeze({});

/**
 * Interning gives equal parts of nodes one place in memory. Nodes of one model have the same type and the same keys by the thousand, and those
 * of one room the same labels; each decoded node brings its own copies of them.
 */
class Interning {
  readonly #texts = new Map<string, string>();
  readonly #labels = new Map<string, Labels>();
  /** By a hash of them; of those with the same hash the newest ones are kept. */
  readonly #keys = new Map<number, readonly number[]>();

  text(text: string): string {
    if (text.length > TEXT_MAX) return text;
    const known = this.#texts.get(text);
    if (known !== undefined) return known;
    if (this.#texts.size >= ALIKE_MAX) this.#texts.clear();
    this.#texts.set(text, text);
    return text;
  }

  labels(labels: Labels): Labels {
    let names = 0;
    let length = 2;
    for (const [name, value] of Object.entries(labels)) {
      names++;
      length += 6 + name.length + value.length;
      if (length > LABELS_MAX) return labels;
    }
    if (names === 0) return NONE;
    const text = JSON.stringify(labels);
    const known = this.#labels.get(text);
    if (known !== undefined) return known;
    if (this.#labels.size >= ALIKE_MAX) this.#labels.clear();
    this.#labels.set(text, labels);
    return labels;
  }

  keys(keys: readonly number[]): readonly number[] {
    const { length } = keys;
    // Never the array itself: one that grew by and by has room to grow further.
    if (length > KEYS_MAX) return keys.slice();
    let hash = length;
    for (let i = 0; i < length; i++) hash = (Math.imul(hash, 31) + (keys[i] as number)) | 0;
    const known = this.#keys.get(hash);
    if (known !== undefined && same(known, keys)) return known;
    if (this.#keys.size >= ALIKE_MAX) this.#keys.clear();
    const kept = keys.slice();
    this.#keys.set(hash, kept);
    return kept;
  }
}

function same(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** interning is for all tables of the process: what is equal is interchangeable, and nothing of it ever changes. */
export const interning = new Interning();
