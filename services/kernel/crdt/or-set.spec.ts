import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compareBytes } from "../wire/bytes.ts";
import { ProtoWriter } from "../wire/proto-writer.ts";
import { OrSet } from "./or-set.ts";
import { VersionVector } from "./version-vector.ts";

const LIMITS = { writers: 4, perWriter: 3, elementBytes: 8 };
const WRITERS = ["a", "b", "c"];

/**
 * DumbSet is the set as it is defined: it keeps every addition and every removal for ever, a removal with the additions that it saw. An
 * element is in it if there is an addition that no removal saw.
 */
class DumbSet {
  readonly additions = new Map<string, string>();
  readonly removed = new Set<string>();

  add(element: string, id: string): void {
    this.additions.set(id, element);
  }

  remove(element: string): void {
    for (const [id, of] of this.additions) if (of === element) this.removed.add(id);
  }

  merge(other: DumbSet): void {
    for (const [id, element] of other.additions) this.additions.set(id, element);
    for (const id of other.removed) this.removed.add(id);
  }

  elements(): string[] {
    return [...new Set([...this.additions].filter(([id]) => !this.removed.has(id)).map(([, element]) => element))].sort();
  }
}

/** Step of a script: replica `at` adds or removes an element, or takes in replica `from` as it is, or as it was at some step before. */
interface Step {
  readonly at: number;
  readonly what: "add" | "remove" | "merge" | "merge old";
  readonly element: string;
  readonly from: number;
  readonly age: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  at: fc.nat(WRITERS.length - 1),
  what: fc.constantFrom("add", "add", "remove", "merge", "merge old"),
  element: fc.constantFrom("x", "y", "z", "v"),
  from: fc.nat(WRITERS.length - 1),
  age: fc.nat(),
});
const script = fc.array(step, { maxLength: 40 });

interface Played {
  readonly sets: OrSet[];
  readonly dumb: DumbSet[];
  /** All states that replicas have had. */
  readonly history: OrSet[];
}

function play(steps: readonly Step[]): Played {
  const sets = WRITERS.map(() => new OrSet(LIMITS));
  const dumb = WRITERS.map(() => new DumbSet());
  const history: OrSet[] = [];
  const dumbHistory: DumbSet[] = [];
  for (const [number, { at, what, element, from, age }] of steps.entries()) {
    const set = sets[at]!;
    const seen = set.seen();
    if (what === "add") {
      if (set.add(WRITERS[at]!, element)) dumb[at]!.add(element, `${number}`);
    } else if (what === "remove") {
      expect(set.remove(element)).toBe(dumb[at]!.elements().includes(element));
      dumb[at]!.remove(element);
    } else {
      const old = what === "merge old" && history.length > 0 ? age % history.length : undefined;
      expect(set.merge(old === undefined ? sets[from]! : history[old]!)).toBe(true);
      dumb[at]!.merge(old === undefined ? dumb[from]! : dumbHistory[old]!);
    }
    expect(set.elements()).toEqual(dumb[at]!.elements());
    expect(["equal", "before"]).toContain(seen.compare(set.seen()));
    history.push(set.copy());
    const was = new DumbSet();
    was.merge(dumb[at]!);
    dumbHistory.push(was);
  }
  return { sets, dumb, history };
}

const hex = (set: OrSet): string => Buffer.from(set.encode()).toString("hex");

function merged(...all: readonly OrSet[]): OrSet {
  const result = new OrSet(LIMITS);
  for (const one of all) expect(result.merge(one)).toBe(true);
  return result;
}

