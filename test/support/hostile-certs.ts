import { generateKeyPairSync, randomBytes } from "node:crypto";

/** Certificates that cost as much as possible to verify or to read. Their signatures are random: whoever asks has done the work already. */

function length(n: number): Buffer {
  if (n < 128) return Buffer.from([n]);
  const bytes: number[] = [];
  for (let rest = n; rest > 0; rest >>= 8) bytes.unshift(rest & 255);
  return Buffer.from([0x80 | bytes.length, ...bytes]);
}

function tlv(tag: number, ...content: Buffer[]): Buffer {
  const body = Buffer.concat(content);
  return Buffer.concat([Buffer.from([tag]), length(body.length), body]);
}

const seq = (...content: Buffer[]): Buffer => tlv(0x30, ...content);
const oid = (hex: string): Buffer => tlv(6, Buffer.from(hex, "hex"));
const int = (bytes: Buffer): Buffer => tlv(2, ((bytes[0] ?? 0) & 0x80) === 0 ? bytes : Buffer.concat([Buffer.from([0]), bytes]));
const nameOf = (cn: string): Buffer => seq(tlv(0x31, seq(oid("550403"), tlv(0x0c, Buffer.from(cn)))));
const time = (text: string): Buffer => tlv(0x17, Buffer.from(text));
const SHA256_RSA = seq(oid("2a864886f70d01010b"), tlv(5));
const CA = seq(oid("551d13"), tlv(1, Buffer.from([0xff])), tlv(4, seq(tlv(1, Buffer.from([0xff])))));
const sans = (uris: readonly string[]): Buffer => seq(oid("551d11"), tlv(4, seq(...uris.map((uri) => tlv(0x86, Buffer.from(uri))))));

function odd(bytes: number, first: number): Buffer {
  const number = randomBytes(bytes);
  number[0] = first;
  number[bytes - 1] = (number[bytes - 1] ?? 0) | 1;
  return number;
}

/** rsaSpki makes up an RSA public key of some length, with a public exponent of some length. */
function rsaSpki(bits: number, exponentBits: number): Buffer {
  const key = seq(int(odd(bits / 8, 0xff)), int(odd(exponentBits / 8, 0xbf)));
  return seq(seq(oid("2a864886f70d010101"), tlv(5)), tlv(3, Buffer.from([0]), key));
}

function certificate(subject: string, issuer: string, spki: Buffer, extensions: Buffer[], signatureBytes: number): Buffer {
  const valid = seq(time("200101000000Z"), time("490101000000Z"));
  const serial = int(Buffer.from([1, ...randomBytes(3)]));
  const version = tlv(0xa0, int(Buffer.from([2])));
  const tbs = seq(version, serial, SHA256_RSA, nameOf(issuer), valid, nameOf(subject), spki, tlv(0xa3, seq(...extensions)));
  const signature = randomBytes(signatureBytes);
  signature[0] = 0;
  return seq(tbs, SHA256_RSA, tlv(3, Buffer.from([0]), signature));
}

/** RsaSize is the length of a made-up RSA key and of its public exponent, in bits. */
export interface RsaSize {
  readonly bits: number;
  readonly exponentBits: number;
}

/** hostileCa is a CA certificate whose key takes long to verify with. */
export const hostileCa = ({ bits, exponentBits }: RsaSize, name = "ca", issuer = name): Buffer =>
  certificate(name, issuer, rsaSpki(bits, exponentBits), [CA], bits / 8);

/** hostileLeaf is a leaf that such a CA seems to have signed, with a key pair that can be used. */
export function hostileLeaf({ bits }: RsaSize, uris: readonly string[], issuer = "ca"): { readonly der: Buffer; readonly keyPem: string } {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const spki = publicKey.export({ type: "spki", format: "der" });
  return {
    der: certificate("leaf", issuer, spki, [sans(uris)], bits / 8),
    keyPem: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
  };
}

const pemOf = (der: Buffer): string =>
  `-----BEGIN CERTIFICATE-----\n${der.toString("base64").replace(/.{64}/g, "$&\n")}\n-----END CERTIFICATE-----\n`;

/** hostileChain is what a stranger shows in TLS: a leaf and made-up issuers, each of which OpenSSL verifies, of `total` bytes altogether. */
export function hostileChain(total: number): { readonly cert: string; readonly key: string; readonly certificates: number } {
  const size = { bits: 3072, exponentBits: 3072 };
  const leaf = hostileLeaf(size, ["spiffe://stranger/service/hub"], "c0");
  const ders = [leaf.der];
  for (let bytes = leaf.der.length, i = 0; i < 98; i++) {
    const ca = hostileCa(size, `c${i}`, `c${i + 1}`);
    bytes += ca.length + 5;
    if (bytes > total) break;
    ders.push(ca);
  }
  return { cert: ders.map(pemOf).join(""), key: leaf.keyPem, certificates: ders.length };
}
