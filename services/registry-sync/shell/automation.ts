import type { StateChange } from "../table/changes.ts";

/**
 * AutomationPort is told of state changes before the feed learns of them (S0-25), own and of peers (S0-26). While it is off it costs
 * nothing; while it is on, each change becomes an object. `onChange` must not throw and must not wait.
 */
export interface AutomationPort {
  readonly enabled: boolean;
  onChange(change: StateChange): void;
}
