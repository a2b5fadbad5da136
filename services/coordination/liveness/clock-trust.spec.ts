import { describe, expect, test } from "vitest";
import { ClockTrust } from "./clock-trust.ts";

const at = (mono: number, wall = mono) => ({ mono, wall: 1_000_000 + wall });
const make = (): ClockTrust => {
  const trust = new ClockTrust({ pauseMs: 300, stepMs: 100 });
  trust.enter(at(0), undefined);
  return trust;
};

describe("ClockTrust", () => {
  test("CT1 a call that is late by less than a pause, and a clock that is slewed, change nothing", () => {
    const trust = make();
    expect(trust.enter(at(350), 60)).toBeUndefined();
    expect(trust.enter(at(400, 499), 500)).toBeUndefined();
    expect(trust.enter(at(5_000, 5_099), undefined)).toBeUndefined();
    expect(trust.isTrusted).toBe(true);
  });

  test("CT1 a pause is told, whatever wakes the process", () => {
    const trust = make();
    expect(trust.enter(at(361), 60)).toBe("this hub did not run for 301 ms");
    expect(trust.isTrusted).toBe(false);
  });

  test("CT1 an instant that was missed long ago is no new pause", () => {
    const trust = make();
    trust.enter(at(361), 60);
    expect(trust.enter(at(362), 60)).toBeUndefined();
  });

  test.each([3_600_000, -3_600_000, 100, -100])("CT1 a step of the wall clock by %i ms is told: a machine that slept", (step) => {
    expect(make().enter(at(50, 50 + step), 60)).toBe(`the wall clock of this hub stepped by ${step} ms`);
  });

  test("CT3 a step forward tells for how long the monotonic clock may have stood still; a pause and a step back tell nothing", () => {
    const trust = make();
    trust.enter(at(50, 50 + 3_600_000), 60);
    expect(trust.stoodStillMs).toBe(3_600_000);
    trust.enter(at(1_000, 3_601_000), 60);
    expect(trust.stoodStillMs).toBe(0);
    trust.enter(at(1_050, 1_050), 1_060);
    expect(trust.stoodStillMs).toBe(0);
  });

  test("CT2 only an answer to what was asked after the pause ends it", () => {
    const trust = make();
    trust.enter(at(1_000), 60);
    expect(trust.heard(at(1_001), undefined)).toBe(false);
    expect(trust.heard(at(1_001), 900)).toBe(false);
    expect(trust.heard(at(1_001), 1)).toBe(false);
    expect(trust.heard(at(1_002), 1)).toBe(true);
    expect(trust.isTrusted).toBe(true);
    expect(trust.heard(at(1_003), 1)).toBe(false);
  });
});
