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
  /** Relative deadline, ms; missing or 0: that of the hub, 10,000 by default (S0-19). */
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

/** valueFrom completes a value. */
export function valueFrom(init: ValueInit | undefined): Value | undefined {
  return init === undefined ? undefined : create(ValueSchema, init);
}
