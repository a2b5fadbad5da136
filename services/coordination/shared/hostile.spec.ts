import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { cryptoOf, memberOf, newShared, SKEW_MS } from "../../../test/support/shared-world.ts";
import type { SharedState } from "./core.ts";
import {
  type PartFrame,
  SHARED_LIMITS,
  type SharedChange,
  type SharedEffect,
  type SharedEntry,
  type SharedFrame,
  type SharedInput,
} from "./messages.ts";
import { Part } from "./part.ts";
import { contentsBytes, readStored, statementBytes, writeStored } from "./part-bytes.ts";

const NOW = { mono: 1_000, wall: 1_000_000 };
const FEDERATION = new Uint8Array(16).fill(7);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** Hub is a core with what it did last. */
class Hub {
  readonly core: SharedState;
  out: SharedEffect[] = [];

  constructor(name = "north", members: readonly string[] = ["north", "south", "east"], stored: readonly Part[] = []) {
    this.core = newShared(name, stored);
    this.step({ kind: "members", members: members.map((hub) => memberOf(hub)) });
    for (const hub of members) if (hub !== name) this.step({ kind: "peer", hub, up: true });
  }

  step(input: SharedInput, now = NOW): SharedEffect[] {
    this.out = [];
    this.core.step(now, input, this.out);
    return this.out;
  }

  change(...changes: readonly SharedChange[]): SharedEffect[] {
    return this.step({ kind: "change", call: 1, changes });
  }

  frame(frame: SharedFrame, from = "south"): SharedEffect[] {
    return this.step({ kind: "frame", from, frame });
  }

  observed(): readonly string[] {
    return this.out.flatMap((effect) => (effect.kind === "observe" ? [effect.what] : []));
  }

  get root(): string {
    return hex(this.core.root());
  }
}

const entryAt = (kind: SharedEntry["kind"], key: string, version = 1, value: Uint8Array | undefined = Uint8Array.of(1)): SharedEntry => ({
  kind,
  key,
  version,
  at: { wallMs: NOW.wall, logical: 0 },
  priority: 0,
  value,
});

/** signedPart is a part as its hub would send it, whatever is in it. `contents` are the entries that are hashed. */
function signedPart(more: Partial<PartFrame> = {}, contents = more.entries ?? [entryAt("swarms", "south")]): PartFrame {
  const crypto = cryptoOf(more.hub ?? "south");
  const head = { hub: "south", incarnation: 1, version: 1, digest: crypto.hash(contentsBytes(contents)), ...pick(more) };
  const signature = crypto.sign(statementBytes(FEDERATION, head));
  return { kind: "part", signature, since: 0, entries: contents, removed: [], ...more, ...head };
}

const pick = ({ hub, incarnation, version, digest }: Partial<PartFrame>) =>
  Object.fromEntries(Object.entries({ hub, incarnation, version, digest }).filter(([, value]) => value !== undefined));

const unset = (key: string): SharedChange => ({ kind: "facts", key, value: undefined });
const fact = (key: string, value: Uint8Array = Uint8Array.of(1)): SharedChange => ({ kind: "facts", key, value });

