import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { Registry } from "prom-client";
import { expect, test } from "vitest";
import type { ClientOf } from "#channel/call.ts";
import { validateRequest } from "#channel/validation.ts";
import {
  EventKind,
  type ReportEventsRequest,
  ReportEventsRequestSchema,
  Severity,
  type TelemetryService,
} from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { FoedusError, fail } from "#kernel/error.ts";
import type { LinkCounters } from "#runtime/events.ts";
import { silentLogger } from "#runtime/log/log.ts";
import type { Platform } from "#runtime/service/module.ts";
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
  const config = { events_kept: eventsKept, keep_bytes: 2 ** 30, keep_days: 30_000, watchers: 8 };
  const telemetry = createTelemetry({ platform, config, onFatal: (error) => fatal.push(error) });
  await telemetry.start();
  const handlers = telemetry.bindings[0]!.handlers as {
    reportEvents: Report;
    listEvents(request: unknown): Promise<{ events: { text: string }[] }>;
    listLinkCounters(request: unknown): Promise<{ links: { peer: string; service: string }[] }>;
  };
  const forwarder = new EventForwarder({ clock, log: silentLogger, metrics });
  // As the door does.
  const calls: { readonly dropped: bigint; taken: boolean }[] = [];
  let refuse: (request: ReportEventsRequest) => unknown = () => undefined;
  let held: Promise<void> | undefined;
  const reportEvents: Report = async (request) => {
    const call = { dropped: request.dropped, taken: false };
    calls.push(call);
    await held;
    const failure = validateRequest(ReportEventsRequestSchema, request);
    if (failure !== undefined) throw new FoedusError(failure);
    const refusal = refuse(request);
    if (refusal !== undefined) throw refusal;
    const answer = await handlers.reportEvents(request);
    call.taken = true;
    return answer;
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
  /** hold keeps every report under way until what it answers is called. */
  const hold = (): (() => void) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    held = promise;
    return resolve;
  };
  const setRefuse = (by: typeof refuse): void => void (refuse = by);
  const shown = async (): Promise<string[]> => (await handlers.listLinkCounters({})).links.map(({ peer, service }) => `${peer} ${service}`);
  const more = { metrics, calls, refuse: setRefuse, hold, shown };
  return { store, forwarder, telemetry, report: handlers.reportEvents, pass, listed, fatal, ...more };
}

test("F-21 TE6 while the disk is full events are not multiplied, and do not push the history out", async () => {
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

test("F-21 TE6 a flood while the disk is full costs the history at most a thousand events, and what was declined is kept by who tells it", async () => {
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
  expect(telemetry.describe()).toContain(`kept=${600 + 100 * taken}`);
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

/** poison is an event that telemetry refuses for good, as its node is longer than the schema allows. */
const poison = (text: string) => ({ kind: "NODE", severity: "INFO", node: "n".repeat(200), text }) as const;

test("F-21 an event that telemetry refuses for good is dropped and counted, costs no other event, and is not tried again", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(fc.boolean(), { maxLength: 40 }), { maxLength: 5 }), async (batches) => {
      const { forwarder, telemetry, pass, listed, metrics, calls } = await stage(5_000);
      const sink = forwarder.sink("discovery");
      const good: string[] = [];
      let bad = 0;
      for (const batch of batches) {
        for (const poisonous of batch) {
          const text = `event ${good.length + bad}`;
          if (poisonous) {
            bad++;
            sink.report(poison(text));
          } else {
            good.push(text);
            sink.report({ kind: "NODE", severity: "INFO", peer: `p${good.length}`, text });
          }
        }
        await pass(300);
      }
      await pass(10_000);
      const { length } = calls;
      await pass(10_000);
      expect(calls.length, "no report is made again and again").toBe(length);
      const kept = (await listed()).filter((text) => text.startsWith("event "));
      expect(new Set(kept)).toEqual(new Set(good));
      expect(kept.length).toBe(good.length);
      const dropped = (await metrics.getMetricsAsJSON()).find(({ name }) => name === "foedus_events_dropped_total")?.values[0]?.value;
      expect(dropped).toBe(bad);
      expect(
        calls.reduce((sum, { taken, dropped: told }) => sum + (taken ? Number(told) : 0), 0),
        "telemetry is told how many",
      ).toBe(bad);
      await forwarder.stop();
      await telemetry.stop(0);
    }),
    { numRuns: 20 },
  );
});

