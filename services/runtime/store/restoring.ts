import { FoedusError, fail } from "#kernel/error.ts";
import { StoredError } from "#kernel/wire/stored-json.ts";
import { SQLITE, sqliteCode } from "./open.ts";
import type { Store } from "./port.ts";

/**
 * restoring runs what a service reads back from its store when it starts. What is wrong becomes one sentence that says which file it is
 * and what to do: nothing that was stored is passed over, and nothing is guessed. To begin without the file is the advice only when the
 * file itself is known to be damaged: whatever else fails, the data is needed afterwards. A core restores in one go, so that nothing of
 * its service runs beside it; for what takes longer there is `restoringAsync`.
 */
export function restoring<T>(service: string, store: Store, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw told(service, store, error);
  }
}

/** restoringAsync is `restoring` for what does not read in one go. */
export async function restoringAsync<T>(service: string, store: Store, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw told(service, store, error);
  }
}

function told(service: string, store: Store, error: unknown): FoedusError {
  if (error instanceof FoedusError) return error;
  const file = store.path ?? `the store of ${service}`;
  const text = error instanceof Error ? error.message : String(error);
  const facts = { path: store.path ?? "" };
  const damaged = (what: string, more = {}): FoedusError =>
    fail("STORE_UNAVAILABLE", `${file} is damaged: ${what}; restore a backup, or move the file away to begin without it`, {
      cause: error,
      facts: { ...facts, ...more },
    });
  if (error instanceof StoredError) return damaged(`record ${error.record} ${error.problem}`, { record: error.record });
  const code = sqliteCode(error);
  if (code === SQLITE.CORRUPT || code === SQLITE.NOTADB) return damaged(text);
  if (code !== undefined || isSystemError(error))
    return fail("STORE_UNAVAILABLE", `cannot read ${file}: ${text}; keep the file, see to the disk, and start again`, {
      cause: error,
      facts,
    });
  return fail("INTERNAL", `${service} failed while it read ${file}: ${text}; keep the file, and report this`, { cause: error, facts });
}

/** isSystemError tells whether the operating system refused something (EIO, ENOMEM). */
function isSystemError(error: unknown): boolean {
  const code: unknown = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" && /^E[A-Z]+$/.test(code);
}
