import { type Failure, REASONS, type Reason } from "#kernel/error.ts";
import { copyOf, PINNED_BYTES } from "#kernel/wire/bytes.ts";
import { sound, VALUE_MAX_BYTES } from "../codec/value.ts";
import { type Reader, WireError, type Writer } from "../codec/wire.ts";
import { NO_VALUE, type Outcome, type Result } from "../messages.ts";

/** RECORD are the kinds of journal records. A number is never given another meaning. */
export const RECORD = { SUBMIT: 1, RESOLVED: 2, KEYED: 3, INTENT: 4, OUTCOME: 5, FLOOR: 6 } as const;

/** Reasons are stored by name: their order in the list is not part of the format. */
const KNOWN: ReadonlySet<string> = new Set(REASONS);

/** writeResult appends an outcome with its value and failure. */
export function writeResult(writer: Writer, result: Result): void {
  writer.uint(result.outcome);
  writer.bytes(result.value);
  const { failure } = result;
  writer.string(failure?.reason ?? "");
  if (failure === undefined) return;
  writer.string(failure.message);
  writer.string(failure.field ?? "");
}

/**
 * readResult reads what `writeResult` wrote. The value is a copy, so that it does not pin the blob; one that a version before took without
 * a look is not given to anybody.
 */
export function readResult(reader: Reader): Result {
  const outcome = reader.uint() as Outcome;
  if (outcome < 1 || outcome > 5) throw new WireError("unknown outcome in the journal");
  const value = copyOf(reader.view());
  const reason = reader.string();
  if (reason === "") return sound({ outcome, value, failure: undefined });
  const message = reader.string();
  const field = reader.string();
  const failure: Failure = { reason: KNOWN.has(reason) ? (reason as Reason) : "INTERNAL", message, ...(field === "" ? {} : { field }) };
  return sound({ outcome, value, failure });
}

/** ownValue gives the bytes of a value a buffer of their own. */
export function ownValue(bytes: Uint8Array): Uint8Array {
  return bytes.length === 0 ? NO_VALUE : copyOf(bytes);
}

/**
 * unpinned gives bytes that are kept a buffer of their own if they would keep a much larger one alive: what is read from a message is
 * a view into all of it, and who sent it chose what else is in there.
 */
export function unpinned(bytes: Uint8Array): Uint8Array {
  const whole = bytes.buffer.byteLength;
  return whole > PINNED_BYTES && whole > 8 * bytes.length ? ownValue(bytes) : bytes;
}

/** compact is a result that is kept for a while: its value pins nothing beside itself. */
export function compact(result: Result): Result {
  const value = unpinned(result.value);
  return value === result.value ? result : { ...result, value };
}

/** Characters of a failure's texts that are kept; as many travel. */
const TEXT_KEPT = 512;

/** KEPT_BYTES_MAX bounds `keptBytes`: the longest value, and both texts at two bytes a character. */
export const KEPT_BYTES_MAX = VALUE_MAX_BYTES + 4 * TEXT_KEPT;

/** keptResult is a result as it is kept for long: nothing of it can be longer than it would travel, and it pins nothing. */
export function keptResult({ outcome, value, failure }: Result): Result {
  if (failure === undefined) return { outcome, value: ownValue(value), failure };
  const { reason, message, field } = failure;
  const kept: Failure = {
    reason,
    message: message.slice(0, TEXT_KEPT),
    ...(field === undefined ? {} : { field: field.slice(0, TEXT_KEPT) }),
  };
  return { outcome, value: ownValue(value), failure: kept };
}

/** keptBytes is what a result takes in memory: at most KEPT_BYTES_MAX for one that is kept. */
export function keptBytes({ value, failure }: Result): number {
  return value.length + (failure === undefined ? 0 : 2 * (failure.message.length + (failure.field?.length ?? 0)));
}

/** writeTexts and readTexts: a short list of texts. */
export function writeTexts(writer: Writer, texts: readonly string[]): void {
  writer.uint(texts.length);
  for (const text of texts) writer.string(text);
}

export function readTexts(reader: Reader): readonly string[] {
  const count = reader.uint();
  const texts: string[] = [];
  for (let i = 0; i < count; i++) texts.push(reader.string());
  return texts;
}

/** writeResolved notes that commands are done: pairs [from, to) of positions. */
export function writeResolved(writer: Writer, epoch: number, ranges: readonly number[]): void {
  writer.uint(RECORD.RESOLVED);
  writer.uint(epoch);
  writer.uint(ranges.length);
  for (const bound of ranges) writer.uint(bound);
}
