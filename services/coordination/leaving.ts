/** Leaving is what the rules below look at in an output, of this service or of its simulator. */
interface Leaving {
  readonly kind: string;
}

/** What says nothing of what was promised or decided: how this hub stands, why it cannot help, and what people are told. */
const FREE: ReadonlySet<string> = new Set(["status", "refused", "event", "misconduct"]);

/**
 * overtakes tells whether an output may leave while older ones wait for a store that refuses writes (DR7). A frame must not, though its own
 * step wrote nothing: a vote that is said again, or an answer to the same entries, speaks of what is not durable, and after a crash this hub
 * would promise something else (RA1, BF2). Nor must what was read: after a start this hub would show something older (zoo 23).
 */
export function overtakes({ kind }: Leaving): boolean {
  return FREE.has(kind);
}

/**
 * isEarly tells which outputs wait for hard persists only (DR11): entries on their way to others, and what is known to be durable already.
 */
export function isEarly(output: Leaving & { readonly early?: boolean }): boolean {
  return (output.kind === "send" || output.kind === "changed" || output.kind === "agent") && output.early === true;
}
