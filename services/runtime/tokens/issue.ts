import { type CryptoKey, SignJWT } from "jose";
import type { Clock } from "#runtime/clock.ts";
import type { Entropy } from "#runtime/entropy.ts";
import { importSigningKey, type KeyRing, type SigningKey, TOKEN_ALGORITHM } from "./key-ring.ts";

/** Type of our tokens (RFC 9068). */
export const TOKEN_TYPE = "at+jwt";

/** Life of a token, ms. */
export const TOKEN_TTL_MS = 3_600_000;

/** IssueRequest says what a token states. */
export interface IssueRequest {
  /** Hub that may use it. */
  readonly subjectHub: string;
  /** base64url(SHA-256(DER)) of the one certificate that may use it (RFC 8705 `x5t#S256`). */
  readonly thumbprint: string;
  /** Trust level at the time of issue: 1 MINIMAL to 3 FULL. For information; decisions use the current level. */
  readonly level: number;
  /** Life in ms; `TOKEN_TTL_MS` if not given. */
  readonly ttlMs?: number;
  readonly issuerHub: string;
  readonly audienceHub: string;
}

/** Issued is a fresh token. `jwt` is a secret. */
export interface Issued {
  readonly jwt: string;
  readonly id: string;
  readonly issuedAtWall: number;
  readonly expiresAtWall: number;
}

/** trustDomain is the SPIFFE trust domain of a hub. */
export function trustDomain(hubId: string): string {
  return `spiffe://${hubId}`;
}

/** TokenIssuer signs tokens with the current key of a ring. */
export class TokenIssuer {
  readonly #ring: KeyRing;
  readonly #clock: Clock;
  readonly #entropy: Pick<Entropy, "id">;
  readonly #imported = new WeakMap<SigningKey, Promise<CryptoKey>>();

  constructor(options: { readonly ring: KeyRing; readonly clock: Clock; readonly entropy: Pick<Entropy, "id"> }) {
    this.#ring = options.ring;
    this.#clock = options.clock;
    this.#entropy = options.entropy;
  }

  /** issue signs a token. `iat` and `exp` have fractions of a second (RFC 7519 NumericDate), so that they compare exactly with revocations. */
  async issue(request: IssueRequest): Promise<Issued> {
    const issuedAtWall = this.#clock.wall();
    const expiresAtWall = issuedAtWall + (request.ttlMs ?? TOKEN_TTL_MS);
    const key = this.#ring.current(issuedAtWall);
    const id = this.#entropy.id();
    const jwt = await new SignJWT({ cnf: { "x5t#S256": request.thumbprint }, level: request.level })
      .setProtectedHeader({ alg: TOKEN_ALGORITHM, kid: key.kid, typ: TOKEN_TYPE })
      .setIssuer(trustDomain(request.issuerHub))
      .setAudience(trustDomain(request.audienceHub))
      .setSubject(trustDomain(request.subjectHub))
      .setJti(id)
      .setIssuedAt(issuedAtWall / 1000)
      .setExpirationTime(expiresAtWall / 1000)
      .sign(await this.#keyOf(key));
    return { jwt, id, issuedAtWall, expiresAtWall };
  }

  #keyOf(key: SigningKey): Promise<CryptoKey> {
    const known = this.#imported.get(key) ?? importSigningKey(key);
    this.#imported.set(key, known);
    return known;
  }
}
