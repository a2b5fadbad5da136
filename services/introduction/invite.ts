import { createHash } from "node:crypto";
import type { Entropy } from "#channel/entropy.ts";
import { fail } from "#kernel/error.ts";
import { isHubId } from "#kernel/hub-id.ts";

/**
 * The invite as people copy it: `foedus-invite:` and base64url of
 *
 *   version 1 (1 byte) secret (16) CA digest (32) port (2, big endian) length and hub id, length and host, checksum (4)
 *
 * where a length is one byte and the checksum the first bytes of the SHA-256 of all before it: a letter that got lost is told from an
 * invite that is not valid any more.
 */
const PREFIX = "foedus-invite:";
const VERSION = 1;
const SECRET_BYTES = 16;
const DIGEST_BYTES = 32;
const CHECKSUM_BYTES = 4;
const HEAD_BYTES = 1 + SECRET_BYTES + DIGEST_BYTES + 2;
const HOST_MAX = 253;
/** Longest text that is looked at. */
const TEXT_MAX = PREFIX.length + Math.ceil(((HEAD_BYTES + 1 + 63 + 1 + HOST_MAX + CHECKSUM_BYTES) * 4) / 3);

/** PIN_PATTERN is what a PIN looks like: six decimal digits. */
export const PIN_PATTERN = /^\d{6}$/;

/** Invite is what the host gives to one guest, once. */
export interface Invite {
  /** The inviting hub. */
  readonly hubId: string;
  /** 128 bits, used once. Never logged. */
  readonly secret: Uint8Array;
  /** SHA-256 of the DER of the CA that signed the door's certificate, 32 bytes. */
  readonly caDigest: Uint8Array;
  /** Where the door is. */
  readonly host: string;
  readonly port: number;
}

/** newSecret draws the secret of an invite. */
export function newSecret(entropy: Entropy): Uint8Array {
  return entropy.bytes(SECRET_BYTES);
}

/** newPin draws six digits, all equally likely: a draw that would favour some is thrown away. */
export function newPin(entropy: Entropy): string {
  for (;;) {
    const drawn = Buffer.from(entropy.bytes(4)).readUInt32LE(0);
    if (drawn < 4_294_000_000) return String(drawn % 1_000_000).padStart(6, "0");
  }
}

/** inviteIdOf names an invite to its host without telling the secret, 16 bytes. */
export function inviteIdOf(secret: Uint8Array): Buffer {
  return createHash("sha256").update("foedus.introduction.id.v1\0").update(secret).digest().subarray(0, 16);
}

/** encodeInvite writes an invite as text. Throws INVALID_FIELD for what would not come back. */
export function encodeInvite({ hubId, secret, caDigest, host, port }: Invite): string {
  if (!isHubId(hubId) || !isHost(host) || !Number.isInteger(port) || port < 1 || port > 65_535)
    throw fail("INVALID_FIELD", "an invite needs a hub id, a host and a port");
  const tail = Buffer.from(`${String.fromCharCode(hubId.length)}${hubId}${String.fromCharCode(host.length)}${host}`, "latin1");
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt8(VERSION, 0);
  head.set(secret, 1);
  head.set(caDigest, 1 + SECRET_BYTES);
  head.writeUInt16BE(port, HEAD_BYTES - 2);
  const body = Buffer.concat([head, tail]);
  return PREFIX + Buffer.concat([body, checksum(body)]).toString("base64url");
}

/** decodeInvite reads an invite; spaces and line breaks that mail programs add are ignored. Throws INVALID_FIELD with what is wrong. */
export function decodeInvite(given: string): Invite {
  const text = given.length > 4 * TEXT_MAX ? given : given.replace(/\s+/g, "");
  if (!text.startsWith(PREFIX)) throw broken("it does not begin with foedus-invite:");
  if (text.length > TEXT_MAX) throw broken("it is too long");
  const encoded = text.slice(PREFIX.length);
  if (!/^[A-Za-z0-9_-]*$/.test(encoded)) throw broken("it has characters that do not belong there");
  const bytes = Buffer.from(encoded, "base64url");
  const body = bytes.subarray(0, -CHECKSUM_BYTES);
  if (body.length < HEAD_BYTES || !checksum(body).equals(bytes.subarray(-CHECKSUM_BYTES)))
    throw broken("a part of it is missing or changed");
  if (body[0] !== VERSION) throw fail("UPGRADE_NEEDED", "the invite was made by a newer version; upgrade this hub");
  const [hubId, rest] = word(body.subarray(HEAD_BYTES));
  const [host, left] = word(rest);
  const port = body.readUInt16BE(HEAD_BYTES - 2);
  // Exactly one text for each invite: bits that base64url leaves over count as a change.
  const invite = {
    hubId,
    host,
    port,
    secret: body.subarray(1, 1 + SECRET_BYTES),
    caDigest: body.subarray(1 + SECRET_BYTES, HEAD_BYTES - 2),
  };
  if (left.length > 0 || !isHubId(hubId) || !isHost(host) || port === 0 || encodeInvite(invite) !== text)
    throw broken("it was not made by foedus");
  return invite;
}

function word(bytes: Buffer): [string, Buffer] {
  const length = bytes[0] ?? 0;
  return [bytes.subarray(1, 1 + length).toString("latin1"), bytes.subarray(1 + length)];
}

function checksum(body: Buffer): Buffer {
  return createHash("sha256").update(body).digest().subarray(0, CHECKSUM_BYTES);
}

/** isHost tells host names and addresses, without brackets, from what cannot be dialled. */
export function isHost(host: string): boolean {
  return host.length <= HOST_MAX && /^[A-Za-z0-9.:_%-]+$/.test(host);
}

function broken(why: string): Error {
  return fail("INVALID_FIELD", `this is not a whole invite: ${why}; copy all of it, from foedus-invite: to its end`);
}
