import { createHash, type X509Certificate } from "node:crypto";
import type { Clock } from "#channel/clock.ts";
import type { Entropy } from "#channel/entropy.ts";

/** Operator is who a link was given to, as proved by the certificate that asked for it. */
export interface Operator {
  readonly leaf: X509Certificate;
  readonly thumbprint: string;
  readonly hubId: string;
}

/** LINK_MS is how long a link may be used, once. */
export const LINK_MS = 60_000;
/** IDLE_MS ends a session that is not used, and LIFE_MS one that is. */
export const IDLE_MS = 30 * 60_000;
export const LIFE_MS = 12 * 3_600_000;
/** Links and sessions at once; beyond it the oldest ends. */
const LINKS_MAX = 16;
const SESSIONS_MAX = 64;

interface Session extends Operator {
  readonly begunMono: number;
  usedMono: number;
}

/**
 * ConsoleSessions are who is at the console. Secrets are 256 random bits, and only their digests are kept.
 *
 * CZ1 a link is good for one login, within a minute.
 * CZ2 a session is of the operator whose certificate asked for the link. Each call of it is made with that certificate: what the certificate may
 *    no longer do, because it was revoked or has ended, the session may not either.
 * CZ3 a session ends after half an hour without a call, after twelve hours, and with the process.
 */
export class ConsoleSessions {
  readonly #clock: Pick<Clock, "mono">;
  readonly #entropy: Pick<Entropy, "bytes">;
  readonly #links = new Map<string, { readonly operator: Operator; readonly untilMono: number }>();
  readonly #sessions = new Map<string, Session>();

  constructor(clock: Pick<Clock, "mono">, entropy: Pick<Entropy, "bytes">) {
    this.#clock = clock;
    this.#entropy = entropy;
  }

  /** link makes a secret for one login of an operator. */
  link(operator: Operator): string {
    const secret = this.#secret();
    put(this.#links, digestOf(secret), { operator, untilMono: this.#clock.mono() + LINK_MS }, LINKS_MAX);
    return secret;
  }

  /** login gives the secret of a new session for that of a link; undefined if that is none, was used, or is too old. */
  login(link: string): string | undefined {
    const key = digestOf(link);
    const found = this.#links.get(key);
    this.#links.delete(key);
    const now = this.#clock.mono();
    if (found === undefined || now >= found.untilMono) return undefined;
    const secret = this.#secret();
    const { leaf, thumbprint, hubId } = found.operator;
    put(this.#sessions, digestOf(secret), { leaf, thumbprint, hubId, begunMono: now, usedMono: now }, SESSIONS_MAX);
    return secret;
  }

  /** of gives whose a session is, and notes that it is used. */
  of(secret: string): Operator | undefined {
    const key = digestOf(secret);
    const session = this.#sessions.get(key);
    if (session === undefined) return undefined;
    const now = this.#clock.mono();
    if (now - session.usedMono >= IDLE_MS || now - session.begunMono >= LIFE_MS) {
      this.#sessions.delete(key);
      return undefined;
    }
    session.usedMono = now;
    return session;
  }

  /** logout ends a session. */
  logout(secret: string): void {
    this.#sessions.delete(digestOf(secret));
  }

  #secret(): string {
    return Buffer.from(this.#entropy.bytes(32)).toString("base64url");
  }
}

function digestOf(secret: string): string {
  return createHash("sha256").update(secret).digest("base64url");
}

function put<V>(map: Map<string, V>, key: string, value: V, max: number): void {
  const oldest = map.size >= max ? map.keys().next().value : undefined;
  if (oldest !== undefined) map.delete(oldest);
  map.set(key, value);
}
