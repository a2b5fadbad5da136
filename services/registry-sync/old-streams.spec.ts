import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Clock, systemClock } from "#channel/clock.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { GetNodeRequestSchema, WatchRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { RegistryClient } from "../../clients/typescript/registry-client.ts";
import { RegistryHub } from "../../test/registry/fixture.ts";
import { LateNetwork } from "../../test/registry/late-network.ts";
import { until } from "../../test/rpc/fixture.ts";
import { testHub } from "../../test/testca/index.ts";

const KEYS = ["a", "b", "c"] as const;
/** Pauses are a turn of the event loop: what is looked at is the order, not the time. */
const hasty: Clock = { ...systemClock, setTimer: (_delay, fn) => systemClock.setImmediate(fn) };
const turn = () => new Promise<void>((resolve) => void systemClock.setImmediate(resolve));

let hub: RegistryHub;
beforeAll(async () => {
  hub = await new RegistryHub(await testHub("alpha")).start();
});
afterAll(async () => {
  await hub.stop();
  hub.remove();
  expect(hub.fatal).toEqual([]);
});

/** Seen notes every value that a watcher gets, by node and key, across all runs. */
class Seen {
  readonly values = new Map<string, number[]>();
  readonly abort = new AbortController();

  async run(): Promise<void> {
    const watch = hub.local({ kind: "operator" }).watch(create(WatchRequestSchema, {}), { signal: this.abort.signal });
    try {
      for await (const { push } of watch)
        if (push.case === "events")
          for (const { name, change } of push.value.events)
            if (change.case === "state") this.of(`${name?.nodeId}/${change.value.key}`).push(Number(change.value.value?.kind.value));
    } catch {
      // The end of the test.
    }
  }

  of(place: string): number[] {
    const known = this.values.get(place) ?? [];
    this.values.set(place, known);
    return known;
  }
}

type Act =
  | { readonly kind: "set"; readonly key: number; readonly times: number; readonly turns: number }
  | { readonly kind: "bad" }
  | { readonly kind: "drain" }
  /** Something arrives at the hub: of the newest stream (0) or of one before it. */
  | { readonly kind: "deliver"; readonly back: number; readonly count: number; readonly turns: number }
  | { readonly kind: "cut"; readonly turns: number };

const turns = fc.nat(8);
const act: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant("set" as const), key: fc.nat(2), times: fc.integer({ min: 1, max: 3 }), turns: fc.nat(2) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom("bad" as const, "drain" as const) }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("deliver" as const), back: fc.constant(0), count: fc.constantFrom(1, 9), turns }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("deliver" as const),
      back: fc.integer({ min: 1, max: 3 }),
      count: fc.constantFrom(1, 9),
      turns,
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("cut" as const), turns }) },
);

/** A stream that works: without its numbers nothing is under way that could come late. */
const CONNECT: readonly Act[] = [
  { kind: "set", key: 0, times: 1, turns: 2 },
  { kind: "deliver", back: 0, count: 9, turns: 6 },
];

/** perform does what a run says, then lets everything arrive: first what is newest and then, late, all that was cut. */
async function perform(acts: readonly Act[], nodeId: string): Promise<ReadonlyMap<string, number>> {
  const network = new LateNetwork(hub.local({ kind: "gateway", name: "late", spiffeId: "spiffe://alpha/gateway/late" }));
  const registry = RegistryClient.connect(network.client);
  const capabilities = KEYS.map((name) => ({ name, type: ValueType.DOUBLE, readable: true }));
  await registry.registerAll([
    { nodeId, type: "m", capabilities: [...capabilities, { name: "t", type: ValueType.STRING, readable: true }] },
  ]);
  let value = 0;
  const last = new Map<string, number>();
  const updater = registry.updater({ clock: hasty, batchUpdates: 4, windowBatches: 3 });
  /** What was set when `drain` was called is there, or newer, when it resolves. */
  const acknowledged = async (): Promise<void> => {
    const least = [...last];
    await updater.drain();
    const { record } = await hub.local({ kind: "operator" }).getNode(create(GetNodeRequestSchema, { name: { nodeId } }));
    const held = new Map(record?.state.map((state) => [state.key, Number(state.value?.kind.value)]));
    for (const [key, was] of least) expect(held.get(key)).toBeGreaterThanOrEqual(was);
  };
  const checks: Promise<void>[] = [];
  for (const step of [...CONNECT, ...acts]) {
    if (step.kind === "set")
      for (let i = 0; i < step.times; i++) {
        updater.set(nodeId, KEYS[step.key] as string, ++value);
        last.set(KEYS[step.key] as string, value);
      }
    else if (step.kind === "drain") checks.push(acknowledged());
    else if (step.kind === "bad") updater.set(nodeId, "t", "x".repeat(70_000));
    else if (step.kind === "deliver") network.streams.at(-1 - step.back)?.deliver(step.count);
    else network.newest?.cut();
    const pause = "turns" in step ? step.turns : 0;
    for (let i = 0; i < pause; i++) await turn();
  }
  let done = false;
  checks.push(acknowledged());
  const checked = Promise.all(checks).finally(() => {
    done = true;
  });
  checked.catch(() => undefined);
  while (!done) {
    network.newest?.deliver();
    await turn();
  }
  await checked;
  for (const stream of network.streams) {
    stream.deliver();
    await turn();
  }
  updater.close();
  for (const stream of network.streams) stream.close();
  return last;
}

describe("bytes of old streams", { timeout: 60_000 }, () => {
  test("F-28 F-29 no watcher sees a value older than one that it has seen, and what was acknowledged stays, whatever arrives when", async () => {
    const seen = new Seen();
    const watching = seen.run();
    let run = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(act, { maxLength: 60 }), async (acts) => {
        const nodeId = `n-${++run}`;
        const last = await perform(acts, nodeId);
        await until(() => [...last].every(([key, value]) => seen.of(`${nodeId}/${key}`).includes(value)));
        for (const [key, value] of last) {
          const values = seen.of(`${nodeId}/${key}`);
          expect(values).toEqual(values.toSorted((x, y) => x - y));
          expect(values.at(-1)).toBe(value);
        }
      }),
      { numRuns: 150, seed: 28 },
    );
    seen.abort.abort();
    await watching;
  });
});
