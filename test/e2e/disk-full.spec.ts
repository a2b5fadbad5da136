// A full disk: writes are refused with what to do, everything else goes on, and writing resumes by itself.

import { spawnSync } from "node:child_process";
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, statfsSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { Outcome } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import { LinkState } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { GetNodeRequestSchema, WatchRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import type { FoedusError } from "#kernel/error.ts";
import { type ExecutorAnswer, type ExecutorClient, type ExecutorTask, Hub } from "../../clients/typescript/index.ts";
import { execute, get, lamp, metric, number, peer, register, stateOf, text, update } from "../support/acts.ts";
import { type Clients, Federation, until } from "../support/federation.ts";

const DISK_BYTES = 24 * 1024 * 1024;

/** mayMount tells whether this user may mount a disk; it tries in a mount namespace of its own, of which nothing is left. */
function mayMount(): boolean {
  return spawnSync("unshare", ["--mount", "mount", "-t", "tmpfs", "tmpfs", tmpdir()]).status === 0;
}

/** smallDisk mounts a disk of a few MB at a folder of its own, and answers the folder. */
function smallDisk(): string {
  const folder = mkdtempSync(join(tmpdir(), "foedus-disk-"));
  const { status, stderr } = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${DISK_BYTES}`, "tmpfs", folder], { encoding: "utf8" });
  if (status === 0) return folder;
  rmSync(folder, { recursive: true });
  throw new Error(`cannot mount a small disk: ${stderr}`);
}

const mountable = mayMount();
const title = mountable ? "a full disk" : "a full disk (skipped: only root may mount the small disk that this test needs)";

describe.skipIf(!mountable)(title, () => {
  let disk: string | undefined;
  let federation: Federation;
  let gateway: Clients;
  let factory: Clients;
  let home: Clients;
  let executor: ExecutorClient;
  const ran: string[] = [];
  /** record is the executor: it notes what ran and answers with its argument. */
  const record = ({ value }: ExecutorTask): ExecutorAnswer => {
    ran.push(String(value));
    return { value };
  };
  let ballast: string;

  beforeAll(async () => {
    disk = smallDisk();
    ballast = join(disk, "ballast");
    const data = join(disk, "data");
    mkdirSync(data);
    federation = await Federation.start({
      hubs: [
        { id: "home", peers: [{ hub: "factory" }] },
        { id: "factory", peers: [{ hub: "home" }], config: { data_dir: data } },
      ],
    });
    gateway = federation.hub("factory").clients("gateway-zigbee");
    factory = federation.hub("factory").clients();
    home = federation.hub("home").clients();
    await federation.operational();
    await register(gateway, lamp("lamp-1"));
    await update(gateway, "lamp-1", { power: number(1) });
    await until("lamp-1 at home", async () => stateOf(await get(home, "factory", "lamp-1"), "power") === 1);
    executor = Hub.over(gateway).serve({ nodeIds: ["lamp-1"], run: record });
    await until(
      "the executor",
      async () => (await execute(home, "factory", "lamp-1", "state", text("ON"))).result?.outcome === Outcome.DONE,
    );
  }, 90_000);

  afterAll(async () => {
    executor?.close();
    try {
      await federation?.stop();
    } finally {
      if (disk !== undefined) {
        spawnSync("umount", [disk]);
        rmSync(disk, { recursive: true, force: true });
      }
    }
  }, 60_000);

  /** fill writes until nothing is free. */
  function fill(): void {
    const file = openSync(ballast, "a");
    const block = Buffer.alloc(64 * 1024);
    for (let size = block.length; size >= 1; size = size > 1 ? size >> 1 : 0)
      try {
        for (;;) writeSync(file, block, 0, size);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
      }
    closeSync(file);
    expect(statfsSync(disk!).bavail).toBe(0);
  }

  /** Newest value that was acknowledged, and the one that met the full disk: kept for the retry, neither acknowledged nor refused. */
  let acknowledged = 1;
  let kept = 1;

  /** refusedAt fills the last room that files of the stores still have, and answers how the first write is refused. */
  async function refusedAt(first: number): Promise<unknown> {
    fill();
    for (let value = first; ; value++)
      try {
        const pending = update(gateway, "lamp-1", { power: number(value) });
        pending.catch(() => undefined);
        if ((await Promise.race([pending, refusing()])) === "refusing") kept = value;
        else acknowledged = value;
      } catch (error) {
        return error;
      }
  }

  /** refusing resolves when the registry's store says that it refuses. */
  const refusing = (): Promise<"refusing"> =>
    until(
      "the store refusing",
      async () => (await metric(federation.hub("factory"), "foedus_store_refusing", { service: "registry-sync" })) === 1 && "refusing",
    );

  test("writes are refused: RESOURCE_EXHAUSTED, with what to do, and counted", async () => {
    const error = await refusedAt(100);
    expect(error).toMatchObject({
      failure: { reason: "STORE_UNAVAILABLE", message: expect.stringMatching(/disk is full; free some space, writing goes on by itself/) },
    });
    await expect(register(gateway, lamp("lamp-2"))).rejects.toMatchObject({ failure: { reason: "STORE_UNAVAILABLE" } });
    await expect(
      gateway.registry.registerNode({ $typeName: "foedus.registry_sync.v1alpha1.RegisterNodeRequest", node: lamp("lamp-2") }),
    ).rejects.toMatchObject({
      failure: { reason: "STORE_UNAVAILABLE" },
      cause: { code: 8 },
    });
    expect(
      await metric(federation.hub("factory"), "foedus_commit_failures_total", { service: "registry-sync", reason: "full" }),
    ).toBeGreaterThan(0);
    expect(await metric(federation.hub("factory"), "foedus_store_refusing", { service: "registry-sync" })).toBe(1);
    expect(
      await metric(federation.hub("factory"), "grpc_server_handled_total", { grpc_method: "RegisterNode", grpc_code: "ResourceExhausted" }),
    ).toBeGreaterThan(0);
    const ready = await federation.hub("factory").ops("/readyz");
    expect(ready).toMatch(/registry-sync: the store refuses writes/);
  });

  test("reads, watches, pings and the link go on meanwhile", async () => {
    expect([acknowledged, kept]).toContain(stateOf(await get(factory, "factory", "lamp-1"), "power"));
    const own = await factory.registry.getNode(create(GetNodeRequestSchema, { name: { nodeId: "lamp-1" } }));
    expect(own.record?.name).toMatchObject({ hubId: "factory" });
    const watch = new AbortController();
    const seen: string[] = [];
    for await (const { push } of factory.registry.watch(create(WatchRequestSchema), { signal: watch.signal })) {
      if (push.case === "events") seen.push(...push.value.events.map((event) => event.name?.nodeId ?? ""));
      if (push.case === "bookmark") break;
    }
    watch.abort();
    expect(seen).toContain("lamp-1");
    // A reader that wants proof makes the peer ping: the answer comes although nothing can be written.
    const fresh = await home.registry.getNode(
      create(GetNodeRequestSchema, { name: { hubId: "factory", nodeId: "lamp-1" }, maxStalenessMs: 1_000n }),
    );
    // What is not durable is not told to peers.
    expect(stateOf(fresh.record, "power")).toBe(acknowledged);
    expect((await peer(home, "factory")).state).toBe(LinkState.OPERATIONAL);
    expect((await peer(factory, "home")).state).toBe(LinkState.OPERATIONAL);
  });

  test("a command that cannot be journalled is refused before it runs", async () => {
    // Those before it may find room in the journal's file; one of them may run and have its outcome held back, which is UNKNOWN.
    await until("a command being refused", async () => {
      const error = await execute(home, "factory", "lamp-1", "state", text("OFF"), 1_000).catch((thrown: FoedusError) => thrown);
      return "failure" in error && error.failure.reason === "STORE_UNAVAILABLE";
    });
    const before = ran.length;
    await expect(execute(home, "factory", "lamp-1", "state", text("OFF"), 1_000)).rejects.toMatchObject({
      failure: { reason: "STORE_UNAVAILABLE", message: expect.stringMatching(/full|cannot write|refuses/) },
    });
    expect(ran.length).toBe(before);
  }, 30_000);

  test("when there is room again writing goes on by itself within the retry, and nothing acknowledged is lost", async () => {
    rmSync(ballast);
    const freedAt = systemClock.mono();
    await until("a write being taken", () => update(gateway, "lamp-1", { power: number(5_000) }).then(() => true), 8_000);
    // The retry comes every 5 s; the rest is what a busy machine needs.
    expect(systemClock.mono() - freedAt).toBeLessThan(8_000);
    await until("the change at home", async () => stateOf(await get(home, "factory", "lamp-1"), "power") === 5_000);
    await until("a command", async () => (await execute(home, "factory", "lamp-1", "state", text("ON"))).result?.outcome === Outcome.DONE);
    await until("being ready", async () => (await federation.hub("factory").ops("/readyz")).includes('"ready":true'));
    await register(gateway, lamp("lamp-2"));
    acknowledged = 5_000;
  }, 40_000);

  test("a hub whose disk is full stops, and after it starts again it has what it acknowledged", async () => {
    await refusedAt(6_000);
    const codes = await federation.hub("factory").end("SIGTERM");
    expect(codes.get("hub")).toBe(0);
    rmSync(ballast);
    await federation.hub("factory").start();
    const own = federation.hub("factory").clients();
    const power = stateOf(await get(own, "factory", "lamp-1"), "power");
    // What was refused may still have been kept for the retry, and written at the end from the reserve.
    expect([acknowledged, kept]).toContain(power);
    expect((await get(own, "factory", "lamp-2"))?.node?.nodeId).toBe("lamp-2");
    await until("the same at home", async () => stateOf(await get(home, "factory", "lamp-1"), "power") === power, 30_000);
  }, 90_000);
});
