import { expect, test } from "vitest";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { memoryLogger } from "../../../test/fakes/memory-logger.ts";
import type { EventReport } from "../events.ts";
import { limitedEvents, limitedHistory, limitedLog, limitedLogger } from "./limited.ts";

test("S-11 a line per key and second: the first at once, the others as one with their number", () => {
  const clock = new ManualClock();
  const log = memoryLogger();
  const limited = limitedLogger(log, clock);
  for (let i = 0; i < 1_200; i++) limited.log("warn", "reset", { remote: `10.0.0.${i % 256}` }, "refused");
  limited.log("warn", "limit", { remote: "::1" }, "refused");
  expect(log.lines.map(({ fields }) => fields)).toEqual([{ remote: "10.0.0.0" }, { remote: "::1" }]);
  clock.advance(1_000);
  expect(log.lines[2]).toMatchObject({ level: "warn", message: "refused", fields: { remote: "10.0.0.175", times: 1_199 } });
  clock.advance(5_000);
  expect(log.lines).toHaveLength(3);
  expect(clock.pending).toBe(0);
  limited.log("warn", "reset", { remote: "a" }, "refused");
  expect(log.lines[3]?.fields).toEqual({ remote: "a" });
});

test("S-11 keys that somebody invents share one line", () => {
  const clock = new ManualClock();
  const log = memoryLogger();
  const limited = limitedLogger(log, clock);
  for (let i = 0; i < 10_000; i++) limited.log("warn", `k${i}`, { i }, "refused");
  expect(log.lines).toHaveLength(65);
  limited.flush();
  expect(log.lines).toHaveLength(66);
  expect(log.lines.at(-1)?.fields).toEqual({ i: 9_999, times: 10_000 - 65 });
  expect(clock.pending).toBe(0);
});

test("F-6 an event per key and minute", () => {
  const clock = new ManualClock();
  const seen: EventReport[] = [];
  const events = limitedEvents({ report: (event) => void seen.push(event) }, clock);
  for (let i = 0; i < 500; i++)
    events.report("beta", { kind: "LIMIT", severity: "WARNING", peer: "beta", text: "too many", fields: { n: "1" } });
  clock.advance(59_999);
  expect(seen).toHaveLength(1);
  clock.advance(1);
  expect(seen[1]?.fields).toEqual({ n: "1", times: "499" });
});

test("F-6 F-8 warnings of a service about one peer do not fill the log, nor push history out; other peers are told", () => {
  const clock = new ManualClock();
  const log = memoryLogger();
  const seen: EventReport[] = [];
  const limited = limitedLog(log, clock);
  const events = limitedHistory({ report: (event) => void seen.push(event) }, clock);
  const child = limited.child({ service: "registry-sync" });
  for (let i = 0; i < 21_119; i++) {
    child.error({ peer: "beta", i }, "feed offer was refused");
    events.report({ kind: "FEED", severity: "ERROR", peer: "beta", text: "refused" });
  }
  child.error({ peer: "gamma" }, "feed offer was refused");
  events.report({ kind: "FEED", severity: "ERROR", peer: "gamma", text: "refused" });
  expect(log.lines).toHaveLength(10 + 1);
  expect(seen).toHaveLength(11);
  limited.flush();
  events.flush();
  expect(log.lines.at(-1)).toMatchObject({ level: "error", fields: { service: "registry-sync", peer: "beta", i: 21_118, times: 21_109 } });
  expect(seen.at(-1)).toMatchObject({ peer: "beta", fields: { times: "21109" } });
});

test("A7 a peer whose session comes and goes costs few lines and events, whatever it is called and however long it goes on", () => {
  const clock = new ManualClock();
  const log = memoryLogger();
  const seen: EventReport[] = [];
  const limited = limitedLog(log, clock).child({ service: "registry-sync" });
  const events = limitedHistory({ report: (event) => void seen.push(event) }, clock);
  for (let at = 0; at < 60_000; at += 25) {
    limited.info({ peer: "beta", session: at }, "session is up");
    events.report({ kind: "SESSION", severity: "INFO", peer: "beta", text: "up" });
    clock.advance(25);
  }
  // Ten, one for each ten seconds that went on.
  expect(log.lines.length).toBeLessThanOrEqual(10 + 6);
  expect(seen.length).toBeLessThanOrEqual(10 + 6);
  const told = log.lines.reduce((sum, { fields }) => sum + Number((fields as { times?: number }).times ?? 1), 0);
  expect(told).toBe(60_000 / 25);
  limited.warn({ peer: "beta" }, "session is up");
  expect(log.lines.at(-1)?.level).toBe("warn");
});

test("A7 a hub with many peers tells of each of them", () => {
  const clock = new ManualClock();
  const log = memoryLogger();
  const limited = limitedLog(log, clock);
  for (let peer = 0; peer < 1_000; peer++) limited.info({ service: "discovery", peer: `p${peer}` }, "session is up");
  expect(log.lines).toHaveLength(1_000);
});
