// The programs of docs/tutorial, as they stand there, in an empty folder with nothing of the project but the packages.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { pack } from "../../tools/packages/typescript.ts";
import { type Finished, start } from "../cli/fixture.ts";
import { execute, get, stateOf, text } from "../support/acts.ts";
import { type Clients, Federation, type HubProcess, ROOT, until } from "../support/federation.ts";
import { page, sectionsOf } from "../support/pages.ts";
import { isRunning } from "../support/processes.ts";
import { type InstalledClient, installClient } from "../support/python.ts";
import { tool } from "../support/tools.ts";

const python = tool("foedus-python");
const AGENT = page("docs/tutorial/agent.md");
const DEVICE = page("docs/tutorial/device.md");
/** Lines of an agent, and of a device. */
const [AGENT_MOST, DEVICE_MOST] = [25, 15];
const BACK_MS = 60_000;

/** blockOf is the program of a page in a language. */
function blockOf(text: string, language: string): string {
  const found = [...sectionsOf(text).values()].flatMap((section) => section.blocks(language));
  expect([language, found.length]).toEqual([language, 1]);
  return found[0]!;
}

const folder = mkdtempSync(join(tmpdir(), "foedus-tutorials-"));
const children: ChildProcess[] = [];
let federation: Federation;
let home: HubProcess;
let operator: Clients;
let factory: Clients;
let client: InstalledClient | undefined;

beforeAll(async () => {
  federation = await Federation.start({
    hubs: [
      { id: "home", peers: [{ hub: "factory", maxTrust: "full" }] },
      { id: "factory", peers: [{ hub: "home", maxTrust: "full" }] },
    ],
  });
  [home, operator, factory] = [federation.hub("home"), federation.hub("home").clients(), federation.hub("factory").clients()];
  await federation.operational();
  const tarball = await pack(folder);
  const unpacked = join(folder, "node_modules/foedus-client");
  mkdirSync(unpacked, { recursive: true });
  execFileSync("tar", ["-xzf", tarball, "-C", unpacked, "--strip-components=1"]);
  for (const name of ["@bufbuild/protobuf", "@grpc/grpc-js"]) {
    const at = join(folder, "node_modules", name);
    mkdirSync(dirname(at), { recursive: true });
    symlinkSync(join(ROOT, "node_modules", name), at);
  }
  if (python.reason === undefined) client = await installClient(python, folder);
  copyFileSync(home.pki("x").ca, join(folder, "ca.pem"));
}, 240_000);
afterAll(async () => {
  for (const child of children) child.kill("SIGKILL");
  await federation?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** certify does what the pages say about a certificate. */
async function certify(line: string, id: string): Promise<void> {
  expect(line).toBe(`foedus pki issue node ${id}`);
  expect(await start(line.split(" ").slice(1), { cwd: home.dir }).done).toMatchObject({ code: 0 });
  for (const end of ["pem", "key"]) copyFileSync(join(home.pkiDir, `node-${id}.${end}`), join(folder, `node-${id}.${end}`));
}

/** typed runs a line of a page in the folder of the hub, which has no context here as `hub init` makes one: so the line says which hub. */
function typed(line: string): Promise<Finished> {
  const { ca, cert, key } = home.pki("operator-admin");
  const [, ...words] = [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? "");
  return start([...words, "--address", home.address("discovery"), "--ca", ca, "--cert", cert, "--key", key], { cwd: home.dir }).done;
}

/** begin starts a program of a page. */
function begin(language: "js" | "python", program: string): { readonly child: ChildProcess; printed(): string } {
  const file = join(folder, language === "js" ? "program.mjs" : "program.py");
  expect(program).toContain("localhost:18800");
  writeFileSync(file, program.replace("localhost:18800", home.address("discovery")));
  const child =
    language === "js" ? spawn(process.execPath, [file], { cwd: folder }) : spawn(python.path, [file], { cwd: folder, env: client!.env });
  children.push(child);
  let printed = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (part: string) => (printed += part));
  return { child, printed: () => printed };
}

test("the pages are of one device and one agent, in few lines, and a device is that of the other pages", () => {
  for (const language of ["js", "python"]) {
    expect(blockOf(AGENT, language).trim().split("\n").length).toBeLessThanOrEqual(AGENT_MOST);
    expect(blockOf(DEVICE, language).trim().split("\n").length).toBeLessThanOrEqual(DEVICE_MOST);
    // test/e2e/sdk-package.spec.ts and test/e2e/python-device.spec.ts run these through much more than this page does.
    expect(page("docs/CLIENTS.md")).toContain(blockOf(DEVICE, language));
  }
});

test.skipIf(python.reason !== undefined)(
  "the program that `node add --language python` prints registers its node and does what it is told",
  async () => {
    const { code, out } = await start(["node", "add", "begun", "--language", "python"], { cwd: home.dir }).done;
    expect(code).toBe(0);
    writeFileSync(join(home.dir, "begun.py"), out);
    const child = spawn(python.path, ["begun.py"], { cwd: home.dir, env: client!.env });
    children.push(child);
    let printed = "";
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (part: string) => (printed += part));
    const on = async (): Promise<boolean> => (await execute(factory, "home", "begun", "state", text("ON"), 10_000)).result !== undefined;
    await until("a command that is done", on, BACK_MS);
    await until("its state at the peer", async () => stateOf(await get(factory, "home", "begun"), "state") === "ON");
    await until("what it prints", () => printed.includes("ON, by factory\n"));
    child.kill("SIGKILL");
  },
  120_000,
);

