// Services are restarted one after the other, by newer and by older software, in the middle of a load: what was acknowledged stays,
// no command runs twice, and streams go on where they were (D-2). docs/UPGRADES.md promises what is tested here.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { NodeRecord } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { MIGRATIONS } from "#runtime/store/migrations/index.ts";
import { bundle } from "../../cli/build.ts";
import { Hub, type Mirror } from "../../clients/typescript/index.ts";
import { isOperational, metric, register, stateOf } from "../support/acts.ts";
import { type Clients, Federation, type HubProcess, SERVICES, until } from "../support/federation.ts";
import { everything, Load, meter, missing } from "../support/load.ts";
import { BASELINE, forgetNewFields, previous } from "./previous.ts";

const METERS = 16;
/** What the load achieves between two restarts, at least: acknowledged writes and finished commands. */
const PROGRESS = 30;
// The present version as it ships: one file, which no edit of a source changes between two starts.
const folder = mkdtempSync(join(tmpdir(), "foedus-rolling-"));
const PRESENT = [join(folder, "foedus.mjs")];

const old = previous();
if (old.reason !== undefined) process.stderr.write(`skipped: upgrades from version ${BASELINE.version}: ${old.reason}\n`);
const OLD = old.entry === undefined ? PRESENT : [old.entry];
/** The order of docs/UPGRADES.md; the other hub takes the opposite one, for the order must not matter. */
const ORDER = ["telemetry", "registry-sync", "command-forwarding", "discovery"];
/** Services that the previous version does not have. They come and go with discovery, which tells peers that they are there. */
const NEW = SERVICES.filter((name) => !BASELINE.services.includes(name));

