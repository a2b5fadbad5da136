// What every adapter has to do, whatever is on its other side. It runs as a process of its own between a hub and that.
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Value } from "#gen/foedus/common/v1/value_pb.ts";
import { Freshness } from "#gen/foedus/common/v1/value_pb.ts";
import { ListNodesRequestSchema, type NodeRecord } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { execute, stateOf } from "../support/acts.ts";
import { type Clients, Federation, type HubProcess, until } from "../support/federation.ts";

/** AdapterWorld is one kind of adapter with its other side, as the suite plays it. */
export interface AdapterWorld {
  readonly name: string;
  /** begin starts the other side. */
  begin(): Promise<void>;
  /** start starts the adapter between that and a hub; again after `kill`. */
  start(hub: HubProcess): Promise<void>;
  /** kill ends the adapter without warning. */
  kill(): Promise<void>;
  /** stop asks it to end, and gives its exit code. */
  stop(): Promise<number | null>;
  /** end ends the other side. */
  end(): Promise<void>;
  /** appear makes something with these names be there, and nothing else. Each has a number that it reports, and can be told one. */
  appear(names: readonly string[]): Promise<void>;
  /** report has it report a number. */
  report(name: string, value: number): Promise<void>;
  /** garbage says things that nobody understands, in the name of one that is there. */
  garbage(name: string): Promise<void>;
  /** obeys: what is told is done and reported; else it is taken, and nothing is said. */
  obeys(obeys: boolean): void;
  /** told are the numbers that it was told, in order. */
  told(name: string): readonly number[];
  /** lose takes the other side away, and `find` brings it back with what it had. */
  lose(): Promise<void>;
  find(): Promise<void>;
  /** The capability that is reported and told, and a value for it. */
  readonly capability: string;
  value(number: number): Value;
  /** Garbage that it has refused, as it counts. */
  refused(): number;
}

/** HOSTILE are names of devices that somebody may have chosen: none of them is an id. */
export const HOSTILE = [
  "<script>alert(1)</script>",
  "evil \u202egnp.exe",
  "💡 lamp",
  "a b",
  "a_b",
  "a  b",
  "é",
  "e\u0301",
  "x".repeat(200),
  `${"x".repeat(199)}y`,
];

