import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { silentLogger } from "#runtime/log/log.ts";
import type { PeerView } from "#runtime/peers.ts";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import type { SharePolicy } from "../../command-forwarding/index.ts";
import { LiveConfig } from "../files/live-config.ts";
import { loadHubConfig } from "../index.ts";
import type { DirectoryFeed } from "./directory.ts";
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
  const directory = { node: () => ({ info }) } as unknown as Pick<DirectoryFeed, "node">;
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
