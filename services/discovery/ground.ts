import type { Core } from "#kernel/core.ts";
import { JOSE_CRYPTO, type TokenCrypto } from "#runtime/tokens/crypto.ts";
import type { DiscoveryCore } from "./core.ts";
import type { Effect, Input } from "./messages.ts";

/**
 * Ground is what discovery takes from the machine besides the platform: what makes keys and signatures. The simulator has its own, and looks on by
 * `drive`.
 */
export interface Ground {
  readonly tokens: TokenCrypto;
  /** drive gives the core that the driver runs. */
  drive(core: DiscoveryCore): Core<Input, Effect>;
}

/** SYSTEM_GROUND is the machine itself. */
export const SYSTEM_GROUND: Ground = { tokens: JOSE_CRYPTO, drive: (core) => core };
