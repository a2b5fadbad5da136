import { mkdirSync, readdirSync, realpathSync, rmSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import manifest from "../package.json" with { type: "json" };
import { type Finished, start } from "../test/cli/fixture.ts";

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "foedus-cli-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const foedus = (...args: readonly string[]): Promise<Finished> => start(args, { cwd: folder }).done;

describe("verbs that need no hub", () => {
  test("verify takes no file that has no end, and says what it takes for none", async () => {
    await writeFile(join(folder, "any"), "{}");
    for (const [certificate, founding] of [
      ["/dev/zero", "any"],
      ["any", "/dev/zero"],
    ] as const) {
      const { code, err } = await foedus("federation", "verify", certificate, "--founding", founding);
      expect({ code, err }).toEqual({ code: 2, err: expect.stringContaining("/dev/zero cannot be read") });
    }
    expect(await foedus("federation", "verify", "any", "--founding", "any")).toMatchObject({ code: 1 });
  });

  test("version, help and an unknown word", async () => {
    expect(await foedus("version", "-q")).toEqual({ code: 0, out: `${manifest.version}\n`, err: "" });
    expect(JSON.parse((await foedus("version", "--json")).out)).toMatchObject({ version: manifest.version });
    expect(await foedus("--version")).toEqual({ code: 0, out: `foedus ${manifest.version}\n`, err: "" });
    const help = await foedus("--help");
    expect(help.code).toBe(0);
    for (const verb of [
      "hub",
      "serve",
      "peer",
      "doctor",
      "status",
      "peers",
      "share",
      "nodes",
      "node",
      "send",
      "watch",
      "events",
      "links",
      "feeds",
      "config",
      "pki",
      "contexts",
      "completion",
      "version",
    ])
      expect(help.out).toMatch(new RegExp(`^ {2}${verb}\\b`, "m"));
    expect(await foedus("peerz")).toMatchObject({ code: 2, err: expect.stringContaining("Did you mean one of peer, peers?") });
    expect(help.out).toContain("foedus hub init <hub-id>");
    for (const [words, meant] of [
      [["hub", "int", "y"], 'hub has no command "int". Did you mean `foedus hub init`?'],
      [["peers", "disabel", "lab"], 'peers has no command "disabel". Did you mean `foedus peers disable`?'],
      [["peers", "trust", "lab", "full"], 'peers has no command "trust". Did you mean `foedus peer trust`?'],
      [["peer", "disable", "lab"], 'there is no command "disable" here. Did you mean `foedus peers disable`?'],
    ] as const)
      expect(await foedus(...words)).toEqual({ code: 2, out: "", err: `foedus: ${meant}\n` });
    for (const words of [
      ["contexts", "list", "much"],
      ["pki", "issue", "operator", "me", "--role", "king"],
      ["peer", "add", "lab", "--max-trust", "all"],
    ])
      expect((await foedus(...words)).err).not.toMatch(/\.\. /);
    // Where there is no CA, the folder is not the one that was meant.
    const lost = await foedus("pki", "issue", "node", "my-lamp");
    expect(lost).toMatchObject({
      code: 2,
      err: expect.stringMatching(/pki\/ca\.pem cannot be read\. Give the folder of the hub's CA with --dir, or/),
    });
    expect(JSON.parse((await foedus("nodes", "--json", "--limt", "3")).err)).toMatchObject({ error: { reason: "USAGE", exit_code: 2 } });
  });

  test("without a context the remedy says how to make one", async () => {
    const { code, err } = await foedus("nodes");
    expect(code).toBe(2);
    expect(err).toContain("foedus contexts add");
  });

  test("contexts add, list and use; the nearest .foedus/contexts.json upwards counts", async () => {
    await mkdir(join(folder, ".foedus"));
    const file = join(folder, ".foedus", "contexts.json");
    const credentials = ["--ca", "pki/ca.pem", "--cert", "pki/c.pem", "--key", "pki/c.key", "--contexts", file];
    expect((await foedus("contexts", "add", "home", "--address", "127.0.0.1:18800", ...credentials)).code).toBe(0);
    const split = ["--address", "127.0.0.1:18800", "--address", "registry-sync=127.0.0.1:18801"];
    expect((await foedus("contexts", "add", "lab", "--hub-id", "lab-2", ...split, ...credentials)).code).toBe(0);
    expect(JSON.parse(await readFile(file, "utf8"))).toEqual({
      current: "home",
      contexts: {
        home: { hub_id: "home", address: "127.0.0.1:18800", ca: "../pki/ca.pem", cert: "../pki/c.pem", key: "../pki/c.key" },
        lab: {
          hub_id: "lab-2",
          address: "127.0.0.1:18800",
          ca: "../pki/ca.pem",
          cert: "../pki/c.pem",
          key: "../pki/c.key",
          services: { "registry-sync": "127.0.0.1:18801" },
        },
      },
    });
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    await mkdir(join(folder, "a", "b"), { recursive: true });
    const below = (...args: readonly string[]): Promise<Finished> => start(args, { cwd: join(folder, "a", "b") }).done;
    expect((await below("contexts", "use", "lab")).code).toBe(0);
    expect((await below("contexts", "list")).out).toMatch(/\* +lab +lab-2 +127/);
    expect(await below("contexts", "use", "mars")).toMatchObject({ code: 5, err: expect.stringContaining("Known are home, lab") });
    expect(await foedus("contexts", "add", "bad", "--address", "nowhere", ...credentials)).toMatchObject({ code: 2 });
  });

  test("3 when nothing listens, by flags and by environment", async () => {
    await foedus("pki", "init", "home");
    const env = {
      FOEDUS_ADDRESS: "127.0.0.1:1",
      FOEDUS_CA: "pki/ca.pem",
      FOEDUS_CERT: "pki/operator-admin.pem",
      FOEDUS_KEY: "pki/operator-admin.key",
    };
    const { code, err } = await start(["nodes"], { cwd: folder, env }).done;
    expect(err).toBe(
      "foedus: nothing listens at 127.0.0.1:1. Check that the hub runs and that the address is right (`foedus contexts list`).\n",
    );
    expect(code).toBe(3);
    expect(err).not.toContain("    at ");
    const debug = await start(["nodes"], { cwd: folder, env: { ...env, FOEDUS_DEBUG: "1" } }).done;
    expect(debug.err).toContain("    at ");
  });

  test("pki init, issue, renew and show; what is good is kept", async () => {
    const made = await foedus("pki", "init", "home", "--json");
    const actions = (text: string): string[] => (JSON.parse(text) as { leaves: { action: string }[] }).leaves.map(({ action }) => action);
    expect(actions(made.out)).toEqual(["created", "created"]);
    expect(actions((await foedus("pki", "init", "home", "--json")).out)).toEqual(["kept", "kept"]);
    expect(actions((await foedus("pki", "issue", "gateway", "zigbee", "--prefix", "zb-", "--json")).out)).toEqual(["created"]);
    expect(actions((await foedus("pki", "issue", "service", "hub", "--dns", "hub.example", "--json")).out)).toEqual(["renewed"]);
    expect(actions((await foedus("pki", "renew", "--json")).out)).toEqual(["kept", "kept", "kept"]);
    expect(actions((await foedus("pki", "renew", "--force", "--json")).out)).toEqual(["created", "created", "created"]);
    const shown = JSON.parse(
      (await foedus("pki", "show", "pki/gateway-zigbee.pem", "pki/service-hub.pem", "pki/ca.pem", "--json")).out,
    ) as { files: object[] };
    expect(shown.files).toEqual([
      expect.objectContaining({ kind: "gateway", identity: "spiffe://home/gateway/zigbee", prefixes: "zb-" }),
      expect.objectContaining({ kind: "service", host_names: "localhost home hub.home hub.example" }),
      expect.objectContaining({ kind: "authority", identity: "spiffe://home" }),
    ]);
    expect(await foedus("pki", "issue", "lamp")).toMatchObject({ code: 2, err: expect.stringContaining("`foedus pki issue node lamp`") });
    expect(await foedus("pki", "issue", "node")).toMatchObject({ code: 2, err: expect.stringContaining("the name is missing") });
    expect(await foedus("pki", "issue", "wizard", "x")).toMatchObject({
      code: 2,
      err: expect.stringContaining("Kinds are service, node, gateway and operator"),
    });
    expect(await foedus("pki", "issue", "operator", "x")).toMatchObject({ code: 2, err: expect.stringContaining("viewer or admin") });
    expect((await foedus("pki", "issue", "node", "x", "--life", "5s")).err).toBe(
      "foedus: a node certificate cannot be valid for 5s. Give --life from 1 min to 365 d, such as 7d.\n",
    );
  });

  test("pki revoke takes what pki list prints; a revoked certificate is issued again with a new key only", async () => {
    expect(await foedus("hub", "init", "home", "--dir", ".", "--port", "40")).toMatchObject({ code: 0 });
    for (const name of ["my-lamp", "plug"]) expect(await foedus("pki", "issue", "node", name)).toMatchObject({ code: 0 });
    expect(await foedus("pki", "revoke", "node/my-lamp", "--reason", "lost")).toMatchObject({
      code: 0,
      out: expect.stringContaining("home/node/my-lamp"),
    });
    expect(await foedus("pki", "revoke", "node-plug.pem")).toMatchObject({ code: 0 });
    expect(await foedus("pki", "revoke", "node/plg")).toMatchObject({ code: 5, err: expect.stringContaining("`foedus pki list`") });

    const again = await foedus("pki", "issue", "node", "my-lamp");
    expect(again).toMatchObject({
      code: 4,
      err: expect.stringMatching(
        /^foedus: pki\/node-my-lamp\.pem is revoked \(lost\), .* with a new key: `foedus pki issue node my-lamp --force --dir pki`\.\n$/,
      ),
    });
    // Renewal never certifies the key of a revoked certificate again; the folder may be named from elsewhere.
    const elsewhere = await start(["pki", "renew", "--dir", join(folder, "pki"), "--json"], { cwd: tmpdir() }).done;
    expect(elsewhere.code).toBe(0);
    expect(elsewhere.err).toMatch(
      /node-my-lamp\.pem is revoked and was not renewed; for a certificate with a new key: foedus pki issue node my-lamp --force/,
    );
    expect(elsewhere.out).not.toContain("node-my-lamp");
    expect(await foedus("pki", "issue", "node", "my-lamp", "--force", "--dir", "pki")).toMatchObject({ code: 0 });
    expect((await foedus("pki", "list")).out).toMatch(/^node\/my-lamp +ends /m);
    await writeFile(join(folder, "hub.json"), "{");
    const unread = await foedus("pki", "issue", "node", "plug");
    expect(unread.err).toContain(
      "hub.json cannot be used, so revoked certificates were not checked; `foedus doctor --config hub.json` says why\n",
    );
  }, 60_000);

  test("F-27 a hub init that fails leaves nothing that is in the way of the next", async () => {
    // A folder where a file has to come makes it fail after the PKI was written.
    mkdirSync(join(folder, "half", ".foedus", "contexts.json.new"), { recursive: true });
    const failed = await foedus("hub", "init", "half", "--dir", "half");
    expect(failed.code).not.toBe(0);
    expect(readdirSync(join(folder, "half"))).toEqual([".foedus"]);
    rmSync(join(folder, "half", ".foedus"), { recursive: true });
    expect(await foedus("hub", "init", "half", "--dir", "half")).toMatchObject({ code: 0 });
  });

  test("F-27 hub init in the folder of a hub, or below it, makes no hub inside it unless --dir says so", async () => {
    const at = (dir: string, ...args: readonly string[]): Promise<Finished> =>
      start(["hub", "init", ...args], { cwd: join(folder, dir) }).done;
    expect(await at(".", "a")).toMatchObject({ code: 0 });
    const before = readdirSync(join(folder, "a"));
    expect(await at("a", "b")).toEqual({
      code: 1,
      out: "",
      err:
        "foedus: you are in the folder of a hub, whose configuration is hub.json, and b would be made inside it. " +
        "Go to another folder, or say where the new hub belongs: `foedus hub init b --dir ../b`.\n",
    });
    const below = await at("a/pki", "b");
    expect(below).toMatchObject({ code: 1, err: expect.stringContaining("whose configuration is ../hub.json, ") });
    expect(below.err).toContain(`--dir ${join(realpathSync(folder), "b")}\``);
    expect(readdirSync(join(folder, "a"))).toEqual(before);
    // What was advised makes one, and so does a name for a place inside.
    for (const dir of ["../b", "c"]) expect(await at("a", "b", "--dir", dir), dir).toMatchObject({ code: 0 });
  });

  test("pki csr and sign: the operator has to name the key, and another key is refused", async () => {
    await foedus("pki", "init", "home");
    const { out } = await foedus("pki", "csr", "node", "lamp", "--hub-id", "home", "-q");
    const digest = out.trim();
    const sign = (...more: readonly string[]): Promise<Finished> => foedus("pki", "sign", "node-lamp.csr", "node", "lamp", ...more);
    expect(await sign()).toMatchObject({ code: 2, err: expect.stringContaining(digest) });
    expect(
      await sign(
        "--key-sha256",
        digest.replace(/^./, (c) => (c === "0" ? "1" : "0")),
      ),
    ).toMatchObject({ code: 4 });
    expect(await sign("--key-sha256", digest)).toMatchObject({ code: 0 });
    expect((await foedus("pki", "show", "node-lamp.pem")).out).toMatch(/identity +spiffe:\/\/home\/node\/lamp/);
  });

  test("completion scripts know the verbs; bash accepts its script", async () => {
    for (const shell of ["bash", "zsh", "fish"]) {
      const { out } = await foedus("completion", shell);
      for (const path of ["peers enable", "hub init", "peer trust"]) expect(out, shell).toContain(path);
    }
    expect(await foedus("completion", "tcsh")).toMatchObject({ code: 2 });
  });

  test("config --file and hub list every problem of a configuration at once, and start nothing", async () => {
    await writeFile(
      join(folder, "hub.json"),
      JSON.stringify({ hub_id: "Home!", listen: { port: 70_000 }, tls: { ca: "ca.pem", cert: "c.pem", key: "c.key" } }),
    );
    for (const args of [
      ["config", "--file", "hub.json"],
      ["hub", "--config", "hub.json"],
      ["serve", "telemetry", "--config", "hub.json"],
    ]) {
      const { code, err } = await foedus(...args);
      expect(err, args.join(" ")).toMatch(/hub_id: .*\n.*listen\.port: /);
      expect(code).toBe(2);
    }
    expect(await foedus("hub", "--set", "nonsense")).toMatchObject({ code: 2, err: expect.stringContaining("Write path=value") });
    expect(await foedus("serve", "cooking", "--config", "hub.json")).toMatchObject({
      code: 2,
      err: expect.stringContaining("Services are discovery"),
    });
  });

  test("config --diff says what changes at once and what needs a restart", async () => {
    const tls = { ca: "ca.pem", cert: "c.pem", key: "c.key" };
    await writeFile(join(folder, "a.json"), JSON.stringify({ hub_id: "home", tls }));
    await writeFile(join(folder, "b.json"), JSON.stringify({ hub_id: "home", tls, listen: { port: 1 }, log: { level: "debug" } }));
    const { code, out } = await foedus("config", "--file", "a.json", "--diff", "b.json");
    expect(code).toBe(0);
    expect(out).toMatch(/listen\.port +18800 +1 +at restart/);
    expect(out).toMatch(/log\.level +"info" +"debug" +at once/);
    expect(JSON.parse((await foedus("config", "--file", "a.json")).out)).toMatchObject({ hub_id: "home", listen: { port: 18_800 } });
  });
});
