import { validHlc } from "#kernel/crdt/hlc.ts";
import type { Failure } from "#kernel/error.ts";
import { isHubId } from "#kernel/hub-id.ts";
import { own } from "#kernel/own.ts";
import { printable } from "#kernel/printable.ts";
import { compareText } from "#kernel/wire/bytes.ts";
import { KINDS, type KindRule, type PartFrame, type PartHead, SHARED_LIMITS, type SharedChange, type SharedSlot } from "./messages.ts";

const encoder = new TextEncoder();

/** HASH_BYTES and SIGNATURE_BYTES are the lengths of a digest and of a signature. */
export const HASH_BYTES = 32;
const SIGNATURE_BYTES = 64;

/** slotOf is the name of a place in tables. */
export function slotOf({ kind, key }: SharedSlot): string {
  return `${kind} ${key}`;
}

/** compareSlots orders places by the number of their kind, then by key. */
export function compareSlots(a: SharedSlot, b: SharedSlot): number {
  return KINDS[a.kind].number - KINDS[b.kind].number || compareText(a.key, b.key);
}

/** hasTombstones tells whether a hub can say of a kind that there is nothing, also over what others said. */
export function hasTombstones(rule: KindRule): boolean {
  return rule.conflict === "timestamp" && !rule.owned;
}

/** invalid is the refusal of a change (S4-17), or of something in a part. */
function invalid(field: string, problem: string): Failure {
  return { reason: "INVALID_FIELD", message: `invalid state change: ${problem}`, field };
}

/** checkChanges says what is wrong with changes that a hub wants to make, with the path of the field; undefined if nothing is. */
export function checkChanges(hub: string, changes: readonly SharedChange[]): Failure | undefined {
  if (changes.length === 0) return invalid("changes", "there is none; say what is to change");
  if (changes.length > SHARED_LIMITS.changes)
    return invalid("changes", `${changes.length} at once are too many; send ${SHARED_LIMITS.changes} at most`);
  const seen = new Set<string>();
  for (const [i, change] of changes.entries()) {
    const path = `changes[${i}]`;
    const failure = checkSlot(hub, change, path) ?? checkValue(change.kind, change.priority ?? 0, change.value, path);
    if (failure !== undefined) return failure;
    if (seen.has(slotOf(change))) return invalid(`${path}.key`, "it is changed twice at once; send the last value only");
    seen.add(slotOf(change));
  }
  return undefined;
}

function checkSlot(hub: string, { kind, key }: SharedSlot, path: string): Failure | undefined {
  const rule: KindRule | undefined = own(KINDS, kind);
  if (rule === undefined) return invalid(`${path}.kind`, `there is no such kind; use ${Object.keys(KINDS).join(", ")}`);
  if (rule.conflict === "consensus") return invalid(`${path}.kind`, `${kind} needs a ballot; propose the change to the federation`);
  if (typeof key !== "string" || key === "" || encoder.encode(key).length > SHARED_LIMITS.keyBytes || printable(key) !== key)
    return invalid(`${path}.key`, `a key has 1 to ${SHARED_LIMITS.keyBytes} bytes of text that can be shown`);
  if (rule.owned && key !== hub && !key.startsWith(`${hub}/`))
    return invalid(`${path}.key`, `${kind} of other hubs are written by themselves; begin with ${hub}`);
  return undefined;
}

function checkValue(kind: SharedSlot["kind"], priority: number, value: Uint8Array | undefined, path: string): Failure | undefined {
  const most = KINDS[kind].conflict === "priority" ? SHARED_LIMITS.priority : 0;
  if (!Number.isInteger(priority) || priority < 0 || priority > most)
    return invalid(
      `${path}.priority`,
      most === 0 ? `${kind} have no priority; leave it out` : `a priority is a whole number up to ${most}`,
    );
  if (value !== undefined && value.length > SHARED_LIMITS.valueBytes)
    return invalid(`${path}.value`, `${value.length} bytes are too many; a value has ${SHARED_LIMITS.valueBytes} at most`);
  return undefined;
}

/** validHead tells whether a head that came from outside can be one. */
export function validHead({ hub, incarnation, version, digest }: PartHead): boolean {
  const positive = (value: number): boolean => Number.isSafeInteger(value) && value > 0;
  return isHubId(hub) && positive(incarnation) && positive(version) && digest.length === HASH_BYTES;
}

/** checkPart says what is wrong with a part from outside, whoever carries it; undefined if it can be looked at further. */
export function checkPart(frame: PartFrame): Failure | undefined {
  const { hub, version, since, signature, entries, removed } = frame;
  if (!validHead(frame)) return invalid("head", "a part has a hub, an incarnation, a version and a digest");
  if (signature.length !== SIGNATURE_BYTES) return invalid("signature", `it has ${SIGNATURE_BYTES} bytes`);
  if (!Number.isSafeInteger(since) || since < 0 || since >= version) return invalid("since", "it is before the version");
  if (entries.length > SHARED_LIMITS.entries) return invalid("entries", `a hub has ${SHARED_LIMITS.entries} at most`);
  if (removed.length > SHARED_LIMITS.removals || (since === 0 && removed.length > 0))
    return invalid("removed", `there are ${SHARED_LIMITS.removals} at most, and none of a whole part`);
  for (const [i, slot] of removed.entries()) {
    const failure = checkSlot(hub, slot, `removed[${i}]`);
    if (failure !== undefined) return failure;
  }
  return checkEntries(frame) ?? checkOrder(entries, "entries") ?? checkOrder(removed, "removed") ?? checkApart(frame);
}

function checkEntries({ hub, version, since, entries }: PartFrame): Failure | undefined {
  for (const [i, entry] of entries.entries()) {
    const path = `entries[${i}]`;
    const failure = checkSlot(hub, entry, path) ?? checkValue(entry.kind, entry.priority, entry.value, path);
    if (failure !== undefined) return failure;
    if (entry.value === undefined && !hasTombstones(KINDS[entry.kind])) return invalid(`${path}.value`, `${entry.kind} have a value`);
    if (!Number.isSafeInteger(entry.version) || entry.version <= since || entry.version > version)
      return invalid(`${path}.version`, "it is between those of the difference");
    if (!validHlc(entry.at)) return invalid(`${path}.at`, "it is no time");
  }
  return undefined;
}

function checkOrder(slots: readonly SharedSlot[], field: string): Failure | undefined {
  for (let i = 1; i < slots.length; i++)
    if (compareSlots(slots[i - 1]!, slots[i]!) >= 0) return invalid(`${field}[${i}]`, "they are sorted, and each is there once");
  return undefined;
}

function checkApart({ entries, removed }: PartFrame): Failure | undefined {
  const there = new Set(entries.map(slotOf));
  const at = removed.findIndex((slot) => there.has(slotOf(slot)));
  return at < 0 ? undefined : invalid(`removed[${at}]`, "it is among the entries too");
}
