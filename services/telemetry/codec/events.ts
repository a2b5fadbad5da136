import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  type Event,
  type EventFilter,
  type EventKind,
  EventSchema,
  type LinkReport,
  type LinkReportSchema,
} from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { type FoedusError, fail } from "#kernel/error.ts";
import { WireError } from "#kernel/wire/proto-reader.ts";
import { FRAME, type Frame, framesIn, packFrames } from "../log/frames.ts";
import { ALL_KINDS, bitOf, joined, type Part, tokenOf, tokensOf, type Wanted } from "../log/part.ts";
import type { AuditBatch, HappeningCodec, HappeningFilter, HappeningReport, LinkCount, SeverityGrade } from "../messages.ts";
import { AuditFrame, severityOf } from "./audit-events.ts";
import { type AuditHead, readAuditHead, readAuditRow } from "./audit-reader.ts";

/** Number of EVENT_KIND_COMMAND, which all records of the audit are. */
const KIND_COMMAND = 7;
/** Outcomes that are warnings: none, of a record that counts others, and unknown. */
const WARNINGS = bitOf(0) | bitOf(5);

/** reportFromProto reads a reported event; the reporter's service name wins over the one in the event. */
export function reportFromProto(event: Event, service: string): HappeningReport {
  return {
    wallMs: Number(event.wallMs),
    kind: event.kind,
    severity: Math.min(4, Math.max(1, event.severity === 0 ? 2 : event.severity)) as SeverityGrade,
    service,
    peer: event.peer,
    node: event.node,
    text: event.text,
    fields: event.fields,
  };
}

/** frameOf writes an event as it is stored: its position is that of its row. */
function frameOf(report: HappeningReport): Frame {
  const event = create(EventSchema, {
    ...report,
    wallMs: BigInt(report.wallMs),
    kind: report.kind as EventKind,
    fields: { ...report.fields },
  });
  return { kind: FRAME.EVENT, count: 1, payload: toBinary(EventSchema, event) };
}

function partOfReport({ wallMs, kind, severity, peer, node, fields }: HappeningReport): Part {
  const tokens: number[] = [];
  tokensOf(peer, tokens);
  for (const word of node === "" ? [] : node.split("/")) tokens.push(tokenOf(word));
  const command = fields["command"];
  if (command !== undefined) tokens.push(tokenOf(command));
  return { count: 1, wallFrom: wallMs, wallTo: wallMs, kinds: bitOf(kind), severity, outcomes: 0, namesFrom: 0, namesTo: 0, tokens };
}

function partOfAudit({ count, wallFrom, wallTo, outcomes, namesFrom, namesTo, texts }: AuditHead): Part {
  const tokens: number[] = [];
  for (const text of texts) {
    tokensOf(text, tokens);
    const name = /^automation:(.*)$/su.exec(text)?.[1];
    if (name !== undefined) tokens.push(tokenOf(name));
  }
  const severity = (outcomes & WARNINGS) === 0 ? 2 : 3;
  return { count, wallFrom, wallTo, kinds: bitOf(KIND_COMMAND), severity, outcomes, namesFrom, namesTo, tokens };
}

function partOfFrame({ kind, payload }: Frame): Part {
  if (kind === FRAME.AUDIT) return partOfAudit(readAuditHead(payload));
  const event = fromBinary(EventSchema, payload);
  return partOfReport(reportFromProto(event, event.service));
}

/** happeningCodec stores events as frames: `foedus.telemetry.v1alpha1.Event`, or an `AuditBatch` as it came. */
export const happeningCodec: HappeningCodec = {
  encode: (reports) => ({ bytes: packFrames(reports.map(frameOf)), part: joined(reports.map(partOfReport)) }),
  partOf: (bytes) => joined([...framesIn(bytes)].map(partOfFrame)),
  row: (batches) => ({
    bytes: packFrames(batches.map(({ bytes, part: { count } }) => ({ kind: FRAME.AUDIT, count, payload: bytes }))),
    part: joined(batches.map(({ part }) => part)),
  }),
  legacy: (bytes) => {
    const event = fromBinary(EventSchema, bytes);
    return reportFromProto(event, event.service);
  },
};

/** auditBatchFrom looks at a batch of audit records as it came. What is none is refused. */
export function auditBatchFrom(bytes: Uint8Array): AuditBatch {
  try {
    const head = readAuditHead(bytes);
    return { epoch: head.epoch, first: head.first, bytes, part: partOfAudit(head), warnings: warningsIn(bytes, head) };
  } catch (error) {
    if (error instanceof WireError) throw invalidBatch(error);
    throw error;
  }
}

