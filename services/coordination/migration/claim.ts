import type { Crypto } from "#kernel/crypto.ts";
import { inDomain } from "#kernel/wire/bytes.ts";
import { encode } from "#kernel/wire/shape.ts";
import type { Claim } from "./messages.ts";
import { AGENT_CLAIM } from "./shapes.ts";

/** claimBytes are what is signed: the context, and `foedus.coordination.v1alpha1.AgentClaim`. */
export function claimBytes(claim: Claim): Uint8Array {
  return inDomain("foedus.agent-claim.v1", encode(AGENT_CLAIM, claim));
}

/** claimHolds tells whether the agent with that node key signed a claim. */
export function claimHolds(crypto: Crypto, nodeKey: Uint8Array, claim: Claim, signature: Uint8Array): boolean {
  return crypto.verify(nodeKey, claimBytes(claim), signature);
}
