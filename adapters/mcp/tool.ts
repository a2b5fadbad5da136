import type * as z from "zod";
import type { CallerRole, Clock, Hub } from "../../clients/typescript/index.ts";
import type { Keys } from "./keys.ts";

/** Caller is who makes a tool call. */
export interface Caller {
  /** Tells callers apart, such as the name of an operator. */
  readonly id: string;
  readonly role: CallerRole;
  /** The hub is called by a certificate with more rights than this caller has, so that the hub cannot refuse what the caller may not do. */
  readonly limited?: boolean;
}

/** ToolContext is what a tool has for one call. */
export interface ToolContext {
  readonly hub: Hub;
  readonly caller: Caller;
  readonly keys: Keys;
  readonly clock: Clock;
  /** Aborts when the caller gave the call up. */
  readonly signal: AbortSignal;
}

/** Answer is what a tool says: a sentence of our own words, and data that fits the tool's output schema. */
export interface Answer {
  readonly text: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** Annotations tell a host how much care a tool needs. */
export interface Annotations {
  readonly readOnlyHint: boolean;
  readonly destructiveHint: boolean;
  readonly idempotentHint: boolean;
  readonly openWorldHint: boolean;
}

/** READS are the annotations of a tool that changes nothing. */
export const READS: Annotations = { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false };

/** Tool is one tool: what is said of it, and what it does. */
export interface Tool {
  readonly name: string;
  readonly title: string;
  /** Our own words only: nothing that a hub or device says is ever part of it. */
  readonly description: string;
  readonly annotations: Annotations;
  /** The least role that is offered it. The hub decides what is allowed. */
  readonly role: "viewer" | "admin";
  readonly input: z.ZodObject;
  readonly output: z.ZodObject;
  readonly run: (args: never, context: ToolContext) => Promise<Answer>;
}

/** tool makes a tool whose arguments have the type of its input schema. */
export function tool<I extends z.ZodObject>(
  spec: Omit<Tool, "input" | "run"> & { readonly input: I; readonly run: (args: z.infer<I>, context: ToolContext) => Promise<Answer> },
): Tool {
  return spec;
}

/** Complaint is a refusal of this server, in the form that a hub's has. */
export interface Complaint {
  readonly reason: string;
  readonly message: string;
  readonly remedy: string;
  readonly retryable: boolean;
  /** What became of the command, and its name, if there is one. */
  readonly outcome?: string | undefined;
  readonly command?: string | undefined;
}

/** ToolError ends a call with a complaint of this server's own. */
export class ToolError extends Error {
  readonly complaint: Complaint;

  constructor(reason: string, message: string, remedy: string, more: Partial<Pick<Complaint, "retryable" | "outcome" | "command">> = {}) {
    super(message);
    this.name = "ToolError";
    this.complaint = { reason, message, remedy, retryable: false, ...more };
  }
}
