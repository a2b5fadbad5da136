import { AMOUNT_MAX, type Amounts, amountsOf, type Dimension, NOTHING } from "../../services/coordination/resources/amounts.ts";
import type { Offer, Priority, ResourceCommand } from "../../services/coordination/resources/commands.ts";
import type { Kind } from "../../services/coordination/resources/kinds.ts";

type Some = Partial<Record<Dimension, number>>;

/** agentsOf is what is offered of so many agents of a type. */
export function agentsOf(type: string, count: number): Kind {
  return { kind: "agent", type, agents: Array.from({ length: count }, (_, i) => `${type}-${String(i).padStart(3, "0")}`) };
}

/** INFERENCE is compute with two models. */
export const INFERENCE: Kind = { kind: "compute", work: "inference", models: ["llm-8b", "vision"], maxBatch: 32, horizonMs: 0 };

/** offer is an automatic offer without a price. */
export function offer(name: string, what: Kind, capacity: Some, more: Partial<Offer> = {}): Extract<ResourceCommand, { kind: "offer" }> {
  const made: Offer = { name, what, capacity: amountsOf(capacity), shared: true, prices: [...NOTHING], automatic: true };
  return { kind: "offer", offer: { ...made, ...more } };
}

/** coders offers agents of the type coder. */
export function coders(count: number, more: Partial<Offer> = {}): Extract<ResourceCommand, { kind: "offer" }> {
  return offer("coders", agentsOf("coder", count), { agents: count }, more);
}

/** RequestCommand is a request. */
export type RequestCommand = Extract<ResourceCommand, { kind: "request" }>;

/** want asks for agents of the type coder, of anybody. */
export function want(id: string, agents: number, more: Partial<RequestCommand> = {}): RequestCommand {
  return {
    kind: "request",
    id,
    owner: "",
    name: "",
    want: { kind: "agent", type: "coder" },
    amounts: amountsOf({ agents }),
    durationMs: 60_000,
    priority: "medium" as Priority,
    context: "",
    maxCostMicro: 1_000_000_000,
    waitMs: 0,
    ...more,
  };
}

/** quota is what a borrower may count on of the coders, and have at the most. */
export function quota(borrower: string, nominal: number, limit = AMOUNT_MAX): Extract<ResourceCommand, { kind: "quota" }> {
  const most: Amounts = NOTHING.map(() => AMOUNT_MAX);
  return {
    kind: "quota",
    name: "coders",
    borrower,
    nominal: amountsOf({ agents: nominal }),
    limit: most.map((amount, i) => (i === 0 ? limit : amount)),
  };
}
