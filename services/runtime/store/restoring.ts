import { FoedusError, fail } from "#kernel/error.ts";
import { StoredError } from "#kernel/stored.ts";
import type { Store } from "./port.ts";

/**
 * restoring runs what a service reads back from its store when it starts. Whatever is wrong with what it finds there becomes one sentence
 * that says which file and record it is, and what to do: nothing that was stored is passed over, and nothing is guessed.
 */
export async function restoring<T>(service: string, store: Store, read: () => T | Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof FoedusError) throw error;
    const file = store.path ?? `the store of ${service}`;
    const what =
      error instanceof StoredError
        ? `record ${error.record} ${error.problem}`
        : "it has a record that this version cannot make anything of";
    throw fail("STORE_UNAVAILABLE", `${file} is damaged: ${what}; restore a backup, or move the file away to begin without it`, {
      cause: error,
      facts: { path: store.path ?? "", ...(error instanceof StoredError ? { record: error.record } : {}) },
    });
  }
}
