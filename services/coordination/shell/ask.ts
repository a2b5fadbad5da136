import type { CallContext } from "#runtime/rpc/call.ts";
import type { Answer, Request } from "../messages.ts";

/** Ask gives the core a request and resolves with its answer. */
export type Ask = <K extends Answer["kind"]>(kind: K, request: Request, context: CallContext) => Promise<Extract<Answer, { kind: K }>>;

/** Asked is a request that the core has; `cancel` tells it that nobody waits for the answer any more, which then does not come. */
export interface Asked<A> {
  readonly answer: Promise<A>;
  cancel(): void;
}

/** Begin is Ask for whoever watches many requests at a time. */
export type Begin = <K extends Answer["kind"]>(kind: K, request: Request) => Asked<Extract<Answer, { kind: K }>>;