describe("changes of a hub", () => {
  test.each<[string, readonly SharedChange[], string, string]>([
    ["none", [], "changes", "there is none"],
    ["too many", Array.from({ length: SHARED_LIMITS.changes + 1 }, (_, i) => fact(`${i}`)), "changes", "too many"],
    ["an unknown kind", [{ kind: "toString" as "facts", key: "k", value: undefined }], "changes[0].kind", "no such kind"],
    ["no key", [fact("")], "changes[0].key", "1 to 190 bytes"],
    ["a long key", [fact("ä".repeat(96))], "changes[0].key", "1 to 190 bytes"],
    ["a key that hides something", [fact("a\u202eb")], "changes[0].key", "can be shown"],
    ["half a character", [fact("\ud800")], "changes[0].key", "can be shown"],
    ["a key twice", [fact("k"), fact("k")], "changes[1].key", "twice"],
    ["the summary of another hub", [fact("k"), { kind: "swarms", key: "south", value: undefined }], "changes[1].key", "begin with north"],
    ["a name like this hub's", [{ kind: "resources", key: "northern/gpu", value: undefined }], "changes[0].key", "begin with north"],
    ["a long value", [fact("k", new Uint8Array(SHARED_LIMITS.valueBytes + 1))], "changes[0].value", "4097 bytes"],
    ["a priority where there is none", [{ ...fact("k"), priority: 1 }], "changes[0].priority", "no priority"],
    ...[Number.NaN, -1, 0.5, 256, Number.POSITIVE_INFINITY].map((priority): [string, readonly SharedChange[], string, string] => [
      `a priority of ${priority}`,
      [{ kind: "allocations", key: "k", priority, value: undefined }],
      "changes[0].priority",
      "whole number up to 255",
    ]),
  ])("SH4 S4-17 %s: invalid state change, with the field, and nothing is changed", (_name, changes, field, words) => {
    const hub = new Hub();
    const before = hub.root;
    const [effect, ...others] = hub.change(...changes);
    expect(others).toEqual([]);
    expect(effect).toMatchObject({ kind: "refused", call: 1, failure: { reason: "INVALID_FIELD", field } });
    const { message } = (effect as SharedEffect & { kind: "refused" }).failure;
    expect(message).toMatch(/^invalid state change: /);
    expect(message).toContain(words);
    expect(hub.root).toBe(before);
  });

  test("S4-14 policies are changed by consensus: refused here with what to do", () => {
    const [effect] = new Hub().change({ kind: "policies", key: "quota", value: Uint8Array.of(1) });
    const failure = {
      field: "changes[0].kind",
      message: "invalid state change: policies needs a ballot; propose the change to the federation",
    };
    expect(effect).toMatchObject({ kind: "refused", failure });
  });

  test("SH4 a change is stored before it is answered, and sent afterwards", () => {
    const hub = new Hub();
    expect(hub.change(fact("k")).map(({ kind }) => kind)).toEqual(["persist", "news", "changed"]);
    const deadline = hub.core.deadline()!;
    const out: SharedEffect[] = [];
    hub.core.tick({ mono: deadline, wall: NOW.wall }, out);
    expect(out.map((effect) => (effect.kind === "send" ? `${effect.frame.kind} to ${effect.to}` : effect.kind)).sort()).toEqual([
      "part to east",
      "part to south",
    ]);
  });

  test("SH6 a hub that is in no federation changes nothing", () => {
    const hub = new Hub("north", ["south"]);
    expect(hub.change(fact("k"))).toEqual([
      expect.objectContaining({ kind: "refused", failure: expect.objectContaining({ reason: "NOT_CONFIGURED" }) }),
    ]);
  });

  test("SH6 a hub has so many entries and bytes; what is one too many is refused whole", () => {
    const hub = new Hub();
    for (let i = 0; i < SHARED_LIMITS.entries; i += 64) hub.change(...Array.from({ length: 64 }, (_, j) => fact(`key ${i + j}`)));
    const full = hub.root;
    expect(hub.change(unset("key 0"), fact("one"), fact("more"))).toMatchObject([
      { kind: "refused", failure: { reason: "LIMIT_EXCEEDED" } },
    ]);
    expect(hub.root).toBe(full);
    expect(hub.change(unset("key 0"), fact("one")).at(-1)).toMatchObject({ kind: "changed" });
    const other = new Hub();
    const large = Array.from({ length: 40 }, (_, i) => fact(`${i}`, new Uint8Array(SHARED_LIMITS.valueBytes)));
    expect(other.change(...large)).toMatchObject([{ kind: "refused", failure: { reason: "LIMIT_EXCEEDED" } }]);
    expect([...other.core.parts()]).toEqual([]);
  });

  test("S4-14 the greatest priority counts, and of equal ones the earliest", () => {
    const hub = new Hub();
    const claim = (of: string, priority: number, wallMs: number): void => {
      const entry = { ...entryAt("allocations", "gpu", 1, Uint8Array.of(2)), priority, at: { wallMs, logical: 0 } };
      hub.frame(signedPart({ hub: of, entries: [entry] }), of);
    };
    hub.change({ kind: "allocations", key: "gpu", priority: 5, value: Uint8Array.of(1) });
    claim("south", 5, NOW.wall - 10);
    expect(hub.core.read({ kind: "allocations", key: "gpu" })).toMatchObject({ hub: "south", others: ["north"] });
    claim("east", 6, NOW.wall + 10);
    expect(hub.core.read({ kind: "allocations", key: "gpu" })).toMatchObject({ hub: "east", others: ["north", "south"] });
  });

  test("SH7 D-9 an edit wins over those that were seen, also where this hub's clock is behind", () => {
    const hub = new Hub();
    const ahead = { ...entryAt("facts", "k"), at: { wallMs: NOW.wall + SKEW_MS, logical: 9 } };
    hub.frame(signedPart({ entries: [ahead] }));
    hub.change(fact("k", Uint8Array.of(9)));
    expect(hub.core.read({ kind: "facts", key: "k" })).toMatchObject({ hub: "north" });
    hub.change(unset("k"));
    expect(hub.core.read({ kind: "facts", key: "k" })).toBeUndefined();
  });

  test("D-9 a hub whose clock was far ahead says anew what the others have refused, once its clock is right", () => {
    const north = new Hub();
    const [, south] = [north, new Hub("south")];
    const future = { mono: 1_000, wall: NOW.wall + 10 * SKEW_MS };
    north.step({ kind: "change", call: 1, changes: [fact("early"), { kind: "swarms", key: "north", value: Uint8Array.of(1) }] }, future);
    const part = (): PartFrame => [...north.core.parts()].find(({ head }) => head.hub === "north")!.frame(0);
    south.frame(part(), "north");
    expect(south.observed()).toEqual(["refused"]);
    north.change(fact("late"));
    south.frame(part(), "north");
    expect(south.observed()).toEqual(["taken"]);
    expect(south.core.list("facts").map(({ entry }) => entry.key)).toEqual(["early", "late"]);
    expect(south.core.read({ kind: "swarms", key: "north" })?.entry.at.wallMs).toBeLessThanOrEqual(NOW.wall);
  });
});

