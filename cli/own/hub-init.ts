import { X509Certificate } from "node:crypto";
import { existsSync, rmSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { isIP } from "node:net";
import { dirname, join, resolve } from "node:path";
import { makeFolder } from "#runtime/files.ts";
import { portTaken } from "#runtime/rpc/handshakes/listen-error.ts";
import { writePki } from "../../certs/issue.ts";
import type { IssueRequest } from "../../certs/profiles.ts";
import { nearest } from "../../clients/typescript/reach/target.ts";
import { DEFAULT_PORT, portsOf, SERVICES, type ServiceName } from "../../services/hub/services.ts";
import { CliError, EXIT, type ExitCode, usage } from "../exit.ts";
import type { Io } from "../io.ts";
import { parseHub } from "../parse.ts";
import { count } from "../print/format.ts";
import { paragraphs } from "../print/text.ts";
import { type HubContext, writeContexts } from "../reach/contexts-file.ts";
import { nearPath, typedPath } from "../reach/near-path.ts";
import { type OutputFlags, printJson } from "../verb.ts";
import { CONFIG_FILE } from "./own-hub.ts";

/** InitFlags are the options of `hub init`. */
export interface InitFlags extends OutputFlags {
  readonly dir?: string;
  readonly port?: string;
  readonly advertise?: string;
}

/** Without --advertise a hub is for this machine: right for trying things out, and `doctor` says so when it is not. */
const LOCAL_HOST = "127.0.0.1";
/** Services of split mode, and the ports of each for health and metrics, come after the port of the hub. */
const LAST_OFFSET = Math.max(...SERVICES.map((name) => portsOf(name, 0).metrics));
const MAX_PORT = 65_535 - LAST_OFFSET;
/** A second hub on a machine takes ports this far above those of the first. */
const NEXT_HUB = 60;

/** What makes a folder a hub: none of it may be there already. */
const MADE = ["hub.json", "federation.json", "pki", ".foedus/contexts.json", "data"] as const;

interface Plan {
  readonly hubId: string;
  readonly dir: string;
  readonly port: number;
  /** What peers are told; empty: this hub only dials out. */
  readonly advertise: string;
}

/**
 * init makes the folder of a new hub: configuration, an empty federation file, certificates and a context. It overwrites nothing:
 * a key or a CA that peers have pinned cannot be brought back. In the folder of another hub it makes one only where --dir says.
 */
export async function init(io: Io, [hubId = ""]: readonly string[], flags: InitFlags): Promise<ExitCode | undefined> {
  const plan: Plan = {
    hubId: parseHub(hubId),
    dir: resolve(io.cwd, flags.dir ?? hubId),
    port: portOf(flags.port),
    advertise: hostOf(flags.advertise ?? LOCAL_HOST),
  };
  if (flags.dir === undefined) mustBeNoHub(io, plan);
  const there = MADE.filter((name) => existsSync(join(plan.dir, name)));
  if (there.length > 0)
    throw new CliError(
      EXIT.failed,
      `${join(plan.dir, there[0] ?? "")} already exists, and existing files are not overwritten`,
      "Choose another folder with --dir.",
    );
  makeFolder(plan.dir, 0o700);
  try {
    await make(io, plan);
  } catch (error) {
    // None of these was there before, and half of them would be in the way of the next try.
    for (const name of MADE) rmSync(join(plan.dir, name), { recursive: true, force: true });
    throw error;
  }
  await tell(io, plan, flags);
  await tellTaken(io, plan);
  return EXIT.ok;
}

/** mustBeNoHub refuses to make a hub's folder within that of another hub, where somebody forgot to leave it. Throws CliError. */
function mustBeNoHub(io: Io, { hubId }: Plan): void {
  const other = nearest(io.cwd, CONFIG_FILE);
  if (other === undefined) return;
  const beside = typedPath(io.cwd, join(dirname(dirname(other)), hubId));
  throw new CliError(
    EXIT.failed,
    `you are in the folder of a hub, whose configuration is ${nearPath(io.cwd, other)}, and ${hubId} would be made inside it`,
    `Go to another folder, or say where the new hub belongs: \`foedus hub init ${hubId} --dir ${beside}\`.`,
  );
}

/** tellTaken says that another program has the port of the new hub now. It may end before the hub starts, so that is no reason to make none. */
async function tellTaken(io: Io, plan: Plan): Promise<void> {
  const host = listenHostOf(plan);
  if ((await portTaken(host, plan.port)) === undefined) return;
  let other: number | undefined;
  for (let port = plan.port + NEXT_HUB; other === undefined && port <= Math.min(MAX_PORT, plan.port + 10 * NEXT_HUB); port += NEXT_HUB)
    if ((await portTaken(host, port)) === undefined) other = port;
  const port = other === undefined ? "another --port" : `--port ${other}`;
  io.note(
    `port ${plan.port} is already in use on this machine: stop what listens there, or remove ${nearPath(io.cwd, plan.dir)} and make the hub again with ${port}\n`,
  );
}

function portOf(text: string | undefined): number {
  const port = text === undefined ? DEFAULT_PORT : Number(text);
  if (!Number.isInteger(port) || port < 1 || port > MAX_PORT)
    throw usage(
      `"${text}" is not a port for a hub`,
      `Give 1 to ${MAX_PORT}: health and metrics take the ports from 10 to ${LAST_OFFSET} above it.`,
    );
  return port;
}

function hostOf(text: string): string {
  if (/[\s/]/.test(text) || text.length > 253 || (text.includes(":") && isIP(text) === 0))
    throw usage(`"${text}" is not a host`, "Give --advertise a host name or an address, without scheme and port; the port is --port.");
  return text;
}

/** Whoever advertises an address of this machine only is not opened to the network. */
function listenHostOf({ advertise }: Plan): string {
  if (isOwn(advertise)) return LOCAL_HOST;
  return isIP(advertise) === 6 ? "::" : "0.0.0.0";
}

/** isOwn tells hosts that are in every service certificate anyway. */
function isOwn(host: string): boolean {
  return host === "" || host === LOCAL_HOST || host === "localhost";
}

function leavesOf({ advertise }: Plan): IssueRequest[] {
  const names = isOwn(advertise) ? {} : isIP(advertise) === 0 ? { dnsNames: [advertise.toLowerCase()] } : { ips: [advertise] };
  return [
    ...["hub", ...SERVICES].map((name): IssueRequest => ({ profile: "service", name, ...names })),
    { profile: "operator", name: "admin", role: "admin" },
    { profile: "operator", name: "viewer", role: "viewer" },
    { profile: "gateway", name: "devices" },
  ];
}

function contextOf({ hubId, port }: Plan): HubContext {
  const pki = (file: string): string => join("..", "pki", file);
  return {
    hub_id: hubId,
    address: `${LOCAL_HOST}:${port}`,
    ca: pki("ca.pem"),
    cert: pki("operator-admin.pem"),
    key: pki("operator-admin.key"),
    config: join("..", "hub.json"),
  };
}

function configOf(plan: Plan): object {
  const { hubId, port, advertise } = plan;
  const host = listenHostOf(plan);
  const elsewhere = port !== DEFAULT_PORT;
  const portsAt = (name: ServiceName): object => {
    const { port: own, ops, metrics } = portsOf(name, port);
    return { port: own, ops_port: ops, metrics_port: metrics };
  };
  const service = (name: ServiceName): object => ({
    ...(elsewhere ? portsAt(name) : {}),
    ...(host === LOCAL_HOST ? {} : { host }),
    cert: `pki/service-${name}.pem`,
    key: `pki/service-${name}.key`,
  });
  return {
    hub_id: hubId,
    ...(advertise === "" ? {} : { advertise_host: advertise }),
    listen: { host, port },
    tls: { ca: "pki/ca.pem", cert: "pki/service-hub.pem", key: "pki/service-hub.key" },
    federation_config_path: "federation.json",
    services: Object.fromEntries(SERVICES.map((name) => [name, service(name)])),
  };
}

async function tell(io: Io, plan: Plan, flags: InitFlags): Promise<void> {
  const { hubId, dir, port, advertise } = plan;
  const folder = nearPath(io.cwd, dir);
  const sha256 = new X509Certificate(await readFile(join(dir, "pki", "ca.pem"))).fingerprint256.replaceAll(":", "").toLowerCase();
  const next = ["foedus hub --config hub.json", `foedus status --hub ${hubId}`, "foedus device simulate", "foedus peer invite"];
  if (flags.json) {
    await printJson(io, {
      hub_id: hubId,
      dir,
      config_file: join(dir, "hub.json"),
      port,
      advertise_host: advertise,
      ca_sha256: sha256,
      next,
    });
    return;
  }
  if (flags.quiet) return io.out(`${join(dir, "hub.json")}\n`);
  const reach =
    advertise === ""
      ? "It only dials out: peers need an address that it can reach."
      : advertise === LOCAL_HOST
        ? "Only hubs on this machine reach it; --advertise <host> makes one that others reach."
        : `Peers reach it at ${advertise}, port ${port}.`;
  const text =
    `${folder}/ is the hub ${hubId}: hub.json, federation.json, a context, and in pki/ a CA with ${count(leavesOf(plan).length, "certificate")}.\n` +
    `${reach}\n\n` +
    `Its CA has the SHA-256\n  ${sha256}\n\n` +
    `Next${folder === "." ? "" : `, in ${folder}/`}:\n${next.map((line) => `  ${line}\n`).join("")}`;
  await io.out(paragraphs(text, io.columns));
}

/** make writes everything that a hub needs into its folder. */
async function make(io: Io, plan: Plan): Promise<void> {
  await writePki(join(plan.dir, "pki"), plan.hubId, { now: new Date(io.clock.wall()), leaves: leavesOf(plan) });
  await writeContexts({
    file: join(plan.dir, ".foedus", "contexts.json"),
    current: plan.hubId,
    contexts: { [plan.hubId]: contextOf(plan) },
  });
  const json = (value: object): string => `${JSON.stringify(value, undefined, 2)}\n`;
  await writeFile(join(plan.dir, "federation.json"), json({ peers: [] }), { flag: "wx" });
  // Last, so that a run that was cut off is not taken for a hub.
  await writeFile(join(plan.dir, "hub.json"), json(configOf(plan)), { flag: "wx" });
}
