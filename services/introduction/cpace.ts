import { hash } from "node:crypto";
import { ristretto255, ristretto255_hasher } from "@noble/curves/ed25519.js";

/**
 * CPace, a balanced password-authenticated key exchange, in the suite CPACE-RISTR255-SHA512 with initiator and responder
 * (draft-irtf-cfrg-cpace). Whoever does not know the password learns from an exchange only whether one guess was right; who
 * listens learns nothing. The group is the library's (RFC 9496), the hash Node's; here is only the order in which they are used, held
 * against the test vectors of the draft.
 */

const HASH_BLOCK_BYTES = 128;
const DSI = Buffer.from("CPaceRistretto255");
const DSI_ISK = Buffer.from("CPaceRistretto255_ISK");
const { Point } = ristretto255;

/** CpaceTerms are what both sides must agree on before they begin. */
export interface CpaceTerms {
  /** The secret that both know. */
  readonly password: Uint8Array;
  /** Who talks to whom, over what. */
  readonly channel: Uint8Array;
  /** Fresh for each exchange. */
  readonly sessionId: Uint8Array;
}

/** CpaceHalf is what each side puts in: its share and the data that it vouches for. */
export interface CpaceHalf {
  readonly share: Uint8Array;
  readonly data: Uint8Array;
}

/** Cpace is one side of one exchange. Its scalar is used once and never leaves. */
export class Cpace {
  /** share is what the other side gets. */
  readonly share: Uint8Array;
  readonly #scalar: bigint;
  readonly #sessionId: Uint8Array;

  /** `random`: 32 unpredictable bytes, used for nothing else. */
  constructor(terms: CpaceTerms, random: Uint8Array) {
    this.#scalar = scalarOf(random);
    this.#sessionId = terms.sessionId;
    this.share = generatorOf(terms).multiply(this.#scalar).toBytes();
  }

  /**
   * key gives the shared key (64 bytes), equal on both sides if and only if all terms and halves are; undefined for a share that
   * no honest side sends: no group element, or the neutral one.
   */
  key(initiator: CpaceHalf, responder: CpaceHalf, theirs: Uint8Array): Buffer | undefined {
    const point = multiplied(this.#scalar, theirs);
    if (point === undefined) return undefined;
    const transcript = [lvCat(initiator.share, initiator.data), lvCat(responder.share, responder.data)];
    return sha512(Buffer.concat([lvCat(DSI_ISK, this.#sessionId, point), ...transcript]));
  }
}

/** generatorOf maps the password to a group element (`calculate_generator` of the draft). */
export function generatorOf({ password, channel, sessionId }: CpaceTerms): InstanceType<typeof Point> {
  const zeros = Math.max(0, HASH_BLOCK_BYTES - 1 - lvCat(password).length - lvCat(DSI).length);
  const derive = ristretto255_hasher.deriveToCurve;
  if (derive === undefined) throw new Error("the group has no map from uniform bytes");
  return derive(sha512(lvCat(DSI, password, new Uint8Array(zeros), channel, sessionId)));
}

/** multiplied is a scalar times an encoded element; undefined for bytes that are no element, and for the neutral result. */
export function multiplied(scalar: bigint, encoded: Uint8Array): Uint8Array | undefined {
  try {
    const product = Point.fromBytes(encoded).multiply(scalar);
    return product.is0() ? undefined : product.toBytes();
  } catch {
    return undefined;
  }
}

/** scalarOf reads 32 bytes little-endian without the bits above 252, so that the result is below the order of the group. */
export function scalarOf(random: Uint8Array): bigint {
  const bytes = Buffer.from(random).reverse();
  bytes[0] = (bytes[0] ?? 0) & 0x0f;
  return BigInt(`0x${bytes.toString("hex")}`);
}

/** lvCat puts the length (LEB128) in front of each part, so that no two lists of parts give the same bytes. */
export function lvCat(...parts: readonly Uint8Array[]): Buffer {
  return Buffer.concat(parts.flatMap((part) => [Buffer.from(leb128(part.length)), part]));
}

function leb128(value: number): number[] {
  return value < 128 ? [value] : [(value & 0x7f) | 0x80, ...leb128(value >>> 7)];
}

function sha512(bytes: Uint8Array): Buffer {
  return hash("sha512", bytes, "buffer");
}
