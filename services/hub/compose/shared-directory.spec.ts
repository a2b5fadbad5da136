import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { ReportPresenceRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { RegistryClient } from "../../../clients/typescript/registry-client.ts";
import { RegistryHub } from "../../../test/registry/fixture.ts";
import { until } from "../../../test/rpc/fixture.ts";
import { testHub } from "../../../test/testca/index.ts";
import type { DirectoryChange } from "../../command-forwarding/index.ts";
import { Directory } from "../../command-forwarding/route/route.ts";
import { DirectoryFeed, SharedDirectory } from "./directory.ts";

const NODES = ["a", "b", "c", "d"];
const CAPABILITIES = ["on", "level", "mode"];

type Op =
  | { readonly op: "put"; readonly hub: number; readonly node: number; readonly capabilities: number }
  | { readonly op: "del"; readonly hub: number; readonly node: number }
  | { readonly op: "executor"; readonly node: number; readonly attached: boolean }
  | { readonly op: "peer"; readonly known: boolean };

const node = fc.nat(NODES.length - 1);
const hub = fc.nat(1);
const op: fc.Arbitrary<Op> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ op: fc.constant("put" as const), hub, node, capabilities: fc.nat(CAPABILITIES.length) }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("del" as const), hub, node }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("executor" as const), node, attached: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("peer" as const), known: fc.boolean() }) },
);

let alpha: RegistryHub;
let beta: RegistryHub;
beforeAll(async () => {
  const cas = await Promise.all([testHub("alpha"), testHub("beta")]);
  alpha = await new RegistryHub(cas[0]).start([cas[1]]);
  beta = await new RegistryHub(cas[1]).start([cas[0]]);
});
afterAll(async () => {
  await Promise.all([alpha.stop(), beta.stop()]);
  for (const each of [alpha, beta]) each.remove();
  expect([...alpha.fatal, ...beta.fatal]).toEqual([]);
});

/** view is all that a directory knows. */
function view(directory: Directory): string {
  const of = (hubId: string, nodeId: string): string => {
    const found = directory.node(hubId, nodeId);
    return found === undefined ? "-" : `${found.online ? "on" : "off"} ${[...found.capabilities.keys()].join("+")}`;
  };
  const bare = NODES.map((nodeId) => JSON.stringify(directory.find("", nodeId)));
  return [directory.size, ...["alpha", "beta"].flatMap((id) => NODES.map((nodeId) => `${id}/${nodeId} ${of(id, nodeId)}`)), ...bare].join(
    "\n",
  );
}

/** Both are the directory of alpha, as it is where the registry is in the same process and where it is not. */
class Both {
  readonly shared = new SharedDirectory("alpha", alpha.module.nodes);
  readonly feed = new DirectoryFeed(systemClock);
  readonly read = new Directory("alpha", this.shared.table);
  readonly told = new Directory("alpha");
  /** Nodes of alpha that came, in order, as each of them says it. */
  readonly came = { shared: [] as string[], told: [] as string[] };
  readonly errors: unknown[] = [];

  constructor() {
    this.feed.subscribe((changes) => {
      for (const change of changes) this.#tell(change);
    });
    this.shared.subscribe((changes) => {
      for (const change of changes) {
        this.read.apply(change);
        if (change.kind === "came" && change.hubId === "alpha") this.came.shared.push(change.nodeId);
      }
    });
    this.shared.start();
    this.feed.start(
      () => alpha.local({ kind: "service", name: "command-forwarding" }),
      (error) => this.errors.push(error),
    );
  }

  #tell(change: DirectoryChange): void {
    if (change.kind === "put" && change.hubId === "alpha" && this.told.node("alpha", change.nodeId) === undefined)
      this.came.told.push(change.nodeId);
    this.told.apply(change);
  }

  stop(): void {
    this.feed.stop();
    this.shared.stop();
  }
}

async function play(one: Op, clients: readonly RegistryClient[]): Promise<void> {
  switch (one.op) {
    case "put": {
      const capabilities = CAPABILITIES.slice(0, one.capabilities).map((name) => ({ name, type: ValueType.BOOL, readable: true }));
      return clients[one.hub]?.registerNode({ nodeId: NODES[one.node]!, capabilities });
    }
    case "del":
      await clients[one.hub]?.deregisterNode(NODES[one.node]!);
      return;
    case "executor": {
      const ids = [NODES[one.node]!];
      const request = create(ReportPresenceRequestSchema, one.attached ? { attached: ids } : { detached: ids });
      await alpha.local({ kind: "service", name: "command-forwarding" }).reportPresence(request);
      return;
    }
    case "peer":
      alpha.setPeers(one.known ? [alpha.viewOf(beta)] : []);
      beta.setPeers(one.known ? [beta.viewOf(alpha)] : []);
  }
}

test("S0-22 the registry's own tables say what a mirror of them is told, and which nodes came, whatever happened", {
  timeout: 120_000,
}, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(op, { maxLength: 30 }), async (history) => {
      const clients = [alpha, beta].map((each) => RegistryClient.connect(each.local()));
      for (const nodeId of NODES) for (const client of clients) await client.deregisterNode(nodeId);
      const both = new Both();
      await until(() => view(both.told) === view(both.read));
      for (const one of history) await play(one, clients);
      // What a node of beta's own sees last comes to alpha by the peers' session; until then both say the same of what came.
      await until(() => view(both.told) === view(both.read) && both.came.told.join() === both.came.shared.join()).catch(() => undefined);
      expect(view(both.told)).toBe(view(both.read));
      expect(both.came.told).toEqual(both.came.shared);
      expect(both.errors).toEqual([]);
      both.stop();
      for (const client of clients) client.close();
    }),
    { numRuns: 25 },
  );
});

test("a registry tells of nodes that came only while somebody follows it; they are there to be read in any case", async () => {
  const started = await new RegistryHub(await testHub("gamma")).start();
  const table = new SharedDirectory("gamma", started.module.nodes).table;
  expect([[...table.hubIds()], table.count("gamma"), table.node("gamma", "a")]).toEqual([["gamma"], 0, undefined]);
  const directory = new SharedDirectory("gamma", started.module.nodes);
  const told: string[] = [];
  directory.subscribe((changes) => void told.push(...changes.map(({ kind }) => kind)));
  const client = RegistryClient.connect(started.local());
  await client.registerNode({ nodeId: "a" });
  directory.start();
  await client.registerNode({ nodeId: "b" });
  await until(() => told.length > 0);
  directory.stop();
  await client.registerNode({ nodeId: "c" });
  expect([told, table.count("gamma"), directory.node("gamma", "a")?.info.nodeId]).toEqual([["came"], 3, "a"]);
  client.close();
  await started.stop();
  started.remove();
});
