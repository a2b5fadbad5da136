// A client in another language, written from docs/PROTOCOL.md, against real hubs: the package of clients/python, as its wheel installs it.

import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { Outcome } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import { writePki } from "../../certs/issue.ts";
import { execute, get, text } from "../support/acts.ts";
import { type Clients, Federation, type HubProcess, ROOT, until } from "../support/federation.ts";
import { run } from "../support/grpcurl.ts";
import { type InstalledClient, installClient } from "../support/python.ts";
import { tool } from "../support/tools.ts";

const python = tool("foedus-python");
const CLIENT = join(ROOT, "clients/python");
/** How long a step of the script may take, ms: it waits at most 60 s for anything itself. */
const STEP_MS = 90_000;

describe.skipIf(python.reason !== undefined)("the Python client", () => {
  const folder = join(tmpdir(), `foedus-python-${randomUUID()}`);
  const scripts: ChildProcess[] = [];
  let client: InstalledClient;

  beforeAll(async () => {
    mkdirSync(folder);
    client = await installClient(python, folder);
  }, 120_000);
  afterAll(() => {
    for (const script of scripts) script.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  });

  /** play starts the script; `says` waits for a line of it, and `ended` for its end. */
  function play(
    role: string,
    hub: HubProcess,
    files: { readonly cert: string; readonly key: string },
    hubId: string,
    env: NodeJS.ProcessEnv = {},
  ) {
    const address = (service: "registry-sync" | "command-forwarding" | "telemetry") => [`--${service}`, hub.address(service)];
    const at = [
      "--address",
      hub.address("discovery"),
      ...(hub.split ? [...address("registry-sync"), ...address("command-forwarding"), ...address("telemetry")] : []),
    ];
    const identity = ["--ca", hub.pki("ca").ca, "--cert", files.cert, "--key", files.key];
    const child = spawn(python.path, [join(CLIENT, "smoke.py"), role, "--hub-id", hubId, ...at, ...identity], {
      env: { ...client.env, ...env },
    });
    scripts.push(child);
    let printed = "";
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (part: string) => (printed += part));
    const exit = new Promise<number | null>((resolve) => child.once("close", resolve));
    const lines = (): string[] => printed.split("\n");
    const says = async (line: string): Promise<void> => {
      await until(`the script saying "${line}"`, () => lines().includes(line) || child.exitCode !== null, STEP_MS);
      if (!lines().includes(line)) throw new Error(`the script ended with ${child.exitCode} before it said "${line}":\n${printed}`);
    };
    return { says, ended: async () => [await exit, printed] as const };
  }

  describe.each(["single", "split"] as const)("with a hub in %s mode", (mode) => {
    let federation: Federation;
    let home: HubProcess;
    let factory: Clients;

    beforeAll(async () => {
      federation = await Federation.prepare({
        hubs: [
          { id: "home", peers: [{ hub: "factory" }, { hub: "lab" }], mode },
          { id: "factory", peers: [{ hub: "home" }] },
          { id: "lab", peers: [{ hub: "home" }], reachable: false },
        ],
      });
      home = federation.hub("home");
      const leaves = [{ profile: "node" as const, name: "python-lamp" }];
      await writePki(home.pkiDir, "home", { now: new Date(systemClock.wall()), leaves });
      await Promise.all([home.start(), federation.hub("factory").start()]);
      factory = federation.hub("factory").clients();
      await federation.operational();
    }, 120_000);
    afterAll(() => federation?.stop(), 60_000);

    test("the commands of its README", async () => {
      const [, block] = /^```sh\n([\s\S]*?)^```/m.exec(readFileSync(join(CLIENT, "README.md"), "utf8"))!;
      const lines = block!.trim().replaceAll("\\\n", " ").split("\n");
      expect(lines.slice(0, 2)).toEqual(["python3 -m venv venv", "venv/bin/pip install --require-hashes -r requirements.txt"]);
      // The environment of `make tools` came about by these two, so they are not run again here: that needs a network.
      const site = join(folder, `by-readme-${mode}`);
      const wheel = join(folder, `wheel-${mode}`);
      for (const line of lines.slice(2)) {
        const here = line
          .replaceAll("venv/bin/python", python.path)
          .replace("venv/bin/pip install", `${python.path} -m pip install --quiet --target '${site}'`)
          .replace(" ../../tools/", ` ${join(ROOT, "tools/")}`)
          .replaceAll(/\bwheel\b/g, wheel)
          .replaceAll(" smoke.py", ` ${join(CLIENT, "smoke.py")}`)
          .replace("localhost:18800", home.address("discovery"))
          .replaceAll("../../home/pki/", `${home.pkiDir}/`)
          .replaceAll("gateway-devices", "gateway-zigbee");
        // The page has one port for all; in split mode there is more to say.
        const more = home.split
          ? ["registry-sync", "command-forwarding", "telemetry"]
              .map((service) => ` --${service} ${home.address(service as "telemetry")}`)
              .join("")
          : "";
        const whole = `cd '${folder}'; export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH='${site}'; ${here}${line.includes("smoke.py") ? more : ""}`;
        const { code, stdout, stderr } = await run("bash", ["-c", whole]);
        expect([line, code, stderr]).toEqual([line, 0, ""]);
        if (line.includes("smoke.py")) expect(stdout).toMatch(/executed\nderegistered\ndone\n$/);
      }
    }, 90_000);

    test("registers, updates, watches, executes, and goes on after the hub was killed", async () => {
      const gateway = play("gateway", home, home.pki(mode === "single" ? "gateway-zigbee" : "node-python-lamp"), "home");
      await gateway.says("waiting for a peer's command");
      await until("its node at the factory", async () => (await get(factory, "home", "python-lamp"))?.online === true);
      const { result } = await execute(factory, "home", "python-lamp", "state", text("ON"), 30_000);
      expect([result?.outcome, result?.value?.kind.value]).toEqual([Outcome.DONE, "ON for factory"]);
      await gateway.says("waiting for a restart");
      await home.end("SIGKILL");
      await home.start();
      await gateway.says("came back after a restart");
      const [code, printed] = await gateway.ended();
      expect([code, printed.trim().split("\n")]).toEqual([0, expect.arrayContaining(["deregistered", "done"])]);
      await until("its node gone at the factory", async () => {
        const gone = await get(factory, "home", "python-lamp").catch((error: unknown) => error);
        return (gone as { failure?: { reason?: string } }).failure?.reason === "NODE_NOT_FOUND";
      });
    }, 240_000);

    test("does the same with asyncio, is cancelled and closed, and serves the operator of a context", async () => {
      const { ca, cert, key } = home.pki("operator-admin");
      const services = ["discovery", "registry-sync", "command-forwarding", "telemetry"] as const;
      const at = home.split ? { services: Object.fromEntries(services.map((service) => [service, home.address(service)])) } : {};
      const context = { hub_id: "home", address: home.address("discovery"), ...at, ca, cert, key };
      const contexts = join(folder, `contexts-${mode}.json`);
      writeFileSync(contexts, JSON.stringify({ current: "here", contexts: { here: context } }));
      const gateway = play("asyncio", home, home.pki("gateway-zigbee"), "home", { FOEDUS_CONTEXTS: contexts });
      const [code, printed] = await gateway.ended();
      expect([code, printed.trim().split("\n")]).toEqual([
        0,
        [
          "attached",
          "a cancelled call is given up by the device",
          "listed and told as events",
          "closed",
          "a closed hub leaves nobody waiting",
          "done",
        ],
      ]);
    }, 120_000);

    test.runIf(mode === "single")(
      "keeps more nodes than one call takes as the hub last acknowledged them, whatever is wrong with one",
      async () => {
        const keeper = play("keeper", home, home.pki("gateway-zigbee"), "home");
        const [code, printed] = await keeper.ended();
        expect([code, printed.trim().split("\n")]).toEqual([0, ["registered many", "kept as they were said", "done"]]);
      },
      90_000,
    );

    test("says Hello as a peer, renews its token and opens a session", async () => {
      const peer = play("peer", home, federation.hub("lab").pki("service-hub"), "lab");
      const [code, printed] = await peer.ended();
      expect([code, printed.trim().split("\n")]).toEqual([
        0,
        ["home answered Hello", "the token was renewed", "a session was opened, proved alive and ended", "done"],
      ]);
    }, 90_000);
  });

  /** inPython runs Python with the package and what it depends on. */
  const inPython = (...args: string[]) => run("env", [`PYTHONPATH=${client.site}`, "PYTHONDONTWRITEBYTECODE=1", python.path, ...args]);

  test("its own tests", async () => {
    const { code, stderr } = await inPython("-W", "error", "-m", "unittest", "discover", "--start-directory", join(CLIENT, "tests"));
    expect([code, stderr]).toEqual([0, expect.stringMatching(/^Ran [1-9]\d+ tests in /m)]);
  }, 60_000);

  test("all of the wheel imports, and nothing of the schema outside of it", async () => {
    const program = [
      "import importlib, pathlib, sys",
      "site = pathlib.Path(sys.argv[1])",
      "names = ['.'.join(p.relative_to(site).with_suffix('').parts) for p in (site / 'foedus').rglob('*.py') if p.name != '__init__.py']",
      "[importlib.import_module(name) for name in names]",
      "print(len(names))",
      "print(sorted(n for n in sys.modules if n.startswith(('google.rpc', 'grpc_status', 'grpc_health.', 'buf'))))",
      // Other packages may have other versions of what we did not invent.
      "from google.protobuf import descriptor_pb2, descriptor_pool",
      "for name, package in (('google/rpc/status.proto', 'google.rpc'), ('grpc/health/v1/health.proto', 'grpc.health.v1')):",
      "    file = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax='proto3')",
      "    file.message_type.add(name='Status' if 'rpc' in package else 'HealthCheckRequest').field.add(name='other', number=9, type=9, label=1)",
      "    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())",
      "import foedus; print(foedus.__version__)",
    ].join("\n");
    const { code, stdout, stderr } = await inPython("-c", program, client.site);
    expect([code, stderr]).toEqual([0, ""]);
    const [count, foreign, version] = stdout.trim().split("\n");
    expect(Number(count)).toBeGreaterThan(30);
    expect(foreign).toBe("[]");
    expect(version).toBe((JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string }).version);
  }, 60_000);

  test("the wheel is made the same twice, is typed, and asks for nothing but grpcio and protobuf", async () => {
    const again = await installClient(python, join(folder, "again"));
    expect(readFileSync(again.wheel).equals(readFileSync(client.wheel))).toBe(true);
    const info = readdirSync(client.site).find((name) => name.endsWith(".dist-info"))!;
    const metadata = readFileSync(join(client.site, info, "METADATA"), "utf8");
    const needs = [...metadata.matchAll(/^Requires-Dist: ([\w-]+)/gm)].map(([, name]) => name);
    expect(needs.sort()).toEqual(["grpcio", "protobuf"]);
    expect(existsSync(join(client.site, "foedus/py.typed"))).toBe(true);
    expect(existsSync(join(client.site, "foedus/_gen/common/v1/node_pb2.pyi"))).toBe(true);
  }, 90_000);
});
