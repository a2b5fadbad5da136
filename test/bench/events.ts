// Family events: the audit of commands, and events of services, stored and watched by an operator at the same time.
import { create } from "@bufbuild/protobuf";
import { systemClock } from "#channel/clock.ts";
import { CopyAuditRequestSchema } from "#gen/foedus/telemetry/v1alpha1/audit_pb.ts";
import {
  EventKind,
  ReportEventsRequestSchema,
  Severity,
  WatchEventsRequestSchema,
} from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { BatchWriter, WAY } from "../../services/command-forwarding/audit/batch.ts";
import { OUTCOME } from "../../services/command-forwarding/messages.ts";
import { type Clients, Federation } from "../support/federation.ts";
import { context, cpuDuring, type Row, showRate } from "./measure.ts";
import { hubEntry } from "./rig.ts";
import { median } from "./worker.ts";

const ROUNDS = 3;
const WARM_EVENTS = 200_000;
const EVENTS = 400_000;
const FLOOR = 50_000;
/** Records of one batch, as a hub under load writes them in one step, and batches of one message. */
const RECORDS = 64;
const BATCHES = 32;
/** Events of one report: the most. */
const REPORTED = 1_000;
/** Services that report at the same time, as many as a hub has. */
const REPORTERS = 4;

const ON = Uint8Array.of(0x22, 2, 0x4f, 0x4e);

/** Source gives a hub so many more events, and counts them. */
type Source = (service: Clients, count: number) => Promise<void>;

/** auditSource copies batches of commands that a caller sent to 64 lamps, as command-forwarding does. */
function auditSource(): Source {
  const writer = new BatchWriter();
  const epoch = Math.floor(systemClock.wall());
  let next = 1;
  const batch = (): Uint8Array => {
    for (let i = 0; i < RECORDS; i++)
      writer.add({
        way: WAY.LOCAL,
        outcome: OUTCOME.DONE,
        wallMs: Math.floor(systemClock.wall()),
        durationMs: 1.25,
        caller: "spiffe://home/gateway/zigbee",
        hub: "home",
        node: `lamp-${i}`,
        capability: "state",
        value: ON,
        valueBytes: 0,
        hidden: false,
        reason: "",
        message: "",
        nameEpoch: epoch,
        nameNumber: next + i,
        key: "",
        suppressed: 0,
      });
    const bytes = writer.take(epoch, next);
    next += RECORDS;
    return bytes;
  };
  return async ({ telemetry }, count) => {
    for (let sent = 0; sent < count; sent += RECORDS * BATCHES)
      await telemetry.copyAudit(create(CopyAuditRequestSchema, { batches: Array.from({ length: BATCHES }, batch) }));
  };
}

/** reportSource reports events as services do, a thousand at a time. */
const reportSource: Source = async (service, count) => {
  await Promise.all(Array.from({ length: REPORTERS }, () => report(service, count / REPORTERS)));
};

const report: Source = async ({ telemetry }, count) => {
  for (let sent = 0; sent < count; sent += REPORTED) {
    const wallMs = BigInt(Math.floor(systemClock.wall()));
    const event = {
      wallMs,
      kind: EventKind.NODE,
      severity: Severity.INFO,
      node: "home/lamp",
      text: "a lamp appeared",
      fields: { by: "zigbee" },
    };
    const events = Array.from({ length: REPORTED }, () => event);
    await telemetry.reportEvents(create(ReportEventsRequestSchema, { service: "registry-sync", events }));
  }
};

interface Run {
  readonly perSecond: number;
  readonly cpuUs: number;
}

/** run gives a hub events while a watcher follows, and measures until the watcher has seen the last one. None may be missing. */
async function run(federation: Federation, source: Source, count: number): Promise<Run> {
  const hub = federation.hub("home");
  const viewer = hub.clients("operator-viewer");
  const ending = new AbortController();
  const began = Promise.withResolvers<void>();
  const seen = Promise.withResolvers<void>();
  let got = 0;
  const follow = async (): Promise<void> => {
    let next: bigint | undefined;
    for await (const push of viewer.telemetry.watchEvents(create(WatchEventsRequestSchema), { signal: ending.signal })) {
      began.resolve();
      if (push.missed > 0n) throw new Error(`the watcher missed ${push.missed} events`);
      for (const { seq } of push.events) {
        if (next !== undefined && seq !== next) throw new Error(`event ${seq} follows ${next - 1n}`);
        next = seq + 1n;
      }
      got += push.events.length;
      if (got >= count) return seen.resolve();
    }
  };
  const following = follow().catch(seen.reject);
  await began.promise;
  const pids = { hub: [...hub.pids.values()] };
  const { result, cpu } = await cpuDuring(pids, async () => {
    const from = systemClock.mono();
    await Promise.all([source(hub.clients("service-hub"), count), seen.promise]);
    return (got * 1_000) / (systemClock.mono() - from);
  });
  ending.abort();
  await following;
  viewer.close();
  return { perSecond: result, cpuUs: ((cpu["hub"] ?? 0) * 1e6) / got };
}

/** events measures how many events a second a hub stores while somebody watches all of them, with none missing. */
export async function events(): Promise<Row[]> {
  const federation = await Federation.start({ hubs: [{ id: "home", peers: [] }], entry: hubEntry() });
  try {
    const rows: Row[] = [];
    for (const [name, source] of [
      ["records of the audit", auditSource()],
      ["events of services", reportSource],
    ] as const) {
      await run(federation, source, WARM_EVENTS);
      const runs: Run[] = [];
      for (let i = 0; i < ROUNDS; i++) runs.push(await run(federation, source, EVENTS));
      const rate = median(runs.map(({ perSecond }) => perSecond));
      const note = `each run ${runs.map(({ perSecond }) => showRate(perSecond)).join(", ")}; ${EVENTS} events, each seen once, none missed; caller and watcher are one process`;
      const held = rate >= FLOOR ? "held" : "missed";
      rows.push({
        family: "events",
        name: `${name}, stored and watched`,
        floor: `>= ${showRate(FLOOR)}`,
        measured: showRate(rate),
        held,
        note,
      });
      rows.push(context("events", `${name}: processor time of the hub per event, us`, median(runs.map(({ cpuUs }) => cpuUs)).toFixed(2)));
    }
    return rows;
  } finally {
    await federation.stop();
  }
}
