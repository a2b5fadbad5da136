/**
 * REASONS is the closed list of why something failed. The schema (`foedus.common.v1.ErrorReason`) is the source:
 * it gives each its gRPC code, retry answer and remedy; a test keeps the two lists equal.
 */
export const REASONS = [
  "INVALID_FIELD",
  "UNKNOWN_IDENTITY",
  "FOREIGN_CA",
  "CERTIFICATE_EXPIRED",
  "IDENTITY_MISMATCH",
  "ACCESS_DENIED",
  "TRUST_TOO_LOW",
  "TOKEN_INVALID",
  "TOKEN_EXPIRED",
  "RATE_LIMITED",
  "OVERLOADED",
  "LIMIT_EXCEEDED",
  "STORE_UNAVAILABLE",
  "NODE_NOT_FOUND",
  "NODE_AMBIGUOUS",
  "NODE_OFFLINE",
  "CAPABILITY_NOT_FOUND",
  "CAPABILITY_ACCESS",
  "VALUE_OUT_OF_RANGE",
  "PEER_NOT_FOUND",
  "PEER_UNREACHABLE",
  "NOT_SHARED",
  "DEADLINE_EXPIRED",
  "OUTCOME_UNKNOWN",
  "EXECUTOR_FAILED",
  "IDEMPOTENCY_CONFLICT",
  "NO_EXECUTOR",
  "ALREADY_EXISTS",
  "OUT_OF_SCOPE",
  "FEED_GAP",
  "SEGMENT_INVALID",
  "FEED_KEY_INVALID",
  "FEED_FORK",
  "UPGRADE_NEEDED",
  "POSITION_EXPIRED",
  "TOO_STALE",
  "SHUTTING_DOWN",
  "TERMINATED",
  "SESSION_REPLACED",
  "CLOCK_NOT_SET",
  "NOT_CONFIGURED",
  "INTERNAL",
  "CANCELLED",
  "MESSAGE_TOO_LARGE",
  "INVITE_CLOSED",
  "PIN_MISMATCH",
  "NOT_LEADER",
  "NO_QUORUM",
  "NOT_A_VOTER",
  "DOUBLE_VOTE",
  "SIGNATURE_INVALID",
  "BALLOT_CLOSED",
  "OFFER_NOT_FOUND",
  "NEGOTIATION_OVER",
  "FENCE_STALE",
  "LEASE_OVER",
  "QUOTA_EXCEEDED",
  "NO_CAPACITY",
  "MOVED",
  "AGENT_FROZEN",
  "MIGRATION_STEP",
  "CHECKPOINT_INVALID",
  "VERSION_CONFLICT",
  "VALUE_NOT_FOUND",
  "NOT_FEDERATED",
] as const;

/** Reason is why something failed. */
export type Reason = (typeof REASONS)[number];

/** Failure is an expected outcome, as a value: cores return it in effects and never throw it. */
export interface Failure {
  readonly reason: Reason;
  /** One sentence, lower case, no full stop: what is wrong and what to do. */
  readonly message: string;
  /** Path of the field at fault, e.g. `node.capabilities[3].name`. */
  readonly field?: string;
  /** Facts for programs: becomes the metadata of google.rpc.ErrorInfo. Never secrets. */
  readonly facts?: Readonly<Record<string, string>>;
}

/** FoedusError carries a Failure through code that throws (handlers, adapters). Cores do not use it. */
export class FoedusError extends Error {
  readonly failure: Failure;

  constructor(failure: Failure, options?: { readonly cause?: unknown }) {
    super(failure.message, options);
    this.name = "FoedusError";
    this.failure = failure;
  }

  /** reason is why it failed, for programs to decide by. */
  get reason(): Reason {
    return this.failure.reason;
  }
}

/** fail makes a FoedusError in one line. */
export function fail(
  reason: Reason,
  message: string,
  more: { field?: string; facts?: Readonly<Record<string, string>>; cause?: unknown } = {},
): FoedusError {
  const { cause, ...rest } = more;
  return new FoedusError({ reason, message, ...rest }, cause === undefined ? undefined : { cause });
}
