import { errors, type JWTPayload } from "jose";
import type { Clock } from "#channel/clock.ts";
import { fail } from "#kernel/error.ts";
import type { TokenVerifier, VerifiedToken } from "#runtime/rpc/server/token-verifier.ts";
import type { PeerAuthority } from "#runtime/tls/peer-authority.ts";
import { JOSE_CRYPTO, type KeySet, type TokenCrypto } from "./crypto.ts";
import { trustDomain } from "./issue.ts";

/** JwtVerifierOptions say whose tokens count. Times are ms. */
export interface JwtVerifierOptions {
  /** This hub: issuer and audience of the tokens that it takes. */
  readonly hubId: string;
  readonly clock: Clock;
  readonly authority: Pick<PeerAuthority, "revoked" | "minTokenIssuedAt">;
  /** fetchKeySet asks discovery for the present JWK set, when a token names a key that was not pushed. */
  readonly fetchKeySet?: () => Promise<string>;
  /** Least time between two fetches: random key ids must not flood the issuer (D-16). 30 s by default. */
  readonly cooldownMs?: number;
  /** Oldest token that counts, whatever its expiry says. 1 h by default. */
  readonly maxAgeMs?: number;
  /** How far issuer's and verifier's clocks, both of this hub, may differ. 5 s by default. */
  readonly toleranceMs?: number;
  /** Results that are remembered. 4,096 by default. */
  readonly cacheMax?: number;
  readonly crypto?: Pick<TokenCrypto, "keySet">;
}

/** Longest token that is looked at, in characters. */
const TOKEN_MAX = 4_096;

interface Known extends VerifiedToken {
  readonly issuedAtWall: number;
}

/**
 * JwtVerifier checks the tokens that this hub's discovery issued to peers.
 *
 * VF1 signature by a pushed key, algorithm, type, issuer, audience, subject, times and the certificate binding all hold (RFC 7519,
 *    RFC 8705 section 3); anything else is TOKEN_INVALID, or TOKEN_EXPIRED if only the time is over.
 * VF2 what was verified is remembered until it expires; expiry, revocation and the least issue instant are looked at every time.
 * VF3 an unknown key id causes at most one fetch per `cooldownMs`; calls that wait share it (D-16).
 * VF4 a new key set forgets all results: what a withdrawn key signed ends at once (D-16).
 */
export class JwtVerifier implements TokenVerifier {
  readonly #o: Required<Omit<JwtVerifierOptions, "fetchKeySet">> & Pick<JwtVerifierOptions, "fetchKeySet">;
  readonly #known = new Map<string, Known>();
  #text = "";
  #keys: KeySet | undefined;
  #fetching: Promise<void> | undefined;
  #fetchedAt = Number.NEGATIVE_INFINITY;

  constructor(options: JwtVerifierOptions) {
    this.#o = { cooldownMs: 30_000, maxAgeMs: 3_600_000, toleranceMs: 5_000, cacheMax: 4_096, crypto: JOSE_CRYPTO, ...options };
  }

