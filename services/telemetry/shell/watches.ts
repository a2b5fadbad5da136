import { create } from "@bufbuild/protobuf";
import { whenAborted } from "#channel/abort.ts";
import type { Outbound } from "#channel/call.ts";
import {
  type Event,
  type WatchEventsRequest,
  type WatchEventsResponse,
  WatchEventsResponseSchema,
} from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import type { CallContext } from "#runtime/rpc/call.ts";
import type { Calls } from "#runtime/service/calls.ts";
import { filterFromProto, wantedBy } from "../codec/events.ts";
import type { Answer, HappeningFilter, Input, Output } from "../messages.ts";
import type { EventReader } from "./event-reader.ts";

/** Most events in one message. */
const MESSAGE_EVENTS = 200;

type Push = Extract<Output, { kind: "push" }>;

/** Watch is a stream of events that is open. */
export interface Watch {
  readonly push: (push: Push) => void;
  readonly end: (failure: Failure) => void;
}

/** messagesOf are the messages of one push: a watcher that is cut off between two goes on where it was. */
function* messagesOf(events: readonly Event[], { missed, nextSeq }: Push): Generator<WatchEventsResponse> {
  let from = 0;
  do {
    const part = events.slice(from, from + MESSAGE_EVENTS);
    const following = events[from + MESSAGE_EVENTS];
    const message = { events: part, missed: BigInt(from === 0 ? missed : 0), nextSeq: following?.seq ?? BigInt(nextSeq) };
    yield create(WatchEventsResponseSchema, message);
    from += MESSAGE_EVENTS;
  } while (from < events.length);
}

/** watcher gives what serves a watch: it reads what the core points at, and sends it, until the caller, the core or the hub has had enough. */
export function watcher(calls: Calls<Input, Answer>, watches: Map<number, Watch>, reader: () => EventReader) {
  return async (request: WatchEventsRequest, out: Outbound<WatchEventsResponse>, context: CallContext): Promise<void> => {
    const watch = calls.id();
    const filter: HappeningFilter = filterFromProto(request.filter);
    const over = Promise.withResolvers<Failure | undefined>();
    const ready = (): void => calls.tell({ kind: "watch_ready", watch }, `watch_ready ${watch}`);
    whenAborted(context.signal, () => over.resolve(undefined));
    const push = (pushed: Push): void => {
      const found = reader().pushed(pushed, filter);
      // What went between the core's word and the look counts as missed.
      const told = found === undefined ? { ...pushed, missed: pushed.missed + pushed.nextSeq - pushed.fromSeq } : pushed;
      const events = found ?? [];
      const looked = pushed.rows.length > 0 || pushed.segment !== undefined;
      if (events.length === 0 && told.missed === 0 && looked) return ready();
      for (const message of messagesOf(events, told)) if (!out.send(message)) return over.resolve(undefined);
      void out.drained().then(ready);
    };
    watches.set(watch, { push, end: over.resolve });
    try {
      await calls.offer({
        kind: "watch",
        watch,
        caller: `${context.caller.kind}/${context.caller.name}`,
        wanted: wantedBy(filter),
        fromSeq: Number(request.fromSeq),
      });
      const failure = await over.promise;
      if (failure !== undefined) throw new FoedusError(failure);
    } finally {
      watches.delete(watch);
      calls.tell({ kind: "watch_end", watch });
    }
  };
}
