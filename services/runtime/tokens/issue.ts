import type { Clock } from "#channel/clock.ts";
import type { Entropy } from "#channel/entropy.ts";
import { JOSE_CRYPTO, type TokenCrypto } from "./crypto.ts";
import type { KeyRing } from "./key-ring.ts";

/** TOKEN_TTL_MS is the life of a token, ms. */
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
  readonly #crypto: Pick<TokenCrypto, "sign">;

  constructor(options: {
    readonly ring: KeyRing;
    readonly clock: Clock;
    readonly entropy: Pick<Entropy, "id">;
    readonly crypto?: Pick<TokenCrypto, "sign">;
  }) {
    this.#crypto = options.crypto ?? JOSE_CRYPTO;
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
    const jwt = await this.#crypto.sign(key, {
      iss: trustDomain(request.issuerHub),
      aud: trustDomain(request.audienceHub),
      sub: trustDomain(request.subjectHub),
      jti: id,
      iat: issuedAtWall / 1000,
      exp: expiresAtWall / 1000,
      cnf: { "x5t#S256": request.thumbprint },
      level: request.level,
    });
    return { jwt, id, issuedAtWall, expiresAtWall };
  }
}
