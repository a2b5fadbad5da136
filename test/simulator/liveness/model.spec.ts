import { describe, expect, test } from "vitest";
import type { Detector } from "../../../services/coordination/liveness/detector.ts";
import { type Core, type ModelOptions, runModel } from "./model.ts";
import { mean, Tally } from "./tally.ts";

/** Runs with 3 to 10 hubs, of which one (from six on two) are starved of CPU, until the plain detector was wrong often enough. */
function runs(more: Partial<ModelOptions> = {}, least = 1_000): Tally {
  const all = new Tally();
  for (let seed = 1; seed <= 8 || all.false("plain") < least; seed++) {
    const hubs = 3 + ((seed + 7) % 8);
    all.add(runModel({ seed, hubs, starved: hubs < 6 ? 1 : 2, minutes: 20, loss: 0.01, longestMs: 6_000, ...more }));
  }
  return all;
}

/** late calls a core as if it had been running all along: its pauses are silences of the others. */
function late(core: Detector): Core {
  const due = (): number => core.deadline() ?? Number.POSITIVE_INFINITY;
  return {
    step: (now, input, out) => core.step(now, input, out),
    deadline: () => core.deadline(),
    tick: (now, out) => {
      for (let i = 0; i < 1_000 && due() < now.mono; i++) core.tick({ mono: due(), wall: now.wall }, out);
      core.tick(now, out);
    },
  };
}

/** mute drops what a hub says of its own pauses. */
function mute(core: Detector): Core {
  return {
    step: (now, input, out) => core.step(now, input.kind === "frame" ? { ...input, frame: { ...input.frame, pauseMs: 0 } } : input, out),
    deadline: () => core.deadline(),
    tick: (now, out) => core.tick(now, out),
  };
}

const times = (tally: Tally): number => tally.false("plain") / Math.max(1, tally.false("suspected"));
const slower = (tally: Tally): number => mean(tally.times("accused")) / mean(tally.times("plain"));

describe("D-19 hubs starved of CPU, against three missed heartbeats in the same processes", () => {
  const ours = runs();

  test("D-19 S1-15 of at least 1,000 false suspicions 20 of 21 are not made, and none by a hub about others because it was slow itself", () => {
    process.stdout.write(`\n${ours.report()}\n`);
    expect(ours.false("plain")).toBeGreaterThanOrEqual(1_000);
    expect(times(ours)).toBeGreaterThanOrEqual(20);
    expect([ours.byStarved.suspected, ours.healthy.suspected]).toEqual([0, 0]);
    expect(ours.byStarved.plain).toBeGreaterThan(100);
  });

  test("D-19 S1-15 real deaths are found by a majority in at most 1.5 times the time, those of starved hubs among them", () => {
    expect(ours.deaths.length).toBeGreaterThan(40);
    expect(ours.deaths.filter(({ starved }) => starved).length).toBeGreaterThan(3);
    expect(slower(ours)).toBeLessThanOrEqual(1.5);
    expect(Math.max(...ours.times("accused"))).toBeLessThan(20_000);
  });

  test("LV1 a detector that does not subtract its own pauses is found out", () => {
    // What keeps it from suspecting everybody is the second line alone: it hears none of the others.
    expect(runs({ wrap: late, minutes: 10 }).held).toBeGreaterThan(20 + ours.held);
  });

  test("LV4 a detector that does not learn is found out", () => {
    expect(times(runs({ settings: { ceiling: 2.5 }, minutes: 10 }))).toBeLessThan(5);
  });

  test("LV5 one that forgets at once, and is not told of pauses, is found out", () => {
    expect(times(runs({ settings: { memory: 5, novice: 0 }, wrap: mute, minutes: 10 }))).toBeLessThan(10);
  });

  test("LV6 one that waits for ever is found out", () => {
    expect(slower(runs({ settings: { floor: 7 }, minutes: 10 }))).toBeGreaterThan(1.5);
  });
});
