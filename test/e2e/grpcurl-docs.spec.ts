// Every line of docs/GRPCURL.md is run here, as it stands there, against a real federation.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { writePki } from "../../certs/issue.ts";
import { lamp, register } from "../support/acts.ts";
import { Federation, type HubProcess, ROOT, until } from "../support/federation.ts";
import { type Exited, run } from "../support/grpcurl.ts";
import { tool } from "../support/tools.ts";

const PAGE = readFileSync(join(ROOT, "docs/GRPCURL.md"), "utf8");
const grpcurl = tool("grpcurl");

/** Exit codes of grpcurl: 64 and the gRPC code. */
const DEADLINE = 68;
const INVALID = 67;
const DENIED = 71;

interface Section {
  readonly lines: readonly string[];
  readonly json: readonly string[];
}

const SECTIONS: ReadonlyMap<string, Section> = new Map(
  PAGE.split(/^## /m)
    .slice(1)
    .map((text) => {
      const of = (language: string) =>
        [...text.matchAll(new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\``, "gm"))].flatMap(([, body]) => body!.trim().split("\n"));
      return [text.slice(0, text.indexOf("\n")), { lines: of("sh"), json: of("json") }];
    }),
);

/** What each line prints, and its exit code if that is not 0. In the order of the page. */
const SHOWN: Readonly<Record<string, readonly (RegExp | { readonly exit: number; readonly shows: RegExp })[]>> = {
  "Is it there, is it well": [
    /foedus\.registry_sync\.v1alpha1\.RegistrySyncService/,
    /"status": "SERVING"/,
    /"status": "SERVING"/,
    /"hubId": "home"[\s\S]*"ready": true/,
    /hub_id/,
  ],
  "Register a node and say how it is": [/^\{[\s\S]*\}/, /"ack": \{\s*"seq": "1"/],
  "List, get, watch": [
    /"nodeId": "lamp-1"/,
    /"stringValue": "OFF"[\s\S]*"freshness": "FRESHNESS_FRESH"/,
    /"hubId": "factory"[\s\S]*"nodeId": "demo-lamp"/,
    { exit: DEADLINE, shows: /"nodeId": "lamp-1"[\s\S]*"bookmark"/ },
  ],
  "Peers, links, feeds, events": [
    /"hubId": "factory"[\s\S]*"state": "LINK_STATE_OPERATIONAL"/,
    /"method": "certificate"/,
    /"state": "LINK_STATE_TERMINATED"/,
    /"hubId": "factory"/,
    /"hubId": "home"/,
    /"peer": "factory"/,
    /^\{/,
    { exit: DEADLINE, shows: /"text": "/ },
  ],
  "Remove a node": [/"existed": true/],
  "Decide together": [
    /"state": "FEDERATION_STATE_NONE"/,
    /"state": "FEDERATION_STATE_MEMBER"/,
    /"version": "\d+"/,
    /"value": "MzA="/,
    /"ballotId": "home-/,
    /"proposer": "home"/,
    /^\{/,
  ],
  Errors: [
    { exit: INVALID, shows: /"reason": "INVALID_FIELD"[\s\S]*"field": "node.node_id"/ },
    { exit: DENIED, shows: /"reason": "ACCESS_DENIED"/ },
  ],
  "Without reflection": [/^foedus\.hub\.v1alpha1\.HubService$/m, /"hubId": "home"/],
};
const SETUP = "Once per shell";
const COMMAND = "Run a command";

describe("docs/GRPCURL.md", () => {
  test("has commands in these sections and nowhere else, so that none is left out here", () => {
    const counted = [...SECTIONS].filter(([, { lines }]) => lines.length > 0).map(([title, { lines }]) => [title, lines.length]);
    const expected = new Map([
      [SETUP, 3] as const,
      ...Object.entries(SHOWN).map(([title, shown]) => [title, shown.length] as const),
      [COMMAND, 3] as const,
    ]);
    expect(Object.fromEntries(counted)).toEqual(Object.fromEntries(expected));
  });

  test.each(["GRPCURL", "CLIENTS", "PROTOCOL"])("%s.md names only files that exist", (page) => {
    const text = readFileSync(join(ROOT, `docs/${page}.md`), "utf8");
    const links = [...text.matchAll(/\]\(([^):#]+)(?:#[^)]*)?\)/g)].map((match) => match[1]!);
    expect(links.length).toBeGreaterThan(0);
    for (const link of links) expect(() => readFileSync(join(ROOT, "docs", link))).not.toThrow();
  });

  test("the commands in docs/CLIENTS.md that give programs their certificates work as they stand there", async () => {
    const lines = [...readFileSync(join(ROOT, "docs/CLIENTS.md"), "utf8").matchAll(/`foedus (pki issue [^`]+)`/g)].map(
      (match) => match[1]!,
    );
    expect(lines.length).toBe(4);
    const cwd = mkdtempSync(join(tmpdir(), "foedus-clients-"));
    const foedus = (line: string): Promise<Exited> => run(process.execPath, [join(ROOT, "cli/main.ts"), ...line.split(" ")], { cwd });
    try {
      expect(await foedus("pki init my-hub")).toMatchObject({ code: 0 });
      for (const line of lines)
        expect([line, await foedus(line.replace(/<\w+>/, "one"))]).toEqual([line, expect.objectContaining({ code: 0 })]);
      const made = ["node-one.pem", "gateway-one.pem", "operator-one.pem"];
      expect(readdirSync(join(cwd, "pki"))).toEqual(expect.arrayContaining(made));
    } finally {
      rmSync(cwd, { recursive: true, force: true });
    }
  }, 60_000);
});

describe.skipIf(grpcurl.reason !== undefined).each(["single", "split"] as const)("docs/GRPCURL.md with a hub in %s mode", (mode) => {
  let federation: Federation;
  let home: HubProcess;
  let executor: ChildProcess | undefined;

  beforeAll(async () => {
    federation = await Federation.start({
      hubs: [
        { id: "home", peers: [{ hub: "factory" }], mode },
        { id: "factory", peers: [{ hub: "home" }] },
      ],
    });
    home = federation.hub("home");
    const leaves = [
      { profile: "gateway" as const, name: "devices" },
      { profile: "node" as const, name: "lamp-2" },
    ];
    await writePki(home.pkiDir, "home", { now: new Date(systemClock.wall()), leaves });
    await register(federation.hub("factory").clients("gateway-zigbee"), lamp("demo-lamp"));
    await federation.operational();
  }, 120_000);
  afterAll(async () => {
    executor?.kill("SIGKILL");
    await federation?.stop();
  }, 60_000);

  /** typed is a line as a shell takes it after the lines of the first section, with this hub's addresses in place of the page's. */
  const typed = (line: string): string => {
    const [as, ports] = SECTIONS.get(SETUP)!.lines as [string, string];
    const services = {
      DISCOVERY: "discovery",
      REGISTRY: "registry-sync",
      COMMANDS: "command-forwarding",
      TELEMETRY: "telemetry",
      COORDINATION: "coordination",
    } as const;
    const here = Object.entries(services).reduce(
      (text, [name, service]) => text.replace(`${name}=localhost:18800`, `${name}=${home.address(service)}`),
      ports,
    );
    expect(here).not.toContain("localhost");
    return [`PATH="${dirname(grpcurl.path)}:$PATH" FOEDUS="${ROOT}"`, as, here, line].join("\n");
  };
  const shell = (line: string): Promise<Exited> => run("bash", ["-c", typed(line)], { cwd: home.pkiDir });

  async function check(title: string): Promise<void> {
    for (const [index, line] of SECTIONS.get(title)!.lines.entries()) {
      const wanted = SHOWN[title]![index]!;
      const { exit, shows } = wanted instanceof RegExp ? { exit: 0, shows: wanted } : wanted;
      const { code, stdout, stderr } = await shell(line);
      expect([line, code, stdout + stderr]).toEqual([line, exit, expect.stringMatching(shows)]);
    }
  }

  test("Once per shell: the access rule of an RPC, as the schema has it", async () => {
    const describeLine = SECTIONS.get(SETUP)!.lines[2]!;
    const { code, stdout } = await shell(describeLine);
    expect([code, stdout]).toEqual([0, expect.stringMatching(/access[\s\S]*PRINCIPAL_OPERATOR[\s\S]*OPERATOR_ROLE_ADMIN/)]);
  });

  test.each(Object.keys(SHOWN).slice(0, 3))("%s", (title) => check(title), 60_000);

  test("Run a command, with an executor by hand", async () => {
    const [attach, execute, get] = SECTIONS.get(COMMAND)!.lines as [string, string, string];
    const [offer, answer] = SECTIONS.get(COMMAND)!.json as [string, string];
    executor = spawn("bash", ["-c", typed(attach)], { cwd: home.pkiDir, stdio: ["pipe", "pipe", "inherit"] });
    let printed = "";
    executor.stdout!.setEncoding("utf8").on("data", (text: string) => (printed += text));
    executor.stdin!.write(`${offer}\n`);
    await until("the executor being attached", () => printed.includes('"attached"'));
    const executed = shell(execute);
    const task = await until("the task", () => /"taskId": "(\d+)"/.exec(printed)?.[1]);
    executor.stdin!.write(`${answer.replace('"task_id": 1', `"task_id": ${task}`)}\n`);
    const { code, stdout, stderr } = await executed;
    expect([code, stdout, stderr]).toEqual([0, expect.stringMatching(/"outcome": "OUTCOME_DONE"[\s\S]*"stringValue": "ON"/), ""]);
    const [, epoch, seq] = /"epoch": "(\d+)",\s*"seq": "(\d+)"/.exec(stdout)!;
    const known = await shell(get.replace(/"epoch": \d+, "seq": \d+/, `"epoch": ${epoch}, "seq": ${seq}`));
    expect(known).toMatchObject({ code: 0, stdout: expect.stringContaining("OUTCOME_DONE") });
    // The page: the same key with the same command gives the stored answer; now the executor is gone.
    executor.stdin!.end();
    await until("the executor's end", () => executor!.exitCode !== null);
    expect(await shell(execute)).toMatchObject({ code: 0, stdout: expect.stringContaining('"replayed": true') });
  }, 60_000);

  test.each(Object.keys(SHOWN).slice(3, 7))("%s", (title) => check(title), 60_000);

  test("Without reflection, from what `make proto-image` writes", async () => {
    if (mode === "single") expect(await run("make", ["proto-image"], { cwd: ROOT, timeoutMs: 120_000 })).toMatchObject({ code: 0 });
    await check("Without reflection");
  }, 150_000);
});
