// The devices of docs/CLIENTS.md and clients/python/README.md, as they stand there, with the Python package as its wheel installs it.

import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { createSecureServer, type Http2SecureServer } from "node:http2";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { writePki } from "../../certs/issue.ts";
import { SKEW_MS } from "../../certs/profiles.ts";
import { execute, get, text } from "../support/acts.ts";
import { type Clients, Federation, type HubProcess, ROOT, until } from "../support/federation.ts";
import { run } from "../support/grpcurl.ts";
import { isRunning } from "../support/processes.ts";
import { type InstalledClient, installClient } from "../support/python.ts";
import { tool } from "../support/tools.ts";

const python = tool("foedus-python");
/** How long a device may need to come back, ms: it waits at most 10 s between two attempts, and gRPC as long between two connections. */
const BACK_MS = 40_000;
const LINES_MAX = 15;

/** blocks are the Python programs of a page. */
function blocks(page: string): string[] {
  return [...readFileSync(join(ROOT, page), "utf8").matchAll(/^```python\n([\s\S]*?)^```/gm)].map(([, code]) => code!);
}

const [threads, asyncio] = blocks("clients/python/README.md");
const PROGRAMS = { threads: threads!, asyncio: asyncio! };

describe.skipIf(python.reason !== undefined)("a device in Python", () => {
  const folder = join(tmpdir(), `foedus-device-${randomUUID()}`);
  const children: ChildProcess[] = [];
  let client: InstalledClient;
  let federation: Federation;
  let home: HubProcess;
  let operator: Clients;

  beforeAll(async () => {
    mkdirSync(folder);
    federation = await Federation.prepare({
      hubs: [
        { id: "home", peers: [] },
        { id: "other", peers: [] },
      ],
    });
    home = federation.hub("home");
    [client] = await Promise.all([installClient(python, folder), home.start()]);
    operator = home.clients();
  }, 120_000);
  afterAll(async () => {
    for (const child of children) child.kill("SIGKILL");
    await federation?.stop();
    rmSync(folder, { recursive: true, force: true });
  }, 60_000);

  /** certify writes a certificate of a node that ends in so many ms, or has its usual life; a key that is there stays. */
  async function certify(name: string, leftMs?: number): Promise<number> {
    const now = systemClock.wall();
    const lifetimeMs = 60_000;
    const short = leftMs === undefined ? {} : { lifetimeMs, notBefore: new Date(now + leftMs - lifetimeMs - SKEW_MS) };
    const report = await writePki(home.pkiDir, "home", { now: new Date(now), leaves: [{ profile: "node", name, ...short }] });
    return report.leaves[0]!.notAfter.getTime();
  }

  /** device starts a program of a page as a node. */
  function device(program: string, name: string, address = home.address("discovery")): { readonly child: ChildProcess; printed(): string } {
    const code = program
      .replace("localhost:18800", address)
      .replace('"ca.pem"', JSON.stringify(home.pki("ca").ca))
      .replace(/"node-lamp\.(pem|key)"/g, (_, kind: string) => JSON.stringify(join(home.pkiDir, `node-${name}.${kind}`)))
      .replaceAll('"lamp"', JSON.stringify(name));
    const child = spawn(python.path, ["-c", code], { env: client.env });
    children.push(child);
    let printed = "";
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (part: string) => (printed += part));
    return { child, printed: () => printed };
  }

  /** answers resolves when the device has run a command and its state has followed. */
  async function answers({ child, printed }: ReturnType<typeof device>, name: string, value: "ON" | "OFF"): Promise<void> {
    await until(
      `${name} being ${value}`,
      async () => {
        if (!isRunning(child)) throw new Error(`the device ended:\n${printed()}`);
        const { result } = await execute(operator, "home", name, "state", text(value), 5_000);
        return result !== undefined;
      },
      BACK_MS,
    );
    await until(`the state of ${name}`, async () => {
      const record = await get(operator, "home", name);
      return record?.online === true && record.state.some(({ key, value: now }) => key === "state" && now?.kind.value === value);
    });
  }

  const stateOf = async (name: string, of: string): Promise<unknown> =>
    (await get(operator, "home", name).catch(() => undefined))?.state.find(({ key }) => key === of)?.value?.kind.value;

  test("the pages show the same device, in few lines", () => {
    expect(blocks("docs/CLIENTS.md")).toEqual([PROGRAMS.threads]);
    for (const program of Object.values(PROGRAMS)) {
      expect(program.trim().split("\n").length).toBeLessThanOrEqual(LINES_MAX);
      expect(program).toMatch(/localhost:18800[\s\S]*"ca\.pem"[\s\S]*"node-lamp\.pem"[\s\S]*"node-lamp\.key"/);
    }
  });

  describe.each(["threads", "asyncio"] as const)("with %s", (kind) => {
    const name = `lamp-${kind}`;

    test("registers, reports and answers, and goes on after the hub was killed", async () => {
      await certify(name);
      const lamp = device(PROGRAMS[kind], name);
      await answers(lamp, name, "ON");
      await until("its power", async () => (await stateOf(name, "power")) === 4.5);
      await home.end("SIGKILL");
      await home.start();
      await answers(lamp, name, "OFF");
      lamp.child.kill("SIGKILL");
    }, 150_000);

    test("goes on with a certificate that was renewed, also when that was late", async () => {
      const brief = `brief-${kind}`;
      const ends = await certify(brief, 8_000);
      const lamp = device(PROGRAMS[kind], brief);
      await answers(lamp, brief, "ON");
      expect(systemClock.wall()).toBeLessThan(ends);
      await until("the end of its attachment", async () => {
        const error: unknown = await execute(operator, "home", brief, "state", text("OFF"), 5_000).catch((failed: unknown) => failed);
        const reason = (error as { failure?: { reason?: string } }).failure?.reason;
        return reason === "NO_EXECUTOR" || reason === "NODE_OFFLINE";
      });
      expect(systemClock.wall()).toBeGreaterThanOrEqual(ends);
      expect(await certify(brief)).toBeGreaterThan(ends);
      await answers(lamp, brief, "OFF");
      lamp.child.kill("SIGKILL");
    }, 150_000);
  });

  test.each(["threads", "asyncio"] as const)(
    "with %s, nodes that the hub refuses are told to a program that gave no callback, once",
    async (kind) => {
      await certify("lamp");
      const [hub, wait, within] = kind === "threads" ? ["Hub", "", "with"] : ["aio.Hub", "await ", "async with"];
      const program = `
import asyncio, foedus, foedus.aio
nodes = [foedus.Node(node_id=node_id, capabilities=[foedus.capability("power", float)]) for node_id in ("lamp", "lamp9", "a lamp")]
async def main():
    ${within} foedus.${hub}.connect("localhost:18800", ca="ca.pem", cert="node-lamp.pem", key="node-lamp.key") as hub:
        ${within} hub.updates(*nodes) as updates:
            for power in (1.0, 2.0):
                for node in nodes:
                    updates.set(node.node_id, "power", power)
                ${wait}updates.drain()
asyncio.run(main())
`;
      const { child, printed } = device(program, "lamp");
      await new Promise((resolve) => child.once("close", resolve));
      const said = printed().trim().split("\n").sort();
      expect([child.exitCode, said]).toEqual([
        0,
        [
          expect.stringMatching(/^the hub refused node 'a lamp': INVALID_FIELD: /),
          expect.stringMatching(/^the hub refused node 'lamp9': OUT_OF_SCOPE: /),
        ],
      ]);
    },
    60_000,
  );

  describe("whom it talks to", () => {
    const servers: Http2SecureServer[] = [];
    afterAll(() => Promise.all(servers.map((server) => new Promise((closed) => server.close(closed)))));

    /** pose listens with a certificate of a hub's PKI. */
    async function pose(files: string, hub = home): Promise<string> {
      const { ca, cert, key } = hub.pki(files);
      const server = createSecureServer({ ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key), requestCert: true });
      servers.push(server);
      server.on("sessionError", () => undefined);
      await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
      return `127.0.0.1:${(server.address() as AddressInfo).port}`;
    }

    test.each(["threads", "asyncio"] as const)(
      "a device with %s says in a sentence that it finds no hub, or another one, and why",
      async (kind) => {
        await certify("lamp");
        const nobody = createServer();
        await new Promise<void>((resolve) => void nobody.listen(0, "127.0.0.1", resolve));
        const nowhere = `127.0.0.1:${(nobody.address() as AddressInfo).port}`;
        await new Promise((closed) => nobody.close(closed));
        for (const [address, reason] of [
          [nowhere, "PEER_UNREACHABLE"],
          [await pose("service-hub", federation.hub("other")), "FOREIGN_CA"],
        ] as const) {
          const { child, printed } = device(PROGRAMS[kind], "lamp", address);
          await until("a sentence", () => printed().endsWith("\n") || child.exitCode !== null);
          expect(printed()).toMatch(
            new RegExp(
              `^the stream to hub home for (updates|commands) is down and will be reopened: ${reason}: .*${address}.*\\. .*\\.\n$`,
            ),
          );
          child.kill("SIGKILL");
        }
      },
      60_000,
    );

    test.each(["Hub", "aio.Hub"])(
      "foedus.%s refuses every server that is not this very hub",
      async (hub) => {
        const addresses = {
          "the hub": home.address("discovery"),
          "a gateway of the hub": await pose("gateway-zigbee"),
          // Of a name with two addresses gRPC tells what was wrong with the last.
          "a service that the program did not ask for": (await pose("service-telemetry")).replace("127.0.0.1", "localhost"),
          "another hub": await pose("service-hub", federation.hub("other")),
        };
        const program = `
import asyncio, sys, foedus, foedus.aio
for at in sys.argv[4:]:
    hub = foedus.${hub}.connect(at, ca=sys.argv[1], cert=sys.argv[2], key=sys.argv[3])
    async def ask():
        answer = hub.serving(timeout=2)
        return answer if isinstance(answer, bool) else await answer
    try:
        print(asyncio.run(ask()))
    except foedus.FoedusError as error:
        print(f"{error.reason}: {error.message}")
`;
        const { ca, cert, key } = home.pki("gateway-zigbee");
        const environment = [`PYTHONPATH=${client.site}`, "GRPC_VERBOSITY=NONE"];
        const { stdout, stderr } = await run("env", [
          ...environment,
          python.path,
          "-c",
          program,
          ca,
          cert,
          key,
          ...Object.values(addresses),
        ]);
        expect(stderr).toBe("");
        const said = stdout.trim().split("\n");
        expect(said).toEqual([
          "True",
          expect.stringMatching(/^FOREIGN_CA: /),
          expect.stringMatching(/^UNKNOWN_IDENTITY: .* is spiffe:\/\/home\/service\/telemetry and not spiffe:\/\/home\/service\/hub; /),
          expect.stringMatching(/^FOREIGN_CA: /),
        ]);
      },
      60_000,
    );
  });
});
