// grpc.health.v1 of real hubs: per service, watched, while a store refuses and while the hub is stopped.

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ClientOf } from "#channel/call.ts";
import { systemClock } from "#channel/clock.ts";
import { createPeerCredentials } from "#channel/tls/peer-credentials.ts";
import { Health, HealthCheckRequestSchema, HealthCheckResponse_ServingStatus as Serving } from "#gen/grpc/health/v1/health_pb.ts";
import { createClient } from "#runtime/rpc/client/client.ts";
import { SERVICES as NAMES, type ServiceName, TABLE } from "../../services/hub/services.ts";
import { lamp, number, register, text, update } from "../support/acts.ts";
import { Federation, type HubProcess, until } from "../support/federation.ts";
import { run } from "../support/grpcurl.ts";
import { tool } from "../support/tools.ts";

const SERVICES = Object.fromEntries(NAMES.map((name) => [name, TABLE[name].rpc.typeName])) as Readonly<Record<ServiceName, string>>;
const HUB = "foedus.hub.v1alpha1.HubService";

const probeTool = tool("grpc-health-probe");

const closing: { close(): void }[] = [];
afterAll(() => {
  for (const client of closing) client.close();
});

/** healthOf asks one of a hub's ports, as an operator's probe does. */
function healthOf(hub: HubProcess, service: ServiceName): ClientOf<typeof Health> {
  const files = hub.pki("operator-viewer");
  const [ca, cert, key] = [files.ca, files.cert, files.key].map((file) => readFileSync(file, "utf8")) as [string, string, string];
  const expected = { hubId: hub.id, name: hub.split ? service : "hub" };
  const credentials = createPeerCredentials(expected, { ca: [ca], cert, key }, systemClock);
  const client = createClient(Health, { address: hub.address(service), credentials, clock: systemClock });
  closing.push(client);
  return client;
}

const check = async (client: ClientOf<typeof Health>, service: string): Promise<Serving> =>
  (await client.check(create(HealthCheckRequestSchema, { service }))).status;

/** watching notes each status of a service as it comes, and how the watch ended. */
function watching(client: ClientOf<typeof Health>, service: string): { readonly seen: Serving[]; readonly ended: Promise<unknown> } {
  const seen: Serving[] = [];
  const follow = async (): Promise<unknown> => {
    try {
      for await (const { status } of client.watch(create(HealthCheckRequestSchema, { service }))) seen.push(status);
      return undefined;
    } catch (error) {
      return error;
    }
  };
  return { seen, ended: follow() };
}

describe.each(["single", "split"] as const)("health of a hub in %s mode", (mode) => {
  let federation: Federation;
  let home: HubProcess;
  beforeAll(async () => {
    federation = await Federation.start({ hubs: [{ id: "home", peers: [], mode }] });
    home = federation.hub("home");
  }, 90_000);
  afterAll(() => federation?.stop(), 60_000);

  test("each service by its name, the process by the empty one, and an unknown one is NOT_FOUND", async () => {
    for (const service of Object.keys(SERVICES) as ServiceName[]) {
      const client = healthOf(home, service);
      // The first look after the start may come before the last module is up.
      await until(`${service} being well`, async () => (await check(client, "")) === Serving.SERVING);
      expect(await check(client, SERVICES[service])).toBe(Serving.SERVING);
      expect(await check(client, HUB)).toBe(Serving.SERVING);
      for (const unknown of ["nope", "foedus.registry_sync.v1alpha1", "registry-sync"])
        await expect(check(client, unknown)).rejects.toMatchObject({ cause: { code: 5 } });
      const other = service === "telemetry" ? "discovery" : "telemetry";
      if (mode === "split") await expect(check(client, SERVICES[other])).rejects.toMatchObject({ cause: { code: 5 } });
    }
  }, 30_000);

  test.skipIf(probeTool.reason !== undefined)(
    `as grpc-health-probe sees it (${probeTool.reason ?? "it is there"})`,
    async () => {
      const { ca, cert, key } = home.pki("operator-viewer");
      const tls = ["-tls", "-tls-ca-cert", ca, "-tls-client-cert", cert, "-tls-client-key", key];
      const probe = async (service: string): Promise<number | null> =>
        (await run(probeTool.path, ["-addr", home.address("registry-sync"), ...tls, "-service", service])).code;
      expect([await probe(""), await probe(SERVICES["registry-sync"])]).toEqual([0, 0]);
      // Its exit code 3: the RPC failed, with NOT_FOUND here.
      expect(await probe("nope")).toBe(3);
    },
    30_000,
  );

  test("a hub that is stopped says NOT_SERVING to those who watch, and then that it shuts down", async () => {
    const client = healthOf(home, "registry-sync");
    const names = ["", SERVICES["registry-sync"], "never"];
    const watches = names.map((name) => watching(client, name));
    await until("the first answers", () => watches.every(({ seen }) => seen.length === 1));
    await home.end("SIGTERM");
    for (const { ended } of watches) expect(await ended).toMatchObject({ failure: { reason: "SHUTTING_DOWN" } });
    expect(watches.map(({ seen }) => seen)).toEqual([
      [Serving.SERVING, Serving.NOT_SERVING],
      [Serving.SERVING, Serving.NOT_SERVING],
      [Serving.SERVICE_UNKNOWN],
    ]);
  }, 60_000);
});

