import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { silentLogger } from "#runtime/log/log.ts";
import type { PeerView } from "#runtime/peers.ts";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import type { SharePolicy } from "../../command-forwarding/index.ts";
import { LiveConfig } from "../files/live-config.ts";
import { explainShare, type HubConfig, loadHubConfig, registrySyncConfig, sharesOf } from "../index.ts";
import type { Directory } from "./directory.ts";
import { createSharePolicy } from "./share-policy.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "foedus-policy-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test("S4-5 the owner's own rule for invoking follows the configuration, without any change of a peer", () => {
  const file = join(folder, "hub.json");
  const write = (invoke: readonly string[]): void =>
    writeFileSync(
      file,
      JSON.stringify({
        hub_id: "factory",
        tls: { ca: "ca.pem", cert: "c.pem", key: "k.pem" },
        registry_sync: { shares: { limited: { nodes: ["press-*"], invoke } } },
      }),
    );
  write(["state"]);
  const { config, again } = loadHubConfig({ file });
  const live = new LiveConfig({ config, again, clock: new ManualClock(), log: silentLogger, events: { report: () => undefined } });
  const views = [{ hubId: "home", share: "limited" } as PeerView];
  const peers = {
    current: () => views,
    subscribe: (_service: string, listener: (now: readonly PeerView[]) => void) => {
      listener(views);
      return () => undefined;
    },
  };
  const info = { nodeId: "press-1", type: "press", kind: 1, labels: {} };
  const directory = { node: () => ({ info }) } as unknown as Pick<Directory, "node">;
  let policy: SharePolicy | undefined;
  const end = createSharePolicy(live, peers, directory).subscribe((next) => {
    policy = next;
  });
  const asked = (): (string | undefined)[] => ["state", "power"].map((capability) => policy?.("home", "press-1", capability));
  expect(asked()).toEqual(["invoke", "see"]);
  write([]);
  live.reread();
  expect(asked()).toEqual(["see", "see"]);
  write(["power"]);
  live.reread();
  expect(asked()).toEqual(["see", "invoke"]);
  end();
  write(["state", "power"]);
  live.reread();
  expect(asked()).toEqual(["see", "invoke"]);
});

test("the owner lets a peer invoke what explainShare says, for any rules", () => {
  const names = ["state", "power", "pin"];
  const some = fc.constantFrom(["*"], ["state"], ["p*"], []);
  const nodeRules = fc.array(
    fc.record({ ids: fc.constantFrom([], ["press-*"], ["*-1"], ["lamp"]), allow: fc.boolean(), keys: some, invoke: some }),
    { maxLength: 4 },
  );
  const seen = new Set<string>();
  const agree = fc.property(
    nodeRules,
    fc.constantFrom("press-1", "press-2", "lamp"),
    fc.constantFrom("limited", "full", "", "gone"),
    (nodes, nodeId, share) => {
      const registry_sync = registrySyncConfig.parse({ shares: { limited: { nodes } } });
      const config = { hub_id: "factory", registry_sync } as HubConfig;
      const views = [{ hubId: "home", share } as PeerView];
      const peers = {
        current: () => views,
        subscribe: (_: string, listener: (now: readonly PeerView[]) => void) => {
          listener(views);
          return () => undefined;
        },
      };
      const info = { nodeId, type: "press", kind: 1, labels: {}, name: "" };
      let policy: SharePolicy = () => "none";
      createSharePolicy({ current: config, onChange: () => undefined }, peers, { node: () => ({ info }) } as never).subscribe((next) => {
        policy = next;
      });
      const offered = { info, capabilities: names.map((name) => ({ name, invocable: true })), keys: [] };
      const { shown, capabilities } = explainShare({ share, level: 2 }, sharesOf(registry_sync), offered);
      for (const { name, right } of capabilities) {
        const said = !shown ? "none" : right === "invoke" ? "invoke" : "see";
        seen.add(said);
        expect(policy("home", nodeId, name)).toBe(said);
      }
    },
  );
  void fc.assert(agree, { numRuns: 300 });
  expect([...seen].sort()).toEqual(["invoke", "none", "see"]);
});
