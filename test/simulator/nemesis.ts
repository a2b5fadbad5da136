import { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { Prng } from "#kernel/prng.ts";
import type { Activity } from "./activities.ts";
import type { Wire } from "./channel.ts";
import type { Federation } from "./federation.ts";
import type { SimHub } from "./hub.ts";
import { IMPORT_VERSIONS, RULE_VERSIONS } from "./nodes.ts";
import { type Fault, KEY_LIFE_MS } from "./options.ts";

/** How often something else comes while this is half done. */
const MEETING: Readonly<Record<Activity, number>> = {
  "snapshot in": 0.02,
  "snapshot out": 0.02,
  checkpoint: 0.02,
  forget: 0.15,
  "share change": 0.06,
  "epoch change": 0.06,
  "key rotation": 0.2,
  "disk full": 0.6,
  stop: 0.5,
};

/** How often a client's stream ends just when there is something new for it. */
const COMMAND_MEETS = 0.03;
const UPDATES_MEET = 0.03;
/** What was sent is on its way then, on the fastest network. */
const UNDER_WAY_MS = 0.05;

/** Nemesis brings the trouble: faults of the kinds that the run allows, drawn from the seed. `heal` ends all of it. */
export class Nemesis {
  readonly #f: Federation;
  readonly #prng: Prng;
  readonly #kinds: readonly Fault[];
  /** Dice for what only runs with discovery have: the others' troubles are the same without it. */
  readonly #identities: Prng;
  readonly #restarts: Prng;

  constructor(f: Federation, prng: Prng) {
    this.#f = f;
    this.#prng = prng;
    this.#identities = new Prng(f.options.seed ^ 0x1de);
    this.#restarts = new Prng(f.options.seed ^ 0xd15);
    const passive: readonly Fault[] = ["nat", "executor", "hostile", "overlap"];
    this.#kinds = [...f.options.faults].filter((fault) => !passive.includes(fault));
  }

  schedule(): void {
    const { scheduler, options } = this.#f;
    if (this.#kinds.length === 0) return;
    for (let i = 0; i < options.faultCount; i++) scheduler.after(300 + options.chaosMs * this.#prng.unit(), () => this.#strike());
    if (options.faults.has("restore"))
      for (const hub of this.#f.hubs)
        if (this.#prng.chance(0.3)) scheduler.after(options.chaosMs * this.#prng.unit() * 0.5, () => this.#backup(hub));
  }

  /** heal puts everything right: what is down starts, what is cut is joined, what is full is emptied. Dead links are not told. */
  heal(): void {
    const f = this.#f;
    f.troubled = false;
    f.trace.note(f.scheduler.now, -1, "heal");
    f.network.heal();
    for (const hub of f.hubs) {
      hub.slowUntil = 0;
      hub.fill(undefined);
      hub.start();
      for (let peer = 0; peer < f.options.hubs; peer++)
        if (f.trustOf(hub.no, peer).terminated) f.setTrust(hub.no, peer, { terminated: false });
    }
  }

  /** Only what met something is noted: a cut without a connection, or the crash of a hub that is down, did not happen. */
  #note(hub: SimHub, fault: Fault): void {
    this.#f.trace.note(this.#f.scheduler.now, hub.no, `fault ${fault}`);
  }

  #strike(): void {
    const prng = this.#prng;
    const kind = this.#kinds[prng.below(this.#kinds.length)] as Fault;
    const hub = this.#f.hub(prng.below(this.#f.options.hubs));
    switch (kind) {
      case "cut":
        for (let i = 1 + prng.below(3); i > 0; i--) if (this.#f.network.cut(hub.no, prng.u32() >>> 1, "both")) this.#note(hub, kind);
        return;
      case "late":
        for (let i = 1 + prng.below(3); i > 0; i--) if (this.#f.network.cut(hub.no, prng.u32() >>> 1, "late")) this.#note(hub, kind);
        return;
      case "half":
        if (this.#f.network.cut(hub.no, prng.u32() >>> 1, prng.chance(0.7) ? "one" : "none")) this.#note(hub, kind);
        return;
      case "partition":
        return this.#partition(hub);
      case "crash":
        return this.#crash(hub, kind, "process");
      case "power":
        return this.#crash(hub, kind, "machine");
      case "restore":
        if (hub.disks.registry.backedUpAt < 0) this.#backup(hub);
        this.#f.scheduler.after(prng.chance(0.3) ? 0 : 10_000 * prng.unit(), () => this.#crash(hub, kind, "restore"));
        return;
      case "clock":
        this.#note(hub, kind);
        return this.#step(hub, (prng.chance(0.5) ? 1 : -1) * prng.below(prng.chance(0.8) ? 5_000 : 3_600_000));
      case "disk":
        this.#note(hub, kind);
        return this.#disk(hub);
      case "slow":
        this.#note(hub, kind);
        hub.slowUntil = this.#f.scheduler.now + 2_000 + prng.below(15_000);
        return;
      case "rotate":
        this.#note(hub, kind);
        if (!this.#f.options.discovery || this.#identities.chance(0.6)) return hub.renew();
        this.#f.trace.note(this.#f.scheduler.now, hub.no, "revoked");
        return hub.revoke();
      case "imports":
        return this.#imports(hub);
      case "share":
        this.#note(hub, kind);
        return this.#share(hub);
      default:
        return;
    }
  }

  #step(hub: SimHub, ms: number): void {
    hub.machine.step(ms);
    if (ms > KEY_LIFE_MS / 2) this.#f.oracle.outlived(hub.no);
  }

  #partition(struck: SimHub): void {
    const hub = struck.no;
    const prng = this.#prng;
    const { network, options, scheduler } = this.#f;
    const others = Array.from({ length: options.hubs }, (_, i) => i).filter((i) => i !== hub && prng.chance(0.6));
    const symmetric = prng.chance(0.6);
    const outward = prng.chance(0.5);
    const paths = others.flatMap((other): [number, number][] =>
      symmetric
        ? [
            [hub, other],
            [other, hub],
          ]
        : outward
          ? [[hub, other]]
          : [[other, hub]],
    );
    if (paths.length > 0) this.#note(struck, "partition");
    for (const [from, to] of paths) network.block(from, to);
    scheduler.after(1_000 + prng.below(40_000), () => {
      for (const [from, to] of paths) network.unblock(from, to);
    });
  }

  #crash(hub: SimHub, fault: Fault, what: "process" | "machine" | "restore"): void {
    const prng = this.#prng;
    if (hub.running !== undefined) this.#note(hub, fault);
    const backMs = prng.chance(0.5) ? 50 + prng.below(2_000) : prng.below(30_000);
    if (what === "process" && prng.chance(0.3)) hub.stop(() => this.#f.scheduler.after(backMs, () => hub.start()));
    else {
      hub.crash(what);
      this.#f.scheduler.after(backMs, () => hub.start());
    }
  }

  #disk(hub: SimHub): void {
    const prng = this.#prng;
    const { registry, commands } = hub.disks;
    if (prng.chance(0.4)) {
      registry.tear();
      commands.tear();
      return;
    }
    hub.fill(prng.chance(0.7) ? "full" : "io");
    const lastsMs = 500 + prng.below(12_000);
    this.#f.scheduler.after(lastsMs, () => hub.fill(undefined));
    // Whose disk takes nothing is often restarted by hand: what was in memory only is gone, and must not have been shown.
    if (!this.#f.options.faults.has("crash") || !this.#restarts.chance(0.3)) return;
    this.#f.scheduler.after(lastsMs * this.#restarts.unit(), () => this.#crash(hub, "crash", "process"));
  }

  /** meet brings something else while something is half done: by itself it would seldom come just then. */
  meet(hub: SimHub, activity: Activity): void {
    const prng = this.#prng;
    if (!this.#f.troubled || !this.#f.options.faults.has("overlap") || !prng.chance(MEETING[activity])) return;
    this.#f.scheduler.after(prng.chance(0.5) ? 0 : 15 * prng.unit(), () => this.#meet(hub, prng.below(6)));
  }

  #meet(hub: SimHub, kind: number): void {
    const { running } = hub;
    if (running === undefined || !this.#f.troubled) return;
    const prng = this.#prng;
    this.#note(hub, "overlap");
    if (kind === 0) return hub.stop(() => this.#f.scheduler.after(50 + prng.below(2_000), () => hub.start()));
    if (kind === 1) return this.#disk(hub);
    if (kind === 2) return hub.renew();
    if (kind === 3) return this.#share(hub);
    if (kind === 4) return this.#toggleAll(hub);
    this.#f.network.cut(hub.no, prng.u32() >>> 1, "both");
  }

  /** meetCommand ends a user's stream now and then in the very turn in which a command was given to it. */
  meetCommand(hub: SimHub): void {
    if (!this.#meets("overlap", COMMAND_MEETS)) return;
    const { network, options } = this.#f;
    const user = (wire: Wire): boolean => wire.w === "call" && wire.method === CommandForwardingService.method.executeStream;
    if (network.cutFrom(options.hubs + hub.no, user, "both")) this.#note(hub, "overlap");
  }

  /** meetUpdates ends a gateway's stream now and then when updates have just gone out on it: they arrive long after. */
  meetUpdates(hub: SimHub): void {
    if (!this.#meets("late", UPDATES_MEET)) return;
    const { network, options, scheduler } = this.#f;
    const gateway = (wire: Wire): boolean => wire.w === "call" && wire.method === RegistrySyncService.method.updateState;
    scheduler.after(UNDER_WAY_MS, () => {
      if (this.#f.troubled && network.cutFrom(options.hubs + hub.no, gateway, "late")) this.#note(hub, "late");
    });
  }

  #meets(fault: Fault, chance: number): boolean {
    return this.#f.troubled && this.#f.options.faults.has(fault) && this.#prng.chance(chance);
  }

  /** toggleAll gives all peers of a hub the other share: what nobody gets any more goes, and comes back with a new epoch. */
  #toggleAll(hub: SimHub): void {
    const share = this.#f.trustOf(hub.no, hub.no === 0 ? 1 : 0).share === "full" ? "limited" : "full";
    for (let peer = 0; peer < this.#f.options.hubs; peer++) if (peer !== hub.no) this.#f.setTrust(hub.no, peer, { share });
  }

  #backup(hub: SimHub): void {
    hub.disks.registry.backup();
    hub.disks.commands.backup();
    hub.disks.discovery.backup();
  }

  /** imports gives a hub other rules for what it takes in: an operator writes them into its file, and starts it again for that. */
  #imports(hub: SimHub): void {
    hub.imports = (hub.imports + 1 + this.#prng.below(IMPORT_VERSIONS - 1)) % IMPORT_VERSIONS;
    this.#crash(hub, "imports", "process");
  }

  #share(hub: SimHub): void {
    const prng = this.#prng;
    const peer = prng.below(this.#f.options.hubs);
    const die = prng.unit();
    if (die < 0.4 || peer === hub.no) {
      hub.rules = (hub.rules + 1) % RULE_VERSIONS;
      hub.running?.reconfigure();
    } else if (die < 0.75) this.#f.setTrust(hub.no, peer, { share: this.#f.trustOf(hub.no, peer).share === "full" ? "limited" : "full" });
    else if (die < 0.9) this.#f.setTrust(hub.no, peer, { level: this.#f.trustOf(hub.no, peer).level === 1 ? 3 : 1 });
    else this.#f.setTrust(hub.no, peer, { terminated: true });
  }
}