test.each<[string, () => unknown, boolean]>([
  ["away", () => fail("PEER_UNREACHABLE", "no connection to the server"), true],
  ["of another version", () => fail("UPGRADE_NEEDED", "unknown method"), true],
  ["cut off in the middle", () => fail("INTERNAL", "stream reset", { facts: { grpc_code: "INTERNAL" } }), true],
  ["broken by what it was told", () => fail("INTERNAL", "internal error x", { facts: { error_id: "x" } }), false],
  ["not even sent what cannot be encoded", () => new TypeError("invalid field"), false],
  ["told too much at once", () => fail("MESSAGE_TOO_LARGE", "larger than max"), false],
])("F-21 while telemetry is %s", async (_, error, kept) => {
  const { forwarder, telemetry, pass, listed, metrics, refuse } = await stage(100);
  const sink = forwarder.sink("discovery");
  for (const text of ["first", "culprit", "last"]) sink.report({ kind: "NODE", severity: "INFO", peer: text, text });
  let failing = true;
  refuse((request) => (failing && request.events.some(({ text }) => text === "culprit") ? error() : undefined));
  await pass(10_000);
  expect((await listed()).filter((text) => text !== "culprit" && !/lost|dropped/.test(text)).length).toBe(kept ? 0 : 2);
  failing = false;
  await pass(10_000);
  expect((await listed()).includes("culprit")).toBe(kept);
  expect(await metrics.metrics()).toContain(`foedus_events_dropped_total{service="discovery"} ${kept ? 0 : 1}`);
  await forwarder.stop();
  await telemetry.stop(0);
});

test("F-8 that events are missing is told again no faster than events are", async () => {
  const { forwarder, telemetry, pass, calls, refuse } = await stage(100);
  const sink = forwarder.sink("discovery");
  sink.report(poison("culprit"));
  // The count alone is left to be told.
  refuse((request) => (request.events.length === 0 ? fail("PEER_UNREACHABLE", "no connection to the server") : undefined));
  await pass(20_000);
  expect(calls.length).toBeLessThan(10);
  refuse((request) => (request.events.length === 0 ? fail("INVALID_FIELD", "service: too long") : undefined));
  await pass(10_000);
  const { length } = calls;
  await pass(10_000);
  expect(calls.length, "a count that is refused for good is told once").toBe(length);
  await forwarder.stop();
  await telemetry.stop(0);
});

test("S3-22 the links of a service are shown until its last peer is gone, and that is told once", async () => {
  const { forwarder, telemetry, report, pass, calls, shown } = await stage(100);
  // A run before, which ended with a peer that there is no more when this one begins.
  await report(create(ReportEventsRequestSchema, { service: "discovery", links: [{ peer: "c", service: "discovery", mount: "link" }] }));
  expect(await shown()).toEqual(["c discovery"]);
  const numbers = { framesIn: 1, framesOut: 1, bytesIn: 1, bytesOut: 1, ready: 0, backpressure: 0, fatal: 0 };
  const link: LinkCounters = { peer: "b", mount: "link", ...numbers, waiting: false, lastEvent: "up", lastFrameAgeMs: 0 };
  let links: readonly LinkCounters[] = [];
  forwarder.addLinks({ service: "discovery", links: () => links });
  forwarder.addLinks({ service: "registry-sync", links: () => [link] });
  await pass(2_000);
  expect(await shown()).toEqual(["b registry-sync"]);
  links = [link];
  await pass(2_000);
  forwarder.sink("discovery").report({ kind: "MODULE", severity: "INFO", text: "of events alone nothing follows" });
  await pass(1_000);
  expect((await shown()).sort()).toEqual(["b discovery", "b registry-sync"]);
  links = [];
  await pass(2_000);
  expect(await shown()).toEqual(["b registry-sync"]);
  const { length } = calls;
  await pass(10_000);
  expect(calls.length - length, "those of the other service").toBeLessThan(3);
  await forwarder.stop();
  await telemetry.stop(0);
});

test("what is told while a report is under way is delivered before the forwarder ends", async () => {
  const { forwarder, telemetry, pass, listed, hold } = await stage(100);
  const sink = forwarder.sink("hub");
  const release = hold();
  sink.report({ kind: "MODULE", severity: "INFO", text: "stopping" });
  await pass(200);
  sink.report({ kind: "MODULE", severity: "INFO", text: "stopped" });
  const over = forwarder.stop();
  release();
  await pass(1_000);
  await over;
  await pass(100);
  expect(await listed()).toEqual(["stopped", "stopping"]);
  await telemetry.stop(0);
});
