import type { Registry } from "prom-client";
import type { Core } from "#kernel/core.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { CommandEffect, Input as CommandInput } from "../../services/command-forwarding/messages.ts";
import type { Effect as RegistryEffect, Input as RegistryInput } from "../../services/registry-sync/messages.ts";
import type { ProcessClock } from "./clock.ts";
import type { Disk } from "./disk.ts";
import type { Links, LinksOptions, Message, Trust } from "./links.ts";
import type { Network } from "./network.ts";
import type { Oracle } from "./oracle.ts";
import type { Scheduler } from "./scheduler.ts";
import type { Trace } from "./trace.ts";

/** Process is what the two services of one running hub share; a crash ends it and a start makes a new one. */
export interface Process {
  readonly hub: number;
  readonly hubId: string;
  readonly hubIds: readonly string[];
  readonly incarnation: number;
  readonly seed: number;
  readonly clock: ProcessClock;
  readonly scheduler: Scheduler;
  readonly network: Network<Message>;
  readonly oracle: Oracle;
  readonly trace: Trace;
  readonly metrics: Registry;
  readonly log: Logger;
  readonly windowBytes: number;
  /** Changes when the machine starts. */
  readonly bootId: string;
  readonly dialable: (peer: number) => boolean;
  readonly slowMs: () => number;
  readonly trust: (peer: number) => Trust;
  /** sabotage breaks cores on purpose, to prove that the checkers notice. */
  readonly sabotage: Sabotage;
  /** settle: a promise or microtask is on its way; it runs before virtual time goes on. */
  readonly settle: () => void;
  /** fatal: a core failed an assertion. The run ends as a crash. */
  readonly fatal: (service: string, error: unknown) => void;
}

/** Sabotage wraps cores in something that is wrong. Empty in every run that means it seriously. */
export interface Sabotage {
  readonly registry?: (core: Core<RegistryInput, RegistryEffect>, hub: number) => Core<RegistryInput, RegistryEffect>;
  readonly commands?: (core: Core<CommandInput, CommandEffect>, hub: number) => Core<CommandInput, CommandEffect>;
}

/** Service is one of the two, as the hub sees it. */
export interface Service {
  readonly links: Links;
  readonly disk: Disk;
  start(): void;
  /** Trust or shares changed. */
  setPeers(): void;
  stop(): Promise<boolean>;
  describe(): string;
}

const nothing = (): void => undefined;

/** SILENT logs nothing: what matters in a run is in the trace. */
export const SILENT: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing, child: () => SILENT };

/** linksBase are the parts of LinksOptions that are the same for every service. */
export function linksBase(
  p: Process,
  service: string,
): Omit<LinksOptions, "synchronises" | "heads" | "onUp" | "onDown" | "onFrame" | "onHeads" | "onCredit"> {
  const { hub, hubIds, incarnation, seed, clock, network, windowBytes, dialable, slowMs, trace, scheduler } = p;
  const note = (what: string, peer: string): void => trace.note(scheduler.now, hub, what, () => `${service} to ${peer}`);
  return { service, hub, hubIds, incarnation, seed: seed + service.length, clock, network, windowBytes, dialable, slowMs, note };
}
