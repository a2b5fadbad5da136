import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { start } from "../../test/cli/fixture.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "foedus-adapter-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const hub = { hub_id: "x", address: "localhost:1", ca: "nope.pem" };

test.each([
  ["no file", undefined, [], "hub.json cannot be read"],
  ["no JSON", "{", ["--config", "f.json"], "it is not JSON"],
  [
    "a broker elsewhere without TLS",
    JSON.stringify({ hub, mqtt: { broker: "mqtt://example.org" } }),
    ["--config", "f.json"],
    "must be mqtts://",
  ],
  [
    "plain text that nobody asked for",
    JSON.stringify({ hub, mqtt: { broker: "mqtt://localhost" } }),
    ["--config", "f.json"],
    "must be true for a broker without TLS",
  ],
  ["a word that is not known", JSON.stringify({ hub, mqtt: { brocker: "x" } }), ["--config", "f.json"], "brocker"],
  ["nothing on stdin", undefined, ["--supervised"], "no configuration came on stdin"],
])("with %s it says what is wrong and how to go on", async (_what, text, args, message) => {
  if (text !== undefined) writeFileSync(join(folder, "f.json"), text);
  const { code, out, err } = await start(["adapter", "mqtt", ...args], { cwd: folder }).done;
  expect({ code, out }).toEqual({ code: 2, out: "" });
  expect(err).toContain(message);
});
