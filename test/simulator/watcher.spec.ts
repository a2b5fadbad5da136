import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { type WatchResponse, WatchResponseSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import { MachineClock, ProcessClock } from "./clock.ts";
import { Oracle } from "./oracle.ts";
import { Scheduler } from "./scheduler.ts";
import { Watcher } from "./watcher.ts";

type Push = NonNullable<NonNullable<Parameters<typeof create<typeof WatchResponseSchema>>[1]>["push"]>;

const position = (seq: bigint) => ({ hubId: "hub-1", share: "full", epoch: 1n, seq, digest: new Uint8Array(32) });
const about = (nodeId: string) => ({ hubId: "hub-1", nodeId });
const RESET: Push = { case: "reset", value: { position: position(0n) } };
const bookmark = (seq: bigint): Push => ({ case: "bookmark", value: { positions: [position(seq)] } });
const put = (nodeId: string): Push => ({
  case: "events",
  value: { events: [{ name: about(nodeId), change: { case: "put", value: { nodeId, name: "1" } } }] },
});
const removed = (nodeId: string): Push => ({
  case: "events",
  value: { events: [{ name: about(nodeId), change: { case: "removed", value: true } }] },
});

/** watched gives a watcher what each of its calls is answered, every one ended by a cut but the last. */
async function watched(calls: readonly (readonly Push[])[]): Promise<{ readonly nodes: string[]; readonly violations: readonly string[] }> {
  const scheduler = new Scheduler();
  const oracle = new Oracle(scheduler, 2);
  const bugs: unknown[] = [];
  let call = 0;
  async function* watch(): AsyncGenerator<WatchResponse> {
    for (const push of calls[call++] ?? []) yield create(WatchResponseSchema, { push });
    throw new FoedusError({ reason: "PEER_UNREACHABLE", message: "the connection is gone" });
  }
  const clock = new ProcessClock(scheduler, new MachineClock(scheduler, 1, 0));
  const hubIds = ["hub-0", "hub-1"];
  const options = { clock, oracle, hub: 0, hubIds, latestOnly: false, onBug: (error: unknown) => bugs.push(error) };
  const watcher = new Watcher({ ...options, client: { watch } as never });
  for (const _ of calls) {
    await new Promise((resolve) => setImmediate(resolve));
    scheduler.next(scheduler.now + 1_000);
  }
  watcher.close();
  expect(bugs).toEqual([]);
  return { nodes: [...(watcher.hubs.get("hub-1")?.keys() ?? [])], violations: oracle.violations.map(({ text }) => text) };
}

test("what came after the last bookmark comes again, also the removal of a node", async () => {
  const { nodes, violations } = await watched([
    [RESET, put("a"), put("b"), bookmark(1n), removed("a")],
    [removed("a"), bookmark(2n)],
  ]);
  expect(violations).toEqual([]);
  expect(nodes).toEqual(["b"]);
});

test("a removal that had its bookmark and comes again is noticed", async () => {
  const { violations } = await watched([
    [RESET, put("a"), put("b"), bookmark(1n), removed("a"), bookmark(2n)],
    [removed("a"), bookmark(3n)],
  ]);
  expect(violations).toEqual(["hub-0 was shown removed of hub-1/a, which it had not been shown"]);
});

test("a removal that was seen and does not come again is not taken as seen", async () => {
  const { nodes } = await watched([[RESET, put("a"), put("b"), bookmark(1n), removed("a")], [bookmark(2n)]]);
  expect(nodes).toEqual(["a", "b"]);
});
