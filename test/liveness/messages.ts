import type { Found } from "../simulator/liveness/tally.ts";

/** ToChild is what the measurement tells a hub: where the others are, or to do nothing but compute for a while. */
export type ToChild =
  | { readonly kind: "ports"; readonly ports: readonly [string, number][] }
  | { readonly kind: "busy"; readonly ms: number };

/** ToParent is what a hub tells: its port, or that a detector found something at an instant of `monoMs`. */
export type ToParent =
  | { readonly kind: "ready"; readonly port: number }
  | { readonly kind: "found"; readonly found: Found; readonly hub: string; readonly at: number };

/** monoMs reads the monotonic clock that all processes of a machine share. */
export function monoMs(): number {
  return Number(process.hrtime.bigint() / 1_000n) / 1_000;
}
