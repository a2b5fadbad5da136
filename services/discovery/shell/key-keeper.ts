import type { Clock, Timer } from "#channel/clock.ts";
import type { Entropy } from "#channel/entropy.ts";
import { fail } from "#kernel/error.ts";
import { StoredError } from "#kernel/wire/stored-json.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { Store } from "#runtime/store/port.ts";
import type { SigningKey, TokenCrypto } from "#runtime/tokens/crypto.ts";
import { type Issued, TokenIssuer } from "#runtime/tokens/issue.ts";
import { decodeKey, encodeKey, KeyRing, type KeyRingChange, type KeyRingConfig } from "#runtime/tokens/key-ring.ts";
import { KEY_SPACE } from "../core.ts";

/** Longest time between two looks at the rotation plan: the wall clock may jump. */
const LOOK_MS = 3_600_000;
const RETRY_MS = 5_000;

/** KeyKeeperOptions join the key ring to store and clock. */
export interface KeyKeeperOptions {
  readonly hubId: string;
  readonly clock: Clock;
  readonly entropy: Entropy;
  readonly log: Logger;
  readonly ring: KeyRingConfig;
  readonly ttlMs: number;
  readonly crypto: TokenCrypto;
  /** persist resolves when the change is durable. */
  readonly persist: (put: readonly { readonly kid: string; readonly bytes: Uint8Array }[], remove: readonly string[]) => Promise<void>;
  /** published is called with each new key set, before any of its keys is used. */
  readonly published: (jwks: string) => void;
}

/** KeyKeeper owns the keys that sign tokens: it restores, rotates and stores them, each durable before it is published. */
export class KeyKeeper {
  readonly #o: KeyKeeperOptions;
  #ring: KeyRing | undefined;
  #issuer: TokenIssuer | undefined;
  #timer: Timer | undefined;
  #stopped = false;

  constructor(options: KeyKeeperOptions) {
    this.#o = options;
  }

  /** jwks is the published key set; empty before `open`. */
  get jwks(): string {
    return this.#ring?.jwks ?? "";
  }

  /** open restores the keys, or makes the first one, before the driver owns the store. */
  async open(store: Store): Promise<void> {
    const { clock, entropy, ring: config, crypto } = this.#o;
    const stored: SigningKey[] = [];
    for (const { key, bytes } of store.space(KEY_SPACE)) {
      const found = decodeKey(bytes);
      if (found === undefined || found.kid !== key || !(await crypto.isWhole(found)))
        throw new StoredError(`${KEY_SPACE}/${key}`, "is not the key that was written");
      stored.push(found);
    }
    const ring = new KeyRing(stored, config, crypto);
    if (stored.length === 0) {
      const change = (await ring.prepare(clock.wall())) as KeyRingChange;
      const outcome = await store.commit(change.added.map((key) => ({ op: "put", space: KEY_SPACE, key: key.kid, bytes: encodeKey(key) })));
      if (!outcome.ok) throw fail("STORE_UNAVAILABLE", `the first token key cannot be stored: ${outcome.message}`);
      ring.apply(change);
    }
    this.#ring = ring;
    this.#issuer = new TokenIssuer({ ring, clock, entropy, crypto });
    this.#o.published(ring.jwks);
  }

  /** run follows the rotation plan until `stop`. */
  run(): void {
    this.#arm();
  }

  /** rotate starts a rotation now: the new key signs after its time of notice. */
  async rotate(): Promise<void> {
    await this.#change(true);
    this.#arm();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  /** issue signs a token for one certificate of a peer. */
  issue(subjectHub: string, thumbprint: string, level: number): Promise<Issued> {
    const { hubId, ttlMs } = this.#o;
    if (this.#issuer === undefined) throw fail("SHUTTING_DOWN", "discovery is not running; retry in a moment");
    return this.#issuer.issue({ subjectHub, thumbprint, level, ttlMs, issuerHub: hubId, audienceHub: hubId });
  }

  #arm(): void {
    this.#timer?.cancel();
    const ring = this.#ring;
    if (this.#stopped || ring === undefined) return;
    const { clock, log } = this.#o;
    const wall = clock.wall();
    const wait = Math.min(LOOK_MS, Math.max(0, ring.dueAtWall(wall) - wall));
    this.#timer = clock.setTimer(wait, () => {
      this.#change(false).then(
        () => this.#arm(),
        (error: unknown) => {
          log.warn({ error }, "token key rotation failed");
          if (!this.#stopped) this.#timer = clock.setTimer(RETRY_MS, () => this.#arm());
        },
      );
    });
  }

  async #change(rotate: boolean): Promise<void> {
    const change = await this.#ring?.prepare(this.#o.clock.wall(), rotate);
    if (change === undefined || this.#ring === undefined) return;
    await this.#o.persist(
      change.added.map((key) => ({ kid: key.kid, bytes: encodeKey(key) })),
      change.removed,
    );
    this.#ring.apply(change);
    this.#o.log.info({ added: change.added.map(({ kid }) => kid), removed: change.removed }, "token keys changed");
    this.#o.published(this.#ring.jwks);
  }
}
