// docs/MCP.md, followed word by word: the commands in a new hub's folder, and the configuration by a client that starts what it says.

import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TOOLS } from "../../adapters/mcp/tools/index.ts";
import { type Finished, type Running, start } from "../cli/fixture.ts";
import { ROOT, until } from "../support/federation.ts";
import { Agent } from "./world.ts";

const PAGE = readFileSync(join(ROOT, "docs/MCP.md"), "utf8");
/** Ports below the ephemeral ones, apart from those of other specs. */
const PORT = 28_000 + (process.pid % 50) * 40;

const blocks = (kind: string): string[] =>
  [...PAGE.matchAll(new RegExp(`\`\`\`${kind}\\n(.*?)\`\`\``, "gs"))].map(([, block = ""]) => block);
const commands = blocks("sh").flatMap((block) => block.trim().split("\n"));

let root: string;
let hub: Running;

/** typed runs a command of the page in the hub's folder, at other ports than the usual ones. */
function typed(command: string): Running {
  const [program, ...words] = command.split(" ");
  expect(program).toBe("foedus");
  const args = words.map((word) => word.replace("127.0.0.1:18800", `127.0.0.1:${PORT}`).replace("0.0.0.0:18828", "127.0.0.1:0"));
  const free = args.at(-1) === "mcp-token" ? args.map((word) => (word === "--http" ? "--http=127.0.0.1:0" : word)) : args;
  return start(free, { cwd: join(root, "my-hub") });
}

async function done(running: Running): Promise<Finished> {
  const finished = await running.done;
  expect(finished).toMatchObject({ code: 0 });
  return finished;
}

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "foedus-mcp-docs-"));
  await done(start(["hub", "init", "my-hub", "--port", String(PORT)], { cwd: root }));
  hub = start(["hub", "--config", "hub.json", "--json"], { cwd: join(root, "my-hub") });
  await hub.printed("ops_port");
});
afterAll(async () => {
  hub.child.kill("SIGTERM");
  await hub.done;
  rmSync(root, { recursive: true, force: true });
});

test("the configuration starts a server that an agent host can use, as the viewer that the page makes", async () => {
  const issue = commands.find((command) => command.startsWith("foedus pki issue"));
  const add = commands.find((command) => command.startsWith("foedus contexts add"));
  await done(typed(issue ?? ""));
  await done(typed(add ?? ""));
  const { mcpServers } = JSON.parse(blocks("json")[0] ?? "") as { mcpServers: Record<string, { command: string; args: string[] }> };
  const server = mcpServers["home"];
  expect(server?.command).toBe("foedus");
  const contexts = join(root, "my-hub", ".foedus", "contexts.json");
  expect(existsSync(contexts)).toBe(true);
  const args = (server?.args ?? []).map((word) => word.replace("/home/me/my-hub", join(root, "my-hub")).replace(/^home$/, "assistant"));
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [join(ROOT, "cli/main.ts"), ...args],
    cwd: tmpdir(),
    stderr: "pipe",
  });
  const client = new Client({ name: "host", version: "1.0.0" });
  await client.connect(transport);
  const { tools } = await client.listTools();
  expect(tools.map(({ name }) => name)).not.toContain("execute");
  const result = await client.callTool({ name: "find_nodes", arguments: {} });
  expect(result.structuredContent).toMatchObject({ nodes: [], total: 0, next_page: null });
  await done(typed(commands.find((command) => command.startsWith("foedus pki revoke")) ?? ""));
  const refused = await until("the hub refusing the certificate", async () => {
    const answer = await client.callTool({ name: "find_nodes", arguments: {} });
    return answer.isError === true ? answer : undefined;
  });
  expect(JSON.stringify(refused.content)).toMatch(/UNKNOWN_IDENTITY|PEER_UNREACHABLE/);
  await client.close();
});

test("the server over HTTP makes its token, and takes it", async () => {
  const running = typed(commands.find((command) => command.endsWith("mcp-token")) ?? "");
  await running.printed("serving my-hub at", "err");
  const [url = ""] = /http:\/\/127\.0\.0\.1:\d+\/mcp/.exec(running.err) ?? [];
  const token = readFileSync(join(root, "my-hub", "mcp-token"), "utf8").trim();
  await using agent = await Agent.http(url, { authorization: `Bearer ${token}` });
  expect((await agent.client.listTools()).tools.length).toBeGreaterThan(5);
  running.child.kill("SIGTERM");
  await done(running);
});

test("the server with mutual TLS starts as the page says", async () => {
  const running = typed(commands.find((command) => command.includes("--mutual-tls")) ?? "");
  await running.printed("serving my-hub at https://", "err");
  running.child.kill("SIGTERM");
  await done(running);
});

test("the page lists every tool, and whether it changes something", () => {
  const rows = [...PAGE.matchAll(/^\| `(\w+)` \| .* \| (yes|no) \|$/gm)].map(([, name, changes]) => [name, changes]);
  expect(rows).toEqual(TOOLS.map(({ name, annotations }) => [name, annotations.readOnlyHint ? "no" : "yes"]));
});
