// Two copies of one hub: the folder of a hub is copied while it runs, and the copy is started on another address.

import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";

import { start } from "../cli/fixture.ts";
import { metric, peer } from "../support/acts.ts";
import { Federation, HubProcess, until } from "../support/federation.ts";

describe("two copies of one hub", () => {
  let federation: Federation;
  let copy: HubProcess;

  beforeAll(async () => {
    const config = { discovery: { backoff_base_ms: 100, backoff_max_ms: 2_000 } };
    federation = await Federation.start({
      hubs: [
        { id: "home", peers: [{ hub: "factory" }], config },
        { id: "factory", peers: [{ hub: "home" }], config },
      ],
    });
    await federation.operational(30_000);
    copy = copyOf(federation, federation.hub("home"));
    await copy.start();
  }, 120_000);

  afterAll(async () => {
    copy?.closeClients();
    await copy?.end();
    await federation?.stop();
  }, 60_000);

  /** sentence is what a hub says about copies, found in its answer about the peer. */
  const places = async (hub: HubProcess, id: string, which: "copies" | "ownCopies"): Promise<string> => {
    const clients = hub.clients();
    const found = (await peer(clients, id))[which].join(" and ");
    clients.close();
    return found;
  };

  /** alerting is the number that the alert FoedusTwoCopies asks for. */
  const alerting = (hub: HubProcess, id: string, of: string): Promise<number> => metric(hub, "foedus_discovery_copies", { peer: id, of });

  test("F-23 the peer names both, and tells each copy; metric, event and doctor say so at both ends", async () => {
    const [home, factory] = [federation.hub("home"), federation.hub("factory")];
    const started = systemClock.mono();
    await until("the peer seeing both", async () => (await places(factory, "home", "copies")) !== "", 100_000);
    console.info(`two copies were found after ${Math.round((systemClock.mono() - started) / 1_000)} s`);
    const seen = await places(factory, "home", "copies");
    expect(seen).toMatch(/\(start 1\).*\(start 2\)/);
    expect(await alerting(factory, "home", "peer")).toBe(2);
    for (const hub of [home, copy]) {
      await until(`${hub.host} being told`, async () => (await places(hub, "factory", "ownCopies")) !== "", 100_000);
      expect(await alerting(hub, "factory", "own")).toBe(2);
    }
    for (const [hub, sentence] of [
      [factory, "two copies of hub home run: at "],
      [home, "two copies of our own hub run, as factory sees it: at "],
    ] as const) {
      const { out, err } = await start(["doctor", "--json"], { cwd: hub.dir }).done;
      expect(out, err).not.toBe("");
      const { findings } = JSON.parse(out) as { findings: { check: string; message: string }[] };
      expect(findings.filter(({ check }) => check === "copies").map(({ message }) => message)).toEqual([expect.stringContaining(sentence)]);
      expect(hub.log("hub")).toContain("two copies of hub home run");
    }
  }, 300_000);
});

/** copyOf copies the folder of a hub and gives the copy an address to listen at, as on a cloned machine. */
function copyOf({ dir }: Federation, { spec, host, dir: folder, pkiDir, basePort, entry }: HubProcess): HubProcess {
  const there = join(dir, "copy");
  cpSync(folder, there, { recursive: true });
  const other = host.replace(/\d+$/, "99");
  const file = join(there, "hub.json");
  const config = JSON.parse(readFileSync(file, "utf8")) as { listen: object; ops: object };
  writeFileSync(file, JSON.stringify({ ...config, listen: { ...config.listen, host: other }, ops: { ...config.ops, host: other } }));
  return new HubProcess(spec, there, pkiDir, other, basePort, entry);
}
