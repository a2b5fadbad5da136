import { Prng } from "#kernel/prng.ts";
import type { PeerSpec, RevokedLeaf } from "../../services/discovery/messages.ts";
import { DEFAULT_SYNC_INTERVAL_MS, type Federation as Peers } from "../../services/discovery/sources/federation.ts";
import { Clients } from "./clients.ts";
import { MachineClock, ProcessClock } from "./clock.ts";
import { Disk } from "./disk.ts";
import type { Federation } from "./federation.ts";
import type { HubOptions } from "./options.ts";
import type { CommandOp } from "./oracle.ts";
import type { SimAuthority, SimLeaf } from "./pki.ts";
import { HubProcess } from "./process.ts";

/** How soon a process that could not start is started again. */
const RESTART_MS = 2_000;

const WALL = 1_800_000_000_000;

/** SimHub is one hub: a machine with a clock and two disks, which outlive the processes that run on it one after the other, and its clients. */
export class SimHub {
  readonly no: number;
  readonly hubId: string;
  readonly machine: MachineClock;
  readonly disks: { readonly registry: Disk; readonly commands: Disk; readonly telemetry: Disk; readonly discovery: Disk };
  readonly options: HubOptions;
  readonly #f: Federation;
  readonly #prng: Prng;
  #clients: Clients | undefined;
  running: HubProcess | undefined;
  /** Number of the newest process. */
  incarnation = 0;
  boots = 0;
  slowUntil = 0;
  /** Version of the limited share's rules, and of those for what is taken in: these count from the next start on. */
  rules = 0;
  imports: number;
  keySerial = 1;
  revokesUpTo = 0;
  certificate = 1;
  /** Certificates of its process that the operators of others revoked. */
  readonly #revoked: RevokedLeaf[] = [];
  /** Nodes' versions rise with every registration. */
  readonly #versions = new Map<string, number>();
  #op = 0;

  constructor(f: Federation, no: number, options: HubOptions, prng: Prng) {
    this.#f = f;
    this.no = no;
    this.hubId = f.hubIds[no] as string;
    this.options = options;
    this.imports = options.imports;
    this.#prng = prng;
    this.machine = new MachineClock(f.scheduler, options.clockRate, WALL + options.wallSkewMs);
    const disk = (dice: Prng) => new Disk(f.scheduler, dice, options.disk);
    // Dice of its own: how long telemetry writes changes nothing in what happens to the others.
    const apart = (salt: number) => disk(new Prng(f.options.seed * salt + no));
    this.disks = { registry: disk(prng), commands: disk(prng), telemetry: apart(37), discovery: apart(41) };
  }

