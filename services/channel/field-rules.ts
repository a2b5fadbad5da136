import { type DescField, type DescMessage, getOption, hasOption, type Message } from "@bufbuild/protobuf";
import { type FieldRules, field as rulesOption } from "#gen/buf/validate/validate_pb.ts";
import { assert } from "#kernel/assert.ts";
import { formOf } from "#kernel/wire/text-forms.ts";

/** Violation is a field that breaks a rule. */
export interface Violation {
  /** Path from the request, in the schema's names: `command.target.node_id`, `nodes[3].name`. */
  readonly field: string;
  readonly message: string;
}

/** Check answers what is wrong with a value, or undefined. */
type Check = (value: never) => string | undefined;

/** FieldPlan is what to look at in one field. */
interface FieldPlan {
  readonly desc: DescField;
  readonly required: boolean;
  readonly checks: readonly Check[];
  /** How many elements a list may have, or entries a map. */
  readonly most: number;
  /** Of the elements of a list, or the values of a map. */
  readonly items: readonly Check[];
  readonly keys: readonly Check[];
  /** Type of the messages within. */
  readonly nested: DescMessage | undefined;
}

const plans = new WeakMap<DescMessage, readonly FieldPlan[]>();

/**
 * compileRules reads the rules of a message type and of all types in it, once. A rule that is not known here is a mistake in the
 * schema and throws, at start-up. The library for these rules (protovalidate) evaluates each as an expression of a general language:
 * its interpreter and descriptors took a tenth of an idle hub's memory. A test holds both to the same verdicts.
 */
export function compileRules(desc: DescMessage): readonly FieldPlan[] {
  const known = plans.get(desc);
  if (known !== undefined) return known;
  const plan: FieldPlan[] = [];
  // A type may contain itself: its plan is there before it is complete.
  plans.set(desc, plan);
  for (const field of desc.fields) {
    const nested = nestedIn(field);
    const rules = hasOption(field, rulesOption) ? getOption(field, rulesOption) : undefined;
    if (nested !== undefined) compileRules(nested);
    if (rules === undefined && nested === undefined) continue;
    const { type } = rules ?? {};
    const within = type?.case === "repeated" ? type.value.items : type?.case === "map" ? type.value.values : undefined;
    const keys = type?.case === "map" ? type.value.keys : undefined;
    plan.push({
      desc: field,
      required: rules?.required === true,
      checks: checksOf(rules, field),
      most: mostOf(field),
      items: checksOf(within, field),
      keys: checksOf(keys, field),
      nested,
    });
  }
  return plan;
}

const NO_TYPES: ReadonlySet<string> = new Set();

/**
 * brokenRules finds what in a message breaks the rules of its schema, `most` of it: it costs nothing to send thousands of broken fields.
 * Messages of the types in `opaque` are not looked into, and neither are lists and maps that have too much in them.
 */
export function brokenRules(desc: DescMessage, message: Message, opaque = NO_TYPES, most = Number.POSITIVE_INFINITY): Violation[] {
  const found: Violation[] = [];
  visit(desc, message, "", { found, opaque, most });
  return found.length > most ? found.slice(0, most) : found;
}

interface Visit {
  readonly found: Violation[];
  readonly opaque: ReadonlySet<string>;
  readonly most: number;
}

function visit(desc: DescMessage, message: Message, path: string, all: Visit): void {
  const { found, opaque, most } = all;
  for (const field of compileRules(desc)) {
    if (found.length >= most) return;
    const { desc: item } = field;
    const nested = field.nested !== undefined && opaque.has(field.nested.typeName) ? undefined : field.nested;
    const at = path === "" ? item.name : `${path}.${item.name}`;
    const value = valueOf(message, item);
    if (field.required && isUnset(value)) found.push({ field: at, message: "is required" });
    // What may be absent, and is, breaks no other rule.
    if (value === undefined || (field.required && isUnset(value))) continue;
    report(field.checks, value, at, found);
    if (item.fieldKind === "list") {
      const list = value as readonly unknown[];
      if (list.length > field.most || (field.items.length === 0 && nested === undefined)) continue;
      for (let i = 0; i < list.length && found.length < most; i++) visitItem(field, nested, list[i], `${at}[${i}]`, all);
    } else if (item.fieldKind === "map") {
      const entries = Object.entries(value as Record<string, unknown>);
      if (entries.length > field.most) continue;
      for (const [key, entry] of entries) {
        if (found.length >= most) return;
        const where = `${at}[${JSON.stringify(key)}]`;
        report(field.keys, key, where, found);
        visitItem(field, nested, entry, where, all);
      }
    } else if (nested !== undefined) visit(nested, value as Message, at, all);
  }
}

function visitItem(field: FieldPlan, nested: DescMessage | undefined, value: unknown, at: string, all: Visit): void {
  report(field.items, value, at, all.found);
  if (nested !== undefined) visit(nested, value as Message, at, all);
}

function report(checks: readonly Check[], value: unknown, field: string, found: Violation[]): void {
  for (const check of checks) {
    const message = check(value as never);
    if (message !== undefined) found.push({ field, message });
  }
}

/** valueOf is the value of a field; undefined if it can be absent, and is. */
export function valueOf(message: Message, field: DescField): unknown {
  const fields = message as unknown as Record<string, unknown>;
  if (field.oneof === undefined) return fields[field.localName];
  const chosen = fields[field.oneof.localName] as { readonly case?: string; readonly value?: unknown };
  return chosen.case === field.localName ? chosen.value : undefined;
}

