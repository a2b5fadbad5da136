import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { systemEntropy } from "#channel/entropy.ts";
import {
  ChangeValueRequestSchema,
  CoordinationService,
  FederationState,
  FoundFederationRequestSchema,
  GetFederationRequestSchema,
  GetValueRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import type { EventReport } from "#runtime/events.ts";
import { createLocalClient } from "#runtime/rpc/client/local-client.ts";
import type { ServiceModule } from "#runtime/service/module.ts";
import { memoryLogger } from "../../test/fakes/memory-logger.ts";
import { MemoryStore } from "../../test/fakes/memory-store.ts";
import { until } from "../../test/support/until.ts";
import { coordinationConfig } from "./config.ts";
import { createCoordination } from "./module.ts";

/** Hub is the service of a hub alone, on a disk that tests break. */
class Hub {
  readonly events: EventReport[] = [];
  readonly fatal: unknown[] = [];
  readonly module: ServiceModule;
  readonly #log = memoryLogger();
  /** Every opening of the store begins with what the one before left. */
  store = new MemoryStore();
  opened = 0;

  constructor(dataDir: string) {
    this.module = createCoordination({
      platform: {
        hubId: "home",
        clock: systemClock,
        entropy: systemEntropy,
        log: this.#log,
        metrics: new Registry(),
        events: { report: (event) => void this.events.push(event) },
        incarnation: 1,
        packages: [],
        software: "test",
        dataDir,
        store: () => {
          if (++this.opened > 1) this.store = this.store.crash("process");
          return this.store;
        },
      },
      config: coordinationConfig.parse(undefined) as never,
      peers: { subscribe: () => () => undefined } as never,
      sessions: { report: () => undefined } as never,
      connect: (() => undefined) as never,
      tokens: { verify: () => undefined } as never,
      endpoint: () => ({ host: "home", port: 18_804 }),
      misconduct: () => undefined,
      onFatal: (error) => void this.fatal.push(error),
    });
  }

  get client() {
    const caller = {
      kind: "operator",
      hubId: "home",
      name: "test",
      spiffeId: "spiffe://home/operator/test",
      thumbprint: "",
      notAfterWall: Number.MAX_SAFE_INTEGER,
      level: 0,
      role: 2,
      prefixes: [],
    } as const;
    return createLocalClient(CoordinationService, this.module.bindings[0]!, {
      caller,
      clock: systemClock,
      log: this.#log,
      ids: systemEntropy,
    });
  }

  async put(key: string): Promise<void> {
    const change = { change: { case: "put", value: { key, value: new Uint8Array(1) } } } as const;
    await this.client.changeValue(create(ChangeValueRequestSchema, { change }));
  }

  async has(key: string): Promise<boolean> {
    return (await this.client.getValue(create(GetValueRequestSchema, { key }))).value !== undefined;
  }
}

let folder: string;
let hub: Hub;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "foedus-coordination-"));
  hub = new Hub(folder);
  await hub.module.start();
  const { state } = await hub.client.foundFederation(create(FoundFederationRequestSchema, { federationId: "street" }));
  expect(state).toBe(FederationState.MEMBER);
  await hub.put("before");
});
afterEach(async () => {
  await hub.module.stop(100).catch(() => undefined);
  rmSync(folder, { recursive: true });
});

describe("a store that fails", () => {
  test("DR12 in the middle of a write is not believed: the service stops, reads it again, and goes on with what is there", async () => {
    hub.store.failNext("io");
    await expect(hub.put("lost")).rejects.toMatchObject({ failure: { reason: "STORE_UNAVAILABLE" } });
    expect(hub.module.readiness().ready).toBe(false);
    expect(hub.events.map(({ kind }) => kind)).toContain("STORE");
    // Who asks meanwhile is not left waiting.
    await expect(hub.client.getFederation(create(GetFederationRequestSchema))).rejects.toBeDefined();
    await until("the store being read again", () => hub.module.readiness().ready, 10_000);
    expect(hub.opened).toBe(2);
    await until("the value of before", () => hub.has("before"), 10_000);
    await hub.put("after");
    expect(await hub.has("after")).toBe(true);
    expect(hub.fatal).toEqual([]);
  }, 30_000);

  test("CM3 before the write is tried again, and who asked waits and is told the truth", async () => {
    hub.store.failNext("full");
    await hub.put("late");
    expect(await hub.has("late")).toBe(true);
    expect(hub.opened).toBe(1);
  }, 30_000);
});

describe("the service", () => {
  test("CO3 says how it stands, and stops", async () => {
    const status = await hub.client.getFederation(create(GetFederationRequestSchema));
    expect(status).toMatchObject({ federationId: "street", canDecide: true, leader: "home", problem: "" });
    expect(hub.module.describe()).toContain("federation=street");
    await hub.module.stop(100);
    expect(hub.module.readiness()).toMatchObject({ ready: false });
  });
});
