// docs/A2A.md, followed word by word in a new hub's folder: the commands, and the configuration with a real agent.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Running, start } from "../cli/fixture.ts";
import { ROOT } from "../support/federation.ts";
import { TestAgent } from "./agent.ts";

const PAGE = readFileSync(join(ROOT, "docs/A2A.md"), "utf8");
/** Ports below the ephemeral ones, apart from those of other specs. */
const PORT = 26_000 + (process.pid % 50) * 40;

const blocks = (kind: string): string[] =>
  [...PAGE.matchAll(new RegExp(`\`\`\`${kind}\\n(.*?)\`\`\``, "gs"))].map(([, block = ""]) => block.trim());

let root: string;
let hub: Running;
let agent: TestAgent;

const foedus = (...args: readonly string[]): Running => start(args, { cwd: join(root, "my-hub") });

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "foedus-a2a-docs-"));
  expect(await start(["hub", "init", "my-hub", "--port", String(PORT)], { cwd: root }).done).toMatchObject({ code: 0 });
  hub = foedus("hub", "--config", "hub.json", "--json");
  await hub.printed("ops_port");
  agent = await TestAgent.start();
});
afterAll(async () => {
  await agent.stop();
  hub.child.kill("SIGTERM");
  await hub.done;
  rmSync(root, { recursive: true, force: true });
});

test("the commands and the configuration join an agent, which answers what it is asked", async () => {
  const [issue = "", run = ""] = blocks("sh").map((block) => block.replace(/^foedus /, ""));
  expect(await foedus(...issue.split(" ")).done).toMatchObject({ code: 0 });
  const config = (blocks("json")[0] ?? "")
    .replace("127.0.0.1:18800", `127.0.0.1:${PORT}`)
    .replace("http://127.0.0.1:9100", agent.url)
    .replace("18829", "0");
  writeFileSync(join(root, "my-hub", "a2a.json"), config);
  const adapter = foedus(...run.split(" "));
  await adapter.printed("planner: reachable", "err");
  expect(await foedus("send", "my-hub/planner", "ask", "say hello", "-q").done).toMatchObject({ code: 0, out: "hello\n" });
  adapter.child.kill("SIGTERM");
  expect((await adapter.done).code).toBe(0);
});

test("the page names every field of the configuration", async () => {
  const { A2A_CONFIG } = await import("../../adapters/a2a/config.ts");
  const schema = JSON.stringify((await import("zod")).toJSONSchema(A2A_CONFIG, { io: "input" }));
  const fields = [...PAGE.matchAll(/`(?:agents\[\]|serve)\.(\w+)`/g)].map(([, field]) => field);
  expect(new Set(fields).size).toBeGreaterThan(9);
  for (const field of fields) expect(schema).toContain(`"${field}"`);
});
