import { describe, expect, test } from "vitest";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { turnsOf } from "../rpc/server/turns.ts";
import { FRAME_RATES, FRAME_UNIT_BYTES, FramePace } from "./frame-pace.ts";

const settle = () => new Promise((resolve) => setImmediate(resolve));

/** flood sends frames of a peer as fast as they are taken, and counts them by turn of the loop. */
function flood(pace: FramePace, type: string, cost: "cheap" | "expensive", bytes = 20) {
  const sent = { count: 0, stop: false };
  void (async () => {
    while (!sent.stop) {
      sent.count++;
      const pause = pace.took(type, cost, bytes);
      if (pause !== undefined) await pause;
    }
  })();
  return sent;
}

describe("frames of peers have a cost", () => {
  test("F-6 a peer gets the burst of a type and then its rate, whatever it sends; types do not share", async () => {
    const clock = new ManualClock();
    const limited: string[] = [];
    const pace = new FramePace(clock, (type) => limited.push(type));
    const announces = flood(pace, "announce", "expensive");
    for (let ms = 0; ms < 10_000; ms += 10) {
      clock.turn();
      await settle();
      clock.advance(10);
    }
    const { perSecond, burst } = FRAME_RATES.expensive!;
    expect(announces.count).toBeGreaterThan(burst + 9 * perSecond);
    expect(announces.count).toBeLessThanOrEqual(burst + 10 * perSecond + 1);
    expect(pace.limited).toBe(limited.length);
    expect(new Set(limited)).toEqual(new Set(["announce"]));
    expect(pace.took("nack", "expensive", 20)).toBeUndefined();
    announces.stop = true;
  });

  test("A8 a long frame counts as many: what makes it expensive comes several times in it", async () => {
    const clock = new ManualClock();
    const pace = new FramePace(clock, () => undefined);
    const offers = flood(pace, "offer", "expensive", 16 * FRAME_UNIT_BYTES);
    for (let ms = 0; ms < 10_000; ms += 10) {
      clock.turn();
      await settle();
      clock.advance(10);
    }
    const { perSecond, burst } = FRAME_RATES.expensive!;
    expect(offers.count).toBeGreaterThan(1);
    expect(offers.count).toBeLessThanOrEqual((burst + 10 * perSecond) / 16 + 1);
    offers.stop = true;
    // One that is longer than a burst pays is taken all the same, later.
    const snapshots = flood(pace, "snapshot", "expensive", 2 * burst * FRAME_UNIT_BYTES);
    for (let ms = 0; ms < 30_000; ms += 10) {
      clock.turn();
      await settle();
      clock.advance(10);
    }
    expect(snapshots.count).toBeGreaterThanOrEqual(3);
    snapshots.stop = true;
  });

  test("F-6 a turn of the event loop takes a bounded number of frames, shared fairly between those who send", async () => {
    const clock = new ManualClock();
    const none = () => undefined;
    const floods = Array.from({ length: 5 }, () => flood(new FramePace(clock, none), "results", "cheap"));
    const modest = new FramePace(clock, none);
    let mostPerTurn = 0;
    for (let turn = 0; turn < 50; turn++) {
      const before = floods.reduce((sum, { count }) => sum + count, 0);
      clock.turn();
      await settle();
      // Whoever sends little waits for nobody.
      expect(modest.took("results", "cheap", 100)).toBeUndefined();
      if (turn > 1) mostPerTurn = Math.max(mostPerTurn, floods.reduce((sum, { count }) => sum + count, 0) - before);
    }
    expect(mostPerTurn).toBeLessThan(300);
    const counts = floods.map(({ count }) => count);
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThan(100);
    expect(Math.min(...counts)).toBeGreaterThan(1_000);
    for (const each of floods) each.stop = true;
  });

  test("F-6 frames that take long count by their time, so that a turn for others lasts some milliseconds whatever they send", async () => {
    const clock = new ManualClock();
    const none = () => undefined;
    const taken = { frames: 0 };
    const paces = Array.from({ length: 5 }, () => new FramePace(clock, none));
    const floods = paces.map((pace) => {
      const sent = { count: 0, stop: false };
      void (async () => {
        while (!sent.stop) {
          sent.count++;
          taken.frames++;
          // A frame that is refused for its signature costs a tenth of a millisecond, and has hardly any bytes.
          clock.pass(0.1);
          const pause = pace.took("segment", "cheap", 100);
          if (pause !== undefined) await pause;
        }
      })();
      return sent;
    });
    let longestMs = 0;
    for (let turn = 0; turn < 100; turn++) {
      const before = clock.mono();
      clock.turn();
      await settle();
      if (turn > 1) longestMs = Math.max(longestMs, clock.mono() - before);
    }
    expect(longestMs).toBeLessThan(6);
    const counts = floods.map(({ count }) => count);
    expect(Math.min(...counts)).toBeGreaterThan(200);
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThan(50);
    for (const each of floods) each.stop = true;
  });

  test("F-6 what else a turn did is nobody's frame: a lane's first one counts by its bytes alone", () => {
    const clock = new ManualClock();
    const lane = turnsOf(clock).lane();
    for (let turn = 0; turn < 10; turn++) {
      clock.pass(50);
      expect(lane.spend(1_024)).toBeUndefined();
      expect(lane.spend(1_024)).toBeUndefined();
      clock.turn();
    }
  });

  test("F-6 large frames count by their bytes, and an idle process has no turn to begin", async () => {
    const clock = new ManualClock();
    const lane = turnsOf(clock).lane();
    expect(lane.spend(240 * 1024)).toBeUndefined();
    expect(lane.spend(240 * 1024)).toBeInstanceOf(Promise);
    expect(clock.turn()).toBe(1);
    expect(clock.turn()).toBe(0);
    expect(lane.spend(0)).toBeUndefined();
  });
});
