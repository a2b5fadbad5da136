/**
 * AssertionFailure means that this program is wrong, not that something outside went wrong. It is never caught to go on:
 * the driver stops, the hub exits with a non-zero code (DC6), and what is on disk stays as it was.
 */
export class AssertionFailure extends Error {
  /** Values that explain the failure. */
  readonly facts: Readonly<Record<string, unknown>>;

  constructor(message: string, facts: Readonly<Record<string, unknown>> = {}) {
    const shown = Object.entries(facts).map(([name, value]) => `${name}=${show(value)}`);
    super(shown.length === 0 ? message : `${message} (${shown.join(", ")})`);
    this.name = "AssertionFailure";
    this.facts = facts;
  }
}

function show(value: unknown): string {
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}

/** assert states what must always be true. `message` says what is wrong when it is not. Pass `facts` only where it is cheap. */
export function assert(condition: unknown, message: string, facts?: Readonly<Record<string, unknown>>): asserts condition {
  if (!condition) throw new AssertionFailure(message, facts);
}

/** unreachable marks the default of a switch over a union: the compiler proves that it is never reached. */
export function unreachable(value: never): never {
  throw new AssertionFailure("unexpected variant", { value: JSON.stringify(value) });
}
