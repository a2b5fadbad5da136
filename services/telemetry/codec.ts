import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  type Event,
  type EventFilter,
  type EventKind,
  EventSchema,
  type LinkReport,
  type LinkReportSchema,
} from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import type { Happening, HappeningCodec, HappeningFilter, HappeningReport, LinkCount, SeverityGrade } from "./messages.ts";

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

/** eventToProto writes an event. */
export function eventToProto(event: Happening): Event {
  return create(EventSchema, {
    seq: BigInt(event.seq),
    wallMs: BigInt(event.wallMs),
    kind: event.kind as EventKind,
    severity: event.severity,
    service: event.service,
    peer: event.peer,
    node: event.node,
    text: event.text,
    fields: { ...event.fields },
  });
}

/** happeningCodec stores events as `foedus.telemetry.v1alpha1.Event`. */
export const happeningCodec: HappeningCodec = {
  encode: (event) => toBinary(EventSchema, eventToProto(event)),
  decode: (bytes) => {
    const event = fromBinary(EventSchema, bytes);
    return { ...reportFromProto(event, event.service), seq: Number(event.seq) };
  },
};

/** filterFromProto reads a filter; none means all. */
export function filterFromProto(filter: EventFilter | undefined): HappeningFilter {
  return { kinds: filter?.kinds ?? [], minSeverity: filter?.minSeverity ?? 0, peer: filter?.peer ?? "", node: filter?.node ?? "" };
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
