import { Registry } from "prom-client";
import { expect, test } from "vitest";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { createCrypto } from "#runtime/crypto.ts";
import { createDriver } from "#runtime/service/driver.ts";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { memoryLogger } from "../../../test/fakes/memory-logger.ts";
import { MemoryStore } from "../../../test/fakes/memory-store.ts";
import { ANY_NODE, GATEWAY, keyOf, nodeBytes } from "../../../test/fakes/registry-hub.ts";
import { segmentCodec } from "../codec/segment-codec.ts";
import { RegistryCore } from "../core.ts";
import type { Effect, Input, Output } from "../messages.ts";
import { REGISTRY_DEFAULTS } from "../world.ts";
import { overtakes } from "./overtakes.ts";

test("F-14 what an owner told to forget is not said to be forgotten while the store refuses the deletion, however often it is asked", async () => {
  const clock = new ManualClock();
  const store = new MemoryStore();
  const key = keyOf("beta");
  const own = { crypto: createCrypto(key), publicKey: key.publicKey };
  const core = new RegistryCore({ ...REGISTRY_DEFAULTS, ...own, hubId: "beta", codec: segmentCodec, limits: LIMITS });
  core.restore(store, { bootId: "boot", durability: "full" });
  const left: Output[] = [];
  const driver = createDriver<Input, Effect>({
    service: "registry-sync",
    core,
    store,
    clock,
    log: memoryLogger(),
    metrics: new Registry(),
    execute: (output) => left.push(output),
    observe: () => undefined,
    reject: () => "keep",
    overtakes,
    onStored: (report) => (report.ok ? undefined : { kind: "stored", ok: false, failure: report.failure }),
    onFatal: (error) => {
      throw error;
    },
    commit: "turn",
  });
  driver.post({ kind: "start" });
  driver.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
  driver.post({ kind: "session_up", session: 1, peer: "alpha", creditBytes: 1_000_000 });
  await clock.advance(100);
  store.failAll("full");
  driver.post({ kind: "register", call: 1, scope: GATEWAY, nodes: [nodeBytes("lamp", [])] });
  driver.post({ kind: "flush" });
  await clock.advance(100);
  expect(driver.state).toBe("refusing");
  left.length = 0;
  driver.post({ kind: "frame", session: 1, frame: { type: "forget", share: "full" } });
  driver.post({ kind: "query", call: 2, query: { type: "list", filter: ANY_NODE, limit: 10 } });
  await clock.advance(100);
  expect(left.map(({ kind }) => kind)).toEqual(["answer"]);
  store.failAll(undefined);
  await clock.advance(LIMITS.storeRetryMs + 1_000);
  expect(left.some((output) => output.kind === "send" && output.frame.type === "forget_done")).toBe(true);
});
