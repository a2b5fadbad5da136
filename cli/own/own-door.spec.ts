import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Registry } from "prom-client";
import { afterAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { systemEntropy } from "#channel/entropy.ts";
import { silentLogger } from "#runtime/log/log.ts";
import { authorityAt, digestOf } from "#runtime/tls/door.ts";
import { hubConfig } from "../../services/hub/index.ts";
import { portsOf, SERVICES } from "../../services/hub/services.ts";
import { type Candidate, introduce, newSecret, openDoor } from "../../services/introduction/index.ts";
import { foreignPki, hasOpenssl, type KeyKind } from "../../test/testca/foreign.ts";
import type { Io } from "../io.ts";
import type { Desk } from "./desk.ts";
import { doorAddresses, ownSide } from "./own-door.ts";

const folder = mkdtempSync(join(tmpdir(), "foedus-own-door-"));
afterAll(() => rmSync(folder, { recursive: true }));
const PIN = "424242";

const digests = (file: string): string[] =>
  readFileSync(file, "utf8")
    .split(/(?<=-----END CERTIFICATE-----\n)/)
    .filter((pem) => pem.trim() !== "")
    .map((pem) => digestOf(new X509Certificate(pem)).toString("hex"));

/** sideOf is what a hub with a PKI of another software brings, whose `tls.ca` is the file of that name. */
async function sideOf(hubId: string, kind: KeyKind, ca: string) {
  const dir = join(folder, `${hubId}-${kind}-${ca}`);
  foreignPki(dir, hubId, { ca: kind, leaf: kind, intermediate: true, services: ["hub"] });
  const tls = { cert: "service-hub.pem", key: "service-hub.key", ca };
  const config = hubConfig.parse({ hub_id: hubId, tls, advertise_host: `${hubId}.example.org` });
  return { dir, own: await ownSide({ clock: systemClock } as Io, { hub: { config, folder: dir } } as unknown as Desk, "single") };
}

test.each(["single", "split"] as const)("the door of a hub in %s mode has a port that no process of it has", (mode) => {
  const { listen } = doorAddresses(hubConfig.parse({ hub_id: "home", tls: { cert: "c", key: "k", ca: "a" } }), mode, {
    advertise: "home.example.org",
  });
  expect(SERVICES.flatMap((name) => Object.values(portsOf(name)))).not.toContain(listen.port);
});

describe.skipIf(!hasOpenssl)("F-8 an introduction of hubs whose certificates an intermediate signed", { timeout: 60_000 }, () => {
  const kinds: readonly KeyKind[] = ["rsa", "p256", "ed25519"];
  test.each(kinds.flatMap((kind) => ["ca.pem", "chain.pem"].map((ca) => [kind, ca] as const)))(
    "%s, with %s as its CAs: each learns what it has to pin, the intermediate too",
    async (kind, ca) => {
      const [host, guest] = await Promise.all([sideOf("home", kind, ca), sideOf("lab", kind, ca)]);
      const secret = newSecret(systemEntropy);
      const admitted: Candidate[] = [];
      const common = { clock: systemClock, entropy: systemEntropy };
      const door = await openDoor({
        ...host.own,
        ...common,
        secret,
        pin: PIN,
        listen: { host: "127.0.0.1", port: 0 },
        log: silentLogger,
        metrics: new Registry(),
        admit: (candidate) => Promise.resolve(void admitted.push(candidate)),
      });
      const invite = { hubId: "home", secret, caDigest: door.caDigest, host: "127.0.0.1", port: door.port };
      const authority = await authorityAt(invite, systemClock);
      const met = await introduce({ ...guest.own, ...common, invite, pin: PIN, authority, timeoutMs: 10_000 });
      expect(await door.closed).toBe("used");
      const pinned = ({ cas }: Candidate): string[] => cas.map(({ sha256 }) => sha256).sort();
      expect(pinned(met)).toEqual(digests(join(host.dir, "chain.pem")).sort());
      expect(admitted.map(pinned)).toEqual([digests(join(guest.dir, "chain.pem")).sort()]);
    },
  );
});