/** warningsIn counts records that are warnings. Most batches have none, and their records are not looked at. */
function warningsIn(bytes: Uint8Array, { count, records, outcomes }: AuditHead): number {
  let warnings = 0;
  if ((outcomes & WARNINGS) === 0) return warnings;
  for (let i = 0; i < count; i++)
    if (severityOf(readAuditRow(bytes, records[2 * i] as number, records[2 * i + 1] as number).outcome) > 2) warnings++;
  return warnings;
}

function invalidBatch(cause: WireError): FoedusError {
  return fail("INVALID_FIELD", `batches: one is no batch of audit records: ${cause.message}`, { field: "batches", cause });
}

/** eventsIn gives the events of a stored row that match, in order: those at `from` and after it. `hubId` is this hub's. */
export function* eventsIn(bytes: Uint8Array, first: number, from: number, filter: HappeningFilter, hubId: string): Generator<Event> {
  let at = first;
  for (const { kind, count, payload } of framesIn(bytes)) {
    const begin = at;
    at += count;
    if (at <= from) continue;
    if (kind === FRAME.AUDIT) yield* new AuditFrame(payload, hubId).events(begin, from, filter);
    else {
      const event = fromBinary(EventSchema, payload);
      event.seq = BigInt(begin);
      if (matches(event, filter)) yield event;
    }
  }
}

/** matches tells whether an event that was reported passes a filter. */
function matches(event: Event, filter: HappeningFilter): boolean {
  if (filter.kinds.length > 0 && !filter.kinds.includes(event.kind)) return false;
  if (event.severity < filter.minSeverity) return false;
  const wallMs = Number(event.wallMs);
  if (wallMs < filter.sinceMs || (filter.untilMs > 0 && wallMs >= filter.untilMs)) return false;
  if (filter.peer !== "" && event.peer !== filter.peer) return false;
  if (filter.node !== "" && event.node !== filter.node) return false;
  // It says nothing of who sent a command, and what became of it.
  if (filter.caller !== "" || filter.outcomes.length > 0) return false;
  return filter.command === "" || event.fields["command"] === filter.command;
}

/** filterFromProto reads a filter; none means all. */
export function filterFromProto(filter: EventFilter | undefined): HappeningFilter {
  return {
    kinds: filter?.kinds ?? [],
    minSeverity: filter?.minSeverity ?? 0,
    peer: filter?.peer ?? "",
    node: filter?.node ?? "",
    caller: filter?.caller ?? "",
    outcomes: filter?.outcomes ?? [],
    sinceMs: Number(filter?.sinceMs ?? 0n),
    untilMs: Number(filter?.untilMs ?? 0n),
    command: filter?.command ?? "",
  };
}

/** wantedBy is what a filter asks of parts of the log before anybody looks into them. */
export function wantedBy({ kinds, minSeverity, peer, node, caller, outcomes, sinceMs, untilMs, command }: HappeningFilter): Wanted {
  const tokens = [
    ...(peer === "" ? [] : [tokenOf(peer)]),
    ...(node === "" ? [] : node.split("/").map(tokenOf)),
    // What a caller is asked for by always ends with its own name.
    ...(caller === "" ? [] : [tokenOf(caller.slice(caller.lastIndexOf("/") + 1))]),
  ];
  return {
    kinds: kinds.length === 0 ? ALL_KINDS : kinds.reduce<number>((all, kind) => (all | bitOf(kind)) >>> 0, 0),
    minSeverity,
    outcomes: outcomes.reduce((all, outcome) => (all | bitOf(outcome)) >>> 0, 0),
    sinceMs,
    untilMs,
    tokens,
    nameNumber: Number(/^[^/]+\/\d+\/(\d{1,15})$/u.exec(command)?.[1] ?? 0),
    nameToken: command === "" ? undefined : tokenOf(command),
  };
}

/** linkFromProto reads counters. */
export function linkFromProto(link: LinkReport, service: string): LinkCount {
  return {
    peer: link.peer,
    service,
    mount: link.mount,
    framesIn: Number(link.framesIn),
    framesOut: Number(link.framesOut),
    bytesIn: Number(link.bytesIn),
    bytesOut: Number(link.bytesOut),
    ready: Number(link.ready),
    backpressure: Number(link.backpressure),
    fatal: Number(link.fatal),
    waiting: link.waiting,
    lastEvent: link.lastEvent,
    lastFrameAgeMs: Number(link.lastFrameAgeMs),
  };
}

/** linkToProto writes counters. */
export function linkToProto(link: LinkCount): MessageInitShape<typeof LinkReportSchema> {
  return {
    ...link,
    framesIn: BigInt(link.framesIn),
    framesOut: BigInt(link.framesOut),
    bytesIn: BigInt(link.bytesIn),
    bytesOut: BigInt(link.bytesOut),
    ready: BigInt(link.ready),
    backpressure: BigInt(link.backpressure),
    fatal: BigInt(link.fatal),
    lastFrameAgeMs: BigInt(Math.round(link.lastFrameAgeMs)),
  };
}
