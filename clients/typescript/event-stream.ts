import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { ClientOf } from "#channel/call.ts";
import {
  type Event,
  type EventFilterSchema,
  type TelemetryService,
  WatchEventsRequestSchema,
  type WatchEventsResponse,
} from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { Following, type FollowOptions } from "./following.ts";
import { callProgram } from "./kept-stream.ts";

export { type Event, EventKind, Severity } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";

/** EventFilterInit selects events, as it is written in code; all that is set must match. */
export type EventFilterInit = MessageInitShape<typeof EventFilterSchema>;

/** EventOptions say which events are followed. */
export interface EventOptions extends FollowOptions {
  /** Missing: all. */
  readonly filter?: EventFilterInit;
  /** Position to begin with, of an event that was seen, plus one; missing: new ones only. */
  readonly fromSeq?: bigint;
  /** Told when events were missed: no longer kept, or too many at once. */
  readonly onMissed?: (count: number) => void;
}

type Client = Pick<ClientOf<typeof TelemetryService>, "watchEvents">;

/** EventStream follows what happens at a hub, in order and without gaps across cuts: it goes on where it was. */
export class EventStream extends Following<WatchEventsResponse, Event> {
  constructor(client: Client, options: EventOptions = {}) {
    const { filter, onMissed, onError } = options;
    let nextSeq = options.fromSeq ?? 0n;
    super(options, {
      open: (_number, signal) => {
        const request = create(WatchEventsRequestSchema, { fromSeq: nextSeq, ...(filter === undefined ? {} : { filter }) });
        return client.watchEvents(request, { signal });
      },
      take: (message) => {
        nextSeq = message.nextSeq;
        if (message.missed > 0n) callProgram(onError, onMissed, Number(message.missed));
        return message.events;
      },
    });
  }
}