/** isUnset tells whether a required field has nothing in it. */
function isUnset(value: unknown): boolean {
  if (value === undefined || value === "" || value === 0 || value === 0n || value === false) return true;
  if (Array.isArray(value) || ArrayBuffer.isView(value)) return (value as { readonly length: number }).length === 0;
  return typeof value === "object" && value !== null && !("$typeName" in value) && Object.keys(value).length === 0;
}

/** mostOf is how many elements a list may have by its rules, or entries a map; no bound for one without. */
export function mostOf(field: DescField): number {
  const type = hasOption(field, rulesOption) ? getOption(field, rulesOption).type : undefined;
  const most = type?.case === "repeated" ? type.value.maxItems : type?.case === "map" ? type.value.maxPairs : undefined;
  return most === undefined || most === 0n ? Number.POSITIVE_INFINITY : Number(most);
}

function nestedIn(field: DescField): DescMessage | undefined {
  if (field.fieldKind === "message") return field.message;
  if (field.fieldKind === "list" && field.listKind === "message") return field.message;
  return field.fieldKind === "map" && field.mapKind === "message" ? field.message : undefined;
}

function checksOf(rules: FieldRules | undefined, field: DescField): readonly Check[] {
  if (rules === undefined) return [];
  const { type, $unknown } = rules;
  assert($unknown === undefined && type.value?.$unknown === undefined, "a rule of the schema is not known here", {
    field: field.toString(),
  });
  switch (type.case) {
    case "string":
      return stringChecks(type.value);
    case "bytes":
      return bytesChecks(type.value);
    case "uint32":
      return atMost(type.value.lte);
    case "uint64":
      return [...below(type.value.lt), ...atMost(type.value.lte), ...atLeast(type.value.gte)];
    case "fixed64":
      return below(type.value.lt);
    case "int64":
      return [...below(type.value.lt), ...atMost(type.value.lte), ...atLeast(type.value.gte)];
    case "double":
      return type.value.finite ? [(value: number) => (Number.isFinite(value) ? undefined : "must be a finite number")] : [];
    case "repeated":
      return listChecks(type.value);
    case "map":
      return limit(
        type.value.maxPairs,
        (map: object, most) => Object.keys(map).length <= most,
        (most) => `must have at most ${most} entries`,
      );
    default:
      return [];
  }
}

type RulesOf<Kind extends FieldRules["type"]["case"]> = Extract<FieldRules["type"], { readonly case: Kind }>["value"];

/** stringChecks are those of a text. */
function stringChecks(rules: RulesOf<"string">): Check[] {
  const { minLen, maxLen, maxBytes, pattern } = rules;
  return [
    // A character is a code point, as the rules define it.
    ...limit(
      minLen,
      (text: string, least) => codePoints(text) >= least,
      (least) => `must have at least ${least} characters`,
    ),
    ...limit(
      maxLen,
      (text: string, most) => codePoints(text) <= most,
      (most) => `must have at most ${most} characters`,
    ),
    ...limit(
      maxBytes,
      (text: string, most) => Buffer.byteLength(text) <= most,
      (most) => `must have at most ${most} bytes`,
    ),
    ...patternCheck(pattern),
  ];
}

/** bytesChecks are those of a value of bytes. */
function bytesChecks(rules: RulesOf<"bytes">): Check[] {
  const { len, minLen, maxLen } = rules;
  return [
    ...limit(
      len,
      (bytes: Uint8Array, exactly) => bytes.length === exactly,
      (exactly) => `must have ${exactly} bytes`,
    ),
    ...limit(
      minLen,
      (bytes: Uint8Array, least) => bytes.length >= least,
      (least) => `must have at least ${least} bytes`,
    ),
    ...limit(
      maxLen,
      (bytes: Uint8Array, most) => bytes.length <= most,
      (most) => `must have at most ${most} bytes`,
    ),
  ];
}

/** listChecks are those of a list as a whole. */
function listChecks(rules: RulesOf<"repeated">): Check[] {
  const { minItems, maxItems } = rules;
  return [
    ...limit(
      minItems,
      (list: unknown[], least) => list.length >= least,
      (least) => `must have at least ${least} items`,
    ),
    ...limit(
      maxItems,
      (list: unknown[], most) => list.length <= most,
      (most) => `must have at most ${most} items`,
    ),
  ];
}

function below(bound: bigint | undefined): Check[] {
  return bound === undefined ? [] : [(value: bigint) => (value < bound ? undefined : `must be less than ${bound}`)];
}

function atMost(bound: bigint | number | undefined): Check[] {
  return bound === undefined ? [] : [(value: bigint | number) => (value <= bound ? undefined : `must be at most ${bound}`)];
}

function atLeast(bound: bigint | undefined): Check[] {
  return bound === undefined ? [] : [(value: bigint) => (value >= bound ? undefined : `must be at least ${bound}`)];
}

/** limit is a check against a bound, if the rule sets one. */
function limit<T>(
  bound: bigint | number | undefined,
  holds: (value: T, bound: number) => boolean,
  says: (bound: number) => string,
): Check[] {
  if (bound === undefined) return [];
  const number = Number(bound);
  const message = says(number);
  return [(value: T) => (holds(value, number) ? undefined : message)];
}

/** patternCheck takes patterns that RE2 and JavaScript read alike: the schema's are classes and repetitions. */
function patternCheck(pattern: string | undefined): Check[] {
  if (pattern === undefined) return [];
  const expression = new RegExp(pattern, "u");
  const says = formOf(pattern);
  return [(text: string) => (expression.test(text) ? undefined : says)];
}

function codePoints(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}
