import { own } from "../own.ts";

/**
 * What is read back from a store, and how it is checked. A disk may give back other bytes than it was given, or an older file; what a hub
 * begins with then must be what it wrote, or it must say that it is not. The shell adds which file it is, and what to do.
 */

/** StoredError says which record of a store is not what was written, and what is wrong with it. */
export class StoredError extends Error {
  readonly record: string;
  readonly problem: string;

  constructor(record: string, problem: string, cause?: unknown) {
    super(`record ${record} ${problem}`, cause === undefined ? undefined : { cause });
    this.name = "StoredError";
    this.record = record;
    this.problem = problem;
  }
}

/** Shape tells what is wrong with a value that was read: a path and a word; undefined for nothing. */
export type Shape = (value: unknown) => string | undefined;

/** whole is a number without a fraction from `least` to `most`. */
export const whole =
  (least: number, most: number): Shape =>
  (value) =>
    typeof value === "number" && Number.isSafeInteger(value) && value >= least && value <= most ? undefined : "is out of bounds";

/** finite is a number from `least` to `most`. */
export const finite =
  (least: number, most: number): Shape =>
  (value) =>
    typeof value === "number" && value >= least && value <= most ? undefined : "is out of bounds";

/** text is a string of at most so many characters that a pattern describes. */
export const text =
  (most: number, pattern?: RegExp): Shape =>
  (value) =>
    typeof value === "string" && value.length <= most && (pattern === undefined || pattern.test(value)) ? undefined : "is no such text";

/** flag is true or false. */
export const flag: Shape = (value) => (typeof value === "boolean" ? undefined : "is not true or false");

/** list is an array of at most so many items. */
export const list =
  (item: Shape, most: number): Shape =>
  (value) => {
    if (!Array.isArray(value) || value.length > most) return "is no such list";
    for (const [i, one] of value.entries()) {
      const problem = item(one);
      if (problem !== undefined) return `[${i}] ${problem}`;
    }
    return undefined;
  };

/** absentOr lets a field be missing, as in what older versions wrote. */
export const absentOr =
  (shape: Shape): Shape =>
  (value) =>
    value === undefined ? undefined : shape(value);

/** fields is an object with these fields; others, which a newer version may have written, are not looked at. */
export const fields =
  (shapes: Readonly<Record<string, Shape>>): Shape =>
  (value) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) return "is not an object";
    for (const [name, shape] of Object.entries(shapes)) {
      const problem = shape(own(value as Readonly<Record<string, unknown>>, name));
      if (problem !== undefined) return problem.startsWith("[") || problem.startsWith(".") ? `.${name}${problem}` : `.${name} ${problem}`;
    }
    return undefined;
  };

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });
/**
 * The sum of a record stands behind it, two bits in each of sixteen blanks: to JSON they are nothing. A field would not do, as versions
 * before keep the fields that they do not know when they write a record again, and then it would be the sum of something else.
 */
const BLANKS = " \t\n\r";
const SUM_LENGTH = 16;

/** sumOf is FNV-1a (32 bits), as blanks: no change of a single byte goes unseen. */
function sumOf(of: string): string {
  let sum = 0x811c9dc5;
  for (const byte of encoder.encode(of)) sum = Math.imul(sum ^ byte, 0x01000193);
  let blanks = "";
  for (let i = 0; i < SUM_LENGTH; i++) blanks += BLANKS[(sum >>> (2 * i)) & 3];
  return blanks;
}

/** withoutBlanks is how long a text is without the blanks at its end. A pattern would begin anew at each blank of a run inside it. */
function withoutBlanks(of: string): number {
  let length = of.length;
  while (length > 0 && BLANKS.includes(of.charAt(length - 1))) length--;
  return length;
}

/** writeStored writes an object as JSON with a sum. */
export function writeStored(value: object): Uint8Array {
  const written = JSON.stringify(value);
  return encoder.encode(written + sumOf(written));
}

/** readStored reads a JSON record, with a sum or without; it throws a StoredError unless it is what was written. */
export function readStored<T>(record: string, bytes: Uint8Array, shape: Shape): T {
  let value: unknown;
  try {
    const text = decoder.decode(bytes);
    const written = text.slice(0, withoutBlanks(text));
    const sum = text.slice(written.length);
    if (sum !== "" && sumOf(written) !== sum) throw new StoredError(record, "is not what was written");
    value = JSON.parse(written);
  } catch (error) {
    throw error instanceof StoredError ? error : new StoredError(record, "is not JSON", error);
  }
  const problem = shape(value);
  if (problem !== undefined)
    throw new StoredError(record, `is not what was written: it ${problem}`.replace("it .", "its ").replace("it [", "its item ["));
  return value as T;
}

/** reading names the record at fault when its reader throws, whatever it throws: readers of binary records have errors of their own. */
export function reading<T>(record: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof StoredError) throw error;
    throw new StoredError(record, `cannot be read: ${error instanceof Error ? error.message : "it is malformed"}`, error);
  }
}
