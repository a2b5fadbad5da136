import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { EventSchema, type WatchEventsRequest, WatchEventsResponseSchema } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import { ManualClock } from "../../test/fakes/manual-clock.ts";
import { type EventOptions, EventStream } from "./event-stream.ts";

type Said = { readonly events: readonly bigint[]; readonly missed?: bigint; readonly nextSeq: bigint };

const turns = async (): Promise<void> => {
  for (let i = 0; i < 30; i++) await Promise.resolve();
};

/** stage is a stream of events of a hub whose watches say so much each, and are cut then. */
function stage(watches: readonly (readonly Said[])[], options: EventOptions = {}) {
  const clock = new ManualClock();
  const asked: bigint[] = [];
  const watchEvents = async function* (request: WatchEventsRequest) {
    asked.push(request.fromSeq);
    for (const { events, missed = 0n, nextSeq } of watches[asked.length - 1] ?? [])
      yield create(WatchEventsResponseSchema, { events: events.map((seq) => create(EventSchema, { seq })), missed, nextSeq });
    throw new FoedusError({ reason: "PEER_UNREACHABLE", message: "cut" });
  };
  const stream = new EventStream({ watchEvents } as never, { clock, ...options });
  return { clock, asked, stream };
}

describe("a stream of events", () => {
  test("of new ones only goes on where it was told that they begin, also if it is cut before the first of them", async () => {
    const { clock, asked, stream } = stage([[{ events: [], nextSeq: 5n }], [{ events: [5n], nextSeq: 6n }]]);
    await turns();
    clock.advance(10_000);
    expect((await stream.next()).value?.seq).toBe(5n);
    expect(asked).toEqual([0n, 5n]);
    stream.close();
  });

  test("that a callback ends gives nothing more, and leaves nothing waiting", async () => {
    const { stream, clock, asked } = stage([[{ events: [7n], missed: 6n, nextSeq: 8n }]], { onMissed: () => stream.close() });
    await turns();
    expect(await stream.next()).toEqual({ value: undefined, done: true });
    clock.advance(60_000);
    expect([asked, clock.pending]).toEqual([[0n], 0]);
  });
});
