import { createHmac } from "node:crypto";
import { fail } from "#kernel/error.ts";

/** Lines of a file of secrets, and bytes of one: as many as Standard Webhooks asks for. */
const SECRETS_MAX = 4;
const SECRET_BYTES = { least: 24, most: 64 };
const PREFIX = "whsec_";

/** parseSecrets reads a file of secrets, one a line. What is wrong with one is said without telling it. */
export function parseSecrets(text: string, file: string): readonly Buffer[] {
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== "" && !line.startsWith("#"));
  if (lines.length === 0 || lines.length > SECRETS_MAX)
    throw fail("NOT_CONFIGURED", `${file} has ${lines.length} secrets; write one to ${SECRETS_MAX}, each on a line of its own`);
  return lines.map((line, index) => {
    const base64 = line.trim().slice(PREFIX.length);
    const secret = Buffer.from(base64, "base64");
    const valid = line.startsWith(PREFIX) && /^[A-Za-z0-9+/]+={0,2}$/.test(base64);
    if (valid && secret.length >= SECRET_BYTES.least && secret.length <= SECRET_BYTES.most) return secret;
    const what = `${PREFIX} and the base64 of ${SECRET_BYTES.least} to ${SECRET_BYTES.most} random bytes`;
    throw fail(
      "NOT_CONFIGURED",
      `secret ${index + 1} of ${file} is not ${what}; make one with: echo "${PREFIX}$(openssl rand -base64 32)"`,
    );
  });
}

/**
 * signedHeaders are the headers of a delivery, as Standard Webhooks (https://www.standardwebhooks.com) has them: its id, when it was sent,
 * and HMAC-SHA256 over both and the body, with each secret, so that a receiver can change to a new one.
 */
export function signedHeaders(secrets: readonly Buffer[], id: string, wallMs: number, body: string): Readonly<Record<string, string>> {
  const timestamp = String(Math.floor(wallMs / 1_000));
  const signatures = secrets.map((secret) => `v1,${createHmac("sha256", secret).update(`${id}.${timestamp}.${body}`).digest("base64")}`);
  return { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signatures.join(" ") };
}
