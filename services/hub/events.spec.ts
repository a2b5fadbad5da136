import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { Registry } from "prom-client";
import { expect, test } from "vitest";
import {
  EventKind,
  type ReportEventsRequest,
  ReportEventsRequestSchema,
  Severity,
  type TelemetryService,
} from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import { silentLogger } from "#runtime/log/log.ts";
import type { Platform } from "#runtime/module.ts";
import type { ClientOf } from "#runtime/rpc/call.ts";
import { validateRequest } from "#runtime/rpc/interceptors/validation.ts";
import { ManualClock } from "../../test/fakes/manual-clock.ts";
import { MemoryStore } from "../../test/fakes/memory-store.ts";
import { createTelemetry } from "../telemetry/index.ts";
import { EventForwarder } from "./events.ts";

type Report = (request: ReportEventsRequest) => Promise<unknown>;

async function stage(eventsKept: number) {
  const clock = new ManualClock();
  const store = new MemoryStore();
  const metrics = new Registry();
  const platform = { clock, log: silentLogger, metrics, store: () => store } as unknown as Platform;
  const fatal: unknown[] = [];
  const config = { events_kept: eventsKept, watchers: 8 };
  const telemetry = createTelemetry({ platform, config, onFatal: (error) => fatal.push(error) });
  await telemetry.start();
  const handlers = telemetry.bindings[0]!.handlers as {
    reportEvents: Report;
    listEvents(request: unknown): Promise<{ events: { text: string }[] }>;
  };
  const forwarder = new EventForwarder({ clock, log: silentLogger, metrics });
  // As the door does.
  const reportEvents: Report = async (request) => {
    const failure = validateRequest(ReportEventsRequestSchema, request);
    if (failure !== undefined) throw new FoedusError(failure);
    return handlers.reportEvents(request);
  };
  forwarder.connect({ reportEvents } as unknown as ClientOf<typeof TelemetryService>);
  /** pass lets so much time go by, with all that follows. */
  const pass = async (ms: number): Promise<void> => {
    for (let gone = 0; gone < ms; gone += 100) {
      clock.advance(100);
      clock.turn();
      for (let i = 0; i < 20; i++) await Promise.resolve();
    }
  };
  const listed = async (): Promise<string[]> =>
    (await handlers.listEvents({ pageSize: 1_000, beforeSeq: 0n })).events.map(({ text }) => text);
  return { store, forwarder, telemetry, report: handlers.reportEvents, pass, listed, fatal };
}

test("F-21 T6 while the disk is full events are not multiplied, and do not push the history out", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ events: fc.integer({ min: 0, max: 8 }), full: fc.boolean() }), { maxLength: 20 }),
      async (phases) => {
        const { store, forwarder, telemetry, pass, listed, fatal } = await stage(5_000);
        const sink = forwarder.sink("registry-sync");
        const told: string[] = [];
        const tell = (text: string): void => {
          told.push(text);
          sink.report({ kind: "STORE", severity: "ERROR", peer: `p${told.length % 30}`, text });
        };
        tell("history");
        await pass(1_000);
        let full = false;
        for (const phase of phases) {
          if (phase.full !== full) {
            full = phase.full;
            if (full) store.failAll("full");
            else store.failAll(undefined);
          }
          for (let i = 0; i < phase.events; i++) tell(`event ${told.length}`);
          await pass(2_000);
        }
        store.failAll(undefined);
        await pass(20_000);
        expect(fatal).toEqual([]);
        const kept = (await listed()).reverse();
        expect(kept.length).toBe(new Set(kept).size);
        expect(new Set(kept), "every one").toEqual(new Set(told));
        await forwarder.stop();
        await telemetry.stop(0);
      },
    ),
    { numRuns: 20 },
  );
});

test("F-21 T6 a flood while the disk is full costs the history at most a thousand events, and what was declined is kept by who tells it", async () => {
  const { store, telemetry, report, pass, listed } = await stage(1_000_000);
  const batch = (name: string): Promise<boolean> => {
    const events = Array.from({ length: 100 }, (_, i) => ({ text: `${name}/${i}`, kind: EventKind.STORE, severity: Severity.ERROR }));
    return report(create(ReportEventsRequestSchema, { service: "registry-sync", events })).then(
      () => true,
      () => false,
    );
  };
  for (let i = 0; i < 5; i++) {
    const taken = batch(`history ${i}`);
    await pass(100);
    expect(await taken).toBe(true);
  }
  store.failAll("full");
  const outcomes: boolean[] = [];
  for (let i = 0; i < 40; i++) {
    const taken = batch(`flood ${i}`);
    await pass(100);
    outcomes.push(await taken);
  }
  const taken = outcomes.filter((each) => each).length;
  expect(taken).toBeGreaterThan(0);
  expect(taken, "the one that met the full disk, and ten more").toBeLessThanOrEqual(11);
  expect(telemetry.describe()).toContain(`kept=${500 + 100 * taken}`);
  store.failAll(undefined);
  await pass(10_000);
  const again = batch("after");
  await pass(100);
  expect(await again).toBe(true);
  expect(new Set(await listed()).size, "the newest thousand, each once").toBe(1_000);
  expect([...store.read("events", 0)].length).toBe(600 + 100 * taken);
  await telemetry.stop(0);
});

test.each(["a", "\u00e9", "\u6f22", "\u{1f6a8}"])(
  "F-21 an event with a long text from elsewhere, of %s, holds up none of the others",
  async (unit) => {
    const said = unit.repeat(2_000);
    const { forwarder, telemetry, pass, listed } = await stage(100);
    const sink = forwarder.sink("discovery");
    sink.report({ kind: "CREDENTIAL", severity: "INFO", peer: "p", text: said });
    sink.report({ kind: "CREDENTIAL", severity: "INFO", peer: "p", text: "after" });
    await pass(1_000);
    const [after, first = ""] = await listed();
    expect(after).toBe("after");
    expect(said.startsWith(first)).toBe(true);
    expect(Buffer.byteLength(first)).toBeGreaterThan(900);
    await forwarder.stop();
    await telemetry.stop(0);
  },
);
