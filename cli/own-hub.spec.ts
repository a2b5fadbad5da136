import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { readConfig } from "./config-file.ts";
import { EXIT, errorText, toCliError } from "./exit.ts";
import { processConfigOf } from "./own-hub.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "foedus-own-hub-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** refusal is what the operator reads, and the exit code, if a process of a hub is started in the folder. */
function refusal(config?: string): { readonly code: number; readonly text: string } {
  try {
    const file = processConfigOf({ cwd: folder, env: {} }, config === undefined ? {} : { config });
    readConfig({ cwd: folder, env: {} }, file === undefined ? {} : { config: file });
  } catch (error) {
    const told = toCliError(error, () => "");
    return { code: told.exitCode, text: errorText(told) };
  }
  throw new Error("it was not refused");
}

describe("the configuration of a process that is started", () => {
  test.each([undefined, "hub.json"])("--config %s: a file that is missing is one sentence with a remedy", (config) => {
    const file = join(folder, "hub.json");
    const remedy = "Go to the hub's folder, give --config or the --hub of a context, or make a hub with `foedus hub init <hub-id>`.";
    expect(refusal(config)).toEqual({ code: EXIT.usage, text: `foedus: there is no configuration file ${file}. ${remedy}\n` });
  });

  test.each(["{ nope", "", "[]"])("a file with %j is one sentence too, without a word of fields", (text) => {
    writeFileSync(join(folder, "hub.json"), text);
    expect(refusal()).toEqual({
      code: EXIT.usage,
      text: expect.stringMatching(/^foedus: configuration is not valid: [^\n]+ \(file \S+\/hub\.json\)\. Correct it and try again\.\n$/),
    });
    expect(refusal().text).not.toContain("hub_id");
  });

  test.each(["/dev/stdin", "/dev/fd/63", "-"])("%s is refused, with the reason", (config) => {
    expect(refusal(config)).toEqual({
      code: EXIT.usage,
      text: expect.stringMatching(
        /^foedus: the configuration cannot be read from \S+: its paths are relative to its folder.*\. Write it to a file/,
      ),
    });
  });

  test("is hub.json here, then; without any, the environment or --set may give it", () => {
    const container = { cwd: folder, env: { FOEDUS_HUB_ID: "home" } };
    expect(processConfigOf(container, {})).toBeUndefined();
    expect(processConfigOf({ cwd: folder, env: {} }, { set: ["hub_id=home"] })).toBeUndefined();
    const file = join(folder, "hub.json");
    writeFileSync(file, JSON.stringify({ hub_id: "home" }));
    for (const io of [container, { cwd: folder, env: {} }]) expect(processConfigOf(io, {})).toBe(file);
    writeFileSync(join(folder, "other.json"), "{}");
    expect(processConfigOf({ cwd: folder, env: { FOEDUS_CONFIG: "other.json" } }, {})).toBe(join(folder, "other.json"));
  });
});
