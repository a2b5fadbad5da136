// docs/SHARING.md on two real hubs: its configurations are put in force, its commands print what stands there, and what `share test` says
// is what the peer sees and may invoke.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AttachExecutorRequestSchema } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { Outcome } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import { type Node, NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { Freshness, ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { GetConfigRequestSchema } from "#gen/foedus/hub/v1alpha1/hub_service_pb.ts";
import { ListNodesRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { loadHubConfig } from "../../services/hub/index.ts";
import { start } from "../cli/fixture.ts";
import { runHere } from "../cli/here.ts";
import { execute, register, text } from "../support/acts.ts";
import { type Clients, Federation, type HubProcess, ROOT, until } from "../support/federation.ts";

const PAGE = readFileSync(join(ROOT, "docs/SHARING.md"), "utf8");

/** Step is an example of the page: a configuration, or a command with what it prints. */
type Step = { readonly config: Record<string, unknown>; readonly file: string } | { readonly command: string; readonly prints: string };

/** steps are the examples of the page in their order. A configuration that the text calls by a name is another file than `hub.json`. */
function steps(): Step[] {
  const blocks = [...PAGE.matchAll(/^```(json|console)\n([\s\S]*?)^```/gm)];
  return blocks.flatMap((block): Step[] => {
    const [, language, body = ""] = block;
    const [, file = "hub.json"] = /This is `([a-z]+\.json)`:\n\n$/.exec(PAGE.slice(0, block.index)) ?? [];
    if (language === "json") return [{ config: JSON.parse(body), file }];
    return body
      .split(/^\$ /m)
      .slice(1)
      .map((part) => ({ command: part.slice(0, part.indexOf("\n")), prints: part.slice(part.indexOf("\n") + 1) }));
  });
}

/** nodesOfPage are the nodes in the table of the page. */
function nodesOfPage(): Node[] {
  const rows = [...PAGE.matchAll(/^\| `([a-z0-9-]+)` \| `([a-z]+)` \| (?:`([a-z]+)=([a-z0-9]+)`)? ?\| ((?:`[a-z]+!?`(?:, )?)+) \|$/gm)];
  return rows.map(([, nodeId = "", type = "", label, value = "", capabilities = ""]) =>
    create(NodeSchema, {
      nodeId,
      type,
      labels: label === undefined ? {} : { [label]: value },
      capabilities: [...capabilities.matchAll(/`([a-z]+)(!?)`/g)].map(([, name = "", command]) => ({
        name,
        type: ValueType.STRING,
        readable: true,
        invocable: command === "!",
      })),
    }),
  );
}

/** Said is what `share test --json` prints, as far as it is compared. */
interface Said {
  readonly nodes: readonly {
    readonly node_id: string;
    readonly shown: boolean;
    readonly capabilities: readonly { readonly name: string; readonly right: "none" | "see" | "invoke" }[];
  }[];
}

let federation: Federation;
let hub: HubProcess;
let home: Clients;
let neighbour: Clients;
let env: Readonly<Record<string, string>>;
const nodes = nodesOfPage();

/** serve runs every command to these nodes. */
function serve(clients: Clients, nodeIds: string[]): () => void {
  const stream = clients.commands.attachExecutor();
  stream.send(create(AttachExecutorRequestSchema, { frame: { case: "attach", value: { nodeIds, maxInFlight: 256 } } }));
  const run = async (): Promise<void> => {
    for await (const { frame } of stream.responses) {
      if (frame.case !== "tasks") continue;
      const results = frame.value.tasks.map((task) => ({ taskId: task.taskId, value: task.value! }));
      stream.send(create(AttachExecutorRequestSchema, { frame: { case: "results", value: { results } } }));
    }
  };
  run().catch(() => undefined);
  return () => stream.cancel();
}

/** withRules is the hub's own configuration with other rules. */
function withRules(config: Record<string, unknown>): Record<string, unknown> {
  return { ...(JSON.parse(readFileSync(join(hub.dir, "hub.json"), "utf8")) as object), ...config };
}

/** inForce puts rules into `hub.json` and resolves when the running hub follows them. */
async function inForce(config: Record<string, unknown>): Promise<void> {
  const file = join(hub.dir, "hub.json");
  writeFileSync(file, JSON.stringify(withRules(config)));
  const wanted = JSON.stringify(loadHubConfig({ file }).config.registry_sync.shares);
  process.kill(hub.pids.get("hub")!, "SIGHUP");
  await until("the rules being followed", async () => {
    const { json } = await home.hub.getConfig(create(GetConfigRequestSchema));
    return JSON.stringify(JSON.parse(json).registry_sync.shares) === wanted;
  });
}

const foedus = (...args: string[]) => runHere(args, { cwd: hub.dir, env });
const said = async (): Promise<Said> => JSON.parse((await foedus("share", "test", "neighbour", "--json")).out);

/** seen is what the peer's hub shows its operator of our nodes. */
async function seen(): Promise<Map<string, { readonly name: string; readonly invocable: boolean }[]>> {
  const { records } = await neighbour.registry.listNodes(create(ListNodesRequestSchema, { filter: { hubIds: ["home"] }, pageSize: 100 }));
  return new Map(records.map(({ node }) => [node!.nodeId, node!.capabilities.map(({ name, invocable }) => ({ name, invocable }))]));
}

/** mayInvoke tells whether a command of the peer's operator is run here. */
async function mayInvoke(nodeId: string, capability: string): Promise<boolean> {
  const done = await execute(neighbour, "home", nodeId, capability, text("x"), 10_000).catch((error: unknown) => error as Error);
  if (done instanceof Error) {
    expect(done).toMatchObject({
      failure: { reason: expect.stringMatching(/^(NODE_NOT_FOUND|NOT_SHARED|CAPABILITY_ACCESS|CAPABILITY_NOT_FOUND)$/) },
    });
    return false;
  }
  expect(done.result?.outcome).toBe(Outcome.DONE);
  return true;
}

/** agrees compares what is said with what the peer sees, and with what it may invoke. Gives how many nodes it sees. */
async function agrees(): Promise<number> {
  const { nodes: judged } = await said();
  expect(judged.length).toBe(nodes.length);
  const expected = judged
    .filter(({ shown }) => shown)
    .map(({ node_id, capabilities }): [string, unknown[]] => [
      node_id,
      capabilities.filter(({ right }) => right !== "none").map(({ name, right }) => ({ name, invocable: right === "invoke" })),
    ]);
  const sorted = (list: Iterable<readonly [string, unknown[]]>): string => JSON.stringify([...list].sort(([a], [b]) => (a < b ? -1 : 1)));
  await until("the peer seeing what is said", async () => {
    const now = sorted(await seen());
    if (now !== sorted(expected)) throw new Error(`it sees ${now}, not ${sorted(expected)}`);
    return true;
  });
  for (const { node_id, capabilities } of judged)
    for (const { name, right } of capabilities)
      expect(`${node_id}.${name} ${await mayInvoke(node_id, name)}`).toBe(`${node_id}.${name} ${right === "invoke"}`);
  return expected.length;
}

beforeAll(async () => {
  federation = await Federation.start({
    hubs: [
      { id: "home", peers: [{ hub: "neighbour", maxTrust: "limited", share: "limited" }] },
      { id: "neighbour", peers: [{ hub: "home", maxTrust: "full", share: "full" }] },
    ],
  });
  hub = federation.hub("home");
  [home, neighbour] = [hub.clients(), federation.hub("neighbour").clients()];
  const { ca, cert, key } = hub.pki("operator-admin");
  env = { FOEDUS_ADDRESS: hub.address("registry-sync"), FOEDUS_CA: ca, FOEDUS_CERT: cert, FOEDUS_KEY: key };
  await federation.operational(30_000);
  const gateway = hub.clients("gateway-zigbee");
  await register(gateway, ...nodes);
  serve(
    gateway,
    nodes.map(({ nodeId }) => nodeId),
  );
  const theirs = [create(NodeSchema, { nodeId: "doorbell", type: "bell" }), create(NodeSchema, { nodeId: "porch-camera", type: "camera" })];
  await register(federation.hub("neighbour").clients("gateway-zigbee"), ...theirs);
  await until("the nodes of the neighbour", async () => {
    const { total } = await home.registry.listNodes(create(ListNodesRequestSchema, { filter: { hubIds: ["neighbour"] }, pageSize: 1 }));
    return total === theirs.length;
  });
}, 120_000);

afterAll(() => federation?.stop());

describe("docs/SHARING.md", () => {
  const examples = steps();

  test("has configurations and commands, and every configuration is shown by a command", () => {
    expect(nodes.map(({ nodeId }) => nodeId).length).toBe(7);
    expect(examples.filter((step) => "config" in step).length).toBeGreaterThan(6);
    expect(examples.filter((step) => "command" in step).length).toBeGreaterThan(9);
    for (const [i, step] of examples.entries()) if ("config" in step) expect(examples[i + 1]).toHaveProperty("command");
    // No other fenced block, which nothing would run.
    expect([...PAGE.matchAll(/^```(\w+)$/gm)].every(([, language]) => language === "json" || language === "console")).toBe(true);
  });

  test("every configuration is in force when its commands print what stands there, and the peer sees and may do just that", async () => {
    for (const step of examples)
      if ("command" in step) {
        const [program, ...args] = step.command.split(" ");
        expect(program).toBe("foedus");
        const { code, out, err } = await foedus(...args);
        expect(`$ ${step.command}\n${out}${err}`).toBe(`$ ${step.command}\n${step.prints}`);
        expect(code).toBe(0);
      } else if (step.file === "hub.json") {
        await inForce(step.config);
        await agrees();
      } else writeFileSync(join(hub.dir, step.file), JSON.stringify(withRules(step.config)));
  }, 300_000);

  test("a process prints what stands on the page too", async () => {
    const first = examples.find((step) => "command" in step)!;
    const config = examples.find((step) => "config" in step)!;
    await inForce(config.config);
    const { code, out, err } = await start(["share", "test", "neighbour"], { cwd: hub.dir, env }).done;
    expect({ code, text: out + err }).toEqual({ code: 0, text: first.prints });
  }, 120_000);
});

describe("what share test says", () => {
  const some = (...from: string[]): fc.Arbitrary<string[]> => fc.subarray(from, { maxLength: 2 });
  const rule = fc.record({
    ids: some("*-lamp", "line-*", "front-door", "*"),
    types: fc.constantFrom([], [], ["light"], ["sensor", "press"]),
    labels: fc.constantFrom({}, {}, { room: "*" }, { line: "1" }),
    allow: fc.constantFrom(true, true, false),
    keys: fc.constantFrom(["*"], ["state", "value"], ["*e"], ["locked"]),
    invoke: fc.constantFrom(["*"], ["state"], ["brightness", "locked"], []),
  });

  test("is what the peer sees and may invoke, for random rules", async () => {
    const counts: number[] = [];
    await fc.assert(
      fc.asyncProperty(fc.array(rule, { minLength: 1, maxLength: 4 }), async (rules) => {
        await inForce({ registry_sync: { shares: { limited: { nodes: rules } } } });
        counts.push(await agrees());
      }),
      // Each takes seconds: the hub is real.
      { numRuns: 8, endOnFailure: true },
    );
    expect(new Set(counts).size).toBeGreaterThan(1);
  }, 300_000);

  test("of an import is what a hub with these rules takes in", async () => {
    const rules = { shares: {}, imports: { nodes: [{ types: ["camera"], allow: false }, "*"] } };
    const edited = join(hub.dir, "edited.json");
    writeFileSync(edited, JSON.stringify(withRules({ registry_sync: rules })));
    const taken = async (nodeId: string) =>
      (await foedus("share", "test", "neighbour", "--config", edited, "--node", `neighbour/${nodeId}`, "-q")).out.trim();
    expect([await taken("doorbell"), await taken("porch-camera")]).toEqual(["taken", "none"]);
    writeFileSync(join(hub.dir, "hub.json"), readFileSync(edited));
    await hub.end();
    await hub.start();
    await federation.operational(30_000);
    const held = async (): Promise<string[]> => {
      const { records } = await home.registry.listNodes(
        create(ListNodesRequestSchema, { filter: { hubIds: ["neighbour"] }, pageSize: 10 }),
      );
      return records.map(({ name }) => name!.nodeId);
    };
    await until("the nodes of the neighbour", async () => (await held()).length > 0);
    expect(await held()).toEqual(["doorbell"]);
    expect((await foedus("share", "test", "neighbour", "--node", "neighbour/porch-camera")).code).toBe(5);
  }, 120_000);

  test("of the ways to stop sharing: the peer forgets, or keeps its last copy, as docs/SHARING.md says", async () => {
    const held = async (): Promise<Freshness[]> => {
      const { records } = await neighbour.registry.listNodes(
        create(ListNodesRequestSchema, { filter: { hubIds: ["home"] }, pageSize: 100 }),
      );
      return records.map(({ freshness }) => freshness);
    };
    const all = (): Promise<unknown> =>
      until("the neighbour having all nodes, fresh", async () => {
        const now = await held();
        return now.length === nodes.length && now.every((freshness) => freshness === Freshness.FRESH);
      });
    // What a peer holds is stale when nothing was heard for 30 s.
    const keeps = (): Promise<unknown> =>
      until("its copy being out of date", async () => (await held()).every((freshness) => freshness !== Freshness.FRESH), 60_000);
    const done = async (...args: string[]): Promise<void> => expect(await foedus(...args)).toMatchObject({ code: 0 });
    await inForce({ registry_sync: { shares: { limited: { nodes: ["*"] } } } });
    await all();
    await inForce({ registry_sync: { shares: { limited: { nodes: [] } } } });
    await until("the neighbour having forgotten all", async () => (await held()).length === 0);
    await inForce({ registry_sync: { shares: { limited: { nodes: ["*"] } } } });
    await all();
    await done("peers", "disable", "neighbour");
    await keeps();
    expect((await held()).length).toBe(nodes.length);
    await done("peers", "enable", "neighbour");
    await all();
    await done("peer", "trust", "neighbour", "minimal");
    await keeps();
    expect((await held()).length).toBe(nodes.length);
    await done("peer", "trust", "neighbour", "limited");
    await done("peer", "add", "neighbour", "--share", "limited");
    await all();
    await done("peer", "remove", "neighbour");
    await keeps();
    expect((await held()).length).toBe(nodes.length);
  }, 300_000);

  test("a hub that does not run is no answer", async () => {
    await hub.end();
    expect(await foedus("share", "test", "neighbour")).toMatchObject({ code: 3, out: "" });
  }, 120_000);
});
