import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { writePki } from "../../certs/issue.ts";
import { EXIT, errorText, toCliError } from "../exit.ts";
import type { Io } from "../io.ts";
import { resolveTarget } from "../reach/connect.ts";
import { list } from "../verbs/contexts.ts";
import { readConfig } from "./config-file.ts";
import { connectOwn, type OwnHubFlags, processConfigOf, readOwnHub, withConfig } from "./own-hub.ts";

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

describe("a hub that no context names", () => {
  const io = () => ({ cwd: folder, env: { HOME: folder } }) as unknown as Io;
  const said = async (refused: Promise<unknown>): Promise<string> => {
    const error = await refused.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    return errorText(toCliError(error, () => ""));
  };
  const contexts = (text: object): void => {
    mkdirSync(join(folder, ".foedus"), { recursive: true });
    writeFileSync(join(folder, ".foedus/contexts.json"), JSON.stringify(text));
  };

  test("each verb says which command makes a context, or which contexts there are", async () => {
    const make = /`foedus hub init <hub-id>` made one, or make one with `foedus contexts add`/;
    const asked = (hub?: string) => [
      said(resolveTarget(hub === undefined ? {} : { hub }, io())),
      ...(hub === undefined ? [said(list(io(), [], {}))] : [said(withConfig(io(), { hub }))]),
    ];
    for (const text of await Promise.all([...asked("home"), ...asked()])) {
      expect(text).toMatch(/no contexts file says where a hub is/);
      expect(text).toMatch(make);
    }
    contexts({});
    for (const text of await Promise.all(asked("home"))) expect(text).toMatch(make);
    const home = { hub_id: "home", address: "localhost:1", ca: "a", cert: "b", key: "c" };
    contexts({ contexts: { home } });
    for (const text of await Promise.all(asked("hoem")))
      expect(text).toMatch(/has no context "hoem"\. Did you mean home\? Or go to the hub's folder\.\n$/);
    expect(await said(resolveTarget({}, io()))).toMatch(
      /has no current context\. Give --hub with one of home, or choose one with `foedus contexts use`/,
    );
    // The command line runs on another machine than the hub.
    expect(await said(withConfig(io(), { hub: "home" }))).toMatch(
      /does not say where the hub's configuration is\. Give its hub\.json with --config/,
    );
    writeFileSync(join(folder, "hub.json"), "{}");
    expect(await withConfig(io(), { hub: "home" })).toEqual({ hub: "home" });
  });
});

describe("--hub in the folder of a hub, where there is no contexts file", () => {
  const io = () => ({ cwd: folder, env: { HOME: folder }, clock: systemClock }) as unknown as Io;
  beforeEach(async () => {
    await writePki(join(folder, "pki"), "home", {
      now: new Date(systemClock.wall()),
      leaves: [{ profile: "operator", name: "admin", role: "admin" }],
    });
    const config = {
      hub_id: "home",
      listen: { port: 18_800 },
      tls: { ca: "pki/ca.pem", cert: "pki/service-hub.pem", key: "pki/service-hub.key" },
    };
    writeFileSync(join(folder, "hub.json"), JSON.stringify(config));
  });

  test("the file there is taken, and the hub is asked where it listens", async () => {
    const flags: OwnHubFlags = await withConfig(io(), { hub: "home" });
    expect(flags).toEqual({ hub: "home" });
    using connection = await connectOwn(io(), readOwnHub(io(), flags), flags);
    expect(connection?.target).toMatchObject({ hubId: "home", address: expect.stringMatching(/:18800$/) });
  });

  test("another hub than the one that was named is not asked", async () => {
    const flags: OwnHubFlags = await withConfig(io(), { hub: "lab" });
    await expect(connectOwn(io(), readOwnHub(io(), flags), flags)).rejects.toThrow(/no contexts file says where a hub is/);
  });
});

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
