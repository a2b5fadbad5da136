import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type ExecutorAnswer, VALUE_TYPE } from "../../clients/typescript/index.ts";
import { Confirmations, contains, sameNumber } from "./confirmations.ts";
import { nodeIdOf, textOf } from "./node-id.ts";
import { Standing } from "./standing.ts";
import { Tally } from "./tally.ts";
import { isUnreadable, parseJson, readValue } from "./values.ts";

describe("ids", () => {
  test("any text becomes an id, an id stays, and two texts are never the same (property)", () => {
    const names = fc.oneof(fc.string({ unit: "grapheme", maxLength: 80 }), fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._:-]{0,62}$/));
    fc.assert(
      fc.property(names, names, fc.constantFrom("", "zb-"), (a, b, prefix) => {
        expect(nodeIdOf(prefix, a)).toMatch(/^[A-Za-z0-9][A-Za-z0-9._:-]{0,62}$/);
        expect(nodeIdOf(prefix, a) === nodeIdOf(prefix, b)).toBe(a === b);
      }),
      { numRuns: 1_000 },
    );
    expect(nodeIdOf("zb-", "lamp")).toBe("zb-lamp");
    expect(nodeIdOf("", "Living room")).toMatch(/^Living_room-[0-9a-f]{8}$/);
  });

  test("a text is cut between characters, and has no halves of them (property)", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom("a", "é", "€", "💡", "\ud800", "\udc00"), maxLength: 40 }),
        fc.integer({ min: 0, max: 20 }),
        (text, most) => {
          const cut = textOf(text, most);
          expect(Buffer.byteLength(cut)).toBeLessThanOrEqual(most);
          expect(cut.isWellFormed()).toBe(true);
        },
      ),
    );
    expect(textOf("a\ud800b", 9)).toBe("a\ufffdb");
    expect(textOf(7, 9)).toBe("");
  });
});

describe("values", () => {
  test.each([
    [VALUE_TYPE.DOUBLE, "1.5", 1.5],
    [VALUE_TYPE.DOUBLE, '"2"', 2],
    [VALUE_TYPE.DOUBLE, "9007199254740993", undefined],
    [VALUE_TYPE.DOUBLE, "1e999", undefined],
    [VALUE_TYPE.DOUBLE, '"Infinity"', undefined],
    [VALUE_TYPE.DOUBLE, "true", undefined],
    [VALUE_TYPE.BOOL, "true", true],
    [VALUE_TYPE.BOOL, "1", undefined],
    [VALUE_TYPE.STRING, "9007199254740993", "9007199254740993"],
    [VALUE_TYPE.STRING, "{}", undefined],
    [VALUE_TYPE.STRING, JSON.stringify("x".repeat(4_097)), undefined],
    [VALUE_TYPE.JSON, '{"n":9007199254740993}', '{"n":9007199254740993}'],
    [VALUE_TYPE.JSON, `${"[".repeat(40)}${"]".repeat(40)}`, undefined],
    [VALUE_TYPE.JSON, JSON.stringify("x".repeat(17_000)), undefined],
  ])("as type %d %s is %s", (type, text, value) => {
    const read = readValue(type, parseJson(text));
    expect(isUnreadable(read) ? undefined : read).toBe(value);
  });

  test("whatever is parsed, reading it breaks nothing (property)", () => {
    fc.assert(
      fc.property(
        fc.jsonValue(),
        fc.constantFrom(VALUE_TYPE.BOOL, VALUE_TYPE.DOUBLE, VALUE_TYPE.STRING, VALUE_TYPE.JSON),
        (value, type) => {
          const read = readValue(type, parseJson(JSON.stringify(value)));
          if (type === VALUE_TYPE.DOUBLE && !isUnreadable(read)) expect(Number.isFinite(read)).toBe(true);
        },
      ),
    );
    expect(isUnreadable(parseJson(`${"[".repeat(1e5)}`))).toBe(true);
  });
});

test("VL1 VL2 a node is fresh only while all that it has is live, its source is reached, and it is available", () => {
  const standing = new Standing();
  expect(standing.show(0).freshness).toBe("UNKNOWN");
  standing.reached(true);
  expect(standing.show(0).freshness).toBe("FRESH");
  standing.told("a", false, 0);
  standing.told("b", true, 0, 100);
  expect(standing.show(0)).toEqual({ freshness: "STALE", stale: ["a"] });
  standing.told("a", true, 0);
  expect(standing.show(0).freshness).toBe("FRESH");
  expect(standing.deadline()).toBe(100);
  expect(standing.show(100)).toEqual({ freshness: "STALE", stale: ["b"] });
  standing.told("b", true, 100);
  // A retained value that comes late takes nothing back.
  standing.told("b", false, 101);
  expect(standing.changed(101)).toEqual({ freshness: "FRESH", stale: [] });
  expect(standing.changed(101)).toBeUndefined();
  standing.available(false);
  expect(standing.show(102).freshness).toBe("UNKNOWN");
  standing.available(true);
  standing.reached(false);
  standing.reached(true);
  expect(standing.show(103)).toEqual({ freshness: "STALE", stale: ["a", "b"] });
});

test("a command is done by the report that was asked for, and by no other; without one its outcome is unknown", () => {
  const waiting = new Confirmations();
  const answers: ExecutorAnswer[] = [];
  waiting.add({ nodeId: "n", key: "k", accepts: (said) => said === 2 }, 0, 100, (answer) => void answers.push(answer));
  waiting.reported("n", "other", 2, 2);
  waiting.reported("m", "k", 2, 2);
  waiting.reported("n", "k", 1, 1);
  expect([answers, waiting.size, waiting.deadline()]).toEqual([[], 1, 100]);
  waiting.reported("n", "k", 2, 2);
  expect([answers, waiting.size]).toEqual([[{ value: 2 }], 0]);
  waiting.add({ nodeId: "n", key: "k", accepts: () => true }, 0, 100, (answer) => void answers.push(answer));
  waiting.expire(99);
  expect(waiting.size).toBe(1);
  waiting.expire(100);
  expect(answers[1]).toMatchObject({ failure: { reason: "OUTCOME_UNKNOWN" } });
  expect(waiting.deadline()).toBe(Number.POSITIVE_INFINITY);
  expect([sameNumber(20, 20.4, 1), sameNumber(20, 20.6, 1), sameNumber(20, 20.1)]).toEqual([true, false, false]);
  expect([contains({ x: 1 }, { x: 1, y: 2 }), contains({ x: 1 }, { y: 2 }), contains({ x: { a: 1 } }, { x: 3 })]).toEqual([
    true,
    false,
    false,
  ]);
});

test("of many refusals few are told, and all are counted", () => {
  let now = 0;
  const told: string[] = [];
  const tally = new Tally(
    () => now,
    ({ about }) => void told.push(about),
  );
  for (let i = 0; i < 100; i++) tally.refused({ about: String(i), why: "no" });
  expect([told.length, tally.counts()["refused"]]).toEqual([10, 100]);
  now = 10_000;
  tally.refused({ about: "later", why: "no" });
  expect(told.at(-1)).toBe("later");
});
