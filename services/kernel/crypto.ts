/**
 * Crypto is the capability that cores are given: pure functions of their arguments.
 * The real one is `runtime/crypto.ts`; the simulator gives a fast keyed fake.
 */
export interface Crypto {
  /** hash is SHA-256: 32 bytes. */
  hash(data: Uint8Array): Uint8Array;
  /** sign makes an Ed25519 signature (64 bytes) with this hub's feed key. */
  sign(data: Uint8Array): Uint8Array;
  /** verify checks an Ed25519 signature under a raw 32-byte public key. False for malformed keys, never throws. */
  verify(publicKey: Uint8Array, data: Uint8Array, signature: Uint8Array): boolean;
}
