import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { isBuiltin } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { createPeerCredentials } from "#channel/tls/peer-credentials.ts";
import {
  AttachExecutorRequestSchema,
  CommandForwardingService,
} from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { NodeKind } from "#gen/foedus/common/v1/node_pb.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { RegisterNodeRequestSchema, RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { createClient } from "#runtime/rpc/client/client.ts";
import { type Finished, type Running, start } from "../../test/cli/fixture.ts";
import { until } from "../../test/support/until.ts";
import { bundle } from "../build.ts";

let folder: string;
let main: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "foedus-bundle-"));
  main = join(folder, "bin", "foedus.mjs");
  await bundle(main);
  await foedus("pki", "init", "home");
  await foedus("pki", "issue", "gateway", "bridge");
  const tls = { ca: "pki/ca.pem", cert: "pki/service-hub.pem", key: "pki/service-hub.key" };
  await writeFile(
    join(folder, "hub.json"),
    JSON.stringify({ hub_id: "home", listen: { port: 0 }, ops: { port: 0 }, tls, log: { destination: "hub.log" } }),
  );
});

afterAll(() => rm(folder, { recursive: true, force: true }));

/** The bundle, in a folder without any of the sources or packages. */
const foedus = (...args: readonly string[]): Promise<Finished> => run(...args).done;
const run = (...args: readonly string[]): Running => start(args, { cwd: folder, main });

/** handles tells whether a process handles SIGHUP, as the kernel says. */
function handles(pid: number): boolean {
  const mask = /^SigCgt:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? "0";
  return (BigInt(`0x${mask}`) & 1n) === 1n;
}

describe("signals in the first moments of the bundled command", () => {
  test("F-9 the bundle imports nothing before its first statement", async () => {
    const code = await readFile(main, "utf8");
    const imports = [...code.matchAll(/(?<![\w$.])import(?:[\w$ ,{}*]*?from)?\s*"((?:node:)?[\w/]+)"/g)].map(([, id = ""]) => id);
    expect(imports.filter(isBuiltin)).toEqual([]);
  });

  test.skipIf(!existsSync("/proc/self/status"))(
    "F-9 SIGHUP at any time from its first statement on does not end it (needs /proc)",
    async () => {
      const hub = run("hub", "--config", "hub.json", "--json", "--set", "data_dir=hup");
      const { pid = 0 } = hub.child;
      await until("SIGHUP is handled", () => handles(pid));
      await until("the hub being up, whatever it is sent", () => {
        hub.child.kill("SIGHUP");
        return hub.out.includes("ops_port");
      });
      hub.child.kill("SIGTERM");
      expect(await hub.done).toMatchObject({ code: 0, err: "" });
    },
  );

  test.skipIf(!existsSync("/proc/self/status"))("F-9 SIGTERM in its first moment stops it cleanly (needs /proc)", async () => {
    const hub = run("hub", "--config", "hub.json", "--json", "--set", "data_dir=term");
    const { pid = 0 } = hub.child;
    await until("signals are handled", () => handles(pid));
    hub.child.kill("SIGTERM");
    expect(await hub.done).toMatchObject({ code: 0, out: "" });
  });
});

describe("the bundled command and a real hub", () => {
  test("starts, and knows its version and help", async () => {
    expect((await foedus("version")).out).toMatch(/^foedus \d+\.\d+\.\d+ \(node 2\d\./);
    expect((await foedus("hub", "--help")).out).toContain("--config <file>");
  });

  test("runs a hub: a node registers, people see it, command it and watch it; SIGTERM stops it cleanly", async () => {
    const hub = run("hub", "--config", "hub.json", "--json");
    await hub.printed("ops_port");
    const { port } = JSON.parse(hub.out) as { port: number };
    const address = `127.0.0.1:${port}`;
    await foedus(
      "contexts",
      "add",
      "home",
      "--contexts",
      ".foedus/contexts.json",
      "--address",
      address,
      "--ca",
      "pki/ca.pem",
      "--cert",
      "pki/operator-admin.pem",
      "--key",
      "pki/operator-admin.key",
    );
    const status = await foedus("status");
    expect(status.err).toBe("");
    expect(status.out).toMatch(/registry-sync +ready/);
    expect(status.code).toBe(0);

    const pem = (name: string): Promise<string> => readFile(join(folder, "pki", name), "utf8");
    const [ca, cert, key] = await Promise.all([pem("ca.pem"), pem("gateway-bridge.pem"), pem("gateway-bridge.key")]);
    const credentials = createPeerCredentials({ hubId: "home", name: "hub" }, { ca: [ca], cert, key }, systemClock);
    const registry = createClient(RegistrySyncService, { address, credentials, clock: systemClock });
    const commands = createClient(CommandForwardingService, { address, credentials, clock: systemClock });
    const watch = run("watch");
    await watch.printed("watching for changes", "err");
    const capabilities = [{ name: "state", type: ValueType.BOOL, readable: true, invocable: true }];
    await registry.registerNode(
      create(RegisterNodeRequestSchema, { node: { nodeId: "lamp", kind: NodeKind.DEVICE, type: "light", capabilities } }),
    );
    await watch.printed("home/lamp");

    const executor = commands.attachExecutor();
    executor.send(create(AttachExecutorRequestSchema, { frame: { case: "attach", value: { nodeIds: ["lamp"] } } }));
    const attached = Promise.withResolvers<void>();
    const served = (async () => {
      for await (const { frame } of executor.responses) {
        if (frame.case === "attached") attached.resolve();
        if (frame.case !== "tasks") continue;
        const results = frame.value.tasks.map(({ taskId, value }) => ({ taskId, ...(value === undefined ? {} : { value }) }));
        executor.send(create(AttachExecutorRequestSchema, { frame: { case: "results", value: { results } } }));
      }
    })().catch(() => undefined);
    await attached.promise;
    const sent = await foedus("send", "lamp", "state", "on");
    expect(sent.err).toBe("");
    expect(sent.out).toMatch(/^home\/lamp state: done in \d+.* ms, value true\n$/);
    expect((await foedus("nodes", "-q")).out).toBe("home/lamp\n");

    watch.child.kill("SIGINT");
    expect((await watch.done).code).toBe(0);
    hub.child.kill("SIGTERM");
    const ended = await hub.done;
    expect(ended.err).toBe("");
    expect(ended.code).toBe(0);
    executor.cancel();
    await served;
    registry.close();
    commands.close();
    expect((await foedus("status")).code).toBe(3);
    expect(await readFile(join(folder, "hub.log"), "utf8")).toContain('"message":"hub stopped"');
  });
});
