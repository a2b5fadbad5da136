// The container image as an operator runs it: without root's rights, on a read-only root, in network namespaces of their own.

import { execFile, spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { chownSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Hub } from "../../clients/typescript/index.ts";
import { lamp } from "../support/acts.ts";
import { ROOT, until } from "../support/federation.ts";
import { allOf } from "../support/processes.ts";
import { tool } from "../support/tools.ts";

const LARGEST_BYTES = 200_000_000;
const USER = 65_532;
const RUNC = tool("runc").path;

const missing = ["buildah", "podman", "runc", "ip"].flatMap((name) => tool(name).reason ?? []);
const root = process.getuid?.() === 0;
const why = !root ? "only root may make network namespaces" : missing[0];
const title = why === undefined ? "the container image" : `the container image (skipped: ${why})`;

/** run runs a command to its end and gives what it printed; a failure is thrown with what it complained about. */
async function run(command: string, args: readonly string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(command, args, { timeout: 120_000, maxBuffer: 16 * 1024 * 1024 });
  return stdout.trim();
}

const tlsOf = (pki: string, name = "service-hub") => ({
  ca: join(pki, "ca.pem"),
  cert: join(pki, `${name}.pem`),
  key: join(pki, `${name}.key`),
});

describe.skipIf(why !== undefined)(title, () => {
  // podman takes no path of more than 50 characters.
  const folder = join(tmpdir(), `foedus-image-${randomUUID().slice(0, 8)}`);
  const version = (JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string }).version;
  const image = `localhost/foedus:${version}`;
  const archive = join(folder, "foedus.oci.tar");
  const storage = ["--root", join(folder, "root"), "--runroot", join(folder, "run"), "--storage-driver", "vfs"];
  // Addresses and names of this run: the two containers have a cable between them, and the test has one to the factory.
  const net = `10.${100 + (process.pid % 100)}.${Math.floor(process.pid / 100) % 250}`;
  const id = process.pid.toString(36);
  const cable = `fv${id}`;
  const hubs = { home: `${net}.1`, factory: `${net}.2` };
  const here = `${net}.129`;
  const factoryFromHere = `${net}.130`;
  type Hub = keyof typeof hubs;
  const names = Object.keys(hubs) as Hub[];

  const podman = (...args: readonly string[]): Promise<string> => run("podman", [...storage, "--runtime", RUNC, ...args]);
  const place = (hub: Hub): string => join(folder, hub);
  const container = (hub: Hub): string => `foedus-${id}-${hub}`;
  /** Limits are given because podman would else raise those of this machine, which a container in a container may not. */
  const isolated = ["--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--ulimit", "nofile=4096:4096"];
  const limited = [...isolated, "--ulimit", "nproc=1024:1024"];
  const of = (hub: Hub): string[] => [`--network=ns:/var/run/netns/f${id}${hub}`, "-v", `${place(hub)}:/var/lib/foedus`];
  const inside = (hub: Hub, ...args: readonly string[]): Promise<string> => podman("exec", container(hub), "foedus", ...args);

  /** logged tells whether a container wrote these words; a hub logs to stderr. */
  async function logged(name: string, words: string): Promise<boolean> {
    const { stdout, stderr } = await promisify(execFile)("podman", [...storage, "logs", name]);
    return `${stdout}${stderr}`.includes(words);
  }

  beforeAll(async () => {
    mkdirSync(folder, { mode: 0o700 });
    await run(join(ROOT, "ops/image/build.sh"), [archive]);
    await podman("pull", "--quiet", `oci-archive:${archive}`);
    const [home, factory] = names.map((hub) => `f${id}${hub}`) as [string, string];
    const ip = (...args: readonly string[]): Promise<string> => run("ip", args);
    for (const space of [home, factory]) await ip("netns", "add", space);
    await ip("-n", home, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", factory);
    await ip("link", "add", cable, "type", "veth", "peer", "name", "eth1", "netns", factory);
    await ip("-n", home, "address", "add", `${hubs.home}/25`, "dev", "eth0");
    await ip("-n", factory, "address", "add", `${hubs.factory}/25`, "dev", "eth0");
    await ip("-n", factory, "address", "add", `${factoryFromHere}/25`, "dev", "eth1");
    await ip("address", "add", `${here}/25`, "dev", cable);
    await ip("link", "set", cable, "up");
    const ends = [
      [home, "lo"],
      [home, "eth0"],
      [factory, "lo"],
      [factory, "eth0"],
      [factory, "eth1"],
    ] as const;
    for (const [space, end] of ends) await ip("-n", space, "link", "set", end, "up");
    for (const hub of names) {
      mkdirSync(place(hub));
      chownSync(place(hub), USER, USER);
    }
  }, 300_000);

  afterAll(async () => {
    try {
      await allOf(names.map((hub) => podman("rm", "--force", "--ignore", "--time", "20", container(hub))));
    } finally {
      for (const hub of names) spawnSync("ip", ["netns", "delete", `f${id}${hub}`]);
      spawnSync("ip", ["link", "delete", cable]);
      rmSync(folder, { recursive: true, force: true });
    }
  }, 120_000);

  test("is small, and is configured as the Dockerfile says", async () => {
    const [inspected] = JSON.parse(await podman("inspect", image)) as [
      {
        Size: number;
        Config: { User: string; Env: string[]; Entrypoint: string[]; WorkingDir: string; StopSignal: string; ExposedPorts: object };
        Labels: Record<string, string>;
      },
    ];
    expect(inspected.Size).toBeLessThan(LARGEST_BYTES);
    expect(statSync(archive).size).toBeLessThan(inspected.Size);
    const dockerfile = readFileSync(join(ROOT, "Dockerfile"), "utf8");
    const { User, Env, Entrypoint, WorkingDir, StopSignal, ExposedPorts } = inspected.Config;
    expect(dockerfile).toContain(`\nENV ${Env.join(" ")}\n`);
    expect(dockerfile).toContain(`\nUSER ${User}\n`);
    expect(dockerfile).toContain(`\nENTRYPOINT ${JSON.stringify(Entrypoint)}\n`);
    expect(dockerfile).toContain(`\nWORKDIR ${WorkingDir}\n`);
    expect(dockerfile).toContain(`\nSTOPSIGNAL ${StopSignal}\n`);
    const ports = Object.keys(ExposedPorts).map((port) => port.replace("/tcp", ""));
    expect(dockerfile).toContain(`\nEXPOSE ${ports.join(" ")}\n`);
    const labels = Object.entries(inspected.Labels).filter(([name]) => name.startsWith("org.opencontainers."));
    expect(labels.length).toBe(5);
    for (const [name, value] of labels) expect(dockerfile).toContain(`${name}="${/version|revision/.test(name) ? "${" : value}`);
    expect(inspected.Labels["org.opencontainers.image.version"]).toBe(version);
  });

  test("the command is its entry point: version, help and pki work on a read-only root without a network, and nobody is root", async () => {
    const bare = (...args: readonly string[]): Promise<string> => podman("run", "--rm", "--network=none", ...limited, ...args);
    expect(await bare(image, "version")).toMatch(/^foedus \d+\.\d+\.\d+ \(node 24\./);
    expect(await bare(image)).toContain("Usage: foedus");
    const user = "console.log(process.getuid(), process.getgid(), process.pid)";
    expect(await bare("--entrypoint", "/usr/bin/node", image, "-e", user)).toBe(`${USER} ${USER} 1`);
    const state = join(folder, "pki-only");
    mkdirSync(state);
    chownSync(state, USER, USER);
    await bare("-v", `${state}:/var/lib/foedus`, image, "pki", "init", "attic");
    expect(statSync(join(state, "pki", "ca.pem")).uid).toBe(USER);
    // With a root that cannot be written, a hub without a volume says what it needs.
    writeFileSync(join(state, "hub.json"), JSON.stringify({ hub_id: "attic", tls: tlsOf("/etc/foedus/pki") }));
    const readOnly = bare("-v", `${state}:/etc/foedus:ro`, image, "hub", "--config", "/etc/foedus/hub.json");
    await expect(readOnly).rejects.toThrow(/make data_dir writable/);
  }, 120_000);

  test("one service of a hub runs in it too, and stops cleanly", async () => {
    const state = join(folder, "one-service");
    mkdirSync(state);
    chownSync(state, USER, USER);
    const there = ["--network=none", ...limited, "-v", `${state}:/var/lib/foedus`];
    await podman("run", "--rm", ...there, image, "hub", "init", "shed", "--dir", ".");
    const name = `foedus-${id}-shed`;
    await podman("run", "--detach", "--name", name, ...there, image, "serve", "discovery", "--config", "hub.json");
    try {
      await until("its start", () => logged(name, '"hub started"'), 60_000);
      await podman("stop", "--time", "30", name);
      expect(await podman("inspect", "--format", "{{.State.ExitCode}}", name)).toBe("0");
    } finally {
      await podman("rm", "--force", "--time", "20", name);
    }
  }, 120_000);

  test("two containers federate across a network, and a command crosses", async () => {
    for (const hub of names) {
      await podman("run", "--rm", ...limited, ...of(hub), image, "hub", "init", hub, "--dir", ".", "--advertise", hubs[hub]);
      await podman("run", "--detach", "--name", container(hub), ...limited, ...of(hub), image, "hub", "--config", "hub.json");
    }
    for (const [hub, other] of [names, [...names].reverse()] as [Hub, Hub][]) {
      cpSync(join(place(other), "pki/ca.pem"), join(place(hub), "their-ca.pem"));
      await until(`${hub} answering`, () => inside(hub, "status", "--hub", hub), 60_000);
      await inside(hub, "peer", "add", other, "--ca", "their-ca.pem", "--host", hubs[other], "--max-trust", "full", "--share", "full");
    }
    await until(
      "the link",
      async () => {
        const link = await inside("home", "peers", "factory");
        return /state +operational/.test(link) || Promise.reject(new Error(link));
      },
      60_000,
    );

    // A device of the factory, from outside of both namespaces.
    const hub = await Hub.connect({ address: `${factoryFromHere}:18800`, ...tlsOf(join(place("factory"), "pki"), "gateway-devices") });
    await hub.register(lamp("lamp-1"));
    const ran: unknown[] = [];
    hub.serve({
      nodeIds: ["lamp-1"],
      run: ({ value }) => {
        ran.push(value);
        return { value };
      },
    });
    try {
      await until("the lamp at home", async () => /lamp-1/.test(await inside("home", "nodes", "--hub-id", "factory")), 30_000);
      // It is refused until home knows that the lamp has an executor.
      const sent = await until("the command", () => inside("home", "send", "factory/lamp-1", "state", "ON"), 60_000);
      expect(sent).toContain("state: done");
      expect(ran).toEqual(["ON"]);
    } finally {
      hub.close();
    }
  }, 240_000);

  test("it stops cleanly on the stop signal, and its state outlives the container", async () => {
    await podman("stop", "--time", "30", container("home"));
    const [stopped] = JSON.parse(await podman("inspect", container("home"))) as [{ State: { ExitCode: number; OOMKilled: boolean } }];
    expect(stopped.State.ExitCode).toBe(0);
    expect(existsSync(join(place("home"), "data", "registry-sync.sqlite"))).toBe(true);
    await podman("start", container("home"));
    await until("the lamp at home again", async () => /lamp-1/.test(await inside("home", "nodes", "--hub-id", "factory")), 60_000);
  }, 120_000);
});
