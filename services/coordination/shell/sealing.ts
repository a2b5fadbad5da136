import type { KeyPair } from "hpke";
import { compress, decompress } from "#runtime/zstd.ts";
import { type NodeKey, SUITE } from "./hpke.ts";
import type { SealingKey } from "./keys.ts";

/*
 * Parcels of a checkpoint, compressed and sealed to the hub that takes the agent in: HPKE (RFC 9180), base mode, X25519, HKDF-SHA256,
 * AES-256-GCM. Each parcel has an encapsulated key of its own, so that any of them may be lost, repeated, or come alone after a restart; one
 * context for a whole round opens in order only. For 10 MB that costs 80 encapsulations, about 20 ms on each side.
 */

/** Fewer bytes than these are not worth the way to another thread: they are what an agent is waited for. */
const COMPRESSED_FROM = 2_048;

const IDENTITY = 0;
const ZSTD = 1;

/** Sealed is a parcel as it is sent. */
export interface Sealed {
  /** Encapsulated key, 32 bytes. */
  readonly enc: Uint8Array;
  readonly sealed: Uint8Array;
}

/** Public keys that are kept ready; a hub sends to few others at once. */
const KEYS_MAX = 16;

/** Sealing seals for others, and opens what is sealed to this hub. None of it rejects. */
export class Sealing {
  readonly #own: KeyPair<NodeKey>;
  readonly #known = new Map<string, Promise<NodeKey>>();

  private constructor(own: KeyPair<NodeKey>) {
    this.#own = own;
  }

  /** create takes the key of this hub. */
  static async create(own: SealingKey): Promise<Sealing> {
    const privateKey = await SUITE.DeserializePrivateKey(own.seed);
    return new Sealing({ privateKey, publicKey: await SUITE.DeserializePublicKey(own.publicKey) });
  }

  /** seal compresses and seals bytes; undefined for a key that is none. */
  async seal(publicKey: Uint8Array, info: Uint8Array, aad: Uint8Array, raw: Uint8Array): Promise<Sealed | undefined> {
    try {
      const small = raw.length < COMPRESSED_FROM ? undefined : await compress(raw);
      const plain = new Uint8Array(1 + (small ?? raw).length);
      plain[0] = small === undefined ? IDENTITY : ZSTD;
      plain.set(small ?? raw, 1);
      const { encapsulatedSecret: enc, ciphertext: sealed } = await SUITE.Seal(await this.#keyOf(publicKey), plain, { info, aad });
      return { enc, sealed };
    } catch {
      return undefined;
    }
  }

  /** open gives back exactly `rawLength` bytes; undefined for what was not sealed to this hub with that info and aad, or is not so long. */
  async open({ enc, sealed }: Sealed, info: Uint8Array, aad: Uint8Array, rawLength: number): Promise<Uint8Array | undefined> {
    try {
      const plain = await SUITE.Open(this.#own, enc, sealed, { info, aad });
      const bytes = plain.subarray(1);
      if (plain[0] === ZSTD) return await decompress(bytes, rawLength);
      return plain[0] === IDENTITY && bytes.length === rawLength ? bytes : undefined;
    } catch {
      return undefined;
    }
  }

  #keyOf(publicKey: Uint8Array): Promise<NodeKey> {
    const name = Buffer.from(publicKey).toString("latin1");
    const known = this.#known.get(name);
    if (known !== undefined) return known;
    const key = SUITE.DeserializePublicKey(publicKey);
    if (this.#known.size === KEYS_MAX) this.#known.delete(this.#known.keys().next().value as string);
    this.#known.set(name, key);
    // A key that is none is not kept.
    key.catch(() => this.#known.delete(name));
    return key;
  }
}
