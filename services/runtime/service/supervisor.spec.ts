import { expect, test } from "vitest";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { memoryLogger } from "../../../test/fakes/memory-logger.ts";
import type { ServiceModule } from "./module.ts";
import { type ModuleRow, orderModules, Supervisor } from "./supervisor.ts";

function rig() {
  const events: string[] = [];
  const clock = new ManualClock();
  const log = memoryLogger();
  const module = (name: string, more: Partial<ServiceModule> = {}): ServiceModule => ({
    name,
    bindings: [],
    start: async () => void events.push(`start ${name}`),
    readiness: () => ({ ready: true }),
    describe: () => `I am ${name}`,
    stop: async (graceMs) => void events.push(`stop ${name} ${graceMs}`),
    ...more,
  });
  const supervise = (...modules: ModuleRow[]): Supervisor => new Supervisor({ modules, clock, log });
  return { events, clock, log, module, supervise };
}

test("modules start after what they need and stop in reverse", async () => {
  const r = rig();
  const s = r.supervise(
    { module: r.module("sync"), needs: ["discovery"], after: ["absent"] },
    { module: r.module("discovery") },
    { module: r.module("commands"), needs: ["sync"] },
  );
  expect(await s.start()).toBe(true);
  expect(s.ready()).toBe(true);
  expect(await s.stop(1_000)).toBe(true);
  expect(r.events).toEqual([
    "start discovery",
    "start sync",
    "start commands",
    "stop commands 1000",
    "stop sync 1000",
    "stop discovery 1000",
  ]);
});

test("cycles, unknown needs and doubles are refused with names", () => {
  const { module } = rig();
  const row = (name: string, ...needs: string[]): ModuleRow => ({ module: module(name), needs });
  expect(() => orderModules([row("a", "b"), row("b", "c"), row("c", "b")])).toThrow("modules need each other: b -> c -> b");
  expect(() => orderModules([row("a", "x")])).toThrow("module a needs x, which is not there");
  expect(() => orderModules([row("a"), row("a")])).toThrow("twice");
});

test("S0-24 a module that fails to start never stops the others", async () => {
  const r = rig();
  const broken = r.module("discovery", { start: () => Promise.reject(new Error("no certificate")) });
  const s = r.supervise(
    { module: broken },
    { module: r.module("telemetry"), after: ["discovery"] },
    { module: r.module("sync"), needs: ["discovery"] },
    { module: r.module("commands"), needs: ["sync"] },
  );
  expect(await s.start()).toBe(false);
  expect(s.states()).toEqual([
    { name: "discovery", state: "failed", ready: false, reason: "no certificate" },
    { name: "telemetry", state: "running", ready: true },
    { name: "sync", state: "failed", ready: false, reason: "needs discovery, which does not run" },
    { name: "commands", state: "failed", ready: false, reason: "needs sync, which does not run" },
  ]);
  expect(s.describe()).toContain("== telemetry: running\nI am telemetry");
  expect(r.log.lines.filter((l) => l.message === "module failed").length).toBe(3);
});

test("S0-24 a module that hangs or throws at start, or later, is left behind", async () => {
  const r = rig();
  const hanging = r.module("hanging", { start: () => new Promise(() => undefined) });
  const rude = r.module("rude", {
    readiness: () => {
      throw new Error("boom");
    },
    describe: () => {
      throw new Error("boom");
    },
  });
  const s = r.supervise({ module: hanging }, { module: rude }, { module: r.module("good") });
  const started = s.start();
  r.clock.advance(30_000);
  expect(await started).toBe(false);
  expect(s.states().map((m) => [m.name, m.state, m.ready])).toEqual([
    ["hanging", "failed", false],
    ["rude", "running", false],
    ["good", "running", true],
  ]);
  expect(s.describe()).toContain("cannot describe itself");
  s.failed("good", new Error("assertion"));
  expect(s.states().at(-1)).toEqual({ name: "good", state: "failed", ready: false, reason: "assertion" });
});

test("a module that does not stop in time does not keep the others from stopping", async () => {
  const r = rig();
  const stuck = r.module("stuck", { stop: () => new Promise(() => undefined) });
  const s = r.supervise({ module: r.module("first") }, { module: stuck });
  await s.start();
  const stopped = s.stop(1_000);
  r.clock.advance(1_500);
  expect(await stopped).toBe(false);
  expect(r.events.at(-1)).toBe("stop first 0");
});
