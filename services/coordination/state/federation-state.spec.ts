import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { candidateOf, foundingOf, joinOf, keyOf } from "../../../test/fakes/federation-books.ts";
import { simCrypto } from "../../../test/simulator/crypto.ts";
import { commandCodec } from "../codec/commands.ts";
import { readState, writeState } from "../codec/state.ts";
import { type AuthorBatch, writeBatch } from "../log/batch.ts";
import type { LogCommand } from "./commands.ts";
import { type Applying, FederationState } from "./federation-state.ts";

const HUBS = ["a", "b", "c"];
const FOUNDING = foundingOf(
  HUBS.map((hub) => candidateOf(hub)),
  { admission: "founder" },
);
const stateOf = (): FederationState => new FederationState({ crypto: keyOf("a").crypto, codec: commandCodec }, FOUNDING);
const FEDERATION = stateOf().federation;

const put = (key: string): LogCommand => ({
  book: "values",
  command: { kind: "put", key, value: Uint8Array.of(1), conditional: false, expect: 0 },
});
const batchOf = (author: string, commands: readonly LogCommand[], more: Partial<AuthorBatch> = {}, signer = author): Uint8Array =>
  writeBatch(
    {
      federation: FEDERATION,
      author,
      incarnation: 1,
      session: 1,
      first: 1,
      commands: commands.map((one) => commandCodec.write(one)),
      ...more,
    },
    keyOf(signer).crypto,
  );

/** Log applies payloads at consecutive positions. */
class Log {
  readonly state = stateOf();
  #index = 0;
  time = 1_000_000;

