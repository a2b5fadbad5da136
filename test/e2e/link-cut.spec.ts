// Two hubs with a network between them that is cut, stalled and slowed.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { Outcome } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import { Freshness } from "#gen/foedus/common/v1/value_pb.ts";
import { LinkState } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { ListNodesRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { type ExecutorAnswer, type ExecutorClient, type ExecutorTask, Hub } from "../../clients/typescript/index.ts";
import { deregister, execute, get, isOperational, lamp, metric, number, peer, register, stateOf, text, update } from "../support/acts.ts";
import { type Clients, Federation, ROOT, until } from "../support/federation.ts";
import { Relay } from "../support/relay.ts";
import { SHIFT_VARIABLE } from "../support/shifted-clock.ts";

/** Segments of a feed that are kept in memory at the owner: the least that the configuration allows. */
const TAIL_SEGMENTS = 16;

/** Time between pings of these hubs, ms: the least that the configuration allows. */
const PING_MS = 1_000;

describe("a network that fails", () => {
  let federation: Federation;
  let relay: Relay;
  let home: Clients;
  let factory: Clients;
  let gateway: Clients;
  let executor: ExecutorClient;
  let folder: string;
  /** The file that moves home's clocks, so that staleness does not take minutes of this test. */
  let shift: string;
  const ran: string[] = [];
  /** record is the executor: it notes what ran and answers with its argument. */
  const record = ({ value }: ExecutorTask): ExecutorAnswer => {
    ran.push(String(value));
    return { value };
  };

  beforeAll(async () => {
    const config = {
      discovery: { backoff_base_ms: 100, backoff_max_ms: 1_000 },
      registry_sync: { sync_interval_ms: PING_MS, checkpoint_ms: 500, limits: { tail_segments: TAIL_SEGMENTS } },
    };
    folder = mkdtempSync(join(tmpdir(), "foedus-link-cut-"));
    shift = join(folder, "shift.json");
    writeFileSync(shift, "{}");
    const env = { [SHIFT_VARIABLE]: shift, NODE_OPTIONS: `--import=${join(ROOT, "test/support/shifted-clock.ts")}` };
    federation = await Federation.prepare({
      hubs: [
        // Home only dials out: every connection between the two goes through the relay.
        { id: "home", reachable: false, peers: [{ hub: "factory" }], config, env },
        { id: "factory", peers: [{ hub: "home" }], config },
      ],
    });
    const far = federation.hub("factory");
    const at = { host: far.host, port: far.basePort + 50 };
    relay = await Relay.listen(at, { host: far.host, port: far.basePort });
    edit(join(far.dir, "hub.json"), (value) => ({ ...value, advertise_port: at.port }));
    edit(join(federation.hub("home").dir, "federation.json"), ({ peers }) => ({
      peers: (peers as object[]).map((line) => ({ ...line, port: at.port })),
    }));
    await federation.hub("home").start();
    await far.start();
    await federation.operational(30_000);
    home = federation.hub("home").clients();
    factory = far.clients();
    gateway = far.clients("gateway-zigbee");
    await register(gateway, lamp("lamp-1"), lamp("lamp-2"), lamp("lamp-3"));
    executor = Hub.over(gateway).serve({ nodeIds: ["lamp-1"], run: record });
    await seen("lamp-1", "power", 1);
    await until(
      "the executor",
      async () => (await execute(home, "factory", "lamp-1", "state", text("ON"))).result?.outcome === Outcome.DONE,
    );
  }, 90_000);

  afterAll(async () => {
    executor?.close();
    await federation?.stop();
    await relay?.close();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  }, 30_000);

  function edit(file: string, change: (value: Record<string, unknown>) => unknown): void {
    writeFileSync(file, JSON.stringify(change(JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>)));
  }

  /** seen writes a value at the owner and waits until home has it. */
  async function seen(nodeId: string, key: string, value: number): Promise<void> {
    await update(gateway, nodeId, { [key]: number(value) });
    await until(`${nodeId} ${key} ${value} at home`, async () => stateOf(await get(home, "factory", nodeId), key) === value, 30_000);
  }

  /** snapshots counts those of the factory's feed that home took in. */
  const snapshots = (): Promise<number> => metric(federation.hub("home"), "foedus_registry_sync_snapshots_total", { peer: "factory" });

  const idsAtHome = async (): Promise<string[]> => {
    const { records } = await home.registry.listNodes(create(ListNodesRequestSchema, { filter: { hubIds: ["factory"] } }));
    return records.map((record) => record.name?.nodeId ?? "").sort();
  };

  const state = async (): Promise<LinkState> => (await peer(home, "factory")).state;

  test("D-8 a short cut: the link recovers by itself and resumes without a snapshot; a delete while apart does not come back (D-3)", async () => {
    const before = await snapshots();
    relay.set("cut");
    await until("the link recovering", async () => (await state()) === LinkState.RECOVERING);
    await update(gateway, "lamp-1", { power: number(10) });
    await deregister(gateway, "lamp-3");
    expect(await idsAtHome()).toEqual(["lamp-1", "lamp-2", "lamp-3"]);
    relay.set("pass");
    await until("the change at home", async () => stateOf(await get(home, "factory", "lamp-1"), "power") === 10, 20_000);
    await until("the delete at home", async () => (await idsAtHome()).join() === "lamp-1,lamp-2");
    await until("the link", () => isOperational(home, "factory"), 20_000);
    expect(await snapshots()).toBe(before);
  }, 60_000);

  test("a cut that outlasts the tail: a snapshot replaces what is held, and deletes are not lost (D-3)", async () => {
    const before = await snapshots();
    relay.set("cut");
    await until("the link recovering", async () => (await state()) === LinkState.RECOVERING);
    await register(gateway, lamp("lamp-4"));
    await deregister(gateway, "lamp-2");
    const updater = Hub.over(gateway).updater();
    // A write that is awaited is a segment of its own, so this is more than the tail holds.
    for (let n = 1; n <= 4 * TAIL_SEGMENTS; n++) {
      updater.set("lamp-1", "power", 1_000 + n);
      await updater.drain();
    }
    updater.close();
    relay.set("pass");
    await until(
      "the last change at home",
      async () => stateOf(await get(home, "factory", "lamp-1"), "power") === 1_000 + 4 * TAIL_SEGMENTS,
      30_000,
    );
    expect(await idsAtHome()).toEqual(["lamp-1", "lamp-4"]);
    expect(await snapshots()).toBe(before + 1);
    await seen("lamp-4", "power", 4);
  }, 60_000);

  test("a slow network is no failure: the link stays and changes arrive", async () => {
    // The registry was back first; commands have a session of their own.
    await until("both sessions", () => isOperational(home, "factory"), 20_000);
    relay.set("pass", 200);
    const from = relay.accepted;
    await seen("lamp-1", "power", 20);
    const { result } = await execute(home, "factory", "lamp-1", "state", text("OFF"));
    expect(result?.outcome).toBe(Outcome.DONE);
    expect(await state()).toBe(LinkState.OPERATIONAL);
    expect(relay.accepted).toBe(from);
    relay.set("pass");
  }, 40_000);

  test("B0-5 D-7 a half-open link is found out by pings; nodes become STALE, then UNKNOWN and offline, and never vanish", async () => {
    expect((await get(home, "factory", "lamp-1"))?.online).toBe(true);
    relay.set("stall");
    const stalledAt = systemClock.mono();
    // A command under way when the network went away: it is told as unknown, or as never sent, and it does not run twice.
    const before = ran.length;
    const lost = execute(home, "factory", "lamp-1", "state", text("ON"), 2_000).then(
      () => "DONE",
      (error: { failure?: { reason: string } }) => error.failure?.reason ?? String(error),
    );
    expect(["OUTCOME_UNKNOWN", "PEER_UNREACHABLE", "DEADLINE_EXPIRED"]).toContain(await lost);
    await until("the link recovering", async () => (await state()) === LinkState.RECOVERING, 45_000);
    // One ping later than the last answer, and one timeout (15 s) after it; more only because the machine is busy.
    expect(systemClock.mono() - stalledAt).toBeLessThan(45_000);
    const record = async () => (await get(home, "factory", "lamp-1"))!;
    // Home's clock goes on while the rest of the world stands still.
    const later = (monoMs: number): void => writeFileSync(shift, JSON.stringify({ monoMs, wallMs: monoMs }));
    later(31_000);
    const stale = await until("STALE", async () => {
      const now = await record();
      return now.freshness === Freshness.STALE && now;
    });
    expect(stateOf(stale, "power")).toBe(20);
    later(120_000);
    const unknown = await until("UNKNOWN", async () => {
      const now = await record();
      return now.freshness === Freshness.UNKNOWN && now;
    });
    expect(unknown.online).toBe(false);
    expect(stateOf(unknown, "power")).toBe(20);
    expect(await idsAtHome()).toEqual(["lamp-1", "lamp-4"]);
    const { hubs } = await home.registry.listNodes(create(ListNodesRequestSchema, { filter: { hubIds: ["factory"] } }));
    expect(hubs).toMatchObject([{ hubId: "factory", freshness: Freshness.UNKNOWN, nodes: 2 }]);
    relay.set("pass");
    await until("the link", () => isOperational(home, "factory"), 45_000);
    await seen("lamp-1", "power", 30);
    const fresh = await record();
    expect(fresh).toMatchObject({ online: true, freshness: Freshness.FRESH });
    const { result } = await until("a command", () => execute(home, "factory", "lamp-1", "state", text("OFF")));
    expect(result?.outcome).toBe(Outcome.DONE);
    expect(ran.length - before).toBeLessThanOrEqual(2);
    expect((await peer(factory, "home")).state).toBe(LinkState.OPERATIONAL);
  }, 150_000);
});
