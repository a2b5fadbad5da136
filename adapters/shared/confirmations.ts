import type { ExecutorAnswer, PlainValue, SetValue } from "../../clients/typescript/index.ts";

/** Expected says which report confirms a command. */
export interface Expected {
  readonly nodeId: string;
  /** Key whose report it is. */
  readonly key: string;
  readonly accepts: (value: SetValue) => boolean;
}

/** Waiting is a command whose confirmation has not come. */
interface Waiting {
  readonly expected: Expected;
  readonly dueAt: number;
  readonly answer: (answer: ExecutorAnswer) => void;
  readonly forMs: number;
}

/** sameNumber compares what was asked for with what a device says it did, which may count in steps. */
export function sameNumber(asked: number, said: number, step = 0): boolean {
  return Math.abs(asked - said) <= Math.max(step / 2, 1e-9 * Math.max(1, Math.abs(asked)));
}

/** contains tells whether a report has all that was asked for in it. */
export function contains(asked: unknown, said: unknown): boolean {
  if (typeof asked === "number" && typeof said === "number") return sameNumber(asked, said, 1e-3);
  if (typeof asked !== "object" || asked === null) return asked === said;
  if (typeof said !== "object" || said === null) return false;
  return Object.entries(asked).every(([key, value]) => contains(value, (said as Readonly<Record<string, unknown>>)[key]));
}

/**
 * Confirmations are the commands that were handed on, until something live says that they were done. One that nothing confirms in time has an
 * unknown outcome: it may have been done.
 */
export class Confirmations {
  /** By `node key`: a hub gives as many tasks as were offered to be taken. */
  readonly #waiting = new Map<string, Set<Waiting>>();
  #size = 0;

  /** size is how many wait. */
  get size(): number {
    return this.#size;
  }

  /** add waits for a confirmation. */
  add(expected: Expected, now: number, forMs: number, answer: (answer: ExecutorAnswer) => void): void {
    const name = nameOf(expected.nodeId, expected.key);
    const waiting = this.#waiting.get(name) ?? new Set();
    waiting.add({ expected, dueAt: now + forMs, answer, forMs });
    this.#waiting.set(name, waiting);
    this.#size++;
  }

  /** reported tells of a live value. */
  reported(nodeId: string, key: string, value: SetValue, plain: PlainValue): void {
    if (this.#size === 0) return;
    const name = nameOf(nodeId, key);
    for (const one of this.#waiting.get(name) ?? []) if (one.expected.accepts(value)) this.#end(name, one, { value: plain });
  }

  /** deadline is when the next one is over, mono ms. */
  deadline(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const all of this.#waiting.values()) for (const { dueAt } of all) next = Math.min(next, dueAt);
    return next;
  }

  /** expire gives up those whose time is over. */
  expire(now: number): void {
    for (const [name, all] of this.#waiting)
      for (const one of all) {
        const { expected, dueAt, forMs } = one;
        if (dueAt > now) continue;
        const message = `${expected.nodeId} did not report ${expected.key} as asked within ${Math.round(forMs)} ms; it may have done it all the same`;
        this.#end(name, one, { failure: { reason: "OUTCOME_UNKNOWN", message } });
      }
  }

  #end(name: string, one: Waiting, answer: ExecutorAnswer): void {
    const all = this.#waiting.get(name);
    if (all?.delete(one) !== true) return;
    if (all.size === 0) this.#waiting.delete(name);
    this.#size--;
    one.answer(answer);
  }
}

function nameOf(nodeId: string, key: string): string {
  return `${nodeId} ${key}`;
}
