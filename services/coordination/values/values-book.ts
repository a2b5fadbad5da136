import type { Failure } from "#kernel/error.ts";
import { copyOf } from "#kernel/wire/bytes.ts";
import { problemOf } from "#kernel/wire/shape.ts";
import type { Book, LogInstant, Outcome } from "../log/book.ts";
import { type AgreedValue, VALUE_COMMAND, VALUES, type ValueChanged, type ValueCommand, type ValuesDump } from "./messages.ts";

/** Bytes of a page, and what a value has in it beside key and value. */
const PAGE_BYTES = 512 * 1024;
const OVERHEAD_BYTES = 96;

/**
 * ValuesBook keeps the values that the hubs of a federation agree on: small, few, each changed by one entry of the log. A
 * conditional change happens only to the version that its author has seen.
 *
 * VB1 a version rises with each change of any value, and never comes again: two changes in one entry of the log have two versions, and a
 *     value that was deleted comes back with another.
 * VB2 at most `VALUES.count` values with `VALUES.bytes` bytes of keys and values.
 * VB3 a page of them fits into a message, however many there are: who fills the book takes nobody the sight of it.
 */
export class ValuesBook implements Book<ValueCommand, number, ValueChanged, ValuesDump> {
  readonly #values = new Map<string, AgreedValue>();
  #bytes = 0;
  /** The newest version. */
  #revision = 0;

  apply(at: LogInstant, author: string, command: ValueCommand): Outcome<number, ValueChanged> {
    const malformed = problemOf(VALUE_COMMAND, command);
    if (malformed !== undefined) return no("INVALID_FIELD", `${malformed.path} ${malformed.message}`, malformed.path);
    const { key, conditional, expect } = command;
    const before = this.#values.get(key);
    const version = before?.version ?? 0;
    if (conditional && expect !== version) {
      const is =
        before === undefined
          ? `there is no value ${key}, and so none of version ${expect}`
          : `${key} has version ${version}, not ${expect}`;
      return no("VERSION_CONFLICT", `${is}; read it again and decide anew`, "expect", { version });
    }
    const size = sizeOf(before);
    if (command.kind === "delete") {
      if (before === undefined) return no("VALUE_NOT_FOUND", `there is no value ${key}`, "key");
      this.#values.delete(key);
      this.#bytes -= size;
      this.#revision = this.#next(at);
      return { ok: true, value: this.#revision, news: [{ kind: "value", key, value: undefined }] };
    }
    const value: AgreedValue = { key, value: copyOf(command.value), version: this.#next(at), author };
    if (before === undefined && this.#values.size >= VALUES.count)
      return no("LIMIT_EXCEEDED", `there are ${VALUES.count} values already; delete some`);
    if (this.#bytes - size + sizeOf(value) > VALUES.bytes)
      return no("LIMIT_EXCEEDED", `all values together have at most ${VALUES.bytes} bytes; delete some`);
    this.#values.set(key, value);
    this.#bytes += sizeOf(value) - size;
    this.#revision = value.version;
    return { ok: true, value: value.version, news: [{ kind: "value", key, value }] };
  }

  /** next is the version of the next change. It is no less than the position, which all versions were in logs of older hubs. */
  #next({ index }: LogInstant): number {
    return Math.max(index, this.#revision + 1);
  }

  /** get gives a value as of the last entry that was applied. */
  get(key: string): AgreedValue | undefined {
    return this.#values.get(key);
  }

  /** page gives values whose keys begin with a prefix and are behind another one, by key: as many as fit into a message (VB3). */
  page(prefix: string, after: string): { readonly values: readonly AgreedValue[]; readonly next: string } {
    const all = [...this.#values.values()].filter(({ key }) => key > after && key.startsWith(prefix)).sort(byKey);
    let bytes = 0;
    const end = all.findIndex((value) => (bytes += OVERHEAD_BYTES + sizeOf(value)) > PAGE_BYTES);
    const values = end < 0 ? all : all.slice(0, end);
    return { values, next: end < 0 ? "" : (values.at(-1) as AgreedValue).key };
  }

  due(): undefined {
    return undefined;
  }

  expire(): readonly ValueChanged[] {
    return [];
  }

  dump(): ValuesDump {
    return { revision: this.#revision, values: [...this.#values.values()].sort(byKey) };
  }

  load({ revision, values }: ValuesDump): void {
    this.#values.clear();
    this.#bytes = 0;
    this.#revision = revision;
    for (const value of values) {
      this.#revision = Math.max(this.#revision, value.version);
      this.#values.set(value.key, value);
      this.#bytes += sizeOf(value);
    }
  }

  describe(): string {
    return `values=${this.#values.size} bytes=${this.#bytes}`;
  }
}

const byKey = (a: AgreedValue, b: AgreedValue): number => (a.key < b.key ? -1 : 1);

function sizeOf(value: AgreedValue | undefined): number {
  return value === undefined ? 0 : value.key.length + value.value.length;
}

function no(
  reason: Failure["reason"],
  message: string,
  field?: string,
  facts: Readonly<Record<string, number>> = {},
): { ok: false; failure: Failure } {
  const texts = Object.fromEntries(Object.entries(facts).map(([name, fact]) => [name, String(fact)]));
  return { ok: false, failure: { reason, message, ...(field === undefined ? {} : { field }), facts: texts } };
}
