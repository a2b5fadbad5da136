import { fail } from "#kernel/error.ts";

/** VerifiedToken is what a bearer token proves. */
export interface VerifiedToken {
  /** Hub that the token was issued to. */
  readonly hubId: string;
  /** Wall-clock ms of its expiry. */
  readonly expiresAtWall: number;
  /** The `jti`. */
  readonly id: string;
  /** Trust level at the time of issue, for information; decisions use the current level. */
  readonly level?: number;
}

/** TokenVerifier checks a token's signature, times and binding to a certificate. It rejects with TOKEN_INVALID or TOKEN_EXPIRED. */
export interface TokenVerifier {
  verify(token: string, thumbprint: string): Promise<VerifiedToken>;
}

const CACHE_MAX = 4096;

/**
 * TokenCache remembers verified tokens until they expire or the authority's version moves, so that signatures are checked once
 * per token and not once per call. Failures are not remembered: a key set may arrive a moment later.
 */
export class TokenCache {
  readonly #verifier: TokenVerifier;
  readonly #version: () => number;
  readonly #known = new Map<string, VerifiedToken>();
  #seen = -1;

  constructor(verifier: TokenVerifier, version: () => number) {
    this.#verifier = verifier;
    this.#version = version;
  }

  /** verify answers at once for a remembered token. An expired one is TOKEN_EXPIRED. */
  verify(token: string, thumbprint: string, nowWall: number): VerifiedToken | Promise<VerifiedToken> {
    const version = this.#version();
    if (version !== this.#seen) this.#known.clear();
    this.#seen = version;
    const key = `${thumbprint} ${token}`;
    const known = this.#known.get(key);
    if (known === undefined) return this.#ask(key, token, thumbprint, version);
    if (nowWall < known.expiresAtWall) return known;
    this.#known.delete(key);
    throw fail("TOKEN_EXPIRED", "the token has expired; refresh it");
  }

  async #ask(key: string, token: string, thumbprint: string, version: number): Promise<VerifiedToken> {
    const verified = await this.#verifier.verify(token, thumbprint);
    if (version === this.#seen) {
      const oldest = this.#known.size >= CACHE_MAX ? this.#known.keys().next().value : undefined;
      if (oldest !== undefined) this.#known.delete(oldest);
      this.#known.set(key, verified);
    }
    return verified;
  }
}