describe("observed-remove set", () => {
  test("OR1 OR2 OR4 S1-8 each replica has what the set of all operations has, after each step, with old states in any order and number", () => {
    fc.assert(
      fc.property(script, (steps) => void play(steps)),
      { numRuns: 300 },
    );
  });

  test("OR1 merging is commutative, associative and idempotent, byte for byte", () => {
    fc.assert(
      fc.property(script, fc.nat(), fc.nat(), fc.nat(), (steps, i, j, k) => {
        const { history } = play(steps);
        if (history.length === 0) return;
        const [a, b, c] = [i, j, k].map((n) => history[n % history.length]!) as [OrSet, OrSet, OrSet];
        expect(hex(merged(a, b))).toBe(hex(merged(b, a)));
        expect(hex(merged(merged(a, b), c))).toBe(hex(merged(a, merged(b, c))));
        expect(hex(merged(a, a))).toBe(hex(a));
        const self = a.copy();
        expect(self.merge(self)).toBe(true);
        expect(hex(self)).toBe(hex(a));
      }),
    );
  });

  test("OR1 replicas that have merged all states are equal", () => {
    fc.assert(
      fc.property(script, (steps) => {
        const { sets, dumb } = play(steps);
        const all = new DumbSet();
        for (const one of dumb) all.merge(one);
        const [first, ...others] = sets.map((_, i) => merged(...sets.slice(i), ...sets.slice(0, i)));
        expect(first!.elements()).toEqual(all.elements());
        for (const other of others) expect(hex(other)).toBe(hex(first!));
      }),
    );
  });

  test("OR2 B2-4 what was removed does not come back with an old state; what was added meanwhile stays", () => {
    const [here, there] = [new OrSet(LIMITS), new OrSet(LIMITS)];
    here.add("a", "x");
    there.merge(here);
    const old = there.copy();
    here.remove("x");
    here.merge(old);
    expect(here.elements()).toEqual([]);
    there.add("b", "x");
    here.merge(there);
    there.merge(here);
    expect([here.elements(), there.elements()]).toEqual([["x"], ["x"]]);
  });

  test("OR3 a writer has a bounded number of elements, in each merged set too", () => {
    fc.assert(
      fc.property(script, fc.nat(), fc.nat(), (steps, i, j) => {
        const { history } = play(steps);
        if (history.length === 0) return;
        const one = merged(history[i % history.length]!, history[j % history.length]!);
        // What is decoded has been checked for the bound.
        expect(hex(OrSet.decode(one.encode(), LIMITS))).toBe(hex(one));
      }),
    );
    const full = new OrSet(LIMITS);
    for (const element of ["x", "y", "z"]) expect(full.add("a", element)).toBe(true);
    expect(full.add("a", "v")).toBe(false);
    expect(full.add("a", "x")).toBe(true);
    expect(full.add("b", "v")).toBe(true);
    expect(full.add("b", "too long an element")).toBe(false);
    full.remove("y");
    expect(full.add("a", "w")).toBe(true);
  });

  test("OR3 one writer too many is refused whole", () => {
    const small = { ...LIMITS, writers: 1 };
    const [one, other] = [new OrSet(small), new OrSet(small)];
    one.add("a", "x");
    other.add("b", "y");
    const before = hex(one);
    expect(one.merge(other)).toBe(false);
    expect(one.add("b", "y")).toBe(false);
    expect(hex(one)).toBe(before);
  });

  test("OR5 no bytes are read but those of a set within its bounds", () => {
    const vector = (...counts: readonly (readonly [string, number])[]) =>
      new VersionVector(
        8,
        counts.map(([writer, count]) => ({ writer, count })),
      ).encode();
    const set = (seen: Uint8Array, ...elements: readonly (readonly [string, Uint8Array])[]) => {
      const bytes = new ProtoWriter().bytes(1, seen);
      for (const [element, additions] of elements) bytes.message(2, (inner) => inner.text(1, element).bytes(2, additions));
      return bytes.finish();
    };
    const a1 = vector(["a", 1]);
    const a2 = vector(["a", 2]);
    const good = set(a2, ["x", a1], ["y", a2]);
    expect(OrSet.decode(good, LIMITS).elements()).toEqual(["x", "y"]);
    const hostile: readonly (readonly [string, Uint8Array])[] = [
      ["beyond what was seen", set(a1, ["x", a2])],
      ["one addition of two elements", set(a2, ["x", a1], ["y", a1])],
      ["unsorted", set(a2, ["y", a2], ["x", a1])],
      ["an element twice", set(a2, ["x", a1], ["x", a2])],
      ["no addition", set(a2, ["x", new Uint8Array()])],
      ["too many writers", set(vector(["a", 1], ["b", 1], ["c", 1], ["d", 1], ["e", 1]))],
      [
        "too many elements of a writer",
        set(vector(["a", 4]), ...["v", "w", "x", "y"].map((name, i) => [name, vector(["a", i + 1])] as const)),
      ],
      ["a long element", set(a1, ["123456789", a1])],
      ["cut", good.subarray(0, good.length - 1)],
      ["more", Uint8Array.from([...good, 0x1a, 0])],
    ];
    for (const [name, bytes] of hostile) expect(() => OrSet.decode(bytes, LIMITS), name).toThrow();
    for (let at = 0; at < good.length; at++)
      for (const bit of [1, 2, 4, 8, 16, 32, 64, 128]) {
        const changed = Uint8Array.from(good);
        changed[at]! ^= bit;
        let read: OrSet | undefined;
        try {
          read = OrSet.decode(changed, LIMITS);
        } catch {
          continue;
        }
        expect(compareBytes(read.encode(), changed)).toBe(0);
      }
  });
});
