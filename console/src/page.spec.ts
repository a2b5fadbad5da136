// What the page decides, apart from the browser.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Envelopes, MESSAGE_BYTES } from "./api.ts";
import { added, KEPT } from "./events/follow.ts";
import { rate, rttOf, totalsOf } from "./flow/traffic.ts";
import { graphOf, widthOf } from "./map/graph.ts";
import { merged } from "./nodes/pages.ts";
import { moved, spanAt } from "./nodes/window.ts";
import { ageText, bytesText, shown, valueText, wordOf } from "./text.ts";

function envelope(flags: number, text: string): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  const whole = new Uint8Array(5 + bytes.length);
  whole[0] = flags;
  new DataView(whole.buffer).setUint32(1, bytes.length);
  whole.set(bytes, 5);
  return whole;
}

test("messages of a stream come out whole, wherever the network cuts them", () => {
  const message = fc.record({ flags: fc.constantFrom(0, 2), text: fc.string({ unit: "grapheme", maxLength: 40 }) });
  fc.assert(
    fc.property(fc.array(message, { maxLength: 6 }), fc.array(fc.nat(300), { maxLength: 12 }), (messages, cuts) => {
      const whole = messages.flatMap(({ flags, text }) => [...envelope(flags, text)]);
      const places = [...new Set(cuts.map((cut) => Math.min(cut, whole.length)))].sort((a, b) => a - b);
      const envelopes = new Envelopes();
      const found = [...places, whole.length].flatMap((to, index) =>
        envelopes.take(Uint8Array.from(whole.slice(index === 0 ? 0 : places[index - 1], to))),
      );
      const decoded = (text: string): string => new TextDecoder().decode(new TextEncoder().encode(text));
      expect(found).toEqual(messages.map(({ flags, text }) => ({ last: flags === 2, text: decoded(text) })));
    }),
  );
  const long = envelope(0, "");
  new DataView(long.buffer).setUint32(1, MESSAGE_BYTES + 1);
  expect(() => new Envelopes().take(long)).toThrow("too long");
});

describe("the list", () => {
  test("draws what is seen and little more, however long it is", () => {
    fc.assert(
      fc.property(fc.nat(5_000_000), fc.nat(2_000), fc.nat(100_000), (top, height, count) => {
        const { from, to } = spanAt(top, height, 46, count);
        expect(from).toBeGreaterThanOrEqual(0);
        expect(to).toBeLessThanOrEqual(count);
        expect(to - from).toBeLessThanOrEqual(Math.ceil(height / 46) + 14);
        const first = Math.floor(top / 46);
        if (first < count) expect([from <= first, to > first || height === 0]).toEqual([true, true]);
      }),
    );
  });

  test.each([
    ["ArrowDown", 0, 1],
    ["ArrowUp", 0, 0],
    ["PageDown", 95, 99],
    ["Home", 50, 0],
    ["End", 0, 99],
    ["ArrowDown", -1, 0],
    ["toString", 3, undefined],
  ])("%s at row %i chooses %s", (key, at, to) => expect(moved(key, at, 100, 10)).toBe(to));

  test("newer records take the place of older ones, and no node is there twice", () => {
    const record = (nodeId: string, online: boolean) => ({ name: { hubId: "h", nodeId }, online });
    expect(merged([record("a", false), record("b", false)], [record("b", true), record("c", true)])).toEqual([
      record("a", false),
      record("b", true),
      record("c", true),
    ]);
  });
});

test("events that come twice are shown once, the newest first, and only so many", () => {
  const event = (seq: number) => ({ seq: String(seq) });
  expect(added([event(5), event(4)], [event(4), event(5), event(6), event(7)])).toEqual([event(7), event(6), event(5), event(4)]);
  expect(
    added(
      [],
      Array.from({ length: KEPT + 50 }, (_, i) => event(i + 1)),
    ),
  ).toHaveLength(KEPT);
});

test("rates are of what counters rose, and none of a hub that began again", () => {
  expect([rate(100, 300, 2), rate(300, 100, 2), rate(1, 2, 0)]).toEqual([100, 0, 0]);
  expect([
    ...totalsOf([
      { peer: "a", bytesIn: "1" },
      { peer: "a", bytesIn: "2", bytesOut: "5" },
      { peer: "b", bytesOut: "7" },
    ]),
  ]).toEqual([
    ["", { bytesIn: 3, bytesOut: 12 }],
    ["a", { bytesIn: 3, bytesOut: 5 }],
    ["b", { bytesIn: 0, bytesOut: 7 }],
  ]);
  expect([rttOf({ hubId: "a" }), rttOf({ hubId: "a", sessions: [{ rttMs: 3 }, { rttMs: 9 }, {}] })]).toEqual([null, 9]);
});

test("the map has this hub, each peer and a link to it, whatever they are called", () => {
  const peers = [
    { hubId: "__proto__", state: "LINK_STATE_OPERATIONAL" },
    { hubId: "b", state: "LINK_STATE_RECOVERING" },
  ];
  const { dots, edges } = graphOf("home", { peers, samples: new Map() });
  expect(dots.map(({ id, tone, own }) => [id, tone, own])).toEqual([
    ["hub:home", "good", true],
    ["hub:__proto__", "good", false],
    ["hub:b", "bad", false],
  ]);
  expect(edges.map(({ peer, tone }) => [peer, tone])).toEqual([
    ["__proto__", "good"],
    ["b", "bad"],
  ]);
  expect(widthOf(0)).toBeLessThan(widthOf(10_000));
  expect(widthOf(1e15)).toBe(10);
});

test("texts are shown with all that is in them", () => {
  expect(shown("a\u202eb\u0000\u200b")).toBe("a\\u{202e}b\\u{0}\\u{200b}");
  expect([valueText({ boolValue: false }), valueText({ intValue: "5" }, "W"), valueText({}), valueText(undefined)]).toEqual([
    "false",
    "5 W",
    "–",
    "–",
  ]);
  expect([wordOf("LINK_STATE_", "LINK_STATE_SYNCING"), wordOf("X_", undefined, "none"), wordOf("X_", "X_UNSPECIFIED")]).toEqual([
    "syncing",
    "none",
    "unknown",
  ]);
  expect([ageText(5), ageText(1_500), ageText(90_000), ageText(7_200_000), ageText(200_000_000), ageText(Number.NaN)]).toEqual([
    "5 ms",
    "1.5 s",
    "1 min",
    "2 h",
    "2 d",
    "–",
  ]);
  expect([bytesText(0), bytesText(1_023), bytesText(1_536), bytesText(5 * 1024 ** 3)]).toEqual(["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]);
});
