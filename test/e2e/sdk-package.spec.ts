// The SDK as its users have it: unpacked from the tarball into an empty folder, with the two packages that it names and nothing else of ours.

import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { ExecuteRequestSchema } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { Outcome } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import { issue, loadAuthority } from "../../certs/authority.ts";
import { writeIssued } from "../../certs/issue.ts";
import { bundle } from "../../cli/build.ts";
import { pack } from "../../tools/packages/typescript.ts";
import { get, stateOf, text } from "../support/acts.ts";
import { type Clients, Federation, type HubProcess, ROOT, until } from "../support/federation.ts";
import { endProcess } from "../support/processes.ts";

/** The first certificate of the device lives so long: it starts with it, and has to go on with the next one. */
const LIFE_MS = 60_000;

/** What the device says while its hub is not there, and Node once after the first warning. */
const AWAY =
  /^\(node:\d+\) \[(PEER_UNREACHABLE|SHUTTING_DOWN|CERTIFICATE_EXPIRED)\] FoedusWarning: the stream to hub home for (updates|commands) is down and will be reopened: \S.*\.$|^\(Use `node --trace-warnings/;

const folder = mkdtempSync(join(tmpdir(), "foedus-package-"));
const app = join(folder, "app");

/** link puts a package of the project into the folder. What it needs itself it finds where it really lies. */
function link(name: string): void {
  const at = join(app, "node_modules", name);
  mkdirSync(dirname(at), { recursive: true });
  symlinkSync(join(ROOT, "node_modules", name), at);
}

beforeAll(async () => {
  const tarball = await pack(folder);
  const unpacked = join(app, "node_modules/foedus-client");
  mkdirSync(unpacked, { recursive: true });
  execFileSync("tar", ["-xzf", tarball, "-C", unpacked, "--strip-components=1"]);
  const { dependencies, peerDependencies } = JSON.parse(readFileSync(join(unpacked, "package.json"), "utf8")) as Record<
    "dependencies" | "peerDependencies",
    Record<string, string>
  >;
  expect(Object.keys(dependencies).sort()).toEqual(["@bufbuild/protobuf", "@grpc/grpc-js"]);
  expect(Object.keys(peerDependencies)).toEqual(["@types/node"]);
  for (const name of Object.keys(dependencies)) link(name);
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** programsOf are the programs of a page in a language. */
function programsOf(page: string, language: "js" | "ts"): string[] {
  const fence = new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, "gm");
  return [...readFileSync(join(ROOT, page), "utf8").matchAll(fence)].map(([, code]) => code!);
}

describe("the types", () => {
  const check = (program: string): string => {
    writeFileSync(join(app, "program.mts"), program);
    const flags = ["--noEmit", "--strict", "--skipLibCheck", "false", "--target", "es2022", "--module", "nodenext", "--types", "node"];
    try {
      execFileSync(join(ROOT, "node_modules/.bin/tsc"), [...flags, "program.mts"], { cwd: app, encoding: "utf8" });
      return "";
    } catch (error) {
      return (error as { stdout: string }).stdout;
    }
  };

  beforeAll(() => link("@types/node"));

  test("a program in TypeScript compiles, also with the declarations checked, and a mistake in it is found", () => {
    const program = `
      import { type CommandResult, FoedusError, Hub, remedyOf } from "foedus-client";
      import { create, registrySync } from "foedus-client/schema";
      await using hub = await Hub.connect({ context: "home" });
      const updater = hub.updater({ nodes: [{ nodeId: "lamp" }] });
      updater.set("lamp", "level", 1n);
      const result: CommandResult = await hub.execute({ nodeId: "lamp", capability: "state", value: "ON" }, { signal: AbortSignal.timeout(5) });
      const page = await hub.clients.registry.listNodes(create(registrySync.ListNodesRequestSchema, { summary: true }));
      const mirror = hub.watch({ onChange: ({ hubId, nodeId, key, value }) => console.log(hubId, nodeId, key, value) });
      for await (const { seq, text } of hub.events()) console.log(seq, text, result.outcome, page.total, mirror.hubs());
      try { await hub.deregister("lamp"); } catch (error) { if (error instanceof FoedusError) console.log(error.reason, remedyOf(error)); }
    `;
    expect(check(program)).toBe("");
    expect(check(program.replace("1n", "new Date()"))).toContain("'Date'");
    expect(check(program.replace("result.outcome", "result.outcom"))).toContain("outcom");
  }, 180_000);

  test("each program of the documentation compiles as it stands there, also that in JavaScript", () => {
    const programs = [...programsOf("clients/typescript/README.md", "ts"), ...programsOf("docs/CLIENTS.md", "js")];
    expect(programs.length).toBeGreaterThan(4);
    for (const program of programs) expect([program, check(program)]).toEqual([program, ""]);
  }, 180_000);

  test("settings that are missing are told with what to do", () => {
    writeFileSync(
      join(app, "missing.mjs"),
      'import { Hub, remedyOf } from "foedus-client"; await Hub.connect().catch((e) => console.log(e.reason, remedyOf(e)));',
    );
    const env = { PATH: process.env["PATH"] ?? "" };
    expect(execFileSync(process.execPath, ["missing.mjs"], { cwd: app, env, encoding: "utf8" })).toMatch(
      /^NOT_CONFIGURED Give address, ca, cert and key/,
    );
  });
});

/** oldNodes are programs that run a Node that is too old: one of this machine, if there is, and this one with another version. */
function oldNodes(): (readonly [string, string, readonly string[]])[] {
  const pretend = `data:text/javascript,Object.defineProperty(process,"versions",{value:{...process.versions,node:"22.9.0"}})`;
  const nodes: [string, string, readonly string[]][] = [["22.9.0", process.execPath, ["--import", pretend]]];
  const { stdout } = spawnSync("/usr/bin/node", ["-p", "process.versions.node"], { encoding: "utf8" });
  if (Number.parseInt(stdout ?? "", 10) < 22) nodes.push([stdout.trim(), "/usr/bin/node", []]);
  return nodes;
}

describe("a Node that is too old", () => {
  test.each(oldNodes())("%s: importing the package says in a sentence which one it needs", (version, path, args) => {
    for (const entry of ["foedus-client", "foedus-client/schema"]) {
      const program = `import(${JSON.stringify(entry)}).then(() => console.log("imported"), (error) => console.log(error.message))`;
      const said = execFileSync(path, [...args, "--input-type=module", "-e", program], { cwd: app, encoding: "utf8" });
      expect(said).toBe(`foedus-client needs Node 22.10 or newer; this is Node ${version}\n`);
    }
  });
});

describe("the device of docs/CLIENTS.md, with a real hub", () => {
  const program = programsOf("docs/CLIENTS.md", "js")[0]!;
  let federation: Federation;
  let hub: HubProcess;
  let operator: Clients;
  let device: ChildProcess | undefined;
  let printed = "";
  let firstEndsAt = 0;

  /** certify issues a key and certificate for the device and puts them into its folder. */
  async function certify(lifetimeMs?: number): Promise<number> {
    const request = { profile: "node", name: "lamp", ...(lifetimeMs === undefined ? {} : { lifetimeMs }) } as const;
    const issued = await issue(await loadAuthority(hub.pkiDir), request, new Date(systemClock.wall()));
    await writeIssued(app, request, issued, { force: true });
    return issued.notAfter.getTime();
  }

  /** answered sends the device a command, and is true if it did it. */
  async function answered(value: string): Promise<boolean> {
    const command = { target: { hubId: "home", nodeId: "lamp" }, capability: "state", value: text(value), timeoutMs: 2_000 };
    const { result } = await operator.commands.execute(create(ExecuteRequestSchema, { command }));
    return result?.outcome === Outcome.DONE;
  }

  /** goesOn waits for a command that is answered, and for two updates after it. */
  async function goesOn(value: string): Promise<void> {
    const lampOf = () => get(operator, "home", "lamp");
    await until("a command answered", () => answered(value).catch(() => false), 30_000);
    await until("what the command changed", async () => stateOf(await lampOf(), "state") === value, 10_000);
    for (let i = 0; i < 2; i++) {
      const before = stateOf(await lampOf(), "power");
      await until("an update", async () => ![undefined, before].includes(stateOf(await lampOf(), "power") as number), 10_000);
    }
    expect(device?.exitCode).toBe(null);
    // That the hub was away is told, and nothing else.
    expect(printed.split("\n").filter((line) => !AWAY.test(line))).toEqual([""]);
  }

  beforeAll(async () => {
    // As it is installed: it starts in half the time.
    const entry = join(folder, "foedus.mjs");
    await bundle(entry);
    federation = await Federation.prepare({ hubs: [{ id: "home", peers: [] }], entry: [entry] });
    hub = federation.hub("home");
    copyFileSync(hub.pki("ca").ca, join(app, "ca.pem"));
    firstEndsAt = await certify(LIFE_MS);
    writeFileSync(join(app, "lamp.mjs"), program.replace("localhost:18800", hub.address("registry-sync")));
  }, 120_000);
  afterAll(async () => {
    if (device !== undefined) await endProcess(device, "the device", "SIGKILL");
    await federation?.stop();
  });

  test("it has at most 15 lines", () => {
    expect(program.trim().split("\n").length).toBeLessThanOrEqual(15);
    expect(program).toContain("localhost:18800");
  });

  test("it starts before the hub, and is there when the hub is: updates arrive, commands are answered", async () => {
    device = spawn(process.execPath, ["lamp.mjs"], { cwd: app });
    for (const stream of [device.stdout, device.stderr]) stream?.setEncoding("utf8").on("data", (part: string) => (printed += part));
    await until("what is wrong", () => printed.includes("\n"));
    expect(printed).toMatch(/\[PEER_UNREACHABLE\] .* nothing listens at \S+\. Start the hub, or correct the address\.\n/);
    await hub.start();
    operator = hub.clients();
    await goesOn("ON");
  }, 120_000);

  test("its certificate is renewed and the first one ends: it goes on with the new one", async () => {
    await certify();
    await until("the end of the first certificate", () => systemClock.wall() > firstEndsAt + 1_000, 2 * LIFE_MS);
    await goesOn("OFF");
  }, 180_000);

  test("the hub is killed and restarted: it goes on", async () => {
    await hub.end("SIGKILL");
    await hub.start();
    operator = hub.clients();
    await goesOn("AGAIN");
  }, 120_000);

  test("the hub loses its store: it registers the node again and goes on", async () => {
    await hub.end("SIGTERM");
    rmSync(join(hub.dir, "data"), { recursive: true });
    await hub.start();
    operator = hub.clients();
    await goesOn("ANEW");
  }, 120_000);
});
