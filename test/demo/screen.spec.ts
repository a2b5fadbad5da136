import { stripVTControlCharacters } from "node:util";
import { describe, expect, test } from "vitest";
import { asSeen, type Model, render, toSvg } from "./screen.ts";

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
};

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
    expect(text).not.toContain("step 10\n");
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

  test("the picture for the README is well-formed and has the same words", () => {
    const svg = toSvg(render(MODEL, 120, 60), 120);
    expect(svg).toContain("a &lt;command&gt; &amp; its answer");
    expect(svg.match(/<text/g)!.length).toBe(svg.match(/<\/text>/g)!.length);
  });
});
