import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { Cpace, type CpaceHalf, lvCat } from "./cpace.ts";

/** Role is which side of the door somebody is on: the guest initiates, the host responds. */
export type Role = "guest" | "host";

/** Terms are what both sides of an exchange must have in common; a difference in any of them makes their proofs differ. */
export interface Terms {
  readonly secret: Uint8Array;
  readonly pin: string;
  /** base64url(SHA-256(DER)) of the certificates of this very connection. */
  readonly guestLeaf: string;
  readonly hostLeaf: string;
  /** SHA-256 of the host's CA, as the invite says. */
  readonly caDigest: Uint8Array;
  /** 16 fresh bytes of the guest. */
  readonly sessionId: Uint8Array;
}

/** Half is what a side says in Begin. */
export interface Half {
  readonly share: Uint8Array;
  /** SHA-256 of its offer. */
  readonly offerDigest: Uint8Array;
}

/** digestOfOffer is what stands for an offer in Begin. */
export function digestOfOffer(offer: Uint8Array): Buffer {
  return createHash("sha256").update(offer).digest();
}

/**
 * ProofExchange is one side of one exchange: it makes its own proof and checks the other's. The password of CPace is the invite's
 * secret with the PIN, so that a PIN can be guessed only by somebody who has the invite, and only once per exchange.
 */
export class ProofExchange {
  readonly half: Half;
  readonly #cpace: Cpace;
  readonly #role: Role;
  readonly #sessionId: Uint8Array;
  #key: Buffer | undefined;
  #theirs: Half | undefined;

  /** `random`: 32 unpredictable bytes, used for nothing else. */
  constructor(role: Role, terms: Terms, ownOffer: Uint8Array, random: Uint8Array) {
    const { secret, pin, guestLeaf, hostLeaf, caDigest, sessionId } = terms;
    const channel = lvCat(Buffer.from("foedus.introduction.v1"), Buffer.from(guestLeaf), Buffer.from(hostLeaf), caDigest);
    this.#role = role;
    this.#sessionId = sessionId;
    this.#cpace = new Cpace({ password: lvCat(secret, Buffer.from(pin)), channel, sessionId }, random);
    this.half = { share: this.#cpace.share, offerDigest: digestOfOffer(ownOffer) };
  }

  /** meet takes the other side's half; false if no honest side sends it. */
  meet(theirs: Half): boolean {
    // An echo of our own share would make both proofs the same.
    if (Buffer.from(theirs.share).equals(this.half.share)) return false;
    const [guest, host] = this.#role === "guest" ? [this.half, theirs] : [theirs, this.half];
    const half = ({ share, offerDigest }: Half): CpaceHalf => ({ share, data: offerDigest });
    const shared = this.#cpace.key(half(guest), half(host), theirs.share);
    if (shared === undefined) return false;
    this.#theirs = theirs;
    this.#key = createHash("sha512").update("CPaceMac").update(this.#sessionId).update(shared).digest();
    return true;
  }

  /** proof is ours, 64 bytes. Only after `meet`. */
  proof(): Buffer {
    return this.#mac(this.#role, this.half);
  }

  /** proven tells whether the other side knows the secret and the PIN, saw the same certificates and means this offer. */
  proven(proof: Uint8Array, offer: Uint8Array): boolean {
    const theirs = this.#theirs;
    if (theirs === undefined || !digestOfOffer(offer).equals(theirs.offerDigest)) return false;
    const expected = this.#mac(this.#role === "guest" ? "host" : "guest", theirs);
    return proof.length === expected.length && timingSafeEqual(proof, expected);
  }

  #mac(role: Role, { share, offerDigest }: Half): Buffer {
    if (this.#key === undefined) throw new Error("there is no key before the other side's share");
    return createHmac("sha512", this.#key)
      .update(lvCat(Buffer.from(role), share, offerDigest))
      .digest();
  }
}
