/**
 * AuthorSessions remember how far each author's commands were carried out, so that a command that comes twice has one effect. They are a
 * part of the state that all hubs keep alike.
 *
 * AS1 the command (author, session, number) is carried out at most once, and in the order of its numbers, whatever is sent again, late or
 *    out of order.
 * AS2 nothing of a session is carried out after something of a larger session of the same author.
 * AS3 there is one record per member; those of hubs that left go with them.
 */
export class AuthorSessions {
  readonly #authors = new Map<string, AuthorPosition>();

  /** position is how far an author has come; session 0 before its first command. */
  position(author: string): AuthorPosition {
    return this.#authors.get(author) ?? NONE;
  }

  /**
   * fresh tells how many commands at the start of a batch are known already: those from there on are to be carried out now. Undefined if
   * none may be: an old session, or numbers are missing in between.
   */
  fresh(author: string, session: number, first: number, count: number): number | undefined {
    const known = this.position(author);
    if (session < known.session) return undefined;
    const last = session === known.session ? known.last : 0;
    if (first > last + 1) return undefined;
    const skip = last + 1 - first;
    return skip >= count ? undefined : skip;
  }

  /** advance notes that an author's commands were carried out up to a number. */
  advance(author: string, session: number, last: number): void {
    this.#authors.set(author, { session, last });
  }

  /** forget drops an author that is no member any more. */
  forget(author: string): void {
    this.#authors.delete(author);
  }

  dump(): readonly (AuthorPosition & { readonly author: string })[] {
    return [...this.#authors].sort(([a], [b]) => (a < b ? -1 : 1)).map(([author, position]) => ({ author, ...position }));
  }

  load(data: readonly (AuthorPosition & { readonly author: string })[]): void {
    this.#authors.clear();
    for (const { author, session, last } of data) this.#authors.set(author, { session, last });
  }
}

/** Starts of a hub in a row whose sessions have different numbers, whatever its clock does. Sessions are ahead of it by less than so many ms. */
const STARTS = 512;

/**
 * sessionAfter is the number of a new session of a hub: larger than the one that the log knows, by its clock, and never one of an earlier start.
 * What that sent last may still be decided, and the log does not know it yet. `start` rises by one with each start.
 */
export function sessionAfter(known: number, wall: number, start: number): number {
  const least = Math.max(known + 1, Math.floor(wall), 1);
  return least + ((((start - least) % STARTS) + STARTS) % STARTS);
}

/** AuthorPosition is the last command of an author that was carried out. */
export interface AuthorPosition {
  readonly session: number;
  readonly last: number;
}

const NONE: AuthorPosition = { session: 0, last: 0 };
