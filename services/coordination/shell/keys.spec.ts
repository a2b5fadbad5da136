import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createCrypto } from "#runtime/crypto.ts";
import { KEY_FILE, loadKeys } from "./keys.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "foedus-keys-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const path = (): string => join(folder, KEY_FILE);

describe("the keys of a hub for deciding together", () => {
  test("are made once, for this user alone, and are the same afterwards", () => {
    const made = loadKeys(folder);
    const again = loadKeys(folder);
    expect(again.signing.publicKey).toEqual(made.signing.publicKey);
    expect(again.sealing).toEqual(made.sealing);
    expect(made.sealing.publicKey).toHaveLength(32);
    expect(statSync(path()).mode & 0o777).toBe(0o600);
    const data = Uint8Array.of(1, 2, 3);
    const signature = createCrypto(made.signing).sign(data);
    expect(createCrypto().verify(again.signing.publicKey, data, signature)).toBe(true);
    expect(readdirSync(folder)).toHaveLength(1);
  });

  test("are others in another folder, and those for signing are not those for sealing", () => {
    const other = join(folder, "other");
    mkdirSync(other);
    const [one, two] = [loadKeys(folder), loadKeys(other)];
    expect(one.signing.publicKey).not.toEqual(two.signing.publicKey);
    expect(one.sealing).not.toEqual(two.sealing);
    expect(Buffer.from(one.sealing.publicKey)).not.toEqual(Buffer.from(one.signing.publicKey));
  });

  test("are kept private again if somebody opened the file to others", () => {
    loadKeys(folder);
    chmodSync(path(), 0o644);
    loadKeys(folder);
    expect(statSync(path()).mode & 0o777).toBe(0o600);
  });

  test.each([
    ["that is empty", ""],
    ["that is no JSON", "keys"],
    ["of another format", JSON.stringify({ format: "foedus-feed-key-1", signing_key: "", sealing_key: "" })],
    ["without a key", JSON.stringify({ format: "foedus-coordination-keys-1", signing_key: Buffer.alloc(32).toString("base64") })],
    [
      "with a key that is too short",
      JSON.stringify({
        format: "foedus-coordination-keys-1",
        signing_key: Buffer.alloc(31).toString("base64"),
        sealing_key: Buffer.alloc(32).toString("base64"),
      }),
    ],
    ["with a key that is none", JSON.stringify({ format: "foedus-coordination-keys-1", signing_key: 7, sealing_key: 7 })],
  ])("a file %s stops the service with what to do, and is left alone", (_what, text) => {
    writeFileSync(path(), text);
    expect(() => loadKeys(folder)).toThrow(/restore it from a backup/);
    expect(readFileSync(path(), "utf8")).toBe(text);
  });

  test("what stands in the place of the file, or a folder that is not there, is named", () => {
    expect(() => loadKeys(join(folder, "none"))).toThrow(/make data_dir writable/);
    mkdirSync(path());
    expect(() => loadKeys(folder)).toThrow(/cannot be read/);
  });
});
