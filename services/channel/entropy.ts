import { randomBytes } from "node:crypto";

/** Entropy is the only source of randomness. Cores never see it: they get a Prng that was seeded from it. */
export interface Entropy {
  /** bytes are `n` unpredictable bytes, fit for secrets. */
  bytes(n: number): Uint8Array;
  /** id is 16 lower-case letters and digits (80 bits), fit for file names, DNS labels and logs. */
  id(): string;
  /** seed is a number in [0, 2^32) for a Prng. */
  seed(): number;
}

/** Crockford's base 32 in lower case: no i, l, o, u, so that people can read ids aloud. */
const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";

/** idOf writes 10 bytes as 16 characters, five bits each. */
export function idOf(bytes: Uint8Array): string {
  let text = "";
  let bits = 0;
  let value = 0;
  for (const byte of bytes.subarray(0, 10)) {
    value = ((value << 8) | byte) & 0xffff;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += ALPHABET[(value >>> bits) & 31];
    }
  }
  return text;
}

/** systemEntropy draws from the operating system. */
export const systemEntropy: Entropy = {
  bytes: (n) => randomBytes(n),
  id: () => idOf(randomBytes(10)),
  seed: () => randomBytes(4).readUInt32LE(0),
};
