/**
 * own looks a key that comes from outside up in a table: only what the table itself has counts. Every object also has `toString`,
 * `constructor` and `__proto__`, so that a plain index finds something under names that nobody put there.
 */
export function own<V>(table: Readonly<Record<string, V>>, key: string): V | undefined {
  return Object.hasOwn(table, key) ? table[key] : undefined;
}
