import type { Clients, Federation } from "../support/federation.ts";

/** Stage is what every step of the tour has. */
export interface Stage {
  readonly federation: Federation;
  readonly home: Clients;
  readonly factory: Clients;
  readonly lab: Clients;
  readonly say: (line: string) => void;
  /** atEnd has something done when the demo ends. */
  readonly atEnd: (end: () => void) => void;
}

/** must fails the tour if what was promised does not hold. */
export function must(what: string, holds: boolean): void {
  if (!holds) throw new Error(`expected: ${what}`);
}
