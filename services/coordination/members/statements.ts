import type { Crypto } from "#kernel/crypto.ts";
import type { Failure } from "#kernel/error.ts";
import { inDomain } from "#kernel/wire/bytes.ts";
import { bytes, encode, message, text, uint } from "#kernel/wire/shape.ts";
import { CANDIDATE, type Candidate, FOUNDING, type Founding, type KeyLink, type SignedFounding, VOTERS } from "./messages.ts";

/**
 * What members sign, each kind with a first line of its own, so that a signature under one can never count as another: founding entries,
 * requests to join, changes of keys. The statements of votes are in `ballots/statements.ts`.
 */
const DOMAINS = {
  found: "foedus.coordination.founding.v1",
  join: "foedus.coordination.join.v1",
  rotate: "foedus.coordination.key-rotation.v1",
  hold: "foedus.coordination.key-possession.v1",
} as const;

const JOIN_STATEMENT = message({ federationId: text(1, 63), candidate: bytes(2, 4_096) });
const ROTATION = message({
  federationId: text(1, 63),
  hubId: text(2, 63),
  previous: uint(3),
  serial: uint(4),
  publicKey: bytes(5, 32, 32),
});

/** foundingBytes is what each founder signs. */
export function foundingBytes(founding: Founding): Uint8Array {
  return inDomain(DOMAINS.found, encode(FOUNDING, founding));
}

/** foundingDigest names a federation for good: two that chose the same id differ in it. 32 bytes. */
export function foundingDigest(founding: Founding, crypto: Pick<Crypto, "hash">): Uint8Array {
  return crypto.hash(foundingBytes(founding));
}

/** joinBytes is what a hub signs that asks to join. */
export function joinBytes(federationId: string, candidate: Candidate): Uint8Array {
  return inDomain(DOMAINS.join, encode(JOIN_STATEMENT, { federationId, candidate: encode(CANDIDATE, candidate) }));
}

/** rotationBytes is what a hub signs with its old key (`rotate`) and with its new one (`hold`) when it changes keys. */
export function rotationBytes(kind: "rotate" | "hold", federationId: string, link: Omit<KeyLink, "signature" | "proof">): Uint8Array {
  return inDomain(DOMAINS[kind], encode(ROTATION, { federationId, ...link }));
}

/** linkHolds tells whether both keys have signed. */
export function linkHolds(federationId: string, link: KeyLink, before: Uint8Array, crypto: Pick<Crypto, "verify">): boolean {
  return (
    crypto.verify(before, rotationBytes("rotate", federationId, link), link.signature) &&
    crypto.verify(link.publicKey, rotationBytes("hold", federationId, link), link.proof)
  );
}

const invalid = (message: string, field: string): Failure => ({ reason: "INVALID_FIELD", message, field });

/** keyOfBytes names a key in maps. */
export function keyOfBytes(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

/** foundingProblem says what is wrong with a founding entry that has the form of one, or undefined: then everyone in it has signed it. */
export function foundingProblem({ founding, signatures }: SignedFounding, crypto: Pick<Crypto, "verify">): Failure | undefined {
  const { founders, engine } = founding;
  const { min } = VOTERS[engine];
  if (founders.length < min)
    return invalid(
      `a federation that decides by ${engine} needs at least ${min} founders; found it together with more`,
      "founding.founders",
    );
  const keys = new Set<string>();
  let weight = 0;
  for (const [i, founder] of founders.entries()) {
    const field = `founding.founders[${i}].hubId`;
    const before = founders[i - 1];
    if (before?.hubId === founder.hubId) return invalid(`hub ${founder.hubId} is in the list twice; name each hub once`, field);
    if (before !== undefined && before.hubId > founder.hubId) return invalid("founders are not sorted by hub id", field);
    keys.add(keyOfBytes(founder.publicKey));
    if (keys.size <= i) return invalid(`hub ${founder.hubId} has the key of another founder; each needs its own`, field);
    weight += founder.weight;
  }
  if (weight === 0) return invalid("no founder has any weight: nothing could ever be decided", "founding.founders");
  if (signatures.length !== founders.length)
    return { reason: "SIGNATURE_INVALID", message: "a founding entry is signed by each founder once", field: "signatures" };
  const signed = foundingBytes(founding);
  const at = founders.findIndex(
    ({ hubId, publicKey }, i) =>
      signatures[i]?.hubId !== hubId || !crypto.verify(publicKey, signed, signatures[i]?.signature ?? new Uint8Array(0)),
  );
  if (at < 0) return undefined;
  return {
    reason: "SIGNATURE_INVALID",
    message: `founder ${founders[at]?.hubId} has not signed this founding entry; have it sign what the others signed`,
    field: `signatures[${at}]`,
  };
}
