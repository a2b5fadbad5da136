// SIGKILL in the middle of a load of acknowledged writes and commands, twenty times, alternately at the owner and at the peer.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { NodeRecord } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { Prng } from "#kernel/prng.ts";
import { register, stateOf } from "../support/acts.ts";
import { type Clients, Federation, until } from "../support/federation.ts";
import { everything, Load, meter, missing } from "../support/load.ts";

const KILLS = 20;
const METERS = 16;
describe("SIGKILL under load", () => {
  const meters = Array.from({ length: METERS }, (_, i) => `meter-${i}`);
  let federation: Federation;
  let load: Load;
  let owner: Clients;
  let peer: Clients;

  beforeAll(async () => {
    const config = { discovery: { backoff_base_ms: 100, backoff_max_ms: 1_000 } };
    federation = await Federation.start({
      hubs: [
        { id: "home", peers: [{ hub: "factory" }], config },
        { id: "factory", peers: [{ hub: "home" }], config },
      ],
    });
    await federation.operational();
    owner = federation.hub("factory").clients("gateway-zigbee");
    peer = federation.hub("home").clients();
    await register(owner, ...meters.map(meter));
    load = new Load(owner, peer, meters);
    await until("the first commands", () => load.done.size > 10);
  }, 60_000);

  afterAll(async () => {
    load?.close();
    await federation?.stop();
  });

  test(`S0-17 D-8 ${KILLS} kills: nothing acknowledged is lost at the owner, and the peer converges to the same`, async () => {
    const prng = new Prng(20);
    for (let kill = 0; kill < KILLS; kill++) {
      const victim = federation.hub(kill % 2 === 0 ? "factory" : "home");
      const from = load.progress;
      // The moment of the kill differs from round to round, always with writes under way.
      const more = 5 + prng.below(40);
      await until(`progress before kill ${kill + 1}`, () => load.progress >= from + more, 20_000);
      await victim.end("SIGKILL");
      const counts = new Map(load.counts);
      const registered = new Set(load.registered);
      await victim.start();
      const held = await until("the owner answering", () => everything(owner, "factory"));
      expect(missing(held, counts, registered)).toEqual([]);
      await until(
        `the peer converging after kill ${kill + 1}`,
        async () => {
          const lost = missing(await everything(peer, "factory"), counts, registered);
          if (lost.length > 0) throw new Error(lost.slice(0, 5).join("; "));
          return true;
        },
        20_000,
      );
    }
  }, 300_000);

  test("then both hold exactly the same", async () => {
    await load.stop();
    const own = await everything(owner, "factory");
    expect(own.size).toBeGreaterThanOrEqual(METERS + load.registered.size);
    const view = (records: ReadonlyMap<string, NodeRecord>) =>
      [...records].map(([nodeId, record]) => `${nodeId} ${String(stateOf(record, "count"))}`).sort();
    await until("both the same", async () => view(await everything(peer, "factory")).join() === view(own).join());
    for (const [nodeId, n] of load.counts) expect(stateOf(own.get(nodeId), "count")).toBe(n);
  }, 30_000);

  test("S0-15 no command ran twice, also when it is sent again under its key; each that was DONE ran", async () => {
    expect(load.done.size).toBeGreaterThan(KILLS);
    expect(load.unsure.size).toBeGreaterThan(0);
    const again = [...load.unsure];
    for (let i = 0; i < again.length; i += 64) await Promise.all(again.slice(i, i + 64).map((name) => load.send(name, nodeOf(name))));
    expect([...load.effects].filter(([, times]) => times !== 1)).toEqual([]);
    expect([...load.done].filter((name) => !load.effects.has(name))).toEqual([]);
  }, 60_000);

  /** nodeOf is the node that a command of that name went to: the same command again means the same target. */
  function nodeOf(name: string): string {
    const [lane, n] = name.split(".").map(Number) as [number, number];
    return meters[(lane + n) % meters.length] ?? "";
  }
});
