import type { Failure } from "#kernel/error.ts";

/** LogInstant is where and when in the log something happens: the same at every hub. */
export interface LogInstant {
  readonly index: number;
  /** Term of the position; (index, term) of an entry never comes again. */
  readonly term: number;
  /** Log time, ms since the Unix epoch. The only clock that a book knows. */
  readonly time: number;
}

/** Outcome of a command, the same at every hub. `value` is for the author; `news` is for whoever watches. */
export type Outcome<V, N> =
  | { readonly ok: true; readonly value: V; readonly news: readonly N[] }
  | { readonly ok: false; readonly failure: Failure };

/**
 * Book is a part of the state that all hubs of a federation keep alike by applying the same commands in the same order.
 *
 * BK1 it is a pure function of the commands and instants that it was given: no clock, no randomness, no iteration over what is not
 *    ordered, no floating-point arithmetic whose result could differ.
 * BK2 a refused command changes nothing. Whatever a peer put into a command is checked here, also when its own hub should have.
 * BK3 `load(dump())` makes a book that behaves the same from then on, and whose dump is the same, byte for byte once written.
 * BK4 nothing grows without bound: each list has a limit, and what is settled is forgotten after a stated time.
 *
 * `C` are its commands, `V` what an author is answered, `N` what becomes known, `D` its whole state as plain sorted data.
 */
export interface Book<C, V, N, D> {
  /** apply carries out a command of a hub (the author has been verified). */
  apply(at: LogInstant, author: string, command: C): Outcome<V, N>;
  /** due is the log time at which `expire` has something to do, or undefined. The leader then writes an entry if nobody else does. */
  due(): number | undefined;
  /** expire does what is due at this instant; called before `apply` of the same instant. */
  expire(at: LogInstant): readonly N[];
  dump(): D;
  load(data: D): void;
  describe(): string;
}
