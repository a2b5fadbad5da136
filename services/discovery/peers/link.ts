import type { LinkState } from "#kernel/session/rules.ts";

/** LinkFacts is all that the state of a link depends on. */
export interface LinkFacts {
  readonly enabled: boolean;
  /** There is an address to dial and a certificate to dial with. */
  readonly dialable: boolean;
  /** A Hello of ours is under way. */
  readonly helloing: boolean;
  /** A Hello was finished in either direction, or a session is up, and nothing failed since. */
  readonly introduced: boolean;
  /** All sessions that the level needs are operational and synchronised. */
  readonly up: boolean;
  /** It was up before. */
  readonly wasUp: boolean;
}

/** linkState derives the state (S1-28). */
export function linkState(facts: LinkFacts): LinkState {
  if (!facts.enabled) return "TERMINATED";
  if (facts.up) return "OPERATIONAL";
  if (facts.wasUp) return "RECOVERING";
  if (facts.introduced) return "SYNCING";
  if (facts.helloing) return "CONNECTING";
  return facts.dialable ? "DISCOVERING" : "INIT";
}

/** The order in which a link comes up; each step has been gone through before the next. */
const WAY_UP: readonly LinkState[] = ["INIT", "DISCOVERING", "CONNECTING", "SYNCING", "OPERATIONAL"];

/** LEGAL lists where each state may lead (S1-28). */
export const LEGAL: Readonly<Record<LinkState, readonly LinkState[]>> = {
  INIT: ["DISCOVERING", "TERMINATED"],
  DISCOVERING: ["CONNECTING", "INIT", "TERMINATED"],
  CONNECTING: ["SYNCING", "DISCOVERING", "INIT", "TERMINATED"],
  SYNCING: ["OPERATIONAL", "CONNECTING", "DISCOVERING", "INIT", "TERMINATED"],
  OPERATIONAL: ["RECOVERING", "TERMINATED"],
  RECOVERING: ["OPERATIONAL", "TERMINATED"],
  TERMINATED: ["INIT"],
};

/** pathTo lists the states to go through from one state to another, the goal included. */
export function pathTo(from: LinkState, to: LinkState): readonly LinkState[] {
  if (from === to) return [];
  if (LEGAL[from].includes(to)) return [to];
  const path: LinkState[] = [];
  if (from === "TERMINATED") path.push("INIT");
  const at = path.at(-1) ?? from;
  const [start, end] = [WAY_UP.indexOf(at), WAY_UP.indexOf(to)];
  return [...path, ...WAY_UP.slice(start + 1, end + 1)];
}
