import { createCipheriv, createHmac } from "node:crypto";

/** expand is HKDF-Expand-Label of TLS 1.3 (RFC 8446, 7.1), for at most one block. */
function expand(secret: Buffer, label: string, bytes: number): Buffer {
  const name = Buffer.from(`tls13 ${label}`);
  const info = Buffer.concat([Buffer.of(bytes >> 8, bytes & 255, name.length), name, Buffer.of(0, 1)]);
  return createHmac(secret.length === 32 ? "sha256" : "sha384", secret)
    .update(info)
    .digest()
    .subarray(0, bytes);
}

/** secretOf finds a secret in what TLS logged of its keys. */
export function secretOf(keylog: readonly Buffer[], label: string): Buffer {
  for (const line of keylog) {
    const [name, , secret] = line.toString("latin1").trim().split(" ");
    if (name === label && secret !== undefined) return Buffer.from(secret, "hex");
  }
  throw new Error(`no ${label}`);
}

/** RawRecords writes records of TLS 1.3 with AES-GCM as no TLS library does. `secret` is the traffic secret of its side, with which `used` records were made so far. */
export class RawRecords {
  #secret: Buffer;
  #key!: Buffer;
  #iv!: Buffer;
  #sequence = 0;

  constructor(secret: Buffer, used = 0) {
    this.#secret = secret;
    this.#rekey();
    this.#sequence = used;
  }

  #rekey(): void {
    this.#key = expand(this.#secret, "key", this.#secret.length === 32 ? 16 : 32);
    this.#iv = expand(this.#secret, "iv", 12);
    this.#sequence = 0;
  }

  record(type: number, body: Buffer): Buffer {
    const length = body.length + 17;
    const head = Buffer.of(23, 3, 3, length >> 8, length & 255);
    const nonce = Buffer.from(this.#iv);
    nonce.writeUInt32BE((nonce.readUInt32BE(8) ^ this.#sequence++) >>> 0, 8);
    const cipher = createCipheriv(this.#key.length === 16 ? "aes-128-gcm" : "aes-256-gcm", this.#key, nonce);
    cipher.setAAD(head);
    const sealed = Buffer.concat([cipher.update(Buffer.concat([body, Buffer.of(type)])), cipher.final()]);
    return Buffer.concat([head, sealed, cipher.getAuthTag()]);
  }

  data(body: Buffer): Buffer {
    return this.record(23, body);
  }

  /** ticket is a NewSessionTicket. */
  ticket(): Buffer {
    return this.record(22, Buffer.of(4, 0, 0, 15, 0, 0, 14, 16, 0, 0, 0, 0, 1, 7, 0, 1, 9, 0, 0));
  }

  keyUpdate(requested = false): Buffer {
    const record = this.record(22, Buffer.of(24, 0, 0, 1, Number(requested)));
    this.#secret = expand(this.#secret, "traffic upd", this.#secret.length);
    this.#rekey();
    return record;
  }
}
