import type { X509Certificate } from "node:crypto";
import type { Clock } from "#channel/clock.ts";
import { type Admission, admit } from "#runtime/tls/peer-admission.ts";
import type { PeerAuthority } from "#runtime/tls/peer-authority.ts";
import type { Caller } from "../call.ts";

/** Callers that are remembered. Beyond it the one that was decided about longest ago is decided about again. */
const CACHE_MAX = 8_192;

/**
 * Identities decides who a certificate is. What it decided is kept per fingerprint until the authority's version moves; validity and
 * revocation are looked at each time, because connections outlive certificates. `decide` is another rule than `admit`, for a door
 * that takes strangers.
 */
export class Identities {
  readonly authority: PeerAuthority;
  readonly #clock: Clock;
  readonly #decide: typeof admit;
  readonly #max: number;
  readonly #admitted = new Map<string, Caller>();
  #version = -1;

  constructor(authority: PeerAuthority, clock: Clock, decide: typeof admit = admit, max = CACHE_MAX) {
    this.authority = authority;
    this.#clock = clock;
    this.#decide = decide;
    this.#max = max;
  }

  /** size of what is remembered. */
  get size(): number {
    return this.#admitted.size;
  }

  admission(leaf: X509Certificate, thumbprint: string): Admission {
    const { authority } = this;
    if (authority.version() !== this.#version) this.#admitted.clear();
    this.#version = authority.version();
    const now = this.#clock.wall();
    const known = this.#admitted.get(thumbprint);
    if (known !== undefined && now < known.notAfterWall && !authority.revoked(thumbprint)) return { caller: known };
    const answer = this.#decide(leaf, authority, now);
    if ("caller" in answer) this.#remember(thumbprint, answer.caller);
    else this.#admitted.delete(thumbprint);
    return answer;
  }

  /** remember makes room first: whoever shows many certificates must not make the decisions about all others be taken per call. */
  #remember(thumbprint: string, caller: Caller): void {
    const oldest = this.#admitted.size >= this.#max ? this.#admitted.keys().next().value : undefined;
    if (oldest !== undefined) this.#admitted.delete(oldest);
    this.#admitted.set(thumbprint, caller);
  }
}
