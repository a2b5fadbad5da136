// The federation of the soak: four hubs that all know each other, with a relay in front of each that can be reached.
import { spawnSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { INSTALLED } from "../../cli/build.ts";
import { withSessions } from "../../services/hub/services.ts";
import { Federation, type HubProcess, type HubSpec, SERVICES } from "../support/federation.ts";
import { Relay } from "../support/relay.ts";

/** HUBS by what each is there for; `steady` is never killed, so its memory tells of the whole run. */
export const HUBS = ["steady", "split", "dialer", "cramped"] as const;
export type HubName = (typeof HUBS)[number];

/** The disk of the cramped hub: room for what a run keeps, and for a ballast that fills it. */
const DISK_BYTES = 192 * 1024 * 1024;

/** Stage is the running federation with its network and disk. */
export class Stage {
  readonly federation: Federation;
  readonly dir: string;
  /** Relays in front of a hub's ports: everything that peers send to it comes through them. */
  readonly relays: ReadonlyMap<HubName, readonly Relay[]>;
  readonly #disk: string | undefined;

  private constructor(dir: string, federation: Federation, relays: ReadonlyMap<HubName, readonly Relay[]>, disk: string | undefined) {
    this.dir = dir;
    this.federation = federation;
    this.relays = relays;
    this.#disk = disk;
  }

  /** mountable tells whether the small disk could be mounted; without root there is none, and its fault is left out. */
  get mountable(): boolean {
    return this.#disk !== undefined;
  }

  static async start(entry: readonly string[]): Promise<Stage> {
    const dir = mkdtempSync(join(tmpdir(), "foedus-soak-"));
    const disk = mount(join(dir, "disk"));
    const config = {
      discovery: { backoff_base_ms: 100, backoff_max_ms: 2_000 },
      registry_sync: {
        sync_interval_ms: 2_000,
        shares: { limited: { nodes: [{ ids: ["*-even-*"] }], invoke: ["*"] } },
      },
    };
    const specs: HubSpec[] = HUBS.map((id) => ({
      id,
      mode: id === "split" ? ("split" as const) : ("single" as const),
      reachable: id !== "dialer",
      peers: HUBS.filter((other) => other !== id).map((hub) => ({ hub })),
      config: id === "cramped" && disk !== undefined ? { ...config, data_dir: join(disk, "data") } : config,
      env: INSTALLED.env,
      // The reload of certificates is quick, so that a renewal is over when the next fault comes.
    }));
    const federation = await Federation.prepare({ dir: join(dir, "hubs"), hubs: specs, entry });
    const relays = new Map<HubName, readonly Relay[]>();
    for (const id of HUBS) if (id !== "dialer") relays.set(id, await putRelays(federation.hub(id)));
    for (const hub of federation.hubs.values()) {
      editConfig(hub, (value) => ({ ...value, tls: { ...(value["tls"] as object), reload_ms: 1_000 } }));
      editPeers(hub, (peer) => (relays.has(peer.hub_id as HubName) ? { ...peer, host: relayHost(federation.hub(peer.hub_id)) } : peer));
    }
    if (disk !== undefined) mkdirSync(join(disk, "data"), { recursive: true, mode: 0o700 });
    const stage = new Stage(dir, federation, relays, disk);
    try {
      await Promise.all([...federation.hubs.values()].map((hub) => hub.start()));
      await federation.operational(60_000);
    } catch (error) {
      await stage.stop();
      throw error;
    }
    return stage;
  }

  hub(name: HubName): HubProcess {
    return this.federation.hub(name);
  }

  /** fill leaves no free byte on the cramped hub's disk; the answer empties it again. */
  fill(): () => void {
    if (this.#disk === undefined) throw new Error("there is no small disk");
    const file = join(this.#disk, "ballast");
    const handle = openSync(file, "w");
    const block = Buffer.alloc(64 * 1024, 1);
    try {
      for (let size = block.length; size > 0; ) {
        try {
          writeSync(handle, block, 0, size);
        } catch {
          size = size === 1 ? 0 : size >> 1;
        }
      }
    } finally {
      closeSync(handle);
    }
    return () => rmSync(file, { force: true });
  }

  async stop(): Promise<void> {
    try {
      await this.federation.stop("SIGKILL");
    } finally {
      await Promise.all([...this.relays.values()].flat().map((relay) => relay.close()));
      if (this.#disk !== undefined) spawnSync("umount", [this.#disk]);
      if (process.env["FOEDUS_KEEP"] === undefined) rmSync(this.dir, { recursive: true, force: true });
    }
  }
}

/** relayHost is another loopback address than the hub's own, on which the relays have the hub's ports. */
function relayHost(hub: HubProcess): string {
  const parts = hub.host.split(".");
  parts[3] = String(100 + Number(parts[3]));
  return parts.join(".");
}

async function putRelays(hub: HubProcess): Promise<readonly Relay[]> {
  const host = relayHost(hub);
  const ports = hub.split ? withSessions().map((service) => hub.basePort + SERVICES.indexOf(service)) : [hub.basePort];
  editConfig(hub, (value) => ({ ...value, advertise_host: host }));
  return Promise.all(ports.map((port) => Relay.listen({ host, port }, { host: hub.host, port })));
}

function mount(folder: string): string | undefined {
  mkdirSync(folder);
  const { status } = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${DISK_BYTES}`, "tmpfs", folder]);
  return status === 0 ? folder : undefined;
}

/** PeerLine is a line of a federation file. */
export interface PeerLine {
  readonly hub_id: string;
  readonly [key: string]: unknown;
}

/** editPeers replaces a hub's federation file, which a running hub follows: at once, so that it never reads half of it. */
export function editPeers(hub: HubProcess, change: (peer: PeerLine) => PeerLine): void {
  const file = join(hub.dir, "federation.json");
  const { peers } = JSON.parse(readFileSync(file, "utf8")) as { peers: PeerLine[] };
  writeFileSync(`${file}.new`, JSON.stringify({ peers: peers.map(change) }, undefined, 2));
  renameSync(`${file}.new`, file);
}

/** editConfig rewrites a hub's configuration. */
export function editConfig(hub: HubProcess, change: (value: Record<string, unknown>) => unknown): void {
  const file = join(hub.dir, "hub.json");
  writeFileSync(file, JSON.stringify(change(JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>)));
}

/** logLines are what the processes of a hub wrote, as objects. */
export function logLines(hub: HubProcess): readonly Readonly<Record<string, unknown>>[] {
  const names = hub.split ? SERVICES : (["hub"] as const);
  return names.flatMap((name) =>
    (existsSync(join(hub.dir, "log", `${name}.log`)) ? hub.log(name) : "")
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .flatMap((line) => {
        try {
          return [JSON.parse(line) as Record<string, unknown>];
        } catch {
          // A line that a kill cut off.
          return [];
        }
      }),
  );
}
