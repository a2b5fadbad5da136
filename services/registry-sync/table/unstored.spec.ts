import fc from "fast-check";
import { Registry } from "prom-client";
import { expect, test } from "vitest";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { createCrypto } from "#runtime/crypto.ts";
import { createDriver, type Driver } from "#runtime/service/driver.ts";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { memoryLogger } from "../../../test/fakes/memory-logger.ts";
import { MemoryStore } from "../../../test/fakes/memory-store.ts";
import { ANY_NODE, GATEWAY, keyOf, nodeBytes } from "../../../test/fakes/registry-hub.ts";
import { segmentCodec } from "../codec/segment-codec.ts";
import { RegistryCore } from "../core.ts";
import { overtakes } from "../feed/overtakes.ts";
import type { Effect, FeedPosition, Input, NamedUpdate, Output, WatchOptions, WatchPush } from "../messages.ts";
import { Shell } from "../shell/shell.ts";
import { REGISTRY_DEFAULTS, type RegistryOptions } from "../world.ts";

const ALL: WatchOptions = { filter: ANY_NODE, encoding: "events", nodesOnly: false, latestOnly: false, resume: [] };

/** told is what pushes say, in words. */
function told(pushes: readonly WatchPush[]): string[] {
  return pushes.flatMap((push) => {
    if (push.kind === "bookmark") {
      const positions = push.positions.map(({ hubId, epoch, seq }) => `bookmark ${hubId}:${epoch}/${seq}`);
      return positions.length === 0 ? ["bookmark of nothing"] : positions;
    }
    if (push.kind === "blocks") return [`blocks ${push.position.seq}`];
    if (push.kind !== "events") return [`${push.kind} ${push.position.hubId}`];
    return push.events.map(({ name, change }) => {
      if (change.kind === "state") return `${name.nodeId}.${change.state.key}=${String(change.state.value)}`;
      return change.kind === "online" ? `${name.nodeId} online=${change.online}` : `${name.nodeId} ${change.kind}`;
    });
  });
}

/** Hub is a core with the shipping driver and shell, and a store that can be made to refuse. */
class Hub {
  readonly clock: ManualClock;
  readonly store: MemoryStore;
  readonly core: RegistryCore;
  readonly driver: Driver<Input>;
  readonly #shell = new Shell();
  readonly #pushes = new Map<number, WatchPush[]>();
  readonly acked: number[] = [];
  /** Watches that do not take what they are shown. */
  readonly slow = new Set<number>();
  #seq = 0;

  constructor(store = new MemoryStore(), clock = new ManualClock(), options: Partial<RegistryOptions> = {}) {
    this.store = store;
    this.clock = clock;
    const key = keyOf("beta");
    const own = { crypto: createCrypto(key), publicKey: key.publicKey };
    this.core = new RegistryCore({ ...REGISTRY_DEFAULTS, ...own, hubId: "beta", codec: segmentCodec, limits: LIMITS, ...options });
    this.core.restore(store, { bootId: "boot", durability: "full" });
    const shell = this.#shell;
    this.driver = createDriver<Input, Effect>({
      service: "registry-sync",
      core: this.core,
      store,
      clock,
      log: memoryLogger(),
      metrics: new Registry(),
      execute: (output) => this.#execute(output),
      observe: () => undefined,
      reject: (output, failure) => shell.reject(output, failure),
      overtakes,
      onStored: (report) => shell.stored(report),
      onFatal: (error) => {
        throw error;
      },
      commit: "turn",
    });
    shell.attach(this.driver);
    shell.streams.set(1, (output) => output.kind === "acked" && this.acked.push(output.upTo));
    this.driver.post({ kind: "start" });
  }

  #execute(output: Output): void {
    if (this.#shell.route(output)) return;
    if (output.kind === "want_flush") this.clock.setImmediate(() => this.driver.tell({ kind: "flush" }));
  }

  async settle(): Promise<void> {
    for (let i = 0; i < 400; i++) {
      await Promise.resolve();
      if (this.clock.turn() > 0) continue;
      this.clock.advance(1);
      if (i > 20) return;
    }
    throw new Error("the hub does not come to rest");
  }

