import { assert } from "#kernel/assert.ts";
import { fields, finite, readStored, text, writeStored } from "#kernel/wire/stored-json.ts";
import { JOSE_CRYPTO, type SigningKey, type TokenCrypto } from "./crypto.ts";

/** KeyRingConfig shapes the planned rotation. Times are ms. */
export interface KeyRingConfig {
  /** How long a key signs. */
  readonly rotationMs: number;
  /** How long a key is published before it signs, so that every verifier has it in time. */
  readonly leadMs: number;
  /** How long a key stays published after its successor took over: at least the life of a token. */
  readonly retainMs: number;
}

/** DEFAULT_KEY_RING: a week of use, an hour of notice, two hours of overlap for tokens of one hour. */
export const DEFAULT_KEY_RING: KeyRingConfig = { rotationMs: 7 * 86_400_000, leadMs: 3_600_000, retainMs: 2 * 3_600_000 };

/** KeyRingChange is a step of the rotation: to be stored first, then applied. */
export interface KeyRingChange {
  readonly added: readonly SigningKey[];
  readonly removed: readonly string[];
}

/**
 * KeyRing holds the keys that sign a hub's tokens.
 *
 * KR1 a key is stored and published before it signs, `leadMs` earlier unless it is the first (publish before use, D-10).
 * KR2 a key stays published for `retainMs` after its successor took over, so that no token dies before its expiry.
 * KR3 the newest key that is active signs.
 */
export class KeyRing {
  readonly #config: KeyRingConfig;
  readonly #crypto: Pick<TokenCrypto, "makeKey">;
  /** In order of activation. */
  #keys: SigningKey[];

  /** stored: the keys that an earlier run left in the store. */
  constructor(stored: readonly SigningKey[], config: KeyRingConfig = DEFAULT_KEY_RING, crypto: Pick<TokenCrypto, "makeKey"> = JOSE_CRYPTO) {
    this.#config = config;
    this.#crypto = crypto;
    this.#keys = [...stored].sort((a, b) => a.activeAtWall - b.activeAtWall);
  }

  /** jwks is the public half of all keys, JSON (RFC 7517). */
  get jwks(): string {
    return JSON.stringify({ keys: this.#keys.map(({ publicJwk }) => publicJwk) });
  }

  /** kids lists the published keys in order of activation. */
  get kids(): readonly string[] {
    return this.#keys.map(({ kid }) => kid);
  }

  /** current is the key that signs now (KR3). */
  current(nowWall: number): SigningKey {
    const key = this.#keys.findLast(({ activeAtWall }) => activeAtWall <= nowWall) ?? this.#keys[0];
    assert(key !== undefined, "the key ring is empty: prepare and apply a first key");
    return key;
  }

  /** dueAtWall is when `prepare` wants to be asked next. */
  dueAtWall(nowWall: number): number {
    const newest = this.#keys.at(-1);
    if (newest === undefined) return nowWall;
    const drops = this.#keys.slice(1).map(({ activeAtWall }) => activeAtWall + this.#config.retainMs);
    return Math.min(newest.activeAtWall + this.#config.rotationMs - this.#config.leadMs, ...drops);
  }

  /** prepare makes the next step of the planned rotation, or undefined if none is due. `rotate` asks for a new key now. */
  async prepare(nowWall: number, rotate = false): Promise<KeyRingChange | undefined> {
    const { rotationMs, leadMs, retainMs } = this.#config;
    const newest = this.#keys.at(-1);
    const added: SigningKey[] = [];
    if (newest === undefined) added.push(await this.#crypto.makeKey(nowWall));
    else if (rotate || nowWall >= newest.activeAtWall + rotationMs - leadMs)
      added.push(await this.#crypto.makeKey(Math.max(nowWall, newest.activeAtWall) + leadMs));
    const removed = this.#keys
      .filter((_key, i) => (this.#keys[i + 1]?.activeAtWall ?? Number.POSITIVE_INFINITY) + retainMs <= nowWall)
      .map(({ kid }) => kid);
    return added.length === 0 && removed.length === 0 ? undefined : { added, removed };
  }

  /** apply publishes a change that is stored. */
  apply(change: KeyRingChange): void {
    this.#keys = [...this.#keys.filter(({ kid }) => !change.removed.includes(kid)), ...change.added];
  }
}

/** encodeKey writes a key for the store. */
export function encodeKey(key: SigningKey): Uint8Array {
  return writeStored(key);
}

const TEXT = text(4_096);
const KEY = fields({
  kid: TEXT,
  activeAtWall: finite(0, Number.MAX_SAFE_INTEGER),
  privateJwk: fields({ d: TEXT, x: TEXT }),
  publicJwk: fields({ x: TEXT }),
});

/** decodeKey reads a stored key; undefined if it is damaged. */
export function decodeKey(bytes: Uint8Array): SigningKey | undefined {
  try {
    return readStored<SigningKey>("of a token key", bytes, KEY);
  } catch {
    return undefined;
  }
}