describe("parts from outside", () => {
  const good = (): PartFrame => signedPart({ version: 3, entries: [entryAt("swarms", "south", 2), entryAt("facts", "k", 3)] });

  test("SH1 a part that its hub has signed is taken from whoever carries it", () => {
    const hub = new Hub();
    hub.frame(good(), "east");
    expect(hub.observed()).toEqual(["taken"]);
    expect(hub.core.read({ kind: "swarms", key: "south" })).toMatchObject({ hub: "south" });
    expect(hub.out.map(({ kind }) => kind)).toEqual(["observe", "persist", "news"]);
    hub.frame(good());
    expect(hub.observed()).toEqual(["old"]);
  });

  const twoFacts = [entryAt("facts", "a"), entryAt("facts", "b")];
  test.each<[string, PartFrame]>([
    ["an entry of another hub's summary", signedPart({ entries: [entryAt("swarms", "north")] })],
    ["a policy", signedPart({ entries: [entryAt("policies", "quota")] })],
    ["unsorted entries", signedPart({ entries: [...twoFacts].reverse() })],
    ["an entry twice", signedPart({ entries: [twoFacts[0]!, twoFacts[0]!] })],
    ["a version of an entry beyond the part's", signedPart({ entries: [entryAt("facts", "k", 2)] })],
    ["an entry of version 0", signedPart({ entries: [entryAt("facts", "k", 0)] })],
    ["a priority where there is none", signedPart({ entries: [{ ...entryAt("facts", "k"), priority: 1 }] })],
    ["a priority that is too great", signedPart({ entries: [{ ...entryAt("allocations", "k"), priority: 256 }] })],
    ["a summary that says nothing", signedPart({ entries: [{ ...entryAt("swarms", "south"), value: undefined }] })],
    ["a long value", signedPart({ entries: [entryAt("facts", "k", 1, new Uint8Array(4_097))] })],
    ["a long key", signedPart({ entries: [entryAt("facts", "k".repeat(191))] })],
    ["a time far ahead", signedPart({ entries: [{ ...entryAt("facts", "k"), at: { wallMs: NOW.wall + SKEW_MS + 1, logical: 0 } }] })],
    ["no sane time", signedPart({ entries: [{ ...entryAt("facts", "k"), at: { wallMs: NOW.wall, logical: 65_536 } }] })],
    [
      "too many entries",
      signedPart({ entries: Array.from({ length: 513 }, (_, i) => entryAt("facts", `k${String(i).padStart(4, "0")}`)) }),
    ],
    [
      "too many bytes",
      signedPart({
        entries: Array.from({ length: 40 }, (_, i) => entryAt("facts", `k${String(i).padStart(4, "0")}`, 1, new Uint8Array(4_096))),
      }),
    ],
    ["a removal in a whole part", signedPart({ removed: [{ kind: "facts", key: "k" }] })],
    ["a base that is not before it", signedPart({ since: 1 })],
    ["a digest of something else", signedPart({ entries: twoFacts }, [])],
    ["a signature of another hub", { ...good(), signature: cryptoOf("east").sign(statementBytes(FEDERATION, good())) }],
    ["a signature of another federation", { ...good(), signature: cryptoOf("south").sign(statementBytes(new Uint8Array(16), good())) }],
    ["a signature of another version", { ...good(), signature: signedPart({ version: 4 }).signature }],
    ["a short signature", { ...good(), signature: new Uint8Array(63) }],
    ["a short digest", signedPart({ digest: new Uint8Array(31) })],
  ])("SH5 S4-12 D-9 %s: refused whole, counted, and what is here stays", (_name, frame) => {
    const hub = new Hub();
    hub.change({ kind: "swarms", key: "north", value: Uint8Array.of(1) });
    const before = hub.root;
    hub.frame(frame);
    expect(hub.observed()).toEqual(["refused"]);
    expect(hub.out).toHaveLength(1);
    expect(hub.root).toBe(before);
  });

  test("SH5 SH6 what a hub that is no member sent, or an older replica of one, is dropped", () => {
    const hub = new Hub();
    for (const frame of [signedPart({ hub: "far", entries: [] }), signedPart({ incarnation: 2 })]) expect(hub.frame(frame)).toEqual([]);
    expect(hub.frame(good(), "far")).toEqual([]);
    expect([...hub.core.parts()]).toEqual([]);
  });

  test("SH5 frames with anything changed in them change nothing, or are what the hub signed", () => {
    const number = fc.constantFrom(Number.NaN, -1, 0, 0.5, 1, 2, 3, 4, 2 ** 53, Number.POSITIVE_INFINITY);
    const entry = fc.record({
      kind: fc.constantFrom("swarms", "facts", "allocations", "policies", "__proto__") as fc.Arbitrary<"facts">,
      key: fc.constantFrom("south", "k", "", "\u0000", "south/x"),
      version: number,
      at: fc.record({ wallMs: number, logical: number }),
      priority: number,
      value: fc.option(fc.uint8Array({ maxLength: 2 }), { nil: undefined }),
    });
    const change = fc.record(
      {
        hub: fc.constantFrom("south", "north", "east", "", "constructor"),
        incarnation: number,
        version: number,
        since: number,
        digest: fc.uint8Array({ minLength: 31, maxLength: 33 }),
        signature: fc.uint8Array({ minLength: 63, maxLength: 65 }),
        entries: fc.array(entry, { maxLength: 3 }),
        removed: fc.array(fc.record({ kind: fc.constantFrom("facts", "policies"), key: fc.constantFrom("k", "") }), { maxLength: 2 }),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(change, fc.boolean(), (more, known) => {
        const hub = new Hub();
        if (known) hub.frame(good());
        const before = hub.root;
        const honest = signedPart({ version: 4, entries: [entryAt("facts", "k", 4)] });
        hub.frame({ ...honest, ...(more as Partial<PartFrame>) });
        const signed = new Hub();
        signed.frame(honest);
        expect(hub.root).toBe(hub.observed().includes("taken") ? signed.root : before);
      }),
      { numRuns: 500 },
    );
  });

  test("S1-12 a difference to something else than what is here is not taken: the whole part is asked for, and then fits", () => {
    const hub = new Hub();
    const north = new Hub("south", ["north", "south"]);
    const part = (): Part => [...north.core.parts()][0]!;
    north.change(fact("a"));
    north.change(fact("b"));
    north.change(unset("a"));
    const difference = part().frame(2);
    expect(difference).toMatchObject({ since: 2, entries: [], removed: [{ kind: "facts", key: "a" }] });
    hub.frame(difference);
    expect(hub.observed()).toEqual(["base"]);
    expect(hub.out.at(-1)).toEqual({ kind: "send", to: "south", frame: { kind: "want", hubs: ["south"] } });
    const [answer] = north.step({ kind: "frame", from: "north", frame: { kind: "want", hubs: ["south", "nobody", "south"] } });
    hub.frame((answer as SharedEffect & { kind: "send" }).frame);
    expect(hub.observed()).toEqual(["taken"]);
    expect(hub.root).toBe(north.root);
  });

  test("D-9 S1-11 removals are remembered up to a bound; who was away for longer gets all, and what went does not stay with it", () => {
    const south = new Hub("south", ["north", "south"]);
    const part = (): Part => [...south.core.parts()][0]!;
    const [early, late] = [new Hub(), new Hub()];
    const keys = Array.from({ length: 320 }, (_, i) => `key ${String(i).padStart(3, "0")}`);
    for (let i = 0; i < keys.length; i += 64) south.change(...keys.slice(i, i + 64).map((key) => fact(key)));
    early.frame(part().frame(0));
    for (let i = 0; i < keys.length; i += 64) {
      south.change(...keys.slice(i, i + 64).map(unset));
      if (i === 64) late.frame(part().frame(0));
    }
    expect(part().frame(5)).toMatchObject({ since: 0, entries: [], removed: [] });
    expect(part().frame(7)).toMatchObject({ since: 7, entries: [], removed: { length: 192 } });
    early.frame(part().frame(5));
    late.frame(part().frame(7));
    for (const hub of [early, late]) {
      expect(hub.observed()).toEqual(["taken"]);
      expect(hub.root).toBe(south.root);
    }
    // What came whole has no differences to what was before it.
    const carried = [...early.core.parts()].find(({ head }) => head.hub === "south")!;
    expect(carried.frame(9)).toMatchObject({ since: 0 });
  });

  test("SH3 what came from one hub is announced to the others soon, for those that have no session with it", () => {
    const hub = new Hub();
    hub.frame(good());
    const soon = hub.core.deadline()!;
    expect(soon - NOW.mono).toBeLessThan(1_000);
    const out: SharedEffect[] = [];
    hub.core.tick({ mono: soon, wall: NOW.wall }, out);
    expect(out).toContainEqual({ kind: "send", to: "east", frame: { kind: "heads", root: hub.core.root(), heads: [], answer: false } });
  });

  test("SH6 whole parts are sent to one peer at a bounded rate", () => {
    const hub = new Hub();
    hub.change(fact("k"));
    let sent = 0;
    for (let i = 0; i < 1_000; i++) sent += hub.frame({ kind: "want", hubs: ["north"] }).length;
    expect(sent).toBeLessThanOrEqual(2 * SHARED_LIMITS.hubs);
    expect(sent).toBeGreaterThan(0);
  });

  test("SH6 so is what changed long ago, for one that says on and on that it does not have it", () => {
    const hub = new Hub();
    for (let i = 0; i < 8; i++) hub.change(...Array.from({ length: 32 }, (_, j) => fact(`k${i}/${j}`)));
    let sent = 0;
    const head = { hub: "north", incarnation: memberOf("north").incarnation, version: 1, digest: new Uint8Array(32) };
    for (let i = 0; i < 1_000; i++) {
      const out = hub.frame({ kind: "heads", root: new Uint8Array(32), heads: [head], answer: false });
      sent += out.filter((effect) => effect.kind === "send" && effect.frame.kind === "part").length;
    }
    expect(sent).toBeLessThanOrEqual(2 * SHARED_LIMITS.hubs + 1);
    expect(sent).toBeGreaterThan(0);
  });

  test("SH1 SH3 a hub that signed two states as one version is told, and the others agree on one of them", () => {
    const forks = [signedPart({ entries: [entryAt("facts", "a")] }), signedPart({ entries: [entryAt("facts", "b")] })];
    const hubs = [forks, [...forks].reverse()].map((order) => {
      const hub = new Hub();
      const seen = order.flatMap((frame) => {
        hub.frame(frame);
        return hub.observed();
      });
      return { hub, seen };
    });
    expect(hubs[0]!.hub.root).toBe(hubs[1]!.hub.root);
    expect(hubs.map(({ seen }) => seen.join()).sort()).toEqual(["taken,fork,taken", "taken,old"]);
  });
});

describe("members", () => {
  test("SH6 S1-7 when a hub goes, what it said goes, and is not taken from those that still have it", () => {
    const hub = new Hub();
    const part = signedPart({ entries: [entryAt("swarms", "south"), entryAt("facts", "k")] });
    hub.frame(part);
    hub.change(unset("k"));
    expect(hub.core.read({ kind: "facts", key: "k" })).toBeUndefined();
    const out = hub.step({ kind: "members", members: ["north", "east"].map((name) => memberOf(name)) });
    expect(out).toContainEqual({ kind: "persist", ops: [{ op: "delete", space: "shared", key: "south" }] });
    expect(hub.core.list("swarms")).toEqual([]);
    const root = hub.root;
    expect(hub.frame(part, "east")).toEqual([]);
    expect(hub.root).toBe(root);
    // As another replica it begins anew.
    hub.step({ kind: "members", members: [memberOf("north"), memberOf("east"), memberOf("south", 2)] });
    expect(hub.frame(part, "east")).toEqual([]);
    hub.frame(signedPart({ incarnation: 2, entries: [entryAt("swarms", "south")] }), "east");
    expect(hub.observed()).toEqual(["taken"]);
  });

  test("SH6 a hub that came back as another replica begins with nothing, at once", () => {
    const hub = new Hub();
    hub.frame(signedPart());
    hub.step({ kind: "members", members: [memberOf("north"), memberOf("east"), memberOf("south", 2)] });
    expect(hub.core.list("swarms")).toEqual([]);
  });

  test("a hub that lost its newest words has them back from the others before it says more", () => {
    const north = new Hub();
    north.change(fact("first"));
    const backup = readStored(writeStored([...north.core.parts()][0]!.dump()));
    north.change(fact("second"));
    const newest = [...north.core.parts()][0]!.frame(0);
    const restored = new Hub("north", ["north", "south", "east"], [Part.load(backup)]);
    expect(restored.core.read({ kind: "facts", key: "second" })).toBeUndefined();
    restored.frame(newest, "south");
    expect(restored.observed()).toEqual(["taken"]);
    expect(restored.change(fact("third")).at(-1)).toMatchObject({ kind: "changed", version: 3 });
    expect(restored.core.list("facts").map(({ entry }) => entry.key)).toEqual(["first", "second", "third"]);
  });

  test("a session that stood before its hub became a member is used from then on", () => {
    const hub = new Hub("north", ["north"]);
    expect(hub.step({ kind: "peer", hub: "south", up: true })).toEqual([]);
    const out = hub.step({ kind: "members", members: [memberOf("north"), memberOf("south")] });
    expect(out).toEqual([expect.objectContaining({ kind: "send", to: "south" })]);
  });

  test("heads with a root of another length, or that are no heads, are not answered", () => {
    const hub = new Hub();
    hub.change(fact("k"));
    const root = new Uint8Array(32);
    const head = { hub: "south", incarnation: 1, version: 1, digest: new Uint8Array(32) };
    for (const frame of [
      { root: new Uint8Array(31), heads: [] },
      { root, heads: [{ ...head, version: 0 }] },
      { root, heads: [{ ...head, digest: new Uint8Array(3) }] },
      { root, heads: Array.from({ length: 129 }, () => head) },
    ])
      expect(hub.frame({ kind: "heads", answer: false, ...frame })).toEqual([]);
    expect(hub.frame({ kind: "heads", answer: false, root, heads: [] })).toEqual([expect.objectContaining({ kind: "send", to: "south" })]);
    expect(hub.frame({ kind: "heads", answer: false, root: hub.core.root(), heads: [] })).toEqual([]);
  });
});
