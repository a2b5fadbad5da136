import { stripVTControlCharacters } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { asSeen, type Model, render, shareOut, toSvg } from "./screen.ts";

const MODEL: Model = {
  hubs: [
    {
      id: "home",
      address: "127.0.0.1:18800",
      health: "up",
      own: 1505,
      seen: [{ hub: "factory", nodes: 1506, freshness: "FRESH", ageMs: 100 }],
      updatesPerSecond: 99.6,
      rssMiB: 120.4,
      cpuPercent: 3,
    },
    { id: "lab", address: "dials out only", health: "down", own: 0, seen: [], updatesPerSecond: 0, rssMiB: 0, cpuPercent: 0 },
  ],
  links: [{ from: "home", to: "factory", state: "OPERATIONAL", level: "FULL", share: "full", rttMs: 0.42 }],
  story: Array.from({ length: 20 }, (_, i) => `step ${i}`),
  commands: [{ age: "2 s", caller: "home", what: "factory/demo-lamp state DIM", refused: "VALUE_OUT_OF_RANGE" }],
  events: [{ age: "1 s", hub: "home", severity: "INFO", text: "a <command> & its answer" }],
  hints: ["foedus peers --hub home"],
  status: "step 4 of 11 · ctrl-c stops the hubs",
};

/** As much as the demo has: three hubs with six links, and more of everything than any screen shows. */
const FULL: Model = {
  ...MODEL,
  hubs: ["home", "factory", "lab"].map((id) => ({
    ...MODEL.hubs[0]!,
    id,
    seen: ["home", "factory", "lab"].filter((other) => other !== id).map((hub) => ({ hub, nodes: 1506, freshness: "FRESH", ageMs: 100 })),
  })),
  links: ["home", "factory", "lab"].flatMap((from) =>
    ["home", "factory", "lab"].filter((to) => to !== from).map((to) => ({ ...MODEL.links[0]!, from, to })),
  ),
  story: Array.from({ length: 40 }, (_, i) => `step ${i}: ${"words that are read one after the other ".repeat(3).trim()}`),
  commands: Array.from({ length: 100 }, (_, i) => ({ ...MODEL.commands[0]!, what: `factory/demo-lamp brightness ${i}` })),
  events: Array.from({ length: 100 }, (_, i) => ({ ...MODEL.events[0]!, text: `event ${i}` })),
  hints: Array.from({ length: 7 }, (_, i) => `foedus hint ${i}`),
};
const TITLES = ["hubs", "links", "what happens", "last commands", "last events", "try it in another terminal"];