  /** setKeySet takes a pushed JWK set, JSON. It throws INVALID_FIELD for anything else; the last good one stays. */
  setKeySet(jwks: string): void {
    if (jwks === this.#text) return;
    try {
      this.#keys = this.#o.crypto.keySet(jwks);
    } catch (cause) {
      throw fail("INVALID_FIELD", "the key set is not a JWK set", { cause });
    }
    this.#text = jwks;
    this.#known.clear();
  }

  async verify(token: string, thumbprint: string): Promise<VerifiedToken> {
    const key = `${thumbprint} ${token}`;
    let known = this.#known.get(key);
    if (known === undefined) {
      if (token.length > TOKEN_MAX) throw fail("TOKEN_INVALID", "the token is too long");
      const text = this.#text;
      known = await this.#check(token, thumbprint);
      // A result that raced with a new key set is used once and not kept (VF4).
      if (text === this.#text) this.#keep(key, known);
    }
    const nowWall = this.#o.clock.wall();
    if (nowWall >= known.expiresAtWall) {
      this.#known.delete(key);
      throw fail("TOKEN_EXPIRED", "the token has expired; refresh it");
    }
    if (known.issuedAtWall > nowWall + this.#o.toleranceMs)
      throw fail("TOKEN_INVALID", "the token was issued in the future; say Hello again");
    if (this.#o.authority.revoked(thumbprint)) throw fail("TOKEN_INVALID", "the certificate that the token is bound to was revoked");
    if (known.issuedAtWall < this.#o.authority.minTokenIssuedAt(known.hubId))
      throw fail("TOKEN_INVALID", "tokens issued to this hub before its last change of trust are void; say Hello again");
    return known;
  }

  #keep(key: string, known: Known): void {
    const oldest = this.#known.size >= this.#o.cacheMax ? this.#known.keys().next().value : undefined;
    if (oldest !== undefined) this.#known.delete(oldest);
    this.#known.set(key, known);
  }

  async #check(token: string, thumbprint: string): Promise<Known> {
    try {
      return bound(await this.#signed(token), thumbprint);
    } catch (cause) {
      if (!(cause instanceof errors.JOSEError)) throw cause;
      if (cause instanceof errors.JWTExpired) throw fail("TOKEN_EXPIRED", "the token has expired; refresh it", { cause });
      throw fail("TOKEN_INVALID", `the token does not verify: ${cause.code}`, { cause });
    }
  }

  /** signed answers the claims; a key that is not known yet is asked for once (VF3). */
  async #signed(token: string): Promise<JWTPayload> {
    try {
      return await this.#jwt(token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey) || !(await this.#fetch())) throw error;
      return this.#jwt(token);
    }
  }

  async #jwt(token: string): Promise<JWTPayload> {
    if (this.#keys === undefined) throw new errors.JWKSNoMatchingKey();
    const { hubId, clock, maxAgeMs, toleranceMs } = this.#o;
    return this.#keys(token, {
      issuer: trustDomain(hubId),
      audience: trustDomain(hubId),
      maxTokenAge: maxAgeMs / 1000,
      clockTolerance: toleranceMs / 1000,
      requiredClaims: ["cnf", "sub", "exp", "iat", "jti"],
      currentDate: new Date(clock.wall()),
    });
  }

  /** fetch answers whether another try makes sense. */
  async #fetch(): Promise<boolean> {
    const { fetchKeySet, clock, cooldownMs } = this.#o;
    if (this.#fetching !== undefined) {
      await this.#fetching;
      return true;
    }
    if (fetchKeySet === undefined || clock.mono() - this.#fetchedAt < cooldownMs) return false;
    this.#fetchedAt = clock.mono();
    // A failed fetch leaves the keys as they are; the token is then refused like any other with an unknown key.
    this.#fetching = fetchKeySet().then(
      (jwks) => this.setKeySet(jwks),
      () => undefined,
    );
    try {
      await this.#fetching;
    } catch {
      return false;
    } finally {
      this.#fetching = undefined;
    }
    return true;
  }
}

/** bound reads the claims and compares the binding with the certificate of the connection; jose does not. */
function bound(payload: JWTPayload, thumbprint: string): Known {
  const { cnf } = payload as { readonly cnf?: Readonly<Record<string, unknown>> };
  if (cnf?.["x5t#S256"] !== thumbprint) throw fail("TOKEN_INVALID", "the token is bound to another certificate");
  const hubId = /^spiffe:\/\/([a-z0-9-]{1,63})$/.exec(payload.sub ?? "")?.[1];
  if (hubId === undefined || payload.jti === undefined || payload.exp === undefined || payload.iat === undefined)
    throw fail("TOKEN_INVALID", "the token lacks a claim");
  const level = typeof payload["level"] === "number" ? payload["level"] : 0;
  return { hubId, id: payload.jti, level, expiresAtWall: payload.exp * 1000, issuedAtWall: payload.iat * 1000 };
}
