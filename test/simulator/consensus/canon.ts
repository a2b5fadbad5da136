import type { Committed, Membership } from "../../../services/coordination/log/engine.ts";
import type { Applied, Command } from "./app.ts";

/** Decided is one position of the log as the first replica that applied it saw it. Everything else must agree. */
export interface Decided {
  readonly index: number;
  readonly term: number;
  readonly time: number;
  readonly digest: number;
  readonly chain: number;
  readonly state: number;
  /** Of the replica that was first. */
  readonly by: string;
  /** The term in which that was: a leader of an older one, who learns of its votes later, need not have it. */
  readonly under: number;
}

interface Write {
  readonly index: number;
  readonly value: string;
}

/** Canon is the one log that there is, and what clients may see of it. */
export class Canon {
  readonly #positions: Decided[] = [];
  readonly #writes = new Map<string, Write[]>();
  readonly #serials = new Map<string, Applied>();
  /** Memberships with the position that brought each in force; the founding one is at 0. */
  readonly memberships: { readonly index: number; readonly term: number; readonly at: number; readonly membership: Membership }[];

  constructor(founding: Membership) {
    this.memberships = [{ index: 0, term: 0, at: 0, membership: founding }];
  }

  get length(): number {
    return this.#positions.length;
  }

  get membership(): Membership {
    return (this.memberships.at(-1) as (typeof this.memberships)[number]).membership;
  }

  at(index: number): Decided | undefined {
    return this.#positions[index - 1];
  }

  /** inForce is the membership in force for what follows a position. */
  inForce(index: number): Membership {
    for (let i = this.memberships.length - 1; i > 0; i--) {
      const one = this.memberships[i] as (typeof this.memberships)[number];
      if (one.index <= index) return one.membership;
    }
    return (this.memberships[0] as (typeof this.memberships)[number]).membership;
  }

  /** recent are the memberships that were in force after an instant; replicas that have not heard of a newer one still follow them. */
  recent(since: number): Membership[] {
    return this.memberships
      .filter((_, i) => (this.memberships[i + 1]?.at ?? Number.POSITIVE_INFINITY) > since)
      .map(({ membership }) => membership);
  }

  /** add takes the next position, as it was applied first. */
  add(position: Decided, entry: Committed, done: readonly (Command & Applied)[], at: number): void {
    this.#positions.push(position);
    if (entry.membership !== undefined) this.memberships.push({ index: entry.index, term: entry.term, at, membership: entry.membership });
    for (const command of done) {
      const key = `${command.client} ${command.serial}`;
      if (this.#serials.has(key) || command.result === "stale") continue;
      this.#serials.set(key, { index: command.index, term: command.term, result: command.result });
      const [what, name, ...values] = command.do;
      if ((what !== "put" && what !== "cas") || command.result !== "ok") continue;
      const writes = this.#writes.get(name) ?? [];
      writes.push({ index: entry.index, value: String(values.at(-1)) });
      this.#writes.set(name, writes);
    }
  }

  /** serial is where a command of a client was done. */
  serial(client: string, serial: number): Applied | undefined {
    return this.#serials.get(`${client} ${serial}`);
  }

  /** valueAt is what a key held after a position. */
  valueAt(key: string, index: number): string | undefined {
    const writes = this.#writes.get(key) ?? [];
    for (let i = writes.length - 1; i >= 0; i--) if ((writes[i] as Write).index <= index) return (writes[i] as Write).value;
    return undefined;
  }

  /** span is from which position to which (exclusive) a key held a value; undefined for a value that was never written. */
  span(key: string, value: string | undefined): readonly [number, number] | undefined {
    const writes = this.#writes.get(key) ?? [];
    const at = value === undefined ? -1 : writes.findIndex((write) => write.value === value);
    if (at < 0 && value !== undefined) return undefined;
    return [writes[at]?.index ?? 0, writes[at + 1]?.index ?? Number.POSITIVE_INFINITY];
  }
}
