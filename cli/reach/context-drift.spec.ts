import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { afterEach, beforeEach, expect, test } from "vitest";
import { serviceErrorToFoedus } from "#channel/status.ts";
import { toCliError } from "../exit.ts";
import type { Io } from "../io.ts";
import { add } from "../verbs/contexts.ts";
import { advised } from "./advice.ts";
import { driftOf } from "./context-drift.ts";
import type { HubContext } from "./contexts-file.ts";

const service = (port: number) => ({ port }) as never;
const ports = (port: number, host = "127.0.0.1") => ({
  listen: { host, port },
  services: {
    discovery: service(port),
    "registry-sync": service(port + 1),
    "command-forwarding": service(port + 2),
    telemetry: service(port + 3),
  },
});
const files = { ca: "../pki/ca.pem", cert: "../pki/c.pem", key: "../pki/c.key" };
const named = (context: Partial<HubContext>) => ({
  name: "carol",
  file: "/h/.foedus/contexts.json",
  context: { hub_id: "carol", ...files, ...context },
});

test("a context follows the ports of the configuration, and one that leads elsewhere is left alone", () => {
  const drift = driftOf(named({ address: "127.0.0.1:18800" }), ports(18_860) as never);
  expect(drift).toEqual({
    message: "the context carol says 127.0.0.1:18800, the configuration says port 18860",
    command: "foedus contexts add carol --address 127.0.0.1:18860",
    addresses: ["127.0.0.1:18860"],
  });
  const split = named({ address: "127.0.0.1:18800", services: { telemetry: "[::1]:18803", "registry-sync": "10.0.0.9:1" } });
  expect(driftOf(split, ports(18_860) as never)?.addresses).toEqual([
    "127.0.0.1:18860",
    "registry-sync=10.0.0.9:1",
    "telemetry=[::1]:18863",
  ]);
  for (const [context, config] of [
    [{ address: "127.0.0.1:18800" }, ports(18_800)],
    [{ address: "hub.example:443" }, ports(18_800)],
    [{ address: "127.0.0.1:18800" }, ports(0)],
    [{}, ports(18_860)],
  ] as const)
    expect(driftOf(named(context), config as never)).toBeUndefined();
});

let folder: string;
let io: Io;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "foedus-drift-"));
  io = { cwd: folder, env: {}, note: () => undefined } as unknown as Io;
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A hub's folder whose context has a port, and its configuration another. */
function hubAt(contextPort: number, port: number): ReturnType<typeof named> {
  const config = { hub_id: "carol", listen: { port }, tls: { ca: "pki/ca.pem", cert: "pki/c.pem", key: "pki/c.key" } };
  writeFileSync(join(folder, "hub.json"), JSON.stringify(config));
  mkdirSync(join(folder, ".foedus"), { recursive: true });
  const file = join(folder, ".foedus/contexts.json");
  const context = { hub_id: "carol", ...files, address: `127.0.0.1:${contextPort}`, config: "../hub.json" };
  writeFileSync(file, JSON.stringify({ current: "carol", contexts: { carol: context } }));
  return { name: "carol", file, context };
}

/** unavailable is what a call ends with that reached no hub. */
function unavailable(details: string): unknown {
  return serviceErrorToFoedus(Object.assign(new Error("x"), { code: grpc.status.UNAVAILABLE, details, metadata: new grpc.Metadata() }));
}

test("a hub of this machine that is not reached: its context is of before, or it has to be started", async () => {
  const away = unavailable("No connection established. Last error: connect ECONNREFUSED 127.0.0.1:1");
  const remedy = async (context: ReturnType<typeof named> | undefined): Promise<string> =>
    toCliError(await advised(away, context, io), () => "").remedy;
  expect(await remedy(hubAt(18_800, 18_860))).toBe(
    "Perhaps the context carol says 127.0.0.1:18800, the configuration says port 18860: `foedus contexts add carol --address 127.0.0.1:18860`.",
  );
  expect(await remedy(hubAt(18_800, 18_800))).toBe("If it does not run, start it: `foedus hub --config hub.json`.");
  // A hub elsewhere, and one whose files are gone.
  expect(await remedy(undefined)).toMatch(/^Check that the hub runs/);
  const gone = hubAt(1, 1);
  rmSync(join(folder, "hub.json"));
  expect(await remedy(gone)).toMatch(/^Check that the hub runs/);
  expect(toCliError(await advised(away, gone, io), () => "").exitCode).toBe(3);
});

test("another hub where that of a context was: the context is named, and how to choose another", async () => {
  const foreign = unavailable("No connection established. Last error: unable to verify the first certificate");
  const said = toCliError(await advised(foreign, hubAt(18_800, 18_800), io), () => "");
  expect(said.remedy).toMatch(/^The context carol in \.foedus\/contexts\.json is for the hub carol\. Perhaps another hub listens there/);
  expect(said.exitCode).toBe(4);
});

test("contexts add keeps of a context what it is not given", async () => {
  const { file, context } = hubAt(18_800, 18_860);
  const now = (): unknown => (JSON.parse(readFileSync(file, "utf8")) as { contexts: Record<string, unknown> }).contexts["carol"];
  await add(io, ["carol"], { address: ["127.0.0.1:18860"] });
  expect(now()).toEqual({ ...context, address: "127.0.0.1:18860" });
  await add(io, ["carol"], { ca: "other.pem" });
  expect(now()).toEqual({ ...context, address: "127.0.0.1:18860", ca: "../other.pem" });
  await expect(add(io, ["dave"], { address: ["127.0.0.1:1"] })).rejects.toThrow("a new context needs --address, --ca, --cert and --key");
});