beforeAll(() => bundle(PRESENT[0]!));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.each(["single", "split"] as const)("a federation in %s mode under load", (mode) => {
  const meters = Array.from({ length: METERS }, (_, i) => `meter-${i}`);
  let federation: Federation;
  let home: HubProcess;
  let factory: HubProcess;
  let owner: Clients;
  let factoryOperator: Clients;
  let peer: Clients;
  let load: Load;
  let mirror: Mirror;
  const configs = new Map<string, string>();

  beforeAll(async () => {
    const config = { discovery: { backoff_base_ms: 100, backoff_max_ms: 1_000 } };
    federation = await Federation.prepare({
      hubs: [
        { id: "home", peers: [{ hub: "factory" }], mode, config },
        { id: "factory", peers: [{ hub: "home" }], mode, config },
      ],
      entry: OLD,
    });
    for (const hub of federation.hubs.values()) {
      configs.set(hub.id, readFileSync(join(hub.dir, "hub.json"), "utf8"));
      forgetNewFields(join(hub.dir, "hub.json"), OLD);
      if (OLD !== PRESENT) hub.services = SERVICES.filter((name) => !NEW.includes(name));
    }
    await Promise.all([...federation.hubs.values()].map((hub) => hub.start()));
    await federation.operational(60_000);
    home = federation.hub("home");
    factory = federation.hub("factory");
    owner = factory.clients("gateway-zigbee");
    factoryOperator = factory.clients();
    peer = home.clients();
    await register(owner, ...meters.map(meter));
    mirror = Hub.over(peer).watch();
    load = new Load(owner, peer, meters);
    await until("the first commands", () => load.done.size > 10, 60_000);
  }, 180_000);

  afterAll(async () => {
    load?.close();
    mirror?.close();
    await federation?.stop();
  }, 60_000);

  /** taken counts the snapshots that home took in: a stream that resumes needs none. */
  const taken = (): Promise<number> => metric(home, "foedus_registry_sync_snapshots_total", { peer: "factory" });

  /** replace restarts a hub's services one after the other with other software, and looks after each that nothing was lost. */
  async function replace(hub: HubProcess, entry: readonly string[]): Promise<void> {
    const before = await taken();
    const order = hub.id === "factory" ? ORDER : [...ORDER].reverse();
    const steps = hub.split ? order.map((name) => (name === "discovery" ? [name, ...NEW] : [name])) : [["hub"]];
    writeFileSync(join(hub.dir, "hub.json"), configs.get(hub.id)!);
    if (entry === OLD) forgetNewFields(join(hub.dir, "hub.json"), OLD);
    for (const names of steps) {
      const name = names.join(" and ");
      await progress(`before ${hub.id} ${name} is restarted`);
      const counts = new Map(load.counts);
      const registered = new Set(load.registered);
      // A stop that is not clean would say so with its exit code.
      for (const one of names.filter((process) => hub.pids.has(process)))
        expect((await hub.end("SIGTERM", one)).get(one), hub.log(one).slice(-1_500)).toBe(0);
      hub.entry = entry;
      const there = names.filter((process) => entry === PRESENT || !(NEW as readonly string[]).includes(process));
      for (const one of there) hub.startProcess(one);
      await Promise.all(there.map((one) => hub.ready(one)));
      const held = await until("the owner answering", () => everything(owner, "factory"), 30_000);
      expect(missing(held, counts, registered)).toEqual([]);
      await until(
        "both links",
        async () => (await isOperational(peer, "factory")) && (await isOperational(factoryOperator, "home")),
        60_000,
      );
      await until(
        `home converging after ${hub.id} ${name}`,
        async () => nothingMissing(await everything(peer, "factory"), counts, registered),
        60_000,
      );
    }
    await progress(`after ${hub.id} was replaced`);
    // Home's process counts from nothing when it is new.
    expect(await taken(), "snapshots: the feed was not resumed").toBe(hub.id === "home" ? 0 : before);
  }

  function nothingMissing(
    records: ReadonlyMap<string, NodeRecord>,
    counts: ReadonlyMap<string, number>,
    registered: ReadonlySet<string>,
  ): true {
    const lost = missing(records, counts, registered);
    if (lost.length > 0) throw new Error(lost.slice(0, 5).join("; "));
    return true;
  }

  /** progress waits until writes are acknowledged and commands are done again. */
  async function progress(when: string): Promise<void> {
    const from = load.progress;
    const done = load.done.size;
    await until(
      `progress ${when}`,
      () => {
        if (load.progress >= from + PROGRESS && load.done.size > done + 5) return true;
        throw new Error(`${load.progress - from} steps, ${load.done.size - done} commands; the last refusal was ${load.refusal}`);
      },
      60_000,
    );
  }

  test.skipIf(old.reason !== undefined)(
    "an upgrade of the factory, service by service; the federation is then of both versions",
    async () => {
      await replace(factory, PRESENT);
    },
    240_000,
  );

  test.skipIf(old.reason !== undefined)("an upgrade of home", () => replace(home, PRESENT), 240_000);

  test("D-2 a rolling restart of every service of both hubs", async () => {
    await replace(factory, PRESENT);
    await replace(home, PRESENT);
  }, 240_000);

  // Going back is promised as long as the stores' format is the same; stores.spec.ts shows what happens when it is not.
  if (BASELINE.format === MIGRATIONS.at(-1)?.version)
    test.skipIf(old.reason !== undefined)(
      "back to the previous version, and forward again",
      async () => {
        await replace(factory, OLD);
        await replace(factory, PRESENT);
      },
      240_000,
    );

  test("then both hubs and a watcher hold exactly the same, and no command ran twice", async () => {
    await load.stop();
    const own = await everything(owner, "factory");
    expect(own.size).toBeGreaterThanOrEqual(METERS + load.registered.size);
    for (const [nodeId, n] of load.counts) expect(stateOf(own.get(nodeId), "count")).toBe(n);
    const view = (records: ReadonlyMap<string, NodeRecord>) =>
      [...records].map(([nodeId, record]) => `${nodeId} ${String(stateOf(record, "count"))}`).sort();
    await until("both the same", async () => view(await everything(peer, "factory")).join() === view(own).join(), 30_000);
    await until("the watcher at the end", () =>
      [...load.counts].every(([nodeId, n]) => mirror.state("factory", nodeId).find(({ key }) => key === "count")?.value === n),
    );
    // A command whose end its caller did not learn is asked for again under its key: it gets its outcome, or runs for the first time.
    const again = [...load.unsure];
    for (let i = 0; i < again.length; i += 64)
      await Promise.all(again.slice(i, i + 64).map((name) => load.send(name, meters[laneOf(name) % METERS] ?? "")));
    expect(load.done.size).toBeGreaterThan(PROGRESS);
    expect([...load.effects].filter(([, times]) => times !== 1)).toEqual([]);
    expect([...load.done].filter((name) => !load.effects.has(name))).toEqual([]);
  }, 120_000);

  /** laneOf gives the number that the load chose a command's target by. */
  function laneOf(name: string): number {
    const [lane = 0, n = 0] = name.split(".").map(Number);
    return lane + n;
  }
});
