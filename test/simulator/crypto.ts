import type { Crypto } from "#kernel/crypto.ts";

/** fastHash is 32 bytes that depend on all of `data`: good enough to tell accidents apart, worthless against an attacker, and quick. */
export function fastHash(data: Uint8Array, seed = 0): Uint8Array {
  let a = 0x9e3779b9 ^ seed;
  let b = 0x85ebca6b ^ data.length;
  const { length } = data;
  for (let i = 0; i < length; i++) {
    a = Math.imul(a ^ (data[i] as number), 0x01000193);
    b = Math.imul(b ^ a, 0x85ebca6b) ^ (b >>> 15);
  }
  const out = new Uint8Array(32);
  for (let i = 0; i < 32; i += 4) {
    a = Math.imul(a ^ (b >>> 13), 0xc2b2ae35) + i;
    b = Math.imul(b ^ (a >>> 16), 0x27d4eb2f) + 0x165667b1;
    const word = a ^ b;
    out[i] = word;
    out[i + 1] = word >>> 8;
    out[i + 2] = word >>> 16;
    out[i + 3] = word >>> 24;
  }
  return out;
}

const encoder = new TextEncoder();

/** feedKeyOf is the public feed key of a hub; serial counts its keys. */
export function feedKeyOf(hubId: string, serial = 1): Uint8Array {
  return fastHash(encoder.encode(`feed key ${serial} of ${hubId}`), 7);
}

/** Whoever knows a public key can make its signatures here; only honest code runs in the simulator, and hostile hubs sign as themselves. */
function signature(publicKey: Uint8Array, data: Uint8Array): Uint8Array {
  const out = new Uint8Array(64);
  const view = new DataView(publicKey.buffer, publicKey.byteOffset, publicKey.length);
  out.set(fastHash(data, view.getUint32(0)), 0);
  out.set(fastHash(out.subarray(0, 32), view.getUint32(4)), 32);
  return out;
}

/** simCrypto is the Crypto of one hub. */
export function simCrypto(hubId: string, serial = 1): Crypto {
  const own = feedKeyOf(hubId, serial);
  return {
    hash: (data) => fastHash(data),
    sign: (data) => signature(own, data),
    verify: (publicKey, data, given) => {
      if (publicKey.length !== 32 || given.length !== 64) return false;
      const wanted = signature(publicKey, data);
      for (let i = 0; i < 64; i++) if (wanted[i] !== given[i]) return false;
      return true;
    },
  };
}