  async register(nodeId: string, capabilities: readonly string[] = ["watts:double"], type = ""): Promise<void> {
    this.driver.post({ kind: "register", call: -1, scope: GATEWAY, nodes: [nodeBytes(nodeId, capabilities, { type })] });
    await this.settle();
  }

  async deregister(nodeId: string): Promise<void> {
    this.driver.post({ kind: "deregister", call: -1, scope: GATEWAY, nodeId });
    await this.settle();
  }

  async update(...updates: readonly NamedUpdate[]): Promise<number> {
    if (this.#seq === 0) this.driver.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    this.driver.post({ kind: "named", stream: 1, seq: ++this.#seq, updates });
    await this.settle();
    return this.#seq;
  }

  watts(value: number, nodeId = "lamp"): Promise<number> {
    return this.update({ nodeId, key: "watts", value, type: 3 });
  }

  async watch(id: number, options: Partial<WatchOptions> = {}): Promise<string[]> {
    this.#shell.watches.set(id, (output) => {
      if (output.kind !== "watch_send") return;
      this.#pushes.set(id, [...(this.#pushes.get(id) ?? []), ...output.pushes]);
      if (!this.slow.has(id)) this.clock.setImmediate(() => this.driver.tell({ kind: "watch_ready", watch: id }));
    });
    this.driver.post({ kind: "watch_open", watch: id, options: { ...ALL, ...options } });
    await this.settle();
    return this.shown(id);
  }

  /** shown is what a watcher was shown since the last time. */
  shown(id: number): string[] {
    const pushes = this.#pushes.get(id) ?? [];
    this.#pushes.delete(id);
    return told(pushes);
  }

  async recover(): Promise<void> {
    this.store.failAll(undefined);
    this.clock.advance(LIMITS.storeRetryMs + 1_000);
    await this.settle();
  }

  /** restarted is the process after this one, which finds what was stored. */
  restarted(): Hub {
    return new Hub(this.store.backup());
  }
}

/** hubWithLamp has stored a lamp of one watt, and now its disk is full. */
async function hubWithLamp(options: Partial<RegistryOptions> = {}): Promise<Hub> {
  const hub = new Hub(undefined, undefined, options);
  await hub.register("lamp");
  await hub.watts(1);
  return hub;
}

test("WA3 a watcher that opens while the store refuses is shown what is stored, and after a restart nothing older", async () => {
  const hub = await hubWithLamp();
  hub.store.failAll("full");
  await hub.watts(2);
  expect([hub.driver.state, hub.acked]).toEqual(["refusing", [1]]);
  expect(await hub.watch(1)).toEqual(["reset beta", "lamp put", "lamp online=true", "lamp.watts=1", "bookmark beta:1/3"]);
  expect(await hub.restarted().watch(1)).toEqual(["reset beta", "lamp put", "lamp online=true", "lamp.watts=1", "bookmark beta:1/3"]);
  await hub.recover();
  expect(hub.shown(1)).toEqual(["lamp.watts=2", "bookmark beta:1/4"]);
  expect(hub.acked).toEqual([1, 2]);
});

test("WA3 a watcher that resumes while the store refuses is shown what is stored", async () => {
  const hub = await hubWithLamp();
  const from = hub.core.feeds()[0]?.head as FeedPosition;
  await hub.watts(2);
  hub.store.failAll("full");
  await hub.watts(3);
  expect(await hub.watch(1, { resume: [from] })).toEqual(["lamp.watts=2", "bookmark beta:1/4"]);
  expect(await hub.watch(2, { encoding: "blocks", resume: [from] })).toEqual(["blocks 4", "bookmark beta:1/4"]);
  await hub.recover();
  expect([hub.shown(1), hub.shown(2)]).toEqual([
    ["lamp.watts=3", "bookmark beta:1/5"],
    ["blocks 5", "bookmark beta:1/5"],
  ]);
});

