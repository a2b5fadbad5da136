import type { Applied, Command } from "./app.ts";
import type { Hub } from "./hub.ts";
import type { Invariants } from "./invariants.ts";

/**
 * History is what clients asked for and were told. Each value is written once, so the positions at which a register had it are known, and
 * an answer is linearizable if they are not all before one that another answer had shown when the question was asked.
 */
export class History<F> {
  readonly #invariants: Invariants<F>;
  readonly #asked = new Map<string, Command>();
  readonly #values = new Set<string>();
  readonly #last = new Map<string, string>();
  /** floor is the newest position that an answer has shown; later questions must see it. */
  floor = 0;
  answered = 0;
  readonly #acked = new Map<string, number>();

  constructor(invariants: Invariants<F>) {
    this.#invariants = invariants;
  }

  /** invoke notes a command, and answers the floor of its answer. */
  invoke(command: Command): number {
    this.#asked.set(`${command.client} ${command.serial}`, command);
    if (command.do[0] !== "lock") {
      this.#values.add(String(command.do.at(-1)));
      this.#last.set(command.do[1], String(command.do.at(-1)));
    }
    return this.floor;
  }

  /** guess is a value that a key may have. */
  guess(key: string): string {
    return this.#last.get(key) ?? "";
  }

  /** wrote notes the answer to a command: it was done once, after all that was known when it was asked for. */
  wrote({ client, serial }: Command, floor: number, { index, term, result }: Applied): void {
    const where = `${client} ${serial}`;
    const { canon } = this.#invariants;
    this.answered++;
    if (result === "stale") return;
    const done = canon.serial(client, serial);
    if (done === undefined) this.#broken("durability", `${where} was answered, and is not in the log`);
    else if (done.index !== index || done.term !== term || done.result !== result)
      this.#broken("serial", `${where} was done at ${done.index} (${done.result}) and answered with ${index} (${result})`);
    if (index <= floor && !this.#acked.has(where))
      this.#broken("linearizable", `${where} was done at ${index}, before ${floor}, which was known when it was asked for`);
    this.#acked.set(where, index);
    this.floor = Math.max(this.floor, index);
  }

  /** read notes a linearizable read. */
  read(client: string, key: string, floor: number, value: string | undefined, applied: number): void {
    this.answered++;
    const span = this.#span(client, key, value);
    if (span === undefined) return;
    const [from, to] = span;
    if (to <= floor)
      this.#broken("linearizable", `${client} read ${value} of ${key} at ${applied}, overwritten at ${to}, when ${floor} was known`);
    this.floor = Math.max(this.floor, from);
  }

  /** local notes what one replica shows of itself: it never goes back, also not when it starts anew. */
  local(hub: Hub<F>, key: string, value: string | undefined, applied: number): void {
    if (applied < hub.shown) this.#broken("monotonic", `${hub.replica} shows position ${applied} after ${hub.shown}`);
    hub.shown = Math.max(hub.shown, applied);
    const { canon } = this.#invariants;
    if (applied <= canon.length && canon.valueAt(key, applied) !== value)
      this.#broken("state", `${hub.replica} shows ${value} of ${key} at ${applied}, which was ${canon.valueAt(key, applied)}`);
  }

  /** lost names the acknowledged commands that the log does not have. */
  lost(): string[] {
    return [...this.#acked.keys()].filter((where) => {
      const [client = "", serial] = where.split(" ");
      return this.#invariants.canon.serial(client, Number(serial)) === undefined;
    });
  }

  #span(client: string, key: string, value: string | undefined): readonly [number, number] | undefined {
    if (value !== undefined && !this.#values.has(value)) this.#broken("phantom", `${client} read ${value} of ${key}, which nobody wrote`);
    const span = this.#invariants.canon.span(key, value);
    if (span === undefined) this.#broken("phantom", `${client} read ${value} of ${key}, which is not in the log`);
    return span;
  }

  #broken(checker: string, text: string): void {
    this.#invariants.violate(checker, text);
  }
}
