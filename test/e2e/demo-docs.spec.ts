// Every command of docs/tutorial/demo.md is run here, as it stands there, against `make up` without a terminal.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ROOT, until } from "../support/federation.ts";
import { EXPORT, page, replaced, Started, sectionsOf, typed } from "../support/pages.ts";
import { tool } from "../support/tools.ts";

const PAGE = page("docs/tutorial/demo.md");
const COMMANDS = sectionsOf(PAGE).get("")!.commands;

test("the page begins with the path, and has no commands that are not run here", () => {
  expect([COMMANDS.length, COMMANDS[0], sectionsOf(PAGE).size]).toEqual([12, EXPORT, 1]);
});

describe("`make up` without a terminal", () => {
  const dir = mkdtempSync(join(tmpdir(), "foedus-demo-"));
  // Ports below the ephemeral ones, apart from those of other specs.
  const port = 24_100 + (process.pid % 80) * 64;
  const env = { ...process.env, FOEDUS_DEMO_DIR: dir, FOEDUS_DEMO_PORT: String(port), FOEDUS_CONTEXTS: join(dir, "contexts.json") };
  let up: Started;

  const run = (line: string): string => execFileSync("bash", typed(line), { cwd: ROOT, env, encoding: "utf8", timeout: 20_000 });

  beforeAll(async () => {
    up = new Started(process.execPath, ["test/demo/up.ts"], { cwd: ROOT, env });
    await up.prints("it stays up", 280_000);
  }, 300_000);
  afterAll(async () => {
    try {
      // Killed alone, it would leave its hubs behind. After the last test there is nothing to stop.
      execFileSync(process.execPath, ["test/demo/down.ts"], { cwd: ROOT, env, timeout: 60_000 });
    } finally {
      up.child.kill("SIGKILL");
      await up.ended;
      rmSync(dir, { recursive: true, force: true });
    }
  }, 90_000);

  test("prints the tour in words and then what to type", () => {
    for (const words of [
      "OPERATIONAL",
      "4516 published device definitions",
      "DONE in",
      "the lab saw the state change",
      "LIMITED",
      "founded the federation street",
      "verified offline, and with one bit changed refused",
      "an audit of all hubs finds nothing",
      "SIGKILL",
      "the tour is over",
    ])
      expect(up.text).toContain(words);
    const [, sent, counted] = /it was sent (\d+) commands and counted (\d+)\n/.exec(up.text) ?? [];
    expect(Number(sent)).toBeGreaterThan(200);
    expect(counted).toBe(sent);
    expect(up.text).toContain("foedus send factory/demo-lamp state ON --hub home");
    // What is printed is there: `make tools` may not have been run.
    expect(up.text.includes(`localhost:${port} list`)).toBe(existsSync(join(ROOT, ".tools/bin/grpcurl")));
    for (const [, program = ""] of up.text.matchAll(/^ +(\S*\/\S+) .*-cert/gm)) expect(existsSync(join(ROOT, program)), program).toBe(true);
  });

  test("a second one says that the first runs, and leaves it alone; taken ports are told without a log of some other time", () => {
    const second = spawnSync(process.execPath, ["test/demo/up.ts"], { cwd: ROOT, env, encoding: "utf8", timeout: 30_000 });
    expect(second).toMatchObject({ status: 1, stdout: "" });
    expect(second.stderr).toMatch(/^make up failed: it runs here already, as process \d+: .* `make down` first\n$/);
    expect(up.child.exitCode).toBeNull();
    const elsewhere = { ...env, FOEDUS_DEMO_DIR: join(dir, "other") };
    const taken = spawnSync(process.execPath, ["test/demo/up.ts"], { cwd: ROOT, env: elsewhere, encoding: "utf8", timeout: 30_000 });
    expect(taken).toMatchObject({ status: 1, stdout: "" });
    expect(taken.stderr).toMatch(/^make up failed: ports [\d, ]+ on this machine are in use; .*\n$/);
  });

  const shown: Readonly<Record<string, RegExp>> = {
    "foedus peers --hub home": /factory +operational[\s\S]*lab +operational/,
    "foedus nodes --hub home --hub-id factory --type light": /demo-lamp/,
    "foedus node factory/demo-lamp --hub home": /brightness/,
    "foedus send factory/demo-lamp state ON --hub home": /DONE/i,
    "foedus events --hub factory": /link to home/,
    "foedus federation members --hub lab": /factory +(leader|voter)[\s\S]*home +(leader|voter)[\s\S]*lab +(leader|voter)/,
    "foedus agents list --hub home": /counter +factory/,
    "foedus doctor --hub home": /^home \(\S+\/home\/hub\.json\): 0 errors/m,
  };
  const plain = COMMANDS.filter((line) => line.startsWith("foedus ") && !line.startsWith("foedus watch"));

  test.each(plain)("%s", (line) => {
    expect(shown[line]).toBeDefined();
    expect(run(line)).toMatch(shown[line]!);
  });

  test("foedus watch shows the change until ctrl-c", async () => {
    const [line] = COMMANDS.filter((command) => command.startsWith("foedus watch"));
    const watch = new Started("bash", typed(replaced(line!)), { cwd: ROOT, env });
    await watch.prints("watching for changes");
    const before = watch.text.length;
    run("foedus send factory/demo-lamp brightness 17 --hub home");
    await until("the change", () => watch.text.slice(before).includes("17"));
    watch.child.kill("SIGINT");
    expect(await watch.ended).toBe(0);
  }, 40_000);

  /** withPki runs a line after the one that says where the certificates are: here below the demo's folder, and the hub at our port. */
  const [pki, curl] = COMMANDS.slice(-2) as [string, string];
  const withPki = (line: string): string => {
    const script = `${pki.replace("certs/dev", `'${dir}'/certs`)}\n${line.replaceAll("18800", String(port))}`;
    return execFileSync("bash", ["-c", script], { cwd: ROOT, encoding: "utf8", timeout: 30_000 });
  };

  test("buf curl, with the certificates that the demo issued", () => {
    expect([pki, curl.split(" ").slice(0, 2).join(" ")]).toEqual(["pki=certs/dev/home", "node_modules/.bin/buf curl"]);
    expect(JSON.parse(withPki(curl))).toMatchObject({ result: { outcome: "OUTCOME_DONE", value: { stringValue: "OFF" } } });
  }, 40_000);

  const grpcurl = tool("grpcurl");
  test.skipIf(grpcurl.reason !== undefined)("grpcurl lists the services", () => {
    const [, line = ""] = /`(\.tools\/bin\/grpcurl [^`]+)`/.exec(PAGE) ?? [];
    expect(withPki(line.replace(".tools/bin/grpcurl", grpcurl.path))).toContain("foedus.registry_sync.v1alpha1.RegistrySyncService");
  });

  test("metrics, readiness and status are at the addresses that it prints", async () => {
    for (const [page, words] of [
      ["readyz", "ready"],
      ["metrics", "grpc_server_handled_total"],
      ["statusz", "hub=home"],
    ])
      expect(await (await fetch(`http://127.0.0.1:${port + 10}/${page}`)).text()).toContain(words);
  });

  test("it stays up until `make down`, which stops every hub", async () => {
    expect(up.child.exitCode).toBeNull();
    const down = execFileSync(process.execPath, ["test/demo/down.ts"], { cwd: ROOT, env, encoding: "utf8", timeout: 30_000 });
    expect(down).toBe("all hubs stopped\n");
    expect(await up.ended).toBe(0);
    for (const offset of [10, 30, 50]) await expect(fetch(`http://127.0.0.1:${port + offset}/readyz`)).rejects.toThrow();
  }, 40_000);
});
