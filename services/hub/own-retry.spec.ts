import { Registry } from "prom-client";
import { describe, expect, test } from "vitest";
import { fail } from "#kernel/error.ts";
import { silentLogger } from "#runtime/log/log.ts";
import { ManualClock } from "../../test/fakes/manual-clock.ts";
import { createPresence } from "./compose/presence.ts";
import { EventForwarder } from "./events.ts";
import { PeerFeed } from "./peers/feed.ts";
import { createSessionReporter } from "./peers/reporter.ts";

/** An hour of tries, of which the last are four seconds apart. */
const HOUR_MS = 3_600_000;
const MOST = HOUR_MS / 4_000 + 10;

/** away runs an hour, in which something is to be told ten times a second, with a service that fails each call. It answers when it was called. */
async function away(
  start: (clock: ManualClock, call: () => Promise<never>) => { tell(i: number): void; stop(): unknown },
): Promise<number[]> {
  const clock = new ManualClock();
  const calls: number[] = [];
  const loop = start(clock, () => {
    calls.push(clock.mono());
    return Promise.reject(fail("SHUTTING_DOWN", "away"));
  });
  for (let i = 0; i < HOUR_MS / 100; i++) {
    loop.tell(i);
    clock.advance(100);
    clock.turn();
    for (let turn = 0; turn < 8; turn++) await Promise.resolve();
  }
  loop.stop();
  return calls;
}

describe("F-8 no loop that waits for another process of this hub is tighter than its back-off", () => {
  const loops: Record<string, Parameters<typeof away>[0]> = {
    "reports of sessions": (clock, reportSessions) => {
      const reporter = createSessionReporter("x", () => ({ reportSessions }) as never, clock, silentLogger);
      return { tell: () => reporter.report([]), stop: () => reporter.stop() };
    },
    "presence of executors": (clock, reportPresence) => {
      const presence = createPresence(() => ({ reportPresence }) as never, clock, silentLogger, new Registry());
      return { tell: (i) => presence.report([`n${i % 10}`], i % 3 === 0), stop: () => presence.stop() };
    },
    events: (clock, reportEvents) => {
      const forwarder = new EventForwarder({ clock, log: silentLogger, metrics: new Registry() });
      forwarder.connect({ reportEvents } as never);
      const sink = forwarder.sink("discovery");
      return { tell: (i) => sink.report({ kind: "NODE", severity: "INFO", text: `event ${i}` }), stop: () => undefined };
    },
    "the watch of peers": (clock, call) => {
      const watchPeers = async function* (): AsyncGenerator<never> {
        yield await call();
      };
      const feed = new PeerFeed({ services: ["x"], clock, log: silentLogger, leaf: () => new Uint8Array(), onKeySet() {}, onChange() {} });
      feed.start({ watchPeers } as never);
      return { tell: () => undefined, stop: () => feed.stop() };
    },
  };

  for (const [name, start] of Object.entries(loops))
    test(name, async () => {
      const calls = await away(start);
      const waits = calls.slice(1).map((at, i) => at - calls[i]!);
      expect(waits.slice(0, 5).map((wait, i) => wait >= Math.min(4_000, 500 * 2 ** i))).toEqual(Array(5).fill(true));
      expect(Math.min(...waits.slice(4))).toBeGreaterThanOrEqual(4_000);
      expect([calls.length > MOST / 2, calls.length <= MOST]).toEqual([true, true]);
    });
});

test("a service that watches the peers anew reports its sessions again: discovery may have taken it for gone meanwhile", async () => {
  const clock = new ManualClock();
  const reported: unknown[] = [];
  const reportSessions = (request: { readonly reports: readonly { readonly hubId: string }[] }) => {
    reported.push(request.reports.map(({ hubId }) => hubId));
    return Promise.resolve({});
  };
  const reporter = createSessionReporter("x", () => ({ reportSessions }) as never, clock, silentLogger);
  const ends: (() => void)[] = [];
  const watchPeers = async function* () {
    yield { push: { case: "synced", value: true } };
    await new Promise<void>((resolve) => ends.push(resolve));
  };
  const onSynced = (): void => reporter.again();
  const feed = new PeerFeed({
    services: ["x"],
    clock,
    log: silentLogger,
    leaf: () => new Uint8Array(),
    onKeySet() {},
    onChange() {},
    onSynced,
  });
  const turn = async (): Promise<void> => {
    clock.advance(1_000);
    clock.turn();
    for (let i = 0; i < 16; i++) await Promise.resolve();
  };
  feed.start({ watchPeers } as never);
  await turn();
  // There is nothing to repeat yet.
  expect(reported).toEqual([]);
  reporter.report([{ hubId: "b", service: "x", state: "OPERATIONAL", dialer: "a", rttMs: 1, synced: true, failure: undefined, heard: 0 }]);
  await turn();
  expect(reported).toEqual([["b"]]);
  ends[0]?.();
  await turn();
  await turn();
  expect(ends).toHaveLength(2);
  expect(reported).toEqual([["b"], ["b"]]);
  feed.stop();
  reporter.stop();
});
