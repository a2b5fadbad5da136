import { assert } from "#kernel/assert.ts";
import type { Crypto } from "#kernel/crypto.ts";
import type { Failure } from "#kernel/error.ts";
import { copyOf } from "#kernel/wire/bytes.ts";
import { sameBytes } from "#kernel/wire/shape.ts";
import { AuthorSessions } from "../log/author-sessions.ts";
import { FEDERATION_ID_BYTES, readBatch, type SignedBatch } from "../log/batch.ts";
import type { LogInstant } from "../log/book.ts";
import type { Committed } from "../log/engine.ts";
import type { SignedFounding } from "../members/messages.ts";
import { foundingDigest } from "../members/statements.ts";
import { Books, type BooksData } from "./books.ts";
import type { CommandCodec, LogCommand, News } from "./commands.ts";

/** Applied is what became of one command of the log. */
export interface Applied {
  readonly author: string;
  readonly session: number;
  /** Number of the command in its session. */
  readonly number: number;
  readonly at: LogInstant;
  /** Undefined for bytes that are no command. */
  readonly command: LogCommand | undefined;
  readonly result: { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly failure: Failure };
}

/** Applying is what an entry of the log brought. */
export interface Applying {
  readonly commands: readonly Applied[];
  readonly news: readonly News[];
  /** Payloads that had no effect, and why: a signature that is wrong, a session that is over. Counted; nothing more comes of them. */
  readonly dropped: readonly string[];
}

/** StateData is the whole state, as plain sorted data. */
export interface StateData extends BooksData {
  readonly index: number;
  readonly term: number;
  readonly time: number;
  readonly authors: readonly { readonly author: string; readonly session: number; readonly last: number }[];
}

/** StateGround is what the state works with; all of it pure. */
export interface StateGround {
  readonly crypto: Crypto;
  readonly codec: CommandCodec;
}

/**
 * FederationState is what all hubs of a federation keep alike: it carries out the entries of the log, in order, each exactly once.
 *
 * FS1 two hubs that applied the same entries have the same state: only entries change it, and nothing else is looked at.
 * FS2 an entry whose signature is not its author's, that was written for another federation, by another replica than the author is a member
 *    with, or that comes again, also after its author left and came back, has no effect, at every hub alike: whether a payload counts is
 *    decided here, by the members as of the entries before it.
 * FS3 what is due by an entry's time happens before its commands.
 */
export class FederationState {
  readonly #ground: StateGround;
  readonly #authors = new AuthorSessions();
  readonly #federation: Uint8Array;
  readonly books: Books;
  #at: LogInstant = { index: 0, term: 0, time: 0 };

  /** The state begins with the founding entry; it must hold (`foundingProblem`). */
  constructor(ground: StateGround, founding: SignedFounding) {
    this.#ground = ground;
    this.books = new Books(ground.crypto);
    const founder = founding.founding.founders[0]?.hubId ?? "";
    const founded = this.books.members.apply(this.#at, founder, { kind: "found", ...founding });
    assert(founded.ok, "a founding entry that does not hold", founded.ok ? {} : { problem: founded.failure.message });
    this.#federation = federationId(founding, ground.crypto);
  }

  /** federation is the short id of the federation: the start of the digest of its founding. */
  get federation(): Uint8Array {
    return this.#federation;
  }

  /** at is the last entry that was applied. */
  get at(): LogInstant {
    return this.#at;
  }

  /** due is the log time at which something happens by itself; undefined for never. */
  due(): number | undefined {
    return this.books.due();
  }

  /** position is how far the commands of an author were carried out. */
  position(author: string): { readonly session: number; readonly last: number } {
    return this.#authors.position(author);
  }

  /** apply carries out one entry. */
  apply({ index, term, time, payloads }: Committed): Applying {
    this.#at = { index, term, time };
    const commands: Applied[] = [];
    const news: News[] = [];
    const dropped: string[] = [];
    this.books.expire(this.#at, news);
    this.#forgetGone(news, 0);
    for (const payload of payloads) {
      const told = news.length;
      const problem = this.#payload(payload, commands, news);
      if (problem !== undefined) dropped.push(problem);
      this.#forgetGone(news, told);
    }
    return { commands, news, dropped };
  }

  /** Who goes is forgotten at once: in the same entry it may come back, and what it says then is not forgotten (FS2). */
  #forgetGone(news: readonly News[], from: number): void {
    for (const { book, news: one } of news.slice(from)) if (book === "members" && one.kind === "gone") this.#authors.forget(one.hubId);
  }

  #payload(payload: Uint8Array, commands: Applied[], news: News[]): string | undefined {
    const signed = readSigned(payload);
    if (typeof signed === "string") return signed;
    const { author, session, first, commands: written } = signed.batch;
    const skip = this.#authors.fresh(author, session, first, written.length);
    if (skip === undefined) return `commands ${first} and on of session ${session} of ${author} come again, or too early`;
    const problem = this.#unsound(signed);
    if (problem !== undefined) return problem;
    for (let i = skip; i < written.length; i++) {
      // With the command by which it leaves, an author has written its last.
      if (this.books.members.member(author) === undefined) break;
      const carriedOut = this.#command(author, written[i] as Uint8Array, news);
      commands.push({ author, session, number: first + i, at: this.#at, ...carriedOut });
    }
    if (this.books.members.member(author) !== undefined) this.#authors.advance(author, session, first + written.length - 1);
    return undefined;
  }

  #unsound({ batch, signed, signature }: SignedBatch): string | undefined {
    if (!sameBytes(batch.federation, this.#federation)) return `a batch of ${batch.author} for another federation`;
    const key = this.books.members.key(batch.author);
    if (key === undefined) return `${batch.author} is no member`;
    if (this.books.members.member(batch.author)?.incarnation !== batch.incarnation) return `a batch of another replica of ${batch.author}`;
    return this.#ground.crypto.verify(key.publicKey, signed, signature)
      ? undefined
      : `a batch with a signature that is not ${batch.author}'s`;
  }

  #command(author: string, bytes: Uint8Array, news: News[]): Pick<Applied, "command" | "result"> {
    let command: LogCommand;
    try {
      command = this.#ground.codec.read(bytes);
    } catch (error) {
      const message = error instanceof Error ? error.message : "it is no command";
      return { command: undefined, result: { ok: false, failure: { reason: "INVALID_FIELD", message } } };
    }
    return { command, result: this.books.apply(this.#at, author, command, news) };
  }

  dump(): StateData {
    return { ...this.#at, authors: this.#authors.dump(), ...this.books.dump() };
  }

  load({ index, term, time, authors, ...books }: StateData): void {
    this.#at = { index, term, time };
    this.#authors.load(authors);
    this.books.load(books);
  }

  describe(): string {
    const { index, term, time } = this.#at;
    return [`applied=${index} term=${term} time=${time}`, this.books.describe()].join("\n");
  }
}

function readSigned(payload: Uint8Array): SignedBatch | string {
  try {
    return readBatch(payload);
  } catch (error) {
    return `a payload that is no batch: ${error instanceof Error ? error.message : "malformed"}`;
  }
}

/** federationId is the short id of a federation, which stands in what is signed for its log. */
export function federationId(founding: SignedFounding, crypto: Pick<Crypto, "hash">): Uint8Array {
  return copyOf(foundingDigest(founding.founding, crypto), 0, FEDERATION_ID_BYTES);
}
