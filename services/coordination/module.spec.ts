import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { GetFederationRequestSchema } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { LoneCoordinator } from "../../test/support/lone-coordinator.ts";
import { until } from "../../test/support/until.ts";

let folder: string;
let hub: LoneCoordinator;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "foedus-coordination-"));
  hub = new LoneCoordinator(folder);
  await hub.begin();
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

describe("a store that is full", () => {
  test("DR7 holds back what was read, and is no reason not to say how this hub stands", async () => {
    hub.store.failAll("full");
    const late = hub.put("late");
    await until("the store to refuse", () => hub.log.lines.some(({ message }) => message === "store refuses writes"), 10_000);
    let isRead = false;
    const read = hub.has("before").then((has) => {
      isRead = true;
      return has;
    });
    // What is asked later is answered, again and again.
    for (let i = 0; i < 20; i++)
      expect(await hub.client.getFederation(create(GetFederationRequestSchema))).toMatchObject({ federationId: "street" });
    expect(isRead).toBe(false);
    hub.store.failAll(undefined);
    await late;
    expect(await read).toBe(true);
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
