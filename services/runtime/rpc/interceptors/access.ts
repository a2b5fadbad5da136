import type { Clock } from "#channel/clock.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import { authorise } from "../access.ts";
import type { ServerCall } from "../server/call-context.ts";
import type { TokenCache, VerifiedToken } from "../server/token-verifier.ts";
import type { Interceptor } from "./interceptor.ts";

const BEARER = /^bearer ([A-Za-z0-9._~+/=-]+)$/i;

function bind(call: ServerCall, token: VerifiedToken): Failure | undefined {
  if (token.hubId !== call.caller.hubId)
    return {
      reason: "TOKEN_INVALID",
      message: `the token belongs to ${token.hubId} and the certificate to ${call.caller.hubId}; use your own`,
    };
  call.token = { expiresAtWall: token.expiresAtWall, id: token.id };
  return undefined;
}

function refused(error: unknown): Failure {
  if (error instanceof FoedusError) return error.failure;
  throw error;
}

/** accessInterceptor applies the RPC's access rule, then demands a verified token from peers unless the rule is `tokenless`. */
export function accessInterceptor(tokens: TokenCache | undefined, clock: Clock): Interceptor {
  return {
    name: "access",
    open(call) {
      const denied = authorise(call.caller, call.entry.rule);
      if (denied !== undefined) return denied;
      if (call.caller.kind !== "peer" || call.entry.rule.tokenless) return undefined;
      if (tokens === undefined) return { reason: "TOKEN_INVALID", message: "this server takes no tokens, so no peer may call this" };
      const token = BEARER.exec(call.authorization ?? "")?.[1];
      if (token === undefined) return { reason: "TOKEN_INVALID", message: "a peer needs a bearer token here; say Hello to get one" };
      try {
        const verified = tokens.verify(token, call.caller.thumbprint, clock.wall());
        return verified instanceof Promise ? verified.then((known) => bind(call, known), refused) : bind(call, verified);
      } catch (error) {
        return refused(error);
      }
    },
  };
}