  apply(...payloads: readonly Uint8Array[]): Applying {
    return this.state.apply({ index: ++this.#index, term: 1, time: this.time, payloads });
  }
}

const bytesOf = (state: FederationState): string => Buffer.from(writeState(state.dump())).toString("hex");

const actions = fc.constantFrom<LogCommand>(
  put("k"),
  put("k/2"),
  { book: "values", command: { kind: "delete", key: "k", conditional: false, expect: 0 } },
  { book: "members", command: { kind: "leave" } },
  { book: "members", command: { kind: "remove", hubId: "b" } },
  { book: "members", command: { kind: "ready", incarnation: 1 } },
  { book: "clock" },
);
const payload = fc.oneof(
  { arbitrary: fc.uint8Array({ maxLength: 60 }), weight: 1 },
  {
    arbitrary: fc
      .record({
        author: fc.constantFrom("a", "b", "c", "z"),
        session: fc.integer({ min: 1, max: 2 }),
        first: fc.integer({ min: 1, max: 4 }),
        commands: fc.array(actions, { minLength: 1, maxLength: 3 }),
        signer: fc.constantFrom("own", "own", "own", "z"),
      })
      .map(({ author, session, first, commands, signer }) =>
        batchOf(author, commands, { session, first }, signer === "own" ? author : signer),
      ),
    weight: 8,
  },
);
const entry = fc.record({ payloads: fc.array(payload, { maxLength: 3 }), later: fc.integer({ min: 0, max: 100_000 }) });

describe("the state of a federation", () => {
  test("FS1 FS2 the same entries come to the same bytes, whatever stands in them; a copy goes on alike (BK3)", () => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 12 }), fc.nat(12), (entries, at) => {
        const [one, other] = [new Log(), new Log()];
        for (const [i, { payloads, later }] of entries.entries()) {
          if (i === at) other.state.load(readState(writeState(other.state.dump())));
          one.time += later;
          other.time += later;
          const [a, b] = [one.apply(...payloads), other.apply(...payloads)];
          expect(b).toEqual(a);
          expect(bytesOf(other.state)).toBe(bytesOf(one.state));
        }
      }),
      { numRuns: 60 },
    );
  });

  test.each<[string, Uint8Array, string]>([
    ["bytes that are no batch", Uint8Array.of(1, 2, 3), "no batch"],
    ["a batch of a hub that is no member", batchOf("z", [put("k")]), "z is no member"],
    ["a batch with a signature of another hub", batchOf("a", [put("k")], {}, "b"), "not a's"],
    ["a batch of another replica of its author", batchOf("a", [put("k")], { incarnation: 2 }), "another replica of a"],
    ["a batch for another federation", batchOf("a", [put("k")], { federation: new Uint8Array(16) }), "another federation"],
    ["a batch whose numbers leave some out", batchOf("a", [put("k")], { first: 2 }), "too early"],
  ])("PROTOCOL G5 FS2 %s has no effect, and leaves no trace", (_what, bytes, why) => {
    const log = new Log();
    const before = new Log();
    const { commands, news, dropped } = log.apply(bytes);
    before.apply();
    expect(dropped).toEqual([expect.stringContaining(why)]);
    expect([commands, news]).toEqual([[], []]);
    expect(bytesOf(log.state)).toBe(bytesOf(before.state));
    // Nor does it keep the right one from taking effect.
    expect(log.apply(batchOf("a", [put("k")])).commands).toHaveLength(1);
  });

  test("PROTOCOL G5 AS1 a batch that comes again has no effect, and what is new in it has", () => {
    const log = new Log();
    const bytes = batchOf("a", [put("k"), put("k2")]);
    expect(log.apply(bytes, bytes).dropped).toHaveLength(1);
    expect(log.apply(bytes).commands).toEqual([]);
    const { commands } = log.apply(batchOf("a", [put("k2"), put("k3")], { first: 2 }));
    expect(commands.map(({ number }) => number)).toEqual([3]);
    expect(log.state.position("a")).toEqual({ session: 1, last: 3 });
  });

  test("a command that is none, or that its book refuses, takes its number, and the rest of its batch goes on", () => {
    const log = new Log();
    const raw = writeBatch(
      {
        federation: FEDERATION,
        author: "a",
        incarnation: 1,
        session: 1,
        first: 1,
        commands: [Uint8Array.of(255), commandCodec.write(put("k"))],
      },
      keyOf("a").crypto,
    );
    const { commands } = log.apply(raw);
    expect(commands.map(({ number, result }) => [number, result.ok])).toEqual([
      [1, false],
      [2, true],
    ]);
    const refused = log.apply(
      batchOf("a", [{ book: "values", command: { kind: "delete", key: "none", conditional: false, expect: 0 } }], { first: 3 }),
    );
    expect(refused.commands[0]?.result).toMatchObject({ ok: false, failure: { reason: "VALUE_NOT_FOUND" } });
    expect(log.state.position("a")).toEqual({ session: 1, last: 3 });
  });

  test("FS2 AS3 who counts is decided by the entries before: a hub that left in this one has written its last", () => {
    const log = new Log();
    const { commands, dropped } = log.apply(
      batchOf("b", [{ book: "members", command: { kind: "leave" } }, put("in-the-same-batch")]),
      batchOf("b", [put("late")], { first: 3 }),
    );
    expect(commands[0]?.result.ok).toBe(true);
    expect(dropped).toHaveLength(1);
    expect(commands).toHaveLength(1);
    expect(log.state.books.values.page("", "").values).toEqual([]);
    expect(log.state.position("b")).toEqual({ session: 0, last: 0 });
  });

  test("PROTOCOL G5 FS2 what a hub wrote before it left has no effect when it is a member again, also what was never decided", () => {
    const log = new Log();
    const leave: LogCommand = { book: "members", command: { kind: "leave" } };
    const [decided, undecided] = [batchOf("b", [put("k"), leave], { session: 5 }), batchOf("b", [leave], { session: 5, first: 3 })];
    log.apply(decided);
    const candidate = candidateOf("b", { incarnation: 2 });
    const { incarnation, publicKey } = candidate;
    const admit: LogCommand = { book: "members", command: { kind: "admit", hubId: "b", incarnation, publicKey, weight: 1 } };
    log.apply(batchOf("a", [{ book: "members", command: joinOf(candidate) }, admit]));
    const before = bytesOf(log.state);
    for (const old of [decided, undecided]) {
      const { commands, dropped } = log.apply(old);
      expect([commands, dropped]).toEqual([[], [expect.stringMatching(/another replica of b|too early/)]]);
    }
    expect(log.state.books.members.member("b")?.incarnation).toBe(2);
    expect(log.state.books.values.get("k")?.version).toBe(1);
    expect(log.apply(batchOf("b", [put("new")], { session: 6, incarnation })).commands).toHaveLength(1);
    expect(bytesOf(log.state)).not.toBe(before);
  });

  test("FS2 AS1 what a hub says when it left and came back within one entry is carried out once", () => {
    const log = new Log();
    const candidate = candidateOf("b", { incarnation: 2 });
    const { incarnation, publicKey } = candidate;
    const admit: LogCommand = { book: "members", command: { kind: "admit", hubId: "b", incarnation, publicKey, weight: 1 } };
    const back = batchOf("b", [put("new")], { session: 6, incarnation });
    const { commands } = log.apply(
      batchOf("b", [{ book: "members", command: { kind: "leave" } }], { session: 5 }),
      batchOf("a", [{ book: "members", command: joinOf(candidate) }, admit]),
      back,
    );
    expect(commands.map(({ result }) => result.ok)).toEqual([true, true, true, true]);
    expect(log.state.position("b")).toEqual({ session: 6, last: 1 });
    expect(log.apply(back)).toMatchObject({ commands: [], dropped: [expect.stringMatching(/come again/)] });
    expect(log.state.books.values.get("new")?.version).toBe(1);
  });

  test("FS3 what is due happens before the commands of its entry", () => {
    const log = new Log();
    const candidate = candidateOf("d");
    const join = log.apply(batchOf("a", [{ book: "members", command: joinOf(candidate) }]));
    expect(join.commands[0]?.result).toMatchObject({ ok: true });
    const due = log.state.due();
    expect(due).toBeGreaterThan(log.time);
    log.time = due!;
    const { commands, news } = log.apply(
      batchOf(
        "a",
        [{ book: "members", command: { kind: "admit", hubId: "d", incarnation: 1, publicKey: candidate.publicKey, weight: 1 } }],
        { first: 2 },
      ),
    );
    expect(news.map(({ news: one }) => (one as { kind: string }).kind)).toEqual(["join_expired"]);
    expect(commands[0]?.result.ok).toBe(false);
  });

  test("a founding entry that does not hold is no beginning", () => {
    expect(() => new FederationState({ crypto: simCrypto("a"), codec: commandCodec }, { ...FOUNDING, signatures: [] })).toThrow(
      "does not hold",
    );
  });
});
