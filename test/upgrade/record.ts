// Records a released version for the tests of upgrades: `make upgrade-baseline`. It runs that version, built from its commit, as a
// federation; lets it do a little of everything; and keeps its files and what it knew. Files that are there are replaced only on demand.

import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { create } from "@bufbuild/protobuf";
import { systemClock } from "#channel/clock.ts";
import { SetPeerEnabledRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { Hub } from "../../clients/typescript/index.ts";
import { deregister, get, lamp, number, register, stateOf, text, update } from "../support/acts.ts";
import { Federation, ROOT, SERVICES, until } from "../support/federation.ts";
import { COMMANDED, type Expected, GAUGE_STATE, HUBS, KEYED, type Known, known, NODES, RECORDED } from "./golden.ts";
import { BASELINE, forgetNewFields, previous } from "./previous.ts";
import { formatOf, storesOf } from "./stores.ts";

const { values } = parseArgs({ options: { commit: { type: "string" }, force: { type: "boolean" } } });
const git = (...args: readonly string[]): string => execFileSync("git", ["-C", ROOT, ...args], { encoding: "utf8" }).trim();
const commit = git("rev-parse", values.commit ?? BASELINE.commit);
const { version } = JSON.parse(git("show", `${commit}:package.json`)) as { version: string };
const folder = join(import.meta.dirname, "testdata", `v${version}`);

if (existsSync(folder) && values.force !== true) {
  console.error(
    `${folder} is there already, and a released version does not change. Raise the version in package.json first, or give --force.`,
  );
  process.exit(1);
}
const built = previous({ version, commit });
if (built.entry === undefined) {
  console.error(`version ${version} cannot be built: ${built.reason}`);
  process.exit(1);
}

const federation = await Federation.prepare({ hubs: HUBS, entry: [built.entry] });
try {
  const hubs = RECORDED.map((id) => federation.hub(id));
  for (const hub of hubs) forgetNewFields(join(hub.dir, "hub.json"), hub.entry);
  await Promise.all(hubs.map((hub) => hub.start()));
  await federation.operational(60_000);
  const known = await live();
  for (const hub of hubs) {
    hub.closeClients();
    await hub.end("SIGTERM");
  }
  // A hub that was killed leaves write-ahead files behind; the next version may be the one that finds them.
  const home = federation.hub("home");
  rmSync(folder, { recursive: true, force: true });
  for (const hub of hubs) keep(join(hub.dir, "data"), join(folder, hub.id));
  await home.start();
  const gateway = home.clients("gateway-zigbee");
  await register(gateway, lamp("attic-lamp"));
  for (let n = 1; n <= 20; n++) await update(gateway, "attic-lamp", { power: number(n) });
  gateway.close();
  await home.end("SIGKILL");
  keep(join(home.dir, "data"), join(folder, "home-killed"));
  const format = formatOf(storesOf(join(folder, "home"))[0]!);
  const expected: Expected = { version, commit, format, wallMs: Math.round(systemClock.wall()), hubs: known };
  writeFileSync(join(folder, "expected.json"), `${JSON.stringify(expected, undefined, 2)}\n`);
  writeFileSync(
    join(import.meta.dirname, "baseline.json"),
    `${JSON.stringify({ version, commit, format, services: SERVICES }, undefined, 2)}\n`,
  );
  console.log(`${folder}: version ${version}, format ${format}, of commit ${commit.slice(0, 12)}`);
} finally {
  await federation.stop("SIGKILL");
}

/** live lets the hubs do a little of everything, and gives what they know afterwards. */
async function live(): Promise<Record<string, Known>> {
  const factory = federation.hub("factory").clients("gateway-zigbee");
  const home = federation.hub("home").clients();
  await home.discovery.setPeerEnabled(create(SetPeerEnabledRequestSchema, { hubId: "attic", enabled: false }));
  await register(factory, ...NODES);
  await update(factory, "gauge-1", GAUGE_STATE);
  for (let n = 1; n <= 30; n++) await update(factory, n % 2 === 0 ? "lamp-1" : "lamp-gone", { power: number(n / 4), state: text("ON") });
  await deregister(factory, "lamp-gone");
  await register(federation.hub("home").clients("gateway-zigbee"), lamp("home-lamp"));
  const executor = Hub.over(factory).serve({
    nodeIds: [COMMANDED.nodeId],
    run: ({ value }) => {
      if (value === "OFF") throw new Error("the lamp is broken");
      return { value };
    },
  });
  await until("lamp-1 at home", async () => stateOf(await get(home, "factory", "lamp-1"), "power") === 7.5);
  const commands = Hub.over(home);
  await until("the executor", async () => (await commands.execute({ ...COMMANDED, value: "ON", timeoutMs: 2_000 })).outcome === "DONE");
  for (const [idempotencyKey, value] of Object.entries(KEYED)) {
    const { outcome } = await commands.execute({ ...COMMANDED, value, timeoutMs: 5_000, idempotencyKey });
    if (outcome !== (value === "OFF" ? "FAILED" : "DONE")) throw new Error(`command ${idempotencyKey}: outcome ${outcome}`);
  }
  commands.close();
  executor.close();
  const { [0]: atHome, [1]: atFactory } = await Promise.all([known(home), known(federation.hub("factory").clients())]);
  return { home: atHome, factory: atFactory };
}

/** keep copies a data folder without what is only set aside or marks a start. */
function keep(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from)) if (!name.endsWith(".reserve") && !name.endsWith("-shm")) cpSync(join(from, name), join(to, name));
}
