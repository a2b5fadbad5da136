import type { CallContext } from "#runtime/rpc/call.ts";
import type { Answer, Request } from "../messages.ts";

/** Ask gives the core a request and resolves with its answer. */
export type Ask = <K extends Answer["kind"]>(kind: K, request: Request, context: CallContext) => Promise<Extract<Answer, { kind: K }>>;
