import type { Crypto } from "#kernel/crypto.ts";
import type { Failure } from "#kernel/error.ts";
import { MigrationBook } from "../../../services/coordination/migration/book.ts";
import type { MigrationCommand, MigrationNews } from "../../../services/coordination/migration/messages.ts";

/** Entry is a decided position: a command, the removal of a hub, or nothing but time. */
export type Entry = { readonly index: number; readonly time: number } & (
  | { readonly kind: "command"; readonly author: string; readonly command: MigrationCommand }
  | { readonly kind: "removed"; readonly hub: string }
  | { readonly kind: "time" }
);

/** Undated is an entry before it has its place. */
export type Undated = Entry extends infer E ? (E extends Entry ? Omit<E, "index" | "time"> : never) : never;

/** Carried is what an entry brought, and why its command was refused. */
export interface Carried {
  readonly news: readonly MigrationNews[];
  readonly failure?: Failure;
}

/** carryOut applies an entry to a copy of the book. */
export function carryOut(book: MigrationBook, entry: Entry): Carried {
  const at = { index: entry.index, term: 1, time: entry.time };
  const news = [...book.expire(at)];
  if (entry.kind === "removed") return { news: [...news, ...book.removed(at, entry.hub)] };
  if (entry.kind === "time") return { news };
  const outcome = book.apply(at, entry.author, entry.command);
  return outcome.ok ? { news: [...news, ...outcome.news] } : { news, failure: outcome.failure };
}

/** ToyLog is a log with a leader and no mistakes: what it decided stays decided. `head` is the book at its end. */
export class ToyLog {
  readonly entries: Entry[] = [];
  readonly head: MigrationBook;
  /** A leader is there. */
  up = true;

  constructor(crypto: Crypto) {
    this.head = new MigrationBook(crypto);
  }

  append(time: number, entry: Undated): Carried {
    const last = this.entries.at(-1)?.time ?? 0;
    const dated = { ...entry, index: this.entries.length + 1, time: Math.max(last, Math.round(time)) } as Entry;
    this.entries.push(dated);
    return carryOut(this.head, dated);
  }
}
