import type { ClientOf } from "#channel/call.ts";
import type { Entropy } from "#channel/entropy.ts";
import { idOf } from "#channel/entropy.ts";
import type { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import type { Core } from "#kernel/core.ts";
import type { Prng } from "#kernel/prng.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { CommandStream } from "../../clients/typescript/command-stream.ts";
import type { CommandEffect, Input as CommandInput } from "../../services/command-forwarding/messages.ts";
import type { Effect as DiscoveryEffect, Input as DiscoveryInput } from "../../services/discovery/messages.ts";
import type { Effect as RegistryEffect, Input as RegistryInput } from "../../services/registry-sync/messages.ts";
import type { RegistryOptions } from "../../services/registry-sync/world.ts";
import type { RunOptions } from "./options.ts";

/** Trust is how a hub sees one peer at the moment. */
export interface Trust {
  readonly level: number;
  readonly share: string;
  readonly terminated: boolean;
}

/** Sabotage wraps cores in something that is wrong, or makes them of wrong options. Empty in every run that means it seriously. */
export interface Sabotage {
  readonly registry?: (core: Core<RegistryInput, RegistryEffect>, hub: number) => Core<RegistryInput, RegistryEffect>;
  readonly options?: Partial<RegistryOptions>;
  /** Options of the run in place of those that were drawn, so that what is wrong shows sooner. */
  readonly run?: Partial<RunOptions>;
  readonly commands?: (core: Core<CommandInput, CommandEffect>, hub: number) => Core<CommandInput, CommandEffect>;
  readonly discovery?: (core: Core<DiscoveryInput, DiscoveryEffect>, hub: number) => Core<DiscoveryInput, DiscoveryEffect>;
  /** Makes a user's stream of commands, around one that `make` makes. */
  readonly user?: (client: CommandClient, make: (client: CommandClient) => UserStream) => UserStream;
  /** Takes something out of a shipping class for the time of a run; the answer puts it back. */
  readonly patch?: () => () => void;
}

/** CommandClient is what a stream of commands is made of. */
export type CommandClient = Pick<ClientOf<typeof CommandForwardingService>, "executeStream">;

/** UserStream is what a user has of the SDK's stream of commands. */
export type UserStream = Pick<CommandStream, "sendEncoded" | "cancel" | "close">;

const nothing = (): void => undefined;

/** SILENT logs nothing: what matters in a run is in the trace. */
export const SILENT: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing, child: () => SILENT };

/** seededEntropy is the entropy of one process, from the seed of the run. */
export function seededEntropy(prng: Prng): Entropy {
  const bytes = (n: number): Uint8Array => Uint8Array.from({ length: n }, () => prng.below(256));
  return { bytes, id: () => idOf(bytes(10)), seed: () => prng.u32() };
}
