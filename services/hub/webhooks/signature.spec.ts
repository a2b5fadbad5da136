import { createHmac } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { parseSecrets, signedHeaders } from "./signature.ts";

test("the example of Standard Webhooks, which its libraries verify", () => {
  const [secret] = parseSecrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", "file");
  const headers = signedHeaders([secret!], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330_000, '{"test": 2432232314}');
  expect(headers).toEqual({
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
  });
});

test("each secret of a file signs, so that a receiver can change to a new one", () => {
  const [a, b] = [Buffer.alloc(24, 1), Buffer.alloc(64, 2)];
  const text = `# old\nwhsec_${a.toString("base64")}\r\n\nwhsec_${b.toString("base64")}\n`;
  const signatures = signedHeaders(parseSecrets(text, "file"), "id", 5_999, "body")["webhook-signature"]!.split(" ");
  expect(signatures).toEqual([a, b].map((secret) => `v1,${createHmac("sha256", secret).update("id.5.body").digest("base64")}`));
});

test.each([
  ["", "has 0 secrets"],
  [Array.from({ length: 5 }, () => `whsec_${Buffer.alloc(24).toString("base64")}`).join("\n"), "has 5 secrets"],
  ["hunter2-hunter2-hunter2-hunter2", "secret 1 of file"],
  [`whsec_${Buffer.alloc(23).toString("base64")}`, "secret 1 of file"],
  [`whsec_${Buffer.alloc(65).toString("base64")}`, "secret 1 of file"],
  [`whsec_${Buffer.alloc(32).toString("base64")}\nwhsec_***`, "secret 2 of file"],
])("%j is no file of secrets, and the sentence that says so does not tell them", (text, says) => {
  let message = "";
  try {
    parseSecrets(text, "file");
  } catch (error) {
    ({ message } = error as Error);
  }
  expect(message).toContain(says);
  expect(message).not.toContain("hunter2");
});

test("a signature holds for one id, one second and one body", () => {
  const secret = [Buffer.alloc(32, 7)];
  const sign = (id: string, wallMs: number, body: string) => signedHeaders(secret, id, wallMs, body)["webhook-signature"];
  const word = fc.stringMatching(/^[a-z0-9-]{1,12}$/);
  fc.assert(
    fc.property(word, word, fc.string(), fc.string(), (id, other, body, otherBody) => {
      expect(sign(id, 1_000, body) === sign(other, 1_000, otherBody)).toBe(id === other && body === otherBody);
      expect(sign(id, 1_000, body)).not.toBe(sign(id, 2_000, body));
    }),
  );
});
