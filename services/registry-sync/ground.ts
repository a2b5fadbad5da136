import { join } from "node:path";
import type { KeyMaterial } from "#channel/tls/material.ts";
import type { Core } from "#kernel/core.ts";
import type { Crypto } from "#kernel/crypto.ts";
import { createCrypto } from "#runtime/crypto.ts";
import { heapBytes } from "#runtime/heap.ts";
import { bootId } from "#runtime/store/open.ts";
import type { RegistryCore } from "./core.ts";
import type { Effect, Input } from "./messages.ts";
import { KeyStatement, loadFeedKey, verifyKeyStatement } from "./shell/key.ts";
import { compressPart, decompressPart } from "./shell/zstd.ts";
import type { RegistryOptions } from "./world.ts";

const KEY_FILE = "feed-key.json";

/** OwnFeedKey is this hub's feed key, with the statement of its service certificate about it. */
export interface OwnFeedKey {
  readonly serial: number;
  /** Signs with the key. */
  readonly crypto: Crypto;
  readonly publicKey: Uint8Array;
  /** The SignedKeyStatement as it is now. */
  statement(): Uint8Array;
  /** takeRenewed is true, once, after the certificate was renewed. */
  takeRenewed(): boolean;
}

/** FeedKeySource says where the feed key is kept, and what vouches for it. */
export interface FeedKeySource {
  readonly hubId: string;
  readonly dataDir: string;
  readonly identity: () => KeyMaterial;
}

/**
 * Ground is what the registry takes from the machine besides the platform: keys, the pool of threads that compresses, the mark of a boot.
 * The simulator has its own, in virtual time; `core` and `drive` let it choose sizes that no configuration allows, and look on.
 */
export interface Ground {
  openFeedKey(source: FeedKeySource): OwnFeedKey;
  readonly verifyKeyStatement: typeof verifyKeyStatement;
  /** Changes when the machine starts; undefined where nobody can tell. */
  bootId(): string | undefined;
  readonly compress: typeof compressPart;
  readonly decompress: typeof decompressPart;
  /** Heap at which this process ends with out of memory. */
  heapBytes(): number;
  /** Options of the core that go before those of the configuration. */
  readonly core: Partial<RegistryOptions>;
  /** drive gives the core that the driver runs. */
  drive(core: RegistryCore): Core<Input, Effect>;
}

/** SYSTEM_GROUND is the machine itself. */
export const SYSTEM_GROUND: Ground = {
  openFeedKey: ({ hubId, dataDir, identity }) => {
    const held = loadFeedKey(join(dataDir, KEY_FILE));
    const statement = new KeyStatement(hubId, held, identity);
    return {
      serial: held.serial,
      crypto: createCrypto(held.key),
      publicKey: held.key.publicKey,
      statement: () => statement.bytes,
      takeRenewed: () => statement.takeRenewed(),
    };
  },
  verifyKeyStatement,
  bootId,
  heapBytes,
  compress: compressPart,
  decompress: decompressPart,
  core: {},
  drive: (core) => core,
};
