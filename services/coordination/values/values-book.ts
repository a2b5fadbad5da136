import type { Failure } from "#kernel/error.ts";
import { copyOf } from "#kernel/wire/bytes.ts";
import { problemOf } from "#kernel/wire/shape.ts";
import type { Book, LogInstant, Outcome } from "../log/book.ts";
import { type AgreedValue, VALUE_COMMAND, VALUES, type ValueChanged, type ValueCommand } from "./messages.ts";

/**
 * ValuesBook keeps the values that the hubs of a federation agree on: small, few, each changed by one entry of the log. A
 * conditional change happens only to the version that its author has seen.
 *
 * VB1 a version is the position of the change, so that it never comes again, also not after the value was deleted.
 * VB2 at most `VALUES.count` values with `VALUES.bytes` bytes of keys and values.
 */
export class ValuesBook implements Book<ValueCommand, number, ValueChanged, readonly AgreedValue[]> {
  readonly #values = new Map<string, AgreedValue>();
  #bytes = 0;

  apply(at: LogInstant, author: string, command: ValueCommand): Outcome<number, ValueChanged> {
    const malformed = problemOf(VALUE_COMMAND, command);
    if (malformed !== undefined) return no("INVALID_FIELD", `${malformed.path} ${malformed.message}`, malformed.path);
    const { key, conditional, expect } = command;
    const before = this.#values.get(key);
    const version = before?.version ?? 0;
    if (conditional && expect !== version)
      return no("VERSION_CONFLICT", `${key} has version ${version}, not ${expect}; read it again and decide anew`, "expect", { version });
    const size = sizeOf(before);
    if (command.kind === "delete") {
      if (before === undefined) return no("VALUE_NOT_FOUND", `there is no value ${key}`, "key");
      this.#values.delete(key);
      this.#bytes -= size;
      return { ok: true, value: at.index, news: [{ kind: "value", key, value: undefined }] };
    }
    const value: AgreedValue = { key, value: copyOf(command.value), version: at.index, author };
    if (before === undefined && this.#values.size >= VALUES.count)
      return no("LIMIT_EXCEEDED", `there are ${VALUES.count} values already; delete some`);
    if (this.#bytes - size + sizeOf(value) > VALUES.bytes)
      return no("LIMIT_EXCEEDED", `all values together have at most ${VALUES.bytes} bytes; delete some`);
    this.#values.set(key, value);
    this.#bytes += sizeOf(value) - size;
    return { ok: true, value: at.index, news: [{ kind: "value", key, value }] };
  }

  /** get gives a value as of the last entry that was applied. */
  get(key: string): AgreedValue | undefined {
    return this.#values.get(key);
  }

  /** list gives the values whose keys begin with a prefix, by key. */
  list(prefix: string): AgreedValue[] {
    return this.dump().filter(({ key }) => key.startsWith(prefix));
  }

  due(): undefined {
    return undefined;
  }

  expire(): readonly ValueChanged[] {
    return [];
  }

  dump(): AgreedValue[] {
    return [...this.#values.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  load(data: readonly AgreedValue[]): void {
    this.#values.clear();
    this.#bytes = 0;
    for (const value of data) {
      this.#values.set(value.key, value);
      this.#bytes += sizeOf(value);
    }
  }

  describe(): string {
    return `values=${this.#values.size} bytes=${this.#bytes}`;
  }
}

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