for (const language of ["js", "python"] as const) {
  const missing = language === "python" ? python.reason : undefined;
  describe.skipIf(missing !== undefined)(`in ${language}${missing === undefined ? "" : ` (skipped: ${missing})`}`, () => {
    test("the agent of the tutorial is found by its kind, and answers its own hub and a peer", async () => {
      const [, issue = ""] = /`(foedus pki issue node scribe)`/.exec(AGENT) ?? [];
      await certify(issue, "scribe");
      const scribe = begin(language, blockOf(AGENT, language));
      const [list, send] = sectionsOf(AGENT).get("Call it")!.commands as [string, string];
      await until(
        "the agent at its own hub",
        async () => {
          if (!isRunning(scribe.child)) throw new Error(`it ended: ${scribe.printed()}`);
          const record = await get(operator, "home", "scribe");
          return record?.online === true && record.node?.agent?.skills[0]?.id === "summarise";
        },
        BACK_MS,
      );
      expect((await typed(list)).out).toContain("home/scribe");
      expect(send).toMatch(/^foedus send home\/scribe summarise "[^"]+" --timeout 30s$/);
      const { out, err } = await typed(send);
      expect([out, err]).toEqual([expect.stringMatching(/done in .*, value Foedus joins hubs\.\n$/), ""]);
      expect(AGENT).toContain("`value Foedus joins hubs.`");
      await until("the agent at the peer", async () => (await get(factory, "home", "scribe"))?.online === true);
      const { result } = await execute(factory, "home", "scribe", "summarise", text("One. Two."), 20_000);
      expect(result?.value?.kind.value).toBe("One.");
      scribe.child.kill("SIGKILL");
      expect(scribe.printed()).toBe("");
    }, 180_000);

    test("the device of the tutorial is switched", async () => {
      const [issue = ""] = sectionsOf(DEVICE).get("A certificate")!.commands;
      await certify(issue, "lamp");
      const lamp = begin(language, blockOf(DEVICE, language));
      await until(
        "a command that is done",
        async () => (await execute(factory, "home", "lamp", "state", text("ON"), 10_000)).result !== undefined,
        BACK_MS,
      );
      await until("its state at the peer", async () => stateOf(await get(factory, "home", "lamp"), "state") === "ON");
      const [send, show] = sectionsOf(DEVICE).get("In TypeScript or JavaScript")!.commands as [string, string];
      expect((await typed(send)).out).toMatch(/^home\/lamp state: done in /);
      expect((await typed(show)).out).toMatch(/state +string .*ON/);
      lamp.child.kill("SIGKILL");
    }, 120_000);
  });
}
