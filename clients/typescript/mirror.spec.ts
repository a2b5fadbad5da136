import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Clock, systemClock } from "#channel/clock.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import type { WatchResponse } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { FoedusError, type Reason } from "#kernel/error.ts";
import { RegistryHub } from "../../test/registry/fixture.ts";
import { until } from "../../test/rpc/fixture.ts";
import { testHub } from "../../test/testca/index.ts";
import { type Mirror, type MirrorFeed, numbersOf, RegistryClient, type UpdateBatch, type Updater } from "./registry-client.ts";

const KEYS = ["a", "b", "c"] as const;
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

/** Cuttable is a client of the hub as it runs now, whose watches a test can cut after any message. */
class Cuttable {
  #cut: (() => void) | undefined;
  readonly client: ReturnType<RegistryHub["local"]>;

  constructor() {
    const watch = (...call: Parameters<typeof this.client.watch>) => this.#watch(...call);
    this.client = { ...hub.local({}), watch } as typeof this.client;
  }

  async *#watch(...[request, options]: Parameters<typeof this.client.watch>): ReturnType<typeof this.client.watch> & AsyncGenerator {
    const gone = Promise.withResolvers<never>();
    gone.promise.catch(() => undefined);
    this.#cut = () => gone.reject(new FoedusError({ reason: "PEER_UNREACHABLE", message: "the test cut the watch" }));
    const inner = hub.local({ kind: "operator" }).watch(request, options)[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await Promise.race([inner.next(), gone.promise]);
        if (next.done === true) return;
        yield next.value;
      }
    } finally {
      void inner.return?.();
    }
  }

  cut(): void {
    this.#cut?.();
  }
}

type Act =
  | { readonly kind: "set"; readonly key: number; readonly times: number }
  | { readonly kind: "turns"; readonly count: number }
  /** The mirror is made anew while changes are on their way into the hub, or is cut then. */
  | { readonly kind: "again" | "cut"; readonly times: number; readonly count: number }
  | { readonly kind: "drain" | "restart" };

const act: fc.Arbitrary<Act> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant("set" as const), key: fc.nat(2), times: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("turns" as const), count: fc.integer({ min: 1, max: 6 }) }) },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constantFrom("again" as const, "cut" as const), times: fc.nat(3), count: fc.nat(2) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom("drain" as const, "restart" as const) }) },
);

describe("what a mirror has seen", { timeout: 120_000 }, () => {
  let runs = 0;

  /** perform lets an updater count up while a mirror is cut, made anew, and its hub restarted; it answers what was seen, in order. */
  async function perform(acts: readonly Act[]): Promise<ReadonlyMap<string, readonly number[]>> {
    const nodeId = `n-${++runs}`;
    const capabilities = KEYS.map((name) => ({ name, type: ValueType.DOUBLE, readable: true }));
    await RegistryClient.connect(hub.local({})).registerAll([{ nodeId, type: "m", capabilities }]);
    const seen = new Map<string, number[]>(KEYS.map((key) => [key, []]));
    const last = new Map<string, number>();
    const cuttable = new Cuttable();
    let mirror: Mirror | undefined;
    const look = (): void => {
      for (const { key, value } of mirror?.state("alpha", nodeId) ?? []) {
        const values = seen.get(key) as number[];
        if (values.at(-1) !== value) values.push(value as number);
      }
    };
    /** Every value of a batch counts, not only the one that it ends with. */
    const onBatch = ({ table }: MirrorFeed, batch: UpdateBatch): void => {
      numbersOf(batch).forEach((number, i) => {
        if (table.named(batch.ref[i] as number)?.info.nodeId !== nodeId) return;
        const values = seen.get(table.key(batch.key[i] as number)?.name ?? "");
        if (values?.at(-1) !== number) values?.push(number);
      });
    };
    const watch = (): Mirror => {
      mirror?.close();
      for (const values of seen.values()) values.length = 0;
      return RegistryClient.connect(cuttable.client).mirror({ clock: hasty, onBatch, onReplaced: look, onBookmark: look });
    };
    mirror = watch();
    let updater: Updater = RegistryClient.connect(hub.local({})).updater({ clock: hasty, batchUpdates: 1 });
    let value = 0;
    const set = (key: number, times: number): void => {
      for (let i = 0; i < times; i++) updater.set(nodeId, KEYS[key] as string, ++value);
      if (times > 0) last.set(KEYS[key] as string, value);
    };
    for (const step of acts) {
      if (step.kind === "set") set(step.key, step.times);
      if (step.kind === "again" || step.kind === "cut") set(0, step.times);
      if ("count" in step) for (let i = 0; i < step.count; i++) await turn();
      if (step.kind === "again") mirror = watch();
      if (step.kind === "cut") cuttable.cut();
      if (step.kind === "drain") await updater.drain();
      if (step.kind !== "restart") continue;
      await updater.drain();
      updater.close();
      await hub.stop();
      await hub.start();
      updater = RegistryClient.connect(hub.local({})).updater({ clock: hasty, batchUpdates: 1 });
    }
    await updater.drain();
    await until(() => {
      look();
      return [...last].every(([key, newest]) => seen.get(key)?.at(-1) === newest);
    });
    mirror.close();
    updater.close();
    return seen;
  }

  test("F-22 is never older than before, over cuts, resumes, new watches and restarts of the hub", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(act, { maxLength: 40 }), async (acts) => {
        for (const values of (await perform(acts)).values()) expect(values).toEqual(values.toSorted((x, y) => x - y));
      }),
      { numRuns: 40, seed: 22, endOnFailure: true },
    );
  });
});

test("MI1 after a failure that leaves a copy in parts, watches resume from nothing until all has come anew, however often they are cut", async () => {
  const cut = (reason: Reason): FoedusError => new FoedusError({ reason, message: "the test cut the watch" });
  const resumed: number[] = [];
  const real = hub.local({ kind: "operator" });
  async function* watch(...[request, options]: Parameters<typeof real.watch>): AsyncGenerator<WatchResponse> {
    resumed.push(request.resume.length);
    // The first watch is cut when all is here, the next one before anything is.
    if (resumed.length === 2) throw cut("PEER_UNREACHABLE");
    for await (const message of real.watch(request, options)) {
      yield message;
      if (resumed.length === 1 && message.push.case === "bookmark") throw cut("INTERNAL");
    }
  }
  let up = 0;
  const onLink = (failure: unknown): void => void (up += failure === undefined ? 1 : 0);
  const mirror = RegistryClient.connect({ ...hub.local({}), watch } as typeof real).mirror({ clock: hasty, onLink });
  await until(() => up >= 2);
  mirror.close();
  expect(resumed).toEqual([0, 0, 0]);
});

test("a mirror of a hub that nobody knows is ready, with nothing in it", async () => {
  const mirror = RegistryClient.connect(hub.local({ kind: "operator" })).mirror({ hubIds: ["nobody"] });
  await mirror.ready;
  expect([[...mirror.feeds()], mirror.hubs()]).toEqual([[], []]);
  mirror.close();
});

test("a mirror of a hub that is known is ready when the copy is here", async () => {
  const client = hub.local({ kind: "operator" });
  const mirror = RegistryClient.connect(client).mirror({ hubIds: ["alpha", "nobody"] });
  await mirror.ready;
  expect([...mirror.feeds()].map(({ hubId, complete }) => [hubId, complete])).toEqual([["alpha", true]]);
  mirror.close();
});
