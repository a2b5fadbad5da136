import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { RegistryClient } from "../../../clients/typescript/registry-client.ts";
import { RegistryHub } from "../../../test/registry/fixture.ts";
import { until } from "../../../test/rpc/fixture.ts";
import { testHub } from "../../../test/testca/index.ts";
import type { DirectoryChange } from "../../command-forwarding/index.ts";
import { DirectoryFeed } from "./directory.ts";

const NODES = 2_500;

describe("the directory of command-forwarding", { timeout: 30_000 }, () => {
  let hub: RegistryHub;
  beforeAll(async () => {
    const ca = await testHub("alpha");
    hub = await new RegistryHub(ca).start();
    const client = RegistryClient.connect(hub.remote(ca.gateway("zigbee")));
    await client.registerAll(Array.from({ length: NODES }, (_, index) => ({ nodeId: `n-${index}`, type: "sensor" })));
    client.close();
  });
  afterAll(async () => {
    await hub.stop();
    hub.remove();
  });

  test("S0-22 a first copy comes whole, in parts between which others get their turn", async () => {
    const feed = new DirectoryFeed(systemClock);
    const told: (readonly DirectoryChange[])[] = [];
    const turns: number[] = [];
    let turn = 0;
    let counting = true;
    const count = (): void => {
      turn++;
      if (counting) setImmediate(count);
    };
    setImmediate(count);
    feed.subscribe((changes) => {
      told.push(changes);
      turns.push(turn);
    });
    const errors: unknown[] = [];
    feed.start(
      () => hub.local({ kind: "operator" }),
      (error) => errors.push(error),
    );
    const puts = (): Set<string> => new Set(told.flat().flatMap((change) => (change.kind === "put" ? [change.nodeId] : [])));
    await until(() => puts().size === NODES);
    counting = false;
    feed.stop();
    expect(told.flat().filter(({ kind }) => kind === "hub-gone")).toEqual([]);
    expect(errors).toEqual([]);
    expect(Math.max(...told.map(({ length }) => length))).toBeLessThanOrEqual(1_000);
    expect(new Set(turns).size, "each part came in a turn of its own").toBe(turns.length);
  });
});