describe("the live screen", () => {
  test("shows hubs, links, the story's end and what to type", () => {
    const text = render(MODEL, 160, 60, false).join("\n");
    for (const word of [
      "1505",
      "factory 1506 fresh",
      "100",
      "OPERATIONAL",
      "0.4 ms",
      "● lab       dials out only    down",
      "home     → factory/demo-lamp state DIM  VALUE_OUT_OF_RANGE",
      "step 19",
      "foedus peers --hub home",
    ])
      expect(text).toContain(word);
    expect(text).toContain("step 0\n");
    expect(render(MODEL, 160, 36, false).join("\n")).not.toContain("step 0\n");
  });

  test("a hub that does not answer is starting, or silent, or down, and nothing of it looks fresh or operational meanwhile", () => {
    const [home] = MODEL.hubs;
    const at = (silentMs: number, health = home!.health): string => {
      const { row, links } = asSeen({ ...home!, health }, MODEL.links, silentMs);
      return render({ ...MODEL, hubs: [row], links, story: [], events: [], commands: [] }, 160, 60, false).join("\n");
    };
    expect(at(0)).toMatch(/factory 1506 fresh[\s\S]*OPERATIONAL/);
    expect(at(1_000)).toContain("fresh");
    for (const silentMs of [1_500, 3_999, 4_000, 60_000]) expect(at(silentMs)).not.toMatch(/fresh|OPERATIONAL|0\.4 ms/);
    expect(at(2_000)).toMatch(/● home +127\.0\.0\.1:18800 +no answer\n/);
    expect(at(5_000)).toMatch(/● home +127\.0\.0\.1:18800 +down\n/);
    expect(at(60_000, "starting")).toMatch(/● home +127\.0\.0\.1:18800 +starting\n/);
  });

  test("what a hub has of one that is down shows its age, although it counts as fresh for 30 s", () => {
    const [home] = MODEL.hubs;
    const hubs = [{ ...home!, seen: [{ hub: "factory", nodes: 1506, freshness: "FRESH", ageMs: 12_400 }] }];
    const text = render({ ...MODEL, hubs }, 160, 60, false).join("\n");
    expect(text).toContain("factory 1506 12 s old");
    expect(text).not.toContain("fresh");
  });

  test("never gets wider or longer than the terminal", () => {
    const lines = render(MODEL, 60, 12);
    expect(lines.length).toBeLessThanOrEqual(12);
    expect(Math.max(...lines.map((line) => stripVTControlCharacters(line).length))).toBeLessThanOrEqual(60);
  });

  test("in a low terminal the story gets shorter and what to type stays", () => {
    const lines = render(MODEL, 118, 26, false);
    expect(lines.length).toBeLessThanOrEqual(26);
    expect(lines.join("\n")).toContain("foedus peers --hub home");
    expect(lines.join("\n")).toContain("step 19");
  });

  test("80 columns and 24 lines have something of everything, and how it ends", () => {
    const lines = render(FULL, 80, 24, false);
    expect(lines.length).toBe(24);
    for (const title of TITLES) expect(lines.filter((line) => line.startsWith(`${title} ─`))).toHaveLength(1);
    const text = lines.join("\n");
    for (const words of ["ctrl-c stops the hubs", "step 4 of 11", "foedus hint 0", "event 99", "brightness 99", "step 39:"])
      expect(text).toContain(words);
    for (const words of ["home 1506 fresh, lab 1506 fresh", "100        120 MiB", "home      → ● factory 0.4 ms   ● lab 0.4 ms"])
      expect(text).toContain(words);
    // The newest step is there whole.
    expect(lines.filter((line) => line.startsWith("    ")).length).toBeGreaterThan(0);
    const broken = render({ ...FULL, links: FULL.links.map((link) => ({ ...link, state: "CONNECTING" })) }, 80, 24, false).join("\n");
    expect(broken).toContain("● factory CONNECTING");
  });

  test("a large terminal is used to its last line", () => {
    const [small, large] = [render(FULL, 118, 50, false), render(FULL, 200, 120, false)];
    expect([small.length, large.length]).toEqual([50, 120]);
    const count = (lines: readonly string[], words: RegExp): number => lines.filter((line) => words.test(line)).length;
    for (const words of [/event \d+$/, /brightness/, /step \d+:/]) expect(count(large, words)).toBeGreaterThan(count(small, words));
    expect(count(large, /foedus hint/)).toBe(7);
  });

  test("whatever there is to show, and however small the terminal, it fits; without colour nothing but text is written", () => {
    const text = fc.oneof(fc.string({ maxLength: 200 }), fc.constant("\u001b[2J\r\n\u202e"));
    const model = fc.record({
      hubs: fc.array(fc.constantFrom(...FULL.hubs, ...MODEL.hubs), { maxLength: 5 }),
      links: fc.array(fc.constantFrom(...FULL.links), { maxLength: 12 }),
      story: fc.array(text, { maxLength: 30 }),
      commands: fc.array(fc.record({ age: fc.constant("2 s"), caller: text, what: text, refused: fc.constantFrom("", "NOT_SHARED") }), {
        maxLength: 30,
      }),
      events: fc.array(fc.record({ age: fc.constant("2 s"), hub: fc.constant("home"), severity: fc.constantFrom("INFO", "ERROR"), text }), {
        maxLength: 30,
      }),
      hints: fc.array(fc.constant("foedus peers --hub home"), { maxLength: 9 }),
      status: fc.constant("starting"),
    });
    fc.assert(
      fc.property(
        model,
        fc.integer({ min: 10, max: 250 }),
        fc.integer({ min: 1, max: 120 }),
        fc.boolean(),
        (shown, columns, rows, color) => {
          const lines = render(shown, columns, rows, color);
          expect(lines.length).toBeLessThanOrEqual(rows);
          expect(Math.max(...lines.map((line) => stripVTControlCharacters(line).length))).toBeLessThanOrEqual(columns);
          if (!color) expect(lines.join("")).not.toContain("\u001b");
        },
      ),
    );
  });

  test("lines that are left are shared out by turns, all of them, and to nobody more than it has", () => {
    const lists = [
      { has: 100, weight: 3 },
      { has: 1, weight: 2 },
      { has: 100, weight: 1 },
    ];
    expect(shareOut(0, lists)).toEqual([0, 0, 0]);
    expect(shareOut(2, lists)).toEqual([1, 1, 0]);
    expect(shareOut(11, lists)).toEqual([7, 1, 3]);
    expect(shareOut(500, lists)).toEqual([100, 1, 100]);
  });

  test("the picture for the README is well-formed and has the same words", () => {
    const svg = toSvg(render(MODEL, 120, 60), 120);
    expect(svg).toContain("a &lt;command&gt; &amp; its answer");
    expect(svg.match(/<text/g)!.length).toBe(svg.match(/<\/text>/g)!.length);
  });
});