test("WA3 what cannot be shown as it is stored is left out, and all of it is shown when the store takes writes again", async () => {
  const hub = await hubWithLamp({ ringSegments: 2 });
  await hub.register("door", ["open:bool"]);
  await hub.register("bell", ["rung:bool"]);
  await hub.register("blind");
  hub.store.failAll("full");
  hub.driver.post({ kind: "named", stream: 1, seq: 7, updates: [{ nodeId: "lamp", key: "watts", value: 2, type: 3 }] });
  hub.driver.post({ kind: "register", call: -1, scope: GATEWAY, nodes: [nodeBytes("new", ["watts:double"])] });
  hub.driver.post({ kind: "register", call: -1, scope: GATEWAY, nodes: [nodeBytes("door", ["open:bool", "watts:double"])] });
  hub.driver.post({ kind: "deregister", call: -1, scope: GATEWAY, nodeId: "bell" });
  await hub.settle();
  expect(hub.driver.state).toBe("refusing");
  // The lamp is there and its value of before is not at hand; what was changed, removed or is new is not there.
  expect(await hub.watch(1)).toEqual(["reset beta", "lamp put", "lamp online=true", "blind put", "blind online=true"]);
  expect(await hub.watch(2, { encoding: "blocks" })).toEqual(["reset beta", "blocks 6"]);
  await hub.recover();
  expect(hub.shown(1).filter((word) => !word.includes("online"))).toEqual([
    "reset beta",
    "lamp put",
    "lamp.watts=2",
    "door put",
    "blind put",
    "new put",
    "bookmark beta:1/7",
  ]);
  expect(hub.shown(2)).toEqual(["reset beta", "blocks 7", "bookmark beta:1/7"]);
});

test("WA3 a watcher in the middle of its first copy when the store begins to refuse gets another copy, of what is stored", async () => {
  const hub = await hubWithLamp({ watchBytes: 256 });
  for (let i = 0; i < 9; i++) await hub.register(`node-${i}`);
  hub.slow.add(1);
  const begun = await hub.watch(1);
  expect([begun[0], begun.includes("node-8 put")]).toEqual(["reset beta", false]);
  hub.store.failAll("full");
  // The next part of the copy waits for a commit that is refused.
  hub.driver.post({ kind: "named", stream: 1, seq: 2, updates: [{ nodeId: "lamp", key: "watts", value: 2, type: 3 }] });
  hub.driver.post({ kind: "flush" });
  hub.slow.delete(1);
  hub.driver.post({ kind: "watch_ready", watch: 1 });
  await hub.settle();
  const shown = hub.shown(1);
  expect([shown[0], shown.at(-1), shown.includes("node-8 put"), shown.includes("lamp.watts=1"), shown.includes("lamp.watts=2")]).toEqual([
    "reset beta",
    "bookmark beta:1/12",
    true,
    true,
    false,
  ]);
  await hub.recover();
  expect(hub.shown(1)).toEqual(["lamp.watts=2", "bookmark beta:1/13"]);
});

test("WA3 an own feed that opened an epoch which is not stored is not shown until it is, and what expires meanwhile neither", async () => {
  const hub = await hubWithLamp();
  hub.store.failAll("full");
  hub.driver.post({ kind: "own_key", serial: 2, revoked: true });
  await hub.settle();
  expect(hub.driver.state).toBe("refusing");
  expect(await hub.watch(1)).toEqual([]);
  await hub.recover();
  expect(hub.shown(1)).toEqual(["reset beta", "lamp put", "lamp online=true", "lamp.watts=1", "bookmark beta:2/1"]);
  await hub.watts(2);
  expect(hub.shown(1)).toEqual(["lamp.watts=2", "bookmark beta:2/2"]);
  hub.store.failAll("full");
  await hub.watts(3);
  // The lease of the gateway runs out: its nodes go offline, in memory.
  hub.driver.post({ kind: "stream_close", stream: 1 });
  hub.clock.advance(REGISTRY_DEFAULTS.leaseMs + 10_000);
  expect(await hub.watch(2)).toEqual(["reset beta", "lamp put", "lamp online=true", "lamp.watts=2", "bookmark beta:2/2"]);
  expect(hub.shown(1)).toEqual([]);
  await hub.recover();
  expect(hub.shown(2)).toEqual(["lamp.watts=3", "lamp online=false", "bookmark beta:2/4"]);
});

test("D-1 while the store refuses, pings say what is stored: who holds that is fresh", async () => {
  const hub = await hubWithLamp();
  hub.driver.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
  hub.store.failAll("full");
  await hub.watts(2);
  expect(hub.core.heads("alpha").map(({ epoch, seq }) => [epoch, seq])).toEqual([[1, 3]]);
  await hub.recover();
  expect(hub.core.heads("alpha").map(({ epoch, seq }) => [epoch, seq])).toEqual([[1, 4]]);
});

