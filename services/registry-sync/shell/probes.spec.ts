import { describe, expect, test } from "vitest";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { Probes } from "./probes.ts";

function world() {
  const clock = new ManualClock();
  const sent: string[] = [];
  const probes = new Probes(clock, (hubId) => void sent.push(`${hubId} at ${clock.mono()}`));
  let waiting = 0;
  const ask = (hubId = "beta"): Promise<void> => {
    waiting++;
    return probes.ask(hubId).then(() => void waiting--);
  };
  /** settled lets promises that are due run. */
  const settled = async (): Promise<number> => {
    for (let i = 0; i < 5; i++) await Promise.resolve();
    return waiting;
  };
  return { clock, sent, probes, ask, settled };
}

describe("signs of life", () => {
  test("RH6 readers that come while one is asked for share it, and the next ones wait for their turn", async () => {
    const { clock, sent, probes, ask, settled } = world();
    for (let i = 0; i < 10; i++) void ask();
    expect(sent).toEqual(["beta at 0"]);
    clock.advance(3);
    probes.answered("beta");
    expect(await settled()).toBe(0);
    for (let i = 0; i < 10; i++) void ask();
    clock.advance(496);
    expect([await settled(), sent.length]).toEqual([10, 1]);
    clock.advance(1);
    expect(sent).toEqual(["beta at 0", "beta at 500"]);
    probes.answered("beta");
    expect(await settled()).toBe(0);
  });

  test("however often is read, a hub is asked so seldom that both may do it within the limit of a session", async () => {
    const { clock, sent, probes, ask, settled } = world();
    for (let ms = 0; ms < 10_000; ms += 10) {
      void ask();
      clock.advance(5);
      probes.answered("beta");
      clock.advance(5);
      await settled();
    }
    // Two pings and two pongs for each of ours and theirs: 64 common frames in 10 s are allowed.
    expect(sent.length).toBeGreaterThan(10);
    expect(2 * sent.length).toBeLessThan(64 - 4);
  });

  test("a hub that does not answer keeps nobody for more than a second, and one hub does not wait for another", async () => {
    const { clock, sent, ask, settled } = world();
    void ask("beta");
    void ask("gamma");
    expect(sent).toEqual(["beta at 0", "gamma at 0"]);
    clock.advance(999);
    expect(await settled()).toBe(2);
    clock.advance(1);
    expect([await settled(), clock.pending]).toEqual([0, 0]);
  });

  test("nobody waits for a session that is gone, and a new one is asked at once", async () => {
    const { clock, sent, probes, ask, settled } = world();
    void ask();
    probes.answered("beta");
    await settled();
    void ask();
    probes.forget("beta");
    expect([await settled(), clock.pending]).toEqual([0, 0]);
    void ask();
    expect(sent).toHaveLength(2);
    probes.stop();
    expect([await settled(), clock.pending]).toEqual([0, 0]);
  });
});
