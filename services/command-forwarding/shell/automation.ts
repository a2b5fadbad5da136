import type { Value } from "#gen/foedus/common/v1/value_pb.ts";
import type { CommandOutcome, CommandRequest, ValueInit } from "../codec/request.ts";

/** LocalTask is a command for a node of this hub, as the in-process handler gets it (S0-20). */
export interface LocalTask {
  readonly nodeId: string;
  readonly capability: string;
  readonly value: Value | undefined;
  readonly callerHubId: string;
  /** Milliseconds left. */
  readonly timeoutMs: number;
  /** Aborted when the caller gave up or the deadline passed; an answer is still welcome. */
  readonly signal: AbortSignal;
  /** Trace to go on with (W3C Trace Context), if there is one. */
  readonly traceparent?: string | undefined;
  readonly tracestate?: string | undefined;
}

/**
 * LocalCommandHandler runs commands in this process (S0-20). What it returns is the command's value; a FoedusError that it throws
 * is FAILED with that reason, and REJECTED for VALUE_OUT_OF_RANGE, CAPABILITY_ACCESS and NODE_OFFLINE, which say that nothing was done.
 */
export type LocalCommandHandler = (task: LocalTask) => ValueInit | undefined | Promise<ValueInit | undefined>;

/** AutomationPort is where a rule engine puts the commands that result from a state change (S0-25, S0-26). */
export interface AutomationPort {
  /**
   * submit runs a command of an automation: it goes to the local executor, the adapter or the owning hub, as its target says.
   * `origin` names what caused it and is counted as a hop.
   */
  submit(command: CommandRequest, origin: string): Promise<CommandOutcome>;
  /** forwardToFederation sends a command to a peer's node (S0-27): false when federation is not configured, or nothing could be sent. */
  forwardToFederation(command: CommandRequest, origin: string): boolean;
}
