// `make install`, and a hub under systemd's rules: what is installed runs, and the units are correct, tight, and not too tight for a hub.
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ROOT, SERVICES, until } from "../support/federation.ts";
import { tool } from "../support/tools.ts";

const INSTALL = readFileSync(join(ROOT, "docs/INSTALL.md"), "utf8");
const UNITS = ["foedus-hub.service", "foedus@.service"] as const;
/** Tenths of systemd's exposure level (0 nothing, 100 everything): what is left is the network, which a hub is for, and V8's compiler. */
const MOST_EXPOSED = 12;

const folder = mkdtempSync(join(tmpdir(), "foedus-install-"));
const prefix = join(folder, "usr");
const command = join(prefix, "bin/foedus");
const units = join(prefix, "lib/systemd/system");
/** environment as systemd gives it: nothing of the tests'. */
const environment = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" };

const foedus = (args: readonly string[], cwd = folder): string => execFileSync(command, args, { cwd, env: environment, encoding: "utf8" });
const settingsOf = (unit: string, name: string): string[] =>
  readFileSync(join(units, unit), "utf8")
    .split("\n")
    .flatMap((line) => (line.startsWith(`${name}=`) ? [line.slice(name.length + 1)] : []));

beforeAll(() => {
  execFileSync(join(ROOT, "ops/install.sh"), ["install", prefix], { stdio: "pipe" });
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("make install", () => {
  test("the installed command brings its Node, and needs nothing of the folder that it was made in", () => {
    expect(foedus(["version", "--json"])).toMatch(/"node": "24\./);
    expect(foedus(["--help"])).toContain("Usage: foedus");
    for (const file of [command, join(prefix, "lib/foedus/foedus.mjs"), ...UNITS.map((unit) => join(units, unit))])
      expect(readFileSync(file, "utf8").includes(ROOT), file).toBe(false);
    expect(readFileSync(join(prefix, "share/doc/foedus/LICENSE.packages"), "utf8")).toContain("@grpc/grpc-js 1.");
  });

  test("Node gets the flags of small machines, others, or none; a hub's configuration sees nothing of them", () => {
    // The command as it is installed, beside a Node that only says what it was given.
    const other = join(folder, "other");
    mkdirSync(join(other, "lib/foedus"), { recursive: true });
    cpSync(command, join(other, "bin/foedus"));
    writeFileSync(join(other, "lib/foedus/node"), '#!/bin/sh\necho "$* arena=$MALLOC_ARENA_MAX own=$FOEDUS_NODE_FLAGS"\n', { mode: 0o755 });
    const given = (env: Readonly<Record<string, string>> = {}): string =>
      execFileSync(join(other, "bin/foedus"), ["a b"], { env: { ...environment, ...env }, encoding: "utf8" })
        .trim()
        .replace(/\S*foedus\.mjs/, "…");
    expect(given()).toBe("--disable-sigusr1 --max-semi-space-size=2 --optimize-for-size … a b arena=1 own=");
    expect(given({ FOEDUS_NODE_FLAGS: "" })).toBe("--disable-sigusr1 … a b arena= own=");
    expect(given({ FOEDUS_NODE_FLAGS: "--max-old-space-size=96" })).toBe("--disable-sigusr1 --max-old-space-size=96 … a b arena=1 own=");
    const flags = { ...environment, FOEDUS_NODE_FLAGS: "--max-old-space-size=96" };
    expect(execFileSync(command, ["version"], { env: flags, encoding: "utf8" })).toMatch(/^foedus/);
  });

  test("a package is staged below DESTDIR and refers to PREFIX; uninstall leaves nothing", () => {
    const staged = join(folder, "staged");
    execFileSync(join(ROOT, "ops/install.sh"), ["install", "/opt/foedus", staged], { stdio: "pipe" });
    const unit = readFileSync(join(staged, "opt/foedus/lib/systemd/system/foedus-hub.service"), "utf8");
    expect(unit).toContain("ExecStart=/opt/foedus/bin/foedus hub ");
    expect(unit).not.toMatch(/@PREFIX@|staged/);
    // It finds its Node beside itself, so it runs from there too.
    expect(execFileSync(join(staged, "opt/foedus/bin/foedus"), ["version"], { env: environment, encoding: "utf8" })).toMatch(/^foedus/);
    mkdirSync(join(staged, "etc/foedus"), { recursive: true });
    const uninstall = (): string => execFileSync(join(ROOT, "ops/install.sh"), ["uninstall", "/opt/foedus", staged], { encoding: "utf8" });
    expect(uninstall()).toBe(
      `removed from ${staged}/opt/foedus; a hub that runs goes on until it is stopped\n${staged}/etc/foedus stays: configuration, keys and data are not removed\n`,
    );
    expect(uninstall()).toBe(`nothing of foedus is installed in ${staged}/opt/foedus; another PREFIX?\n`);
    expect(execFileSync("find", [staged, "-type", "f"], { encoding: "utf8" })).toBe("");
  });

  test("a prefix that is not absolute is refused with words", () => {
    const { status, stderr } = spawnSync(join(ROOT, "ops/install.sh"), ["install", "usr"], { encoding: "utf8" });
    expect([status, stderr]).toEqual([1, "PREFIX must be an absolute path, and is usr\n"]);
  });
});

describe("the systemd units, as a hub meets them", () => {
  const etc = join(folder, "etc");
  beforeAll(() => void foedus(["hub", "init", "unit", "--dir", etc]));

  /** commandOf is the unit's command line, with the folders of this test in place of the system's. */
  function commandOf(unit: string, instance: string, stateOf = instance): string[] {
    const state = join(folder, "state", stateOf);
    const credentials = join(folder, "credentials", instance);
    mkdirSync(join(state, "foedus"), { recursive: true, mode: 0o700 });
    mkdirSync(credentials, { recursive: true, mode: 0o700 });
    const put = (text: string): string => text.replaceAll("/etc/foedus", etc).replaceAll("%i", instance);
    for (const line of settingsOf(unit, "LoadCredential")) {
      const [name = "", from = ""] = put(line).split(":");
      cpSync(from, join(credentials, name));
    }
    const [line = ""] = settingsOf(unit, "ExecStart");
    return put(line).replaceAll("%S", state).replaceAll("%d", credentials).split(" ");
  }

  interface Life {
    readonly child: ChildProcess;
    readonly ended: Promise<number | null>;
    readonly out: () => string;
    readonly said: () => string;
  }

  function begin([program = "", ...args]: readonly string[], env: NodeJS.ProcessEnv = environment): Life {
    const child = spawn(program, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    let out = "";
    let err = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (out += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (err += text));
    const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
    return { child, ended, out: () => out, said: () => out + err };
  }

  /** lifeOf starts a process, waits until it is ready, ends it, and gives its exit code. */
  async function lifeOf(line: readonly string[]): Promise<{ readonly code: number | null; readonly said: string }> {
    const { child, ended, out, said } = begin(line);
    try {
      const port = await until("its ops port", () => (child.exitCode === null ? /"ops_port":(\d+)/.exec(out())?.[1] : "0"), 60_000);
      if (port !== "0") await until("readiness", async () => (await fetch(`http://127.0.0.1:${port}/readyz`)).ok, 60_000);
    } finally {
      child.kill("SIGTERM");
    }
    return { code: await ended, said: said() };
  }

  const anyPort = ["--json", "--set", "listen.port=0", "--set", "ops.port=0", "--set", "services.discovery.port=0"];

  test.each([
    ["foedus-hub.service", "hub"],
    ["foedus@.service", "discovery"],
  ])(
    "%s: its command line starts a hub with the credentials it is given, which stops cleanly on SIGTERM",
    async (unit, instance) => {
      const { code, said } = await lifeOf([...commandOf(unit, instance), ...anyPort]);
      expect(said).toContain('"hub started"');
      expect(code, said).toBe(0);
      expect(existsSync(join(folder, "state", instance, "foedus", "discovery.sqlite"))).toBe(true);
      expect(statSync(join(folder, "state", instance, "foedus")).mode & 0o077).toBe(0);
    },
    120_000,
  );

  describe("foedus.target", () => {
    // An address of our own, so that the ports are those that `hub init` leaves and docs/INSTALL.md names.
    const host = `127.${1 + (process.pid % 250)}.${1 + (Math.floor(process.pid / 250) % 250)}.202`;
    const here = Object.fromEntries(SERVICES.map((name) => [`FOEDUS_SERVICES_${name.replace("-", "_").toUpperCase()}_HOST`, host]));
    const env = { ...environment, ...here, FOEDUS_OPS_HOST: host, FOEDUS_OPS_METRICS_HOST: host };
    const lives = new Map<string, Life>();
    afterAll(async () => {
      for (const { child, ended } of lives.values()) {
        child.kill("SIGKILL");
        await ended;
      }
    });

    /** metrics reads them as an operator who may look and no more. */
    async function metrics(port: number): Promise<string> {
      const pem = (name: string): string => readFileSync(join(etc, "pki", name), "utf8");
      const tls = { ca: pem("ca.pem"), cert: pem("operator-viewer.pem"), key: pem("operator-viewer.key"), servername: "localhost" };
      const asked = request({ host, port, path: "/metrics", agent: false, ...tls });
      const [answer] = (await once(asked.end(), "response")) as [IncomingMessage];
      return (await answer.setEncoding("utf8").toArray()).join("");
    }

    test("its services run side by side on one machine, with health and metrics where the documentation says", async () => {
      const [wanted = ""] = settingsOf("foedus.target", "Wants");
      expect(wanted.split(" ")).toEqual(SERVICES.map((name) => `foedus@${name}.service`));
      for (const name of SERVICES) lives.set(name, begin(commandOf("foedus@.service", name, "target"), env));
      const rows = [...INSTALL.matchAll(/^\| `foedus@([a-z-]+)` \| \d+ \| (\d+) \| (\d+) \|$/gm)];
      expect(rows.map(([, name]) => name)).toEqual(SERVICES);
      for (const [, name = "", health, port] of rows) {
        const { child, said } = lives.get(name)!;
        const ready = async (): Promise<boolean> => child.exitCode !== null || (await fetch(`http://${host}:${health}/readyz`)).ok;
        await until(`readiness of ${name}`, ready, 90_000);
        expect(child.exitCode, said()).toBeNull();
        expect(await metrics(Number(port))).toMatch(new RegExp(`^foedus_build_info\\{[^}]*runs="${name}"`, "m"));
      }
    }, 180_000);

    test("the context that the documentation adds reaches each of them", () => {
      const [, text = ""] = /^```sh\n(sudo foedus contexts add [\s\S]*?)^```/m.exec(INSTALL) ?? [];
      const line = (sudo: string): string =>
        sudo.replaceAll("sudo foedus", command).replaceAll("/etc/foedus", etc).replaceAll("127.0.0.1", host).replaceAll("my-hub", "unit");
      const shown = execFileSync("sh", ["-ec", line(text)], { env: environment, encoding: "utf8", timeout: 60_000 });
      for (const name of SERVICES) expect(shown).toMatch(new RegExp(`${name} +ready`));
    }, 90_000);

    test("they stop cleanly on SIGTERM", async () => {
      for (const { child } of lives.values()) child.kill("SIGTERM");
      const codes = await Promise.all([...lives].map(async ([name, { ended }]) => [name, await ended]));
      expect(codes).toEqual(SERVICES.map((name) => [name, 0]));
    }, 60_000);
  });

  const analyze = tool("systemd-analyze");
  const version = Number(/systemd (\d+)/.exec(spawnSync(analyze.path, ["--version"], { encoding: "utf8" }).stdout ?? "")?.[1] ?? 0);
  const why = analyze.reason ?? (version < 250 ? `systemd-analyze ${version} cannot judge files; 250 or newer can` : undefined);
  const given = why === undefined ? "" : ` (skipped: ${why})`;

  test.skipIf(why !== undefined)(`systemd finds nothing wrong in them${given}`, () => {
    const { status, stdout, stderr } = spawnSync(
      analyze.path,
      ["verify", ...["foedus-hub.service", "foedus.target", "foedus@discovery.service"].map((unit) => join(units, unit))],
      { encoding: "utf8", env: { ...environment, SYSTEMD_UNIT_PATH: `${units}:` } },
    );
    const ours = `${stdout}${stderr}`.split("\n").filter((line) => line.includes("foedus"));
    expect([status, ours]).toEqual([0, []]);
  });

  test.skipIf(why !== undefined).each(UNITS)(`%s is exposed to at most ${MOST_EXPOSED / 10} of 10${given}`, (unit) => {
    const { status, stdout } = spawnSync(
      analyze.path,
      ["security", "--offline=yes", `--threshold=${MOST_EXPOSED}`, "--no-pager", join(units, unit)],
      { encoding: "utf8" },
    );
    expect(stdout).toContain("Overall exposure level");
    expect(status, stdout).toBe(0);
  });

  const strace = tool("strace");
  const traces = strace.reason === undefined && spawnSync(strace.path, ["-f", "-o", "/dev/null", "true"]).status === 0;
  const noTrace = why ?? strace.reason ?? (traces ? undefined : "strace may not trace here");

  /** callsOf expands a set of system calls as systemd has it. */
  function callsOf(set: string): Set<string> {
    const lines = execFileSync(analyze.path, ["syscall-filter", "--no-pager", set], { encoding: "utf8" }).split("\n");
    const names = lines.slice(1).flatMap((line) => (line.trim().startsWith("#") ? [] : line.trim().split(/\s+/)));
    return new Set(names.filter(Boolean).flatMap((name) => (name.startsWith("@") ? [...callsOf(name)] : [name])));
  }

  test.skipIf(noTrace !== undefined)(
    `the filter lets a hub make every system call that it makes${noTrace === undefined ? "" : ` (skipped: ${noTrace})`}`,
    async () => {
      const [allowed = "", denied = ""] = settingsOf("foedus-hub.service", "SystemCallFilter");
      const calls = new Set(allowed.split(" ").flatMap((set) => [...callsOf(set)]));
      for (const set of denied.slice(1).split(" ")) for (const name of callsOf(set)) calls.delete(name);
      expect(calls.size).toBeGreaterThan(200);
      const summary = join(folder, "calls.txt");
      const { code, said } = await lifeOf([
        strace.path,
        "-D",
        "-f",
        "-c",
        "-o",
        summary,
        ...commandOf("foedus-hub.service", "traced"),
        ...anyPort,
      ]);
      expect(code, said).toBe(0);
      const made = await until("the summary", () => {
        const text = existsSync(summary) ? readFileSync(summary, "utf8") : "";
        const rows = text
          .split("\n")
          .slice(2)
          .map((line) => line.trim().split(/\s+/).at(-1) ?? "");
        return text.includes("total") ? rows.filter((name) => /^[a-z]\w+$/.test(name) && name !== "total") : undefined;
      });
      expect(made).toContain("epoll_pwait");
      // SQLite gives its files to the owner of the store if it runs as root, which the unit's user is not.
      if (process.getuid?.() === 0) calls.add("fchown");
      expect(made.filter((name) => !calls.has(name))).toEqual([]);
    },
    180_000,
  );
});
