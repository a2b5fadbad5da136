import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import type { Clock } from "#channel/clock.ts";
import type { Core } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import { sleep } from "#runtime/clock.ts";
import type { RegistryCore } from "../../services/registry-sync/core.ts";
import type { FeedKeySource, Ground, OwnFeedKey } from "../../services/registry-sync/ground.ts";
import type { Effect, Input } from "../../services/registry-sync/messages.ts";
import { CODEC, type Codec } from "../../services/registry-sync/ports.ts";
import type { KeyCheck, PeerKey } from "../../services/registry-sync/shell/key.ts";
import type { RegistryOptions } from "../../services/registry-sync/world.ts";
import { fastHash, feedKeyOf, simCrypto } from "./crypto.ts";

/** Statement is what a hub says about its feed key. Whose it is the session says; here nobody forges another's. */
interface Statement {
  readonly hubId: string;
  readonly serial: number;
  readonly revokesUpTo: number;
  readonly certificate: number;
}

/** GroundOptions are what the machine of one process gives it. */
export interface GroundOptions {
  readonly clock: Clock;
  readonly bootId: string;
  /** How long a part takes to be compressed, or to be unpacked, now. */
  readonly workMs: () => number;
  /** True compresses with zstd; else by something as short that costs nothing, and fails on other bytes as zstd does. */
  readonly zstd: boolean;
  readonly keySerial: number;
  readonly revokesUpTo: number;
  /** Number of the service's certificate; it rises with each renewal. */
  readonly certificate: () => number;
  readonly core: Partial<RegistryOptions>;
  readonly drive: (core: RegistryCore) => Core<Input, Effect>;
}

const FAST = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };
const MARK = 8;
const NEVER_WALL = Number.MAX_SAFE_INTEGER;

/** SimGround is the ground of a simulated process: keys without certificates, and work that takes as long as the seed says. */
export class SimGround implements Ground {
  readonly #o: GroundOptions;
  readonly core: Partial<RegistryOptions>;

  constructor(options: GroundOptions) {
    this.#o = options;
    this.core = options.core;
  }

  bootId(): string {
    return this.#o.bootId;
  }

  heapBytes(): number {
    return 4 * 1024 ** 3;
  }

  drive(core: RegistryCore): Core<Input, Effect> {
    return this.#o.drive(core);
  }

  openFeedKey({ hubId }: FeedKeySource): OwnFeedKey {
    const { keySerial: serial, revokesUpTo, certificate } = this.#o;
    let made = certificate();
    return {
      serial,
      crypto: simCrypto(hubId, serial),
      publicKey: feedKeyOf(hubId, serial),
      statement: () => {
        const statement: Statement = { hubId, serial, revokesUpTo, certificate: certificate() };
        return Buffer.from(JSON.stringify(statement));
      },
      takeRenewed: () => {
        const renewed = certificate() !== made;
        made = certificate();
        return renewed;
      },
    };
  }

  readonly verifyKeyStatement = (bytes: Uint8Array, { hubId }: KeyCheck): PeerKey | Failure => {
    try {
      const { serial, revokesUpTo, ...statement } = JSON.parse(Buffer.from(bytes).toString()) as Statement;
      if (statement.hubId === hubId)
        return { publicKey: feedKeyOf(hubId, serial), serial, notBeforeWall: 0, notAfterWall: NEVER_WALL, revokesUpTo };
    } catch {
      // Falls through: what cannot be read is not valid either.
    }
    return { reason: "FEED_KEY_INVALID", message: "the statement is not of the peer" };
  };

  readonly compress = async (raw: Uint8Array): Promise<{ readonly codec: Codec; readonly bytes: Uint8Array }> => {
    const { clock, workMs, zstd } = this.#o;
    await sleep(clock, workMs());
    const bytes = zstd ? zstdCompressSync(raw, FAST) : turn(raw);
    return zstd && bytes.length >= raw.length ? { codec: CODEC.IDENTITY, bytes: raw } : { codec: CODEC.ZSTD, bytes };
  };

  readonly decompress = async (codec: Codec, bytes: Uint8Array, rawLen: number): Promise<Uint8Array | undefined> => {
    const { clock, workMs, zstd } = this.#o;
    await sleep(clock, workMs());
    if (codec === CODEC.IDENTITY) return bytes.length === rawLen ? bytes : undefined;
    try {
      const raw = zstd ? zstdDecompressSync(bytes, { maxOutputLength: Math.max(1, rawLen) }) : turnBack(bytes);
      return raw?.length === rawLen ? raw : undefined;
    } catch {
      return undefined;
    }
  };
}

/** turn gives other bytes than it got, with a mark by which they are known. */
function turn(raw: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(raw.length + MARK);
  bytes.set(fastHash(raw).subarray(0, MARK));
  for (let i = 0; i < raw.length; i++) bytes[MARK + i] = (raw[i] as number) ^ 0x5a;
  return bytes;
}

function turnBack(bytes: Uint8Array): Uint8Array | undefined {
  const raw = Uint8Array.from(bytes.subarray(MARK));
  for (let i = 0; i < raw.length; i++) raw[i] = (raw[i] as number) ^ 0x5a;
  const mark = fastHash(raw).subarray(0, MARK);
  return bytes.length >= MARK && mark.every((byte, i) => byte === bytes[i]) ? raw : undefined;
}
