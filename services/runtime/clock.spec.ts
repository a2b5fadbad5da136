import { describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { ManualClock } from "../../test/fakes/manual-clock.ts";
import { clockPlausible, JumpDetector, RELEASED_AT_WALL, sleep, withTimeout } from "./clock.ts";

describe("clock", () => {
  test("a machine without a battery clock is told that its clock is not set, and nothing throws", () => {
    expect(clockPlausible(3_000)?.reason).toBe("CLOCK_NOT_SET");
    expect(clockPlausible(RELEASED_AT_WALL)).toBeUndefined();
    expect(clockPlausible(systemClock.wall())).toBeUndefined();
  });

  test("jumps of the wall clock are noticed, drift is not", () => {
    const clock = new ManualClock(0);
    const detector = new JumpDetector();
    expect(detector.check(clock.now())).toBe(0);
    clock.advance(1_000);
    clock.jump(20);
    expect(detector.check(clock.now())).toBe(0);
    clock.jump(1_700_000_000_000);
    expect(detector.check(clock.now())).toBe(1_700_000_000_000);
    clock.jump(-3_600_000);
    expect(detector.check(clock.now())).toBe(-3_600_000);
    expect(detector.check(clock.now())).toBe(0);
  });

  test("sleep ends in time, or at once when aborted", async () => {
    const clock = new ManualClock();
    const done: string[] = [];
    const long = sleep(clock, 100).then(() => done.push("slept"));
    const controller = new AbortController();
    const cut = sleep(clock, 100, controller.signal).catch((error: Error) => done.push(error.message));
    controller.abort(new Error("cut"));
    await cut;
    expect(done).toEqual(["cut"]);
    expect(clock.pending).toBe(1);
    clock.advance(100);
    await long;
    expect(done).toEqual(["cut", "slept"]);
    await expect(sleep(clock, 1, controller.signal)).rejects.toThrow("cut");
  });

  test("withTimeout gives up in time, aborts the work, and leaves no timer behind", async () => {
    const clock = new ManualClock();
    let aborted = false;
    const late = withTimeout(clock, 50, (signal) => new Promise(() => signal.addEventListener("abort", () => (aborted = true))));
    clock.advance(50);
    const error: unknown = await late.catch((e: unknown) => e);
    expect(error).toMatchObject({ failure: { reason: "DEADLINE_EXPIRED" } });
    expect([aborted, clock.pending]).toEqual([true, 0]);
    expect(await withTimeout(clock, 50, async () => 7)).toBe(7);
    expect(clock.pending).toBe(0);
    const outer = AbortSignal.abort(new Error("outer"));
    await expect(withTimeout(clock, 50, async () => 7, outer)).rejects.toThrow("outer");
  });

  test("no timer of the system fires before it is time, whatever fraction of a millisecond that is", async () => {
    const early: number[] = [];
    const wait = (delayMs: number): Promise<void> => {
      const dueAt = systemClock.mono() + delayMs;
      return sleep(systemClock, delayMs).then(() => {
        if (systemClock.mono() < dueAt) early.push(delayMs);
      });
    };
    for (let round = 0; round < 10; round++) await Promise.all(Array.from({ length: 100 }, (_, i) => wait(1 + i / 50)));
    expect(early).toEqual([]);
  });

  test("the system's timers fire, can be cancelled, and do not overflow", async () => {
    const before = systemClock.mono();
    await sleep(systemClock, 5);
    expect(systemClock.mono() - before).toBeGreaterThanOrEqual(5);
    const order: string[] = [];
    const cancelled = systemClock.setTimer(1, () => order.push("cancelled"));
    const far = systemClock.setTimer(2 ** 40, () => order.push("overflow"));
    cancelled.cancel();
    systemClock.setImmediate(() => order.push("immediate"));
    systemClock.setImmediate(() => order.push("never")).cancel();
    await sleep(systemClock, 10);
    far.cancel();
    expect(order).toEqual(["immediate"]);
  });
});