const hasPrlimit = spawnSync("prlimit", ["--version"]).status === 0;

describe.skipIf(!hasPrlimit)("health while a store refuses (skipped without prlimit of util-linux)", () => {
  /** Largest file that the hub may write: small enough to be reached at once, far above what its log needs. */
  const LARGEST_BYTES = 512 * 1024;
  let federation: Federation;
  let home: HubProcess;
  beforeAll(async () => {
    federation = await Federation.start({ hubs: [{ id: "home", peers: [] }], logLevel: "error" });
    home = federation.hub("home");
  }, 90_000);
  afterAll(() => federation?.stop(), 60_000);

  const limitFiles = (bytes: number | "unlimited"): void => {
    const { status, stderr } = spawnSync("prlimit", ["--pid", String(home.pids.get("hub")), `--fsize=${bytes}:unlimited`]);
    if (status !== 0) throw new Error(String(stderr));
  };

  test("that service and the process are NOT_SERVING, others go on, and it heals by itself", async () => {
    const client = healthOf(home, "registry-sync");
    const registry = watching(client, SERVICES["registry-sync"]);
    const telemetry = watching(client, SERVICES.telemetry);
    await until("the first answers", () => registry.seen.length === 1 && telemetry.seen.length === 1);
    const gateway = home.clients("gateway-zigbee");
    await register(gateway, lamp("lamp-1"));
    limitFiles(LARGEST_BYTES);
    // A refused batch is kept for the retry and its caller waits, so nobody waits for it here.
    const writes = new AbortController();
    const write = async (): Promise<void> => {
      for (let value = 0; !writes.signal.aborted; value++)
        await update(gateway, "lamp-1", { power: number(value), state: text(value % 2 === 0 ? "ON" : "OFF") });
    };
    const writing = write().catch(() => undefined);
    await until("NOT_SERVING", async () => (await check(client, SERVICES["registry-sync"])) === Serving.NOT_SERVING, 60_000);
    expect(await check(client, "")).toBe(Serving.NOT_SERVING);
    expect(await check(client, HUB)).toBe(Serving.SERVING);
    expect(await home.ops("/readyz")).toContain("registry-sync: the store refuses writes");
    writes.abort();
    limitFiles("unlimited");
    // The store tries again every 5 s.
    await until("SERVING", async () => (await check(client, "")) === Serving.SERVING, 30_000);
    await until("the watch telling it", () => registry.seen.length === 3);
    expect(registry.seen).toEqual([Serving.SERVING, Serving.NOT_SERVING, Serving.SERVING]);
    expect(telemetry.seen).toEqual([Serving.SERVING]);
    await writing;
  }, 150_000);
});
