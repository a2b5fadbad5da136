import type { Crypto } from "#kernel/crypto.ts";
import type { Failure } from "#kernel/error.ts";
import { compareBytes, compareText } from "#kernel/wire/bytes.ts";
import { compareSlots, slotOf } from "./check.ts";
import { type PartFrame, type PartHead, SHARED_LIMITS, type SharedEntry, type SharedSlot } from "./messages.ts";
import { contentsBytes, type Removal, type StoredPart, statementBytes } from "./part-bytes.ts";

/** PartKeys are what parts are signed and checked with. */
export interface PartKeys {
  readonly crypto: Crypto;
  /** Id of the federation, 16 bytes. */
  readonly federation: Uint8Array;
}

/** Difference is what a part becomes: entries that are set, and places that are emptied. */
export interface Difference {
  readonly set: readonly SharedEntry[];
  readonly removed: readonly SharedSlot[];
}

/** compareHeads orders states of one hub's part. Two digests of one version are a lie of the hub; the greater one counts, everywhere alike. */
export function compareHeads(a: PartHead, b: PartHead): number {
  return a.incarnation - b.incarnation || a.version - b.version || compareBytes(a.digest, b.digest);
}

/**
 * Part is what one hub says, at one version. It is never changed: another version is another part. Only its hub makes one, signs it, and
 * counts its version up; who carries it cannot change it. So parts need no merging: of two, the one of the later version counts.
 */
export class Part {
  readonly head: PartHead;
  readonly signature: Uint8Array;
  /** Differences are made since versions from here on. */
  readonly floor: number;
  readonly entries: ReadonlyMap<string, SharedEntry>;
  readonly #removals: readonly Removal[];

  private constructor(
    head: PartHead,
    signature: Uint8Array,
    floor: number,
    entries: Map<string, SharedEntry>,
    removals: readonly Removal[],
  ) {
    this.head = head;
    this.signature = signature;
    this.floor = floor;
    this.entries = entries;
    this.#removals = removals;
  }

  /** next makes the next version of this hub's own part; a failure if it has become too large. */
  static next(
    before: Part | undefined,
    { hub, incarnation, version }: Omit<PartHead, "digest">,
    difference: Difference,
    keys: PartKeys,
  ): Part | Failure {
    const entries = applied(before, difference);
    const contents = contentsOf(entries);
    if ("reason" in contents) return contents;
    const head = { hub, incarnation, version, digest: keys.crypto.hash(contents.bytes) };
    const signature = keys.crypto.sign(statementBytes(keys.federation, head));
    return new Part(head, signature, ...remembered(before, version, before === undefined ? version : before.floor, difference, entries));
  }

  /** take makes the part of a frame, on top of the one that is here if it is a difference: `base` if it is one to something else. */
  static take(before: Part | undefined, frame: PartFrame, crypto: Crypto): Part | Failure | "base" {
    const { hub, incarnation, version, digest, signature, since } = frame;
    if (since > 0 && (before === undefined || before.head.incarnation !== incarnation || before.head.version < since)) return "base";
    const base = since > 0 ? before : undefined;
    const difference = { set: frame.entries, removed: frame.removed };
    const entries = applied(base, difference);
    const contents = contentsOf(entries);
    const same = !("reason" in contents) && compareBytes(crypto.hash(contents.bytes), digest) === 0;
    if (!same && since > 0) return "base";
    if ("reason" in contents) return contents;
    if (!same) return { reason: "INVALID_FIELD", message: "the entries of the part are not those of its digest", field: "digest" };
    return new Part({ hub, incarnation, version, digest }, signature, ...remembered(base, version, version, difference, entries));
  }

  static load({ head, signature, floor, entries, removals }: StoredPart): Part {
    return new Part(head, signature, floor, new Map(entries.map((entry) => [slotOf(entry), entry])), removals);
  }

  dump(): StoredPart {
    return { head: this.head, signature: this.signature, floor: this.floor, entries: this.sorted(), removals: this.#removals };
  }

  /** signed tells whether the hub has signed this. */
  static signed(head: PartHead & { readonly signature: Uint8Array }, publicKey: Uint8Array, { crypto, federation }: PartKeys): boolean {
    return crypto.verify(publicKey, statementBytes(federation, head), head.signature);
  }

  sorted(): SharedEntry[] {
    return [...this.entries.values()].sort(compareSlots);
  }

  /** frame is what changed since a version that the receiver has, or everything where that is not known any more. */
  frame(since: number): PartFrame {
    const from = since >= this.floor && since < this.head.version ? since : 0;
    return {
      kind: "part",
      ...this.head,
      signature: this.signature,
      since: from,
      entries: this.sorted().filter(({ version }) => version > from),
      removed:
        from === 0
          ? []
          : this.#removals
              .filter(({ version }) => version > from)
              .map(({ kind, key }) => ({ kind, key }))
              .sort(compareSlots),
    };
  }
}

function applied(base: Part | undefined, { set, removed }: Difference): Map<string, SharedEntry> {
  const entries = new Map(base?.entries);
  for (const slot of removed) entries.delete(slotOf(slot));
  for (const entry of set) entries.set(slotOf(entry), entry);
  return entries;
}

function contentsOf(entries: ReadonlyMap<string, SharedEntry>): { readonly bytes: Uint8Array } | Failure {
  if (entries.size > SHARED_LIMITS.entries)
    return { reason: "LIMIT_EXCEEDED", message: `one hub has at most ${SHARED_LIMITS.entries} entries; remove some`, field: "changes" };
  const bytes = contentsBytes([...entries.values()].sort(compareSlots));
  if (bytes.length > SHARED_LIMITS.partBytes)
    return {
      reason: "LIMIT_EXCEEDED",
      message: `one hub says at most ${SHARED_LIMITS.partBytes} bytes; remove something`,
      field: "changes",
    };
  return { bytes };
}

/** remembered are the last of the removals, and since when they are complete. */
function remembered(
  base: Part | undefined,
  version: number,
  floor: number,
  { set, removed }: Difference,
  entries: Map<string, SharedEntry>,
): [number, Map<string, SharedEntry>, readonly Removal[]] {
  const changed = new Set([...set, ...removed].map(slotOf));
  const all = [
    ...(base === undefined ? [] : base.dump().removals).filter((slot) => !changed.has(slotOf(slot))),
    ...removed.map(({ kind, key }) => ({ kind, key, version })),
  ];
  all.sort((a, b) => a.version - b.version || compareText(slotOf(a), slotOf(b)));
  const kept = all.slice(-SHARED_LIMITS.removals);
  const lost = all.slice(0, -SHARED_LIMITS.removals).at(-1);
  return [Math.max(base === undefined ? floor : base.floor, lost?.version ?? 0), entries, kept];
}
