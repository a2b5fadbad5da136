// What `watch` and `events --follow` print while the hub goes away and comes back: whole lines, since people and scripts read them.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type WatchRequest, WatchResponseSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import {
  ListEventsResponseSchema,
  type WatchEventsRequest,
  WatchEventsResponseSchema,
} from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { type FoedusError, fail } from "#kernel/error.ts";
import { type FixedHub, fixedHub } from "../../test/cli/fixture.ts";

/** Part is what one call is answered: messages, then an error, or an end without a word. */
interface Part<Message> {
  readonly messages: readonly Message[];
  readonly error?: FoedusError;
}

type Push = MessageInitShape<typeof WatchResponseSchema>["push"];

let watchParts: Part<Push>[] = [];
let eventParts: Part<MessageInitShape<typeof WatchEventsResponseSchema>>[] = [];
const watches: WatchRequest[] = [];
const eventWatches: WatchEventsRequest[] = [];

let home: FixedHub;
beforeAll(async () => {
  home = await fixedHub({
    registry: {
      watch: async (request, out) => {
        watches.push(request);
        const part = watchParts.shift();
        for (const push of part?.messages ?? [])
          out.send(create(WatchResponseSchema, { push } as MessageInitShape<typeof WatchResponseSchema>));
        if (part?.error !== undefined) throw part.error;
      },
    },
    telemetry: {
      listEvents: () => create(ListEventsResponseSchema, { events: [{ seq: 8n, text: "eight" }] }),
      watchEvents: async (request, out) => {
        eventWatches.push(request);
        const part = eventParts.shift();
        for (const message of part?.messages ?? []) out.send(create(WatchEventsResponseSchema, message));
        if (part?.error !== undefined) throw part.error;
      },
    },
  });
});
afterAll(() => home?.close());
beforeEach(() => {
  watches.length = 0;
  eventWatches.length = 0;
});

const stops = fail("SHUTTING_DOWN", "the hub is stopping");
const denied = fail("ACCESS_DENIED", "this certificate was revoked");
const position = { hubId: "home", share: "full", epoch: 2n, seq: 41n };
const state = (value: bigint): Push => {
  const change = { case: "state" as const, value: { key: "level", value: { kind: { case: "intValue" as const, value } } } };
  return { case: "events", value: { events: [{ name: { hubId: "home", nodeId: "lamp" }, change }] } };
};
const reset: Push = { case: "reset", value: { position } };
const bookmark: Push = { case: "bookmark", value: { positions: [position] } };
const gone: Push = { case: "gone", value: { position } };

test("watch goes on where it was after the hub stopped, and ends when it is refused", async () => {
  watchParts = [
    { messages: [reset, state(1n), bookmark, state(2n)], error: stops },
    { messages: [state(3n), reset, state(4n), bookmark, gone], error: denied },
  ];
  const { code, out, err } = await home.foedus("watch", "-q");
  expect(out.split("\n")).toEqual([
    "home/lamp  level = 2",
    "home/lamp  level = 3",
    "home/full  is sent anew",
    "home/lamp  level = 4",
    "home/full  is no longer shared with this hub",
    "",
  ]);
  expect([code, err]).toEqual([4, expect.stringMatching(/^foedus: this certificate was revoked\. Use an operator's certificate/)]);
  expect(watches.map(({ resume }) => resume.map(({ seq }) => seq))).toEqual([[], [41n]]);
});

test("watch says when it tries again; a stream that ends without a word is opened again without one", async () => {
  watchParts = [{ messages: [bookmark] }, { messages: [state(5n)], error: stops }, { messages: [], error: denied }];
  const { code, out, err } = await home.foedus("watch", "--json");
  expect(JSON.parse(out)).toMatchObject({ name: { node_id: "lamp" }, state: { key: "level", value: { int_value: "5" } } });
  expect(err.split("\n").slice(0, 2)).toEqual([
    "watching for changes; press Ctrl-C to end",
    "foedus: connection lost (the hub is stopping); trying again in 0.5 s",
  ]);
  expect(JSON.parse(err.split("\n").slice(2).join("\n"))).toMatchObject({ error: { reason: "ACCESS_DENIED", exit_code: 4 } });
  expect([code, watches.length]).toEqual([4, 3]);
});

test("watch of a hub that never answered fails at once", async () => {
  watchParts = [{ messages: [], error: stops }];
  const { code, out, err } = await home.foedus("watch");
  expect([code, out, err]).toEqual([3, "", expect.stringMatching(/^foedus: the hub is stopping\. Check that the hub runs/)]);
  expect(watches).toHaveLength(1);
});

test("events --follow resumes, says what was missed, and waits longer each time that nothing comes", async () => {
  eventParts = [
    { messages: [{ events: [{ seq: 9n, text: "nine" }], nextSeq: 10n }], error: stops },
    { messages: [], error: stops },
    {
      messages: [
        { missed: 2n, nextSeq: 12n },
        { events: [{ seq: 12n, text: "twelve" }], nextSeq: 13n },
      ],
      error: stops,
    },
    { messages: [], error: fail("INTERNAL", "something broke") },
  ];
  const { code, out, err } = await home.foedus("events", "--follow");
  expect(out.match(/eight|nine|twelve/g)).toEqual(["eight", "nine", "twelve"]);
  expect(err.split("\n").slice(0, 4)).toEqual([
    "foedus: connection lost (the hub is stopping); trying again in 0.5 s",
    "foedus: connection lost (the hub is stopping); trying again in 1 s",
    "2 events missed",
    "foedus: connection lost (the hub is stopping); trying again in 0.5 s",
  ]);
  expect(err.split("\n")[4]).toMatch(/^foedus: something broke\. /);
  expect([code, eventWatches.map(({ fromSeq }) => fromSeq)]).toEqual([1, [9n, 10n, 10n, 13n]]);
});
