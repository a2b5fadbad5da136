/** Entries that one keeps. */
const KEPT_MAX = 4_096;

/** BoundedMap is a Map that forgets what was set longest ago, beyond 4,096 entries. */
export class BoundedMap<V> {
  readonly #values = new Map<string, V>();

  get(key: string): V | undefined {
    return this.#values.get(key);
  }

  set(key: string, value: V): void {
    this.#values.delete(key);
    this.#values.set(key, value);
    if (this.#values.size > KEPT_MAX) this.#values.delete(this.#values.keys().next().value as string);
  }

  delete(key: string): void {
    this.#values.delete(key);
  }
}
