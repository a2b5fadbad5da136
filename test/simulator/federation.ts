import { nextTick } from "node:process";
import type { DescMethod } from "@bufbuild/protobuf";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { Prng } from "#kernel/prng.ts";
import type { Activity } from "./activities.ts";
import type { Wire } from "./channel.ts";
import type { Sabotage, Trust } from "./host.ts";
import { tamper } from "./hostile.ts";
import { SimHub } from "./hub.ts";
import { Network } from "./network.ts";
import type { RunOptions } from "./options.ts";
import { Oracle } from "./oracle.ts";
import type { SimAuthority } from "./pki.ts";
import { Restarts } from "./restarts.ts";
import { Scheduler } from "./scheduler.ts";
import { Trace } from "./trace.ts";

/** More steps than this in one run mean that something spins. */
const MAX_STEPS = 400_000;

/** hubIdsOf names the hubs of a run. */
export const hubIdsOf = (hubs: number): string[] => Array.from({ length: hubs }, (_, i) => `hub-${i}`);

/** Federation is a simulated world: hubs, the network between them, and what everybody remembers of it. */
export class Federation {
  readonly options: RunOptions;
  readonly scheduler = new Scheduler();
  readonly trace: Trace;
  readonly oracle: Oracle;
  readonly prng: Prng;
  readonly restarts: Restarts;
  readonly network: Network<Wire>;
  readonly hubIds: readonly string[];
  readonly authorities: readonly SimAuthority[];
  readonly hubs: SimHub[] = [];
  /** How hubs see each other: trust[a][b] is b as a knows it. */
  readonly #trust: Trust[][];
  readonly #changedAt = new Map<string, number>();
  /** True while faults happen. */
  troubled = true;
  readonly sabotage: Sabotage;
  /** onActivity is told of what begins at a hub's registry. */
  onActivity: (hub: SimHub, activity: Activity) => void = () => undefined;
  /** Told of what the SDK was just given by a hub's clients. */
  onCommand: (hub: SimHub) => void = () => undefined;
  onUpdates: (hub: SimHub) => void = () => undefined;

  constructor(options: RunOptions, authorities: readonly SimAuthority[], keepTrace: boolean, sabotage: Sabotage) {
    this.options = options;
    this.authorities = authorities;
    this.sabotage = sabotage;
    this.trace = new Trace(keepTrace);
    this.prng = new Prng(options.seed ^ 0x5eed);
    this.oracle = new Oracle(this.scheduler, options.hubs);
    this.network = new Network<Wire>(this.scheduler, new Prng(options.seed ^ 0x17e7), options.network, options.hubs);
    this.hubIds = hubIdsOf(options.hubs);
    this.restarts = new Restarts(this.oracle, this.hubIds);
    const share = (): string => (this.prng.chance(0.6) ? "full" : "limited");
    this.#trust = this.hubIds.map(() =>
      this.hubIds.map(() => ({ level: this.prng.chance(0.08) ? 1 : 3, share: share(), terminated: false })),
    );
    options.machines.forEach((machine, i) => {
      this.network.nat(i, machine.natted);
      this.hubs.push(new SimHub(this, i, machine, new Prng(options.seed * 31 + i)));
    });
  }

  hub(no: number): SimHub {
    return this.hubs[no] as SimHub;
  }

  trustOf(hub: number, peer: number): Trust {
    return (this.#trust[hub] as Trust[])[peer] as Trust;
  }

  /** settledMs is how long two hubs have seen each other as they do. */
  settledMs(a: number, b: number): number {
    return this.scheduler.now - Math.max(this.#changedAt.get(`${a} ${b}`) ?? -1e9, this.#changedAt.get(`${b} ${a}`) ?? -1e9);
  }

  setTrust(hub: number, peer: number, trust: Partial<Trust>): void {
    (this.#trust[hub] as Trust[])[peer] = { ...this.trustOf(hub, peer), ...trust };
    this.#changedAt.set(`${hub} ${peer}`, this.scheduler.now);
    this.hub(hub).running?.changed();
  }

  /** fatal: a core failed an assertion, or could not start. */
  fatal(hub: number, service: string, error: unknown): void {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.oracle.violate("crash", "crash", `hub-${hub} ${service}: ${text}`);
  }

  /** tamper is what a hub really sends to another in the place of a frame. */
  tamper(hub: number, peer: number, method: DescMethod, bytes: Buffer): readonly Buffer[] {
    this.trace.note(this.scheduler.now, hub, `frame to ${peer}`);
    if (method.parent === RegistrySyncService) this.restarts.sent(hub, peer, bytes);
    if (hub !== this.options.hostile || !this.troubled) return [bytes];
    const lie = tamper(this.prng, this.hubIds[peer] as string, method, bytes);
    if (lie === undefined) return [bytes];
    this.trace.note(this.scheduler.now, hub, "fault hostile");
    this.trace.note(this.scheduler.now, hub, `tamper ${lie.what}`, () => `to hub-${peer}, ${lie.frames.length} frames instead`);
    return lie.frames;
  }

  /** run lets `ms` of virtual time pass. */
  async run(ms: number): Promise<void> {
    const until = this.scheduler.now + ms;
    await settled();
    for (;;) {
      if (!this.scheduler.next(until)) return;
      if (this.scheduler.steps > MAX_STEPS) {
        this.oracle.violate("spin", "liveness", `more than ${MAX_STEPS} steps`);
        return;
      }
      if (this.oracle.violations.some(({ kind }) => kind === "crash")) return;
      // What was promised runs before the next call: the queue of promises is empty when this one is kept.
      await settled();
    }
  }

  describe(): string {
    return this.hubs.map((hub) => hub.describe()).join("\n\n");
  }
}

/** settled resolves when no promise is left that could go on by itself: Node empties their queue before it takes the next tick. */
function settled(): Promise<void> {
  return new Promise((resolve) => nextTick(resolve));
}