  get nodeIds(): string[] {
    return Array.from({ length: this.#f.options.nodesPerHub }, (_, i) => `n${i}`);
  }

  /** Clients come to life with the hub's first process. */
  get clients(): Clients {
    if (this.#clients === undefined) {
      const clock = new ProcessClock(this.#f.scheduler, new MachineClock(this.#f.scheduler, 1, WALL));
      this.#clients = new Clients(this.#f, this, clock, new Prng(this.#prng.u32()));
    }
    return this.#clients;
  }

  // ---- life

  start(): void {
    if (this.running !== undefined) return;
    const f = this.#f;
    const clock = new ProcessClock(f.scheduler, this.machine, f.options.lateMs);
    this.incarnation++;
    f.trace.note(f.scheduler.now, this.no, "start");
    try {
      this.running = new HubProcess(f, this, clock, this.#prng.u32());
      this.running.start();
      void this.clients;
    } catch (error) {
      clock.alive = false;
      f.fatal(this.no, "start", error);
    }
  }

  /** crash ends the process at once. `what`: the process, the machine, or the machine with a backup of its store afterwards. */
  crash(what: "process" | "machine" | "restore"): void {
    const { running } = this;
    if (running === undefined) return;
    const f = this.#f;
    f.trace.note(f.scheduler.now, this.no, `crash ${what}`);
    this.#end(running);
    f.network.kill(this.no, what === "process");
    const { registry, commands, telemetry, discovery } = this.disks;
    const backedUpAt = Math.min(registry.backedUpAt, commands.backedUpAt);
    const syncedAt = Math.min(registry.syncedAt, commands.syncedAt);
    const lost = [registry.crash(what), commands.crash(what)].some((missing) => missing);
    telemetry.crash(what);
    discovery.crash(what);
    if (lost) f.oracle.rewind(this.no, what === "restore" && backedUpAt >= 0 ? backedUpAt : syncedAt, what === "restore");
    if (what === "process") return;
    this.boots++;
    this.machine.reboot(this.options.battery);
    if (!this.options.battery) f.scheduler.after(3_000 + this.#prng.below(20_000), () => this.machine.setWall(WALL + f.scheduler.now));
  }

  /** unable ends a process that cannot start; what supervises it starts it again. */
  unable(process: HubProcess): void {
    if (this.running !== process) return;
    this.crash("process");
    this.#f.scheduler.after(RESTART_MS, () => this.start());
  }

  /** stop ends the process cleanly, within grace. */
  stop(done: () => void): void {
    const { running } = this;
    if (running === undefined) return;
    const f = this.#f;
    f.trace.note(f.scheduler.now, this.no, "stop");
    void running.stop().then(() => {
      if (this.running !== running) return;
      this.#end(running);
      f.network.kill(this.no, true);
      this.disks.registry.crash("process");
      this.disks.commands.crash("process");
      this.disks.telemetry.crash("process");
      this.disks.discovery.crash("process");
      done();
    });
  }

  #end(running: HubProcess): void {
    const f = this.#f;
    f.trace.add("wait for credit", running.stalls());
    this.running = undefined;
    running.clock.alive = false;
    f.network.listen(this.no, undefined);
  }

  /** fill makes the disks full, or fail; undefined mends them. */
  fill(reason: "full" | "io" | undefined): void {
    for (const disk of Object.values(this.disks)) disk.fill(reason);
    const activities = this.running?.activities;
    if (reason === "full") activities?.begin("disk full");
    else activities?.end("disk full");
  }

  /** renew gives the process another certificate. */
  renew(): void {
    this.certificate++;
    const { running } = this;
    if (running?.discovery === undefined) running?.changed();
    else running.discovery.leafChanged();
  }

  /** revoke renews the certificate, and the operators of all others revoke the old one: its key is in other hands. */
  revoke(): void {
    const { thumbprint } = this.leaf;
    this.renew();
    this.#revoked.push({ thumbprint, digest: Buffer.from(thumbprint, "base64url").toString("hex") });
    for (const { running, no } of this.#f.hubs) if (no !== this.no) running?.changed();
  }

  get revoked(): readonly RevokedLeaf[] {
    return this.#revoked;
  }

  get authority(): SimAuthority {
    return this.#f.authorities[this.no] as SimAuthority;
  }

  /** leaf is the certificate that its process shows. */
  get leaf(): SimLeaf {
    return this.authority.leaf(this.certificate);
  }

  /** listens: others can dial it. */
  get listens(): boolean {
    return !this.#f.network.natted(this.no);
  }

  /** federation is what its federation file says now. */
  federation(): Peers {
    const f = this.#f;
    const peers = f.hubs.flatMap(({ hubId, no, authority: { pem, digest }, revoked }): PeerSpec[] => {
      if (no === this.no) return [];
      const { level, share } = f.trustOf(this.no, no);
      const addresses = this.dialable(no) ? [{ host: hubId, port: 1 }] : [];
      return [{ hubId, addresses, cas: [{ pem, digest }], revoked: [...revoked], maxTrust: level as PeerSpec["maxTrust"], share }];
    });
    return { peers, syncIntervalMs: DEFAULT_SYNC_INTERVAL_MS };
  }

  // ---- what the simulated world asks of it

  /** slowMs: how long this process takes to read a message now. */
  slowMs(): number {
    return this.#f.scheduler.now < this.slowUntil ? 150 : 0;
  }

  dialable(peer: number): boolean {
    const { network, trace, scheduler } = this.#f;
    if (!network.natted(peer)) return true;
    trace.note(scheduler.now, this.no, "fault nat", () => `cannot dial hub-${peer}`);
    return false;
  }

  // ---- what its people do

  register(nodeId: string, area: string): void {
    const version = (this.#versions.get(nodeId) ?? 0) + 1;
    this.#versions.set(nodeId, version);
    this.clients.register(nodeId, area, version);
  }

  /** newOp makes something new to be done. */
  newOp(spec: Pick<CommandOp, "target" | "nodeId" | "capability" | "timeoutMs"> & { readonly keyed: boolean }): CommandOp {
    const { keyed, ...rest } = spec;
    const id = `${this.hubId}:${this.incarnation}:${this.#op++}`;
    const op: CommandOp = {
      ...rest,
      id,
      caller: this.no,
      key: keyed ? id : "",
      calls: [],
      effects: [],
      declined: false,
      tainted: false,
      restored: false,
    };
    this.#f.oracle.commands.set(id, op);
    return op;
  }

  describe(): string {
    const { running } = this;
    return running === undefined ? `${this.hubId} is down` : `== ${this.hubId}\n${running.describe()}`;
  }
}
