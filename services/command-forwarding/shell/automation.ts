import type { MessageInitShape } from "@bufbuild/protobuf";
import { create } from "@bufbuild/protobuf";
import { type Value, ValueSchema } from "#gen/foedus/common/v1/value_pb.ts";
import type { CommandName, Result } from "../messages.ts";

/** ValueInit is a value as programs write it, e.g. `{ kind: { case: "boolValue", value: true } }`. */
export type ValueInit = MessageInitShape<typeof ValueSchema>;

/** CommandRequest is a command as programs write it. */
export interface CommandRequest {
  /** Owner of the node; empty or missing: own hub first, else a unique match. */
  readonly hubId?: string;
  readonly nodeId: string;
  readonly capability: string;
  readonly value?: ValueInit;
  /** Relative deadline, ms; 10,000 by default (S0-19). */
  readonly timeoutMs?: number;
  readonly idempotencyKey?: string;
  /** Hubs and automations that led to it (B0-8). */
  readonly hops?: readonly string[];
  /** Trace that it belongs to (W3C Trace Context); what is malformed is ignored. */
  readonly traceparent?: string;
  readonly tracestate?: string;
}

/** CommandOutcome is what became of it, as programs read it. */
export interface CommandOutcome extends Omit<Result, "value"> {
  readonly value: Value | undefined;
  readonly name: CommandName | undefined;
  readonly durationMs: number;
  readonly replayed: boolean;
}

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

/** valueFrom completes a value. */
export function valueFrom(init: ValueInit | undefined): Value | undefined {
  return init === undefined ? undefined : create(ValueSchema, init);
}
