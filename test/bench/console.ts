// Measures the console's page in Chromium at a hub with many nodes: first paint, interaction, and what twenty open pages cost the hub.
// `node test/bench/console.ts [--nodes 100000] [--pages 20]`
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { create } from "@bufbuild/protobuf";
import type { Page } from "playwright-core";
import { systemClock } from "#channel/clock.ts";
import { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { sleep } from "#runtime/clock.ts";
import { bundle, INSTALLED } from "../../cli/build.ts";
import { register } from "../support/acts.ts";
import { launch, linkOf, visit, withConsole } from "../support/console-page.ts";
import { type Clients, Federation, type HubProcess } from "../support/federation.ts";

const BATCH = 1_000;
/** Samples of each action, and how long the pages stay open, ms. */
const SAMPLES = 15;
const OPEN_MS = 20_000;

/** fill registers sensors, as a gateway of many devices would. */
async function fill(clients: Clients, nodes: number): Promise<void> {
  for (let from = 0; from < nodes; from += BATCH) {
    const batch = Array.from({ length: Math.min(BATCH, nodes - from) }, (_, i) =>
      create(NodeSchema, {
        nodeId: `sensor-${String(from + i).padStart(6, "0")}`,
        name: `Sensor ${from + i}`,
        type: i % 2 === 0 ? "sensor" : "light",
        capabilities: [
          { name: "state", type: ValueType.STRING, readable: true, invocable: true, allowed: ["ON", "OFF"] },
          { name: "power", type: ValueType.DOUBLE, readable: true, unit: "W" },
        ],
      }),
    );
    await register(clients, ...batch);
  }
}

/** rssMib is the memory of a process, MiB. */
function rssMib(hub: HubProcess): number {
  const [, kib] = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${hub.pids.get("hub")}/status`, "utf8"))!;
  return Number(kib) / 1_024;
}

/** cpuSeconds is the processor time that a process has had. */
function cpuSeconds(hub: HubProcess): number {
  const fields = readFileSync(`/proc/${hub.pids.get("hub")}/stat`, "utf8")
    .split(") ")[1]!
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
const spread = (values: readonly number[]): string =>
  `${Math.round(median(values))} ms (median of ${values.length}, most ${Math.round(Math.max(...values))})`;

/** timed does something in the page as often as it is sampled, and gives how long each took until `done` held in a drawn frame. */
async function timed(page: Page, act: string, done: string): Promise<number[]> {
  return (await page.evaluate(`(async () => {
    const samples = [];
    for (let n = 0; n < ${SAMPLES}; n++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      const began = performance.now();
      (${act})(n);
      while (!(${done})(n)) await new Promise(requestAnimationFrame);
      await new Promise(requestAnimationFrame);
      samples.push(performance.now() - began);
    }
    return samples;
  })()`)) as number[];
}

const { values } = parseArgs({ options: { nodes: { type: "string", default: "100000" }, pages: { type: "string", default: "20" } } });
const nodes = Number(values.nodes);
// As it is installed: with the flags for small machines.
const folder = mkdtempSync(join(tmpdir(), "foedus-console-"));
const program = join(folder, "foedus.mjs");
await bundle(program);
const federation = await Federation.prepare({
  hubs: [{ id: "home", peers: [], env: INSTALLED.env }],
  entry: [...INSTALLED.flags, program],
});
const home = federation.hub("home");
withConsole(home);
await home.start();
const browser = await launch();
try {
  await fill(home.clients("gateway-zigbee"), nodes);
  console.log(`${nodes.toLocaleString()} nodes registered; the hub has ${Math.round(rssMib(home))} MiB`);
  const { page } = await visit(browser);
  const paints: number[] = [];
  const rows: number[] = [];
  for (let n = 0; n < 5; n++) {
    const link = await linkOf(home, "admin");
    await page.goto("about:blank");
    const began = systemClock.mono();
    await page.goto(link);
    await page.locator("[role=option]").first().waitFor({ timeout: 60_000 });
    rows.push(systemClock.mono() - began);
    paints.push((await page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")) as number);
  }
  console.log(`first paint ${spread(paints)}; from the link to the first rows ${spread(rows)}`);
  const list = `document.querySelector("[role=listbox]")`;
  const scroll = await timed(
    page,
    `(n) => { ${list}.scrollTop = 1000 + n * 150; }`,
    `(n) => document.getElementById("row-" + Math.ceil((1000 + n * 150) / 46)) !== null`,
  );
  const choose = await timed(
    page,
    `(n) => { const row = ${list}.querySelectorAll("[role=option]")[n % 8]; globalThis.wanted = row.querySelector("bdi").textContent; row.click(); }`,
    `() => document.getElementById("detail-title").textContent === globalThis.wanted || document.querySelector("[role=option][aria-selected=true] bdi")?.textContent === globalThis.wanted`,
  );
  console.log(`scroll until rows are drawn ${spread(scroll)}; choose a row until it is marked ${spread(choose)}`);
  const input = `document.querySelector("search input")`;
  const search = await timed(
    page,
    `(n) => { globalThis.wanted = "sensor-0" + String(n).padStart(2, "0"); const field = ${input}; field.value = globalThis.wanted; field.dispatchEvent(new Event("input", { bubbles: true })); }`,
    `() => document.querySelector("[role=option] .second bdi")?.textContent.startsWith("home/" + globalThis.wanted)`,
  );
  console.log(`type a prefix until its nodes are shown ${spread(search)}, 250 ms of it waiting for typing to rest`);
  await page.context().close();
  await sleep(systemClock, 5_000);
  const before = rssMib(home);
  const cpu = cpuSeconds(home);
  for (let n = 0; n < Number(values.pages); n++) {
    const made = await visit(browser);
    await made.page.goto(await linkOf(home, n % 2 === 0 ? "admin" : "viewer"));
    await made.page.locator("[role=option]").first().waitFor({ timeout: 60_000 });
    if (n % 4 === 1) await made.page.getByRole("link", { name: "Events" }).click();
  }
  const opened = cpuSeconds(home);
  let most = 0;
  const end = systemClock.mono() + OPEN_MS;
  while (systemClock.mono() < end) {
    most = Math.max(most, rssMib(home));
    await sleep(systemClock, 500);
  }
  console.log(
    `${values.pages} pages open for ${OPEN_MS / 1_000} s: the hub had ${Math.round(before)} MiB before, ${Math.round(most)} MiB at most (+${Math.round(most - before)}), ` +
      `and took ${(((cpuSeconds(home) - opened) / OPEN_MS) * 1e5).toFixed(0)} % of a processor (${(opened - cpu).toFixed(1)} s to open them)`,
  );
} finally {
  await browser.close();
  await federation.stop();
  rmSync(folder, { recursive: true });
}