/** adapterCompliance checks one kind of adapter. */
export function adapterCompliance(world: AdapterWorld): void {
  describe(`an adapter: ${world.name}`, () => {
    let federation: Federation;
    let home: Clients;
    let factory: Clients;

    beforeAll(async () => {
      await world.begin();
      federation = await Federation.start({
        hubs: [
          { id: "home", peers: [{ hub: "factory" }] },
          { id: "factory", peers: [{ hub: "home" }] },
        ],
      });
      home = federation.hub("home").clients();
      factory = federation.hub("factory").clients();
      await federation.operational();
      await world.start(federation.hub("home"));
    });
    afterAll(async () => {
      await world.kill();
      await federation?.stop();
      await world.end();
    });

    const all = async (clients: Clients): Promise<NodeRecord[]> =>
      (await clients.registry.listNodes(create(ListNodesRequestSchema, { filter: { hubIds: ["home"] } }))).records;
    const named = async (clients: Clients, name: string): Promise<NodeRecord | undefined> =>
      (await all(clients)).find(({ node }) => node?.name === name);
    /** shows waits until a node is so at a hub. */
    const shows = (clients: Clients, name: string, value: number | undefined, freshness: Freshness): Promise<NodeRecord> =>
      until(`${name} being ${value} (${freshness})`, async () => {
        const record = await named(clients, name);
        if (record === undefined) throw new Error("it is not there");
        const said = stateOf(record, world.capability);
        if ((value !== undefined && said !== value) || record.freshness !== freshness)
          throw new Error(`it is ${String(said)} (${record.freshness})`);
        return record;
      });
    const command = async (name: string, number: number) => {
      const nodeId = (await named(factory, name))?.name?.nodeId ?? "";
      return execute(factory, "home", nodeId, world.capability, world.value(number), 4_000);
    };

    test("what appears is a node here and at a peer, and what it reports gets there", async () => {
      await world.appear(["one", "two"]);
      await until("both at the peer", async () => (await all(factory)).length === 2);
      await world.report("one", 7);
      await shows(factory, "one", 7, Freshness.FRESH);
    });

    test("a command of a peer gets there once, and is done when it is reported", async () => {
      world.obeys(true);
      const { result } = await command("one", 11);
      expect(result?.value?.kind.value).toBe(11);
      expect(world.told("one")).toEqual([11]);
      await shows(factory, "one", 11, Freshness.FRESH);
    });

    test("of a command that nothing confirms the outcome is unknown, and it is not given again", async () => {
      world.obeys(false);
      await expect(command("one", 12)).rejects.toMatchObject({ reason: "OUTCOME_UNKNOWN" });
      expect(world.told("one")).toEqual([11, 12]);
      world.obeys(true);
    });

    test("garbage is counted, and changes nothing", async () => {
      const before = world.refused();
      await world.garbage("one");
      await until("it being counted", () => world.refused() > before);
      await shows(factory, "one", 11, Freshness.FRESH);
    });

    test("a flood is contained, and the last value of each arrives", async () => {
      await Promise.all(Array.from({ length: 3_000 }, (_, i) => world.report(i % 2 === 0 ? "one" : "two", i)));
      await shows(factory, "one", 2_998, Freshness.FRESH);
      await shows(factory, "two", 2_999, Freshness.FRESH);
    });

    test("while the other side is away nothing is fresh and nothing is run; then it is as before", async () => {
      await world.lose();
      await shows(factory, "one", 2_998, Freshness.UNKNOWN);
      await expect(command("one", 13)).rejects.toMatchObject({ reason: "NODE_OFFLINE" });
      await world.find();
      await until("it being reached", async () => (await named(factory, "one"))?.freshness !== Freshness.UNKNOWN);
      await world.report("one", 14);
      await shows(factory, "one", 14, Freshness.FRESH);
      expect(world.told("one")).toEqual([11, 12]);
    });

    test("a hub that was away is told everything that happened meanwhile", async () => {
      const hub = federation.hub("home");
      await hub.end("SIGKILL");
      await world.report("one", 15);
      await hub.start();
      await federation.operational(30_000);
      await shows(factory, "one", 15, Freshness.FRESH);
      // The adapter serves it again in a moment.
      const answer = await until("a command getting through", () => command("one", 16), 30_000);
      expect(answer.result?.value?.kind.value).toBe(16);
    }, 120_000);

    test("what went while the adapter was away is gone, and leaves nothing behind", async () => {
      await world.kill();
      await world.appear(["one"]);
      await world.start(federation.hub("home"));
      await until("the other one being gone", async () => (await all(factory)).length === 1, 90_000);
      await world.report("one", 17);
      await shows(factory, "one", 17, Freshness.FRESH);
    }, 120_000);

    test("names that are no ids, and names that are alike, are nodes of their own", async () => {
      await world.appear(HOSTILE);
      const nodes = await until("all of them", async () => {
        const found = await all(factory);
        if (found.length !== HOSTILE.length) throw new Error(found.map(({ name }) => name?.nodeId).join());
        return found;
      });
      for (const { name } of nodes) expect(name?.nodeId).toMatch(/^[A-Za-z0-9][A-Za-z0-9._:-]{0,62}$/);
      await world.appear([]);
      await until("nothing", async () => (await all(factory)).length === 0);
      await until("nothing here", async () => (await all(home)).length === 0);
    });

    test("it ends when it is asked to, and says that its nodes are not known to be as they were", async () => {
      await world.appear(["one"]);
      await world.report("one", 1);
      await shows(factory, "one", 1, Freshness.FRESH);
      expect(await world.stop()).toBe(0);
      await shows(factory, "one", 1, Freshness.UNKNOWN);
    });
  });
}
