import type { Now } from "#kernel/instant.ts";
import type { LogStatus, ReplicaId } from "./log/engine.ts";
import type { Effect, Frame, Query, Request } from "./messages.ts";
import type { CoordinationGround } from "./ports.ts";
import type { LogCommand, News } from "./state/commands.ts";
import type { Applied, FederationState } from "./state/federation-state.ts";

/** PartGround is what a part of a federation's member works with. */
export interface PartGround {
  readonly ground: CoordinationGround;
  readonly self: ReplicaId;
  readonly state: FederationState;
  /** log is how the log stands here at the moment. */
  readonly log: () => LogStatus;
  /** inContact tells whether this hub has a session with another one. */
  readonly inContact: (hubId: string) => boolean;
  /**
   * submit wants a command of this hub decided; it is on its way when the present step is done. `then` is called with what became of it:
   * carried out or refused by its book (`applied`), never decided (`refused`), or unknown (`refused` with OUTCOME_UNKNOWN).
   */
  readonly submit: (command: LogCommand, then?: (outcome: Settled, now: Now, out: Effect[]) => void) => void;
  /** read calls back when all that is decided at this moment has been applied here; or with why that could not be confirmed. */
  readonly read: (then: (failure: Extract<Effect, { kind: "refused" }>["failure"] | undefined, now: Now, out: Effect[]) => void) => void;
}

/** Settled is what became of a command. */
export type Settled =
  | { readonly kind: "applied"; readonly applied: Applied }
  | { readonly kind: "refused"; readonly failure: Extract<Effect, { kind: "refused" }>["failure"] };

/**
 * Part is one thing that a member of a federation does beside keeping the log: watch the members, lend, move agents. It is pure, as the core
 * that it is a part of.
 */
export interface Part {
  /** Kinds of frames that it takes. */
  readonly frames: readonly Frame["kind"][];
  /** Kinds of requests that it answers. */
  readonly requests: readonly Request["kind"][];
  /** onNews tells what became known by an entry of the log of this log time, in order, once; after a restart those since the last snapshot come again. */
  onNews(now: Now, news: News, out: Effect[], logTime: number): void;
  /** onReplaced tells that the state is another one, from a snapshot: what was told before may have been passed over. */
  onReplaced(now: Now, out: Effect[]): void;
  /** contact tells that a session with a peer came up or went. */
  contact(now: Now, peer: string, up: boolean, out: Effect[]): void;
  frame(now: Now, peer: string, frame: Frame, out: Effect[]): void;
  call(now: Now, call: number, request: Request, out: Effect[]): void;
  tick(now: Now, out: Effect[]): void;
  deadline(): number | undefined;
  describe(): string;
}

/** Asked is a call that waits for the log, and what is done with its outcome. */
export type Asked =
  | { readonly kind: "change" | "leave" | "transfer" }
  | { readonly kind: "query"; readonly query: Query }
  /** A command or read of a part (part.ts). */
  | { readonly kind: "part"; readonly then: (outcome: Settled | undefined, now: Now, out: Effect[]) => void };
