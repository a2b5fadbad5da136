import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { WatchEncoding, type WatchRequest, WatchResponseSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { fail, type Reason } from "#kernel/error.ts";
import { ManualClock } from "../../test/fakes/manual-clock.ts";
import { type ChangeOptions, ChangeStream, type RegistryChange } from "./change-stream.ts";

type Push = MessageInitShape<typeof WatchResponseSchema>["push"];

const at = (hubId: string, seq: bigint) => ({ hubId, share: "full", epoch: 1n, seq });
const put = (nodeId: string): Push => ({
  case: "events",
  value: { events: [{ name: { hubId: "home", nodeId }, change: { case: "removed", value: true } }] },
});
const reset = (hubId: string): Push => ({ case: "reset", value: { position: at(hubId, 0n) } });
const gone = (hubId: string): Push => ({ case: "gone", value: { position: at(hubId, 0n) } });
const bookmark = (...positions: ReturnType<typeof at>[]): Push => ({
  case: "bookmark",
  value: { positions, hubs: positions.map(({ hubId }) => ({ hubId })) },
});

const words = (change: RegistryChange): string => {
  if (change.kind === "event") return `event ${change.event.name?.nodeId}`;
  return change.kind === "current" ? "current" : `${change.kind} ${change.position.hubId}`;
};

/** follow reads watches that are given as a whole, each of which is cut for a reason, until one is denied. */
async function follow(watches: readonly (readonly [readonly Push[], Reason])[], options: ChangeOptions = {}) {
  const clock = new ManualClock();
  const requests: WatchRequest[] = [];
  async function* watch(request: WatchRequest) {
    const [pushes, reason] = watches[requests.push(request) - 1]!;
    for (const push of pushes) yield create(WatchResponseSchema, { push } as MessageInitShape<typeof WatchResponseSchema>);
    throw fail(reason, "cut by the test");
  }
  const stream = new ChangeStream({ watch } as never, { clock, onCut: () => queueMicrotask(() => clock.advance(60_000)), ...options });
  const seen: string[] = [];
  const end = await (async () => {
    for await (const change of stream) seen.push(words(change));
  })().catch((thrown: unknown) => String(thrown));
  return { seen, end, requests, resumed: requests.map(({ resume }) => resume.map(({ hubId, seq }) => `${hubId}:${seq}`)) };
}

test("it resumes from the last bookmark; the first copy of a feed is no news, a later one is", async () => {
  const { seen, end, resumed } = await follow([
    [[reset("home"), reset("factory"), put("a"), bookmark(at("home", 1n), at("factory", 7n)), put("b")], "PEER_UNREACHABLE"],
    [[put("b"), reset("home"), put("a"), gone("factory")], "SHUTTING_DOWN"],
    [[bookmark(at("home", 3n))], "ACCESS_DENIED"],
  ]);
  expect(seen).toEqual(["event a", "current", "event b", "event b", "reset home", "event a", "gone factory", "current"]);
  expect(resumed).toEqual([[], ["home:1", "factory:7"], []]);
  expect(end).toContain("cut by the test");
});

test("a first copy that was cut is void, too: what was deleted meanwhile is in no later one, and its hub may be gone altogether", async () => {
  const { seen } = await follow([
    [[reset("home"), put("a"), reset("factory"), put("press")], "PEER_UNREACHABLE"],
    [[reset("home"), put("b"), bookmark(at("home", 2n))], "ACCESS_DENIED"],
  ]);
  expect(seen).toEqual(["event a", "event press", "reset home", "event b", "gone factory", "current"]);
});

test("so is that of the only hub that was asked for, when there is nothing of it any more", async () => {
  const { seen } = await follow([
    [[reset("home"), put("a")], "PEER_UNREACHABLE"],
    [[bookmark()], "ACCESS_DENIED"],
  ]);
  expect(seen).toEqual(["event a", "gone home", "current"]);
});

test("after a failure that puts positions at fault, nothing is resumed before all has come anew, however often it is cut", async () => {
  const { resumed } = await follow([
    [[reset("home"), bookmark(at("home", 1n))], "INTERNAL"],
    [[], "PEER_UNREACHABLE"],
    [[], "ACCESS_DENIED"],
  ]);
  expect(resumed).toEqual([[], [], []]);
});

test.each(["POSITION_EXPIRED", "SEGMENT_INVALID", "INTERNAL"] as const)(
  "after %s everything is asked for anew, and said to be void",
  async (reason) => {
    const { seen, resumed } = await follow([
      [[reset("home"), bookmark(at("home", 1n))], reason],
      [[reset("home"), put("a"), bookmark(at("home", 2n))], "PEER_UNREACHABLE"],
      [[], "ACCESS_DENIED"],
    ]);
    expect(seen).toEqual(["current", "reset home", "event a", "current"]);
    expect(resumed).toEqual([[], [], ["home:2"]]);
  },
);

test("filter and form are asked for on every stream, which is numbered", async () => {
  const options = { filter: { nodeIdPrefix: "la" }, nodesOnly: true, latestOnly: true };
  const { requests } = await follow(
    [
      [[], "PEER_UNREACHABLE"],
      [[], "ACCESS_DENIED"],
    ],
    options,
  );
  for (const request of requests)
    expect(request).toMatchObject({ encoding: WatchEncoding.EVENTS, nodesOnly: true, latestOnly: true, filter: { nodeIdPrefix: "la" } });
  expect(requests.map(({ stream }) => stream?.n)).toEqual([1n, 2n]);
});