test("WA3 while the store refuses, a watcher is told that a share went before it is shown the one in its place, and not again afterwards", async () => {
  const hub = await hubWithLamp();
  const own = hub.core.feeds()[0]?.head as FeedPosition;
  hub.store.failAll("full");
  await hub.watts(2);
  const elsewhere = { ...own, hubId: "gamma" };
  expect(await hub.watch(1, { resume: [{ ...own, share: "limited" }, elsewhere] })).toEqual([
    "gone beta",
    "reset beta",
    "lamp put",
    "lamp online=true",
    "lamp.watts=1",
    "bookmark beta:1/3",
  ]);
  // Who watches only what went has not been told so yet, nor that this is all.
  const gamma = { ...ANY_NODE, hubIds: ["gamma"] };
  expect(await hub.watch(2, { filter: gamma, resume: [elsewhere] })).toEqual([]);
  expect(await hub.watch(3, { filter: gamma })).toEqual(["bookmark of nothing"]);
  await hub.recover();
  expect(hub.shown(1)).toEqual(["gone gamma", "lamp.watts=2", "bookmark beta:1/4"]);
  expect([hub.shown(2), hub.shown(3)]).toEqual([["gone gamma", "bookmark of nothing"], []]);
});

const ops = ["presence", "presence", "flip", "flip", "flip", "flip", "watch", "blocks", "ready", "full", "full", "room"] as const;
type Op = (typeof ops)[number];

test("WA3 whatever a ring that is too small has lost when a watcher opens, goes on or copies, it is told how all ended", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.constantFrom(...ops), { minLength: 8, maxLength: 25 }), async (steps) => {
      const hub = await hubWithLamp({ ringSegments: 3, watchBytes: 128 });
      // The lamp is online by its executor alone.
      hub.driver.post({ kind: "stream_close", stream: 1 });
      hub.clock.advance(REGISTRY_DEFAULTS.leaseMs + 10_000);
      await hub.settle();
      let [on, watch] = [false, 0];
      const seen = new Map<number, string[]>();
      const see = (): void => {
        for (const [id, words] of seen) words.push(...hub.shown(id));
      };
      const open = async (id: number, encoding: "events" | "blocks"): Promise<void> => {
        hub.slow.add(id);
        seen.set(id, await hub.watch(id, { encoding }));
      };
      const full = (failing: boolean): void => hub.store.failAll(failing ? "full" : undefined);
      const presence = (): void => {
        on = !on;
        const lamp = ["lamp"];
        hub.driver.post({ kind: "presence", call: -1, attached: on ? lamp : [], detached: on ? [] : lamp, replace: false });
      };
      const acts: Record<Op, () => unknown> = {
        presence,
        flip: () => {
          presence();
          return hub.settle();
        },
        watch: () => open(++watch, "events"),
        blocks: () => open(++watch, "blocks"),
        ready: () => {
          for (const id of seen.keys()) hub.driver.post({ kind: "watch_ready", watch: id });
        },
        full: () => full(true),
        room: () => full(false),
      };
      for (const op of steps) {
        await acts[op]();
        see();
      }
      hub.slow.clear();
      for (const id of seen.keys()) hub.driver.post({ kind: "watch_ready", watch: id });
      full(false);
      for (let i = 0; i < 3; i++) await hub.recover();
      await open(++watch, "events");
      hub.slow.clear();
      hub.driver.post({ kind: "watch_ready", watch });
      await hub.settle();
      see();
      const head = hub.core.feeds()[0]?.head as FeedPosition;
      const lasts = (words: readonly string[], what: string): string | undefined => words.filter((word) => word.startsWith(what)).at(-1);
      const told = seen.get(watch) as string[];
      for (const [id, words] of seen) {
        expect([id, lasts(words, "bookmark")]).toEqual([id, `bookmark beta:${head.epoch}/${head.seq}`]);
        if (words.some((word) => word.startsWith("blocks"))) continue;
        for (const what of ["lamp online", "lamp.watts"]) expect([id, lasts(words, what)]).toEqual([id, lasts(told, what)]);
      }
    }),
    { numRuns: 60 },
  );
});
