import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Finished, type Running, start } from "../cli/fixture.ts";
import { until } from "../support/until.ts";

let folder: string;

const foedus = (...args: readonly string[]): Promise<Finished> => start(args, { cwd: folder }).done;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "foedus-edges-"));
  expect(await foedus("pki", "init", "home")).toMatchObject({ code: 0 });
  const tls = { ca: "pki/ca.pem", cert: "pki/service-hub.pem", key: "pki/service-hub.key" };
  writeFileSync(join(folder, "hub.json"), JSON.stringify({ hub_id: "home", listen: { port: 0 }, ops: { port: 0 }, tls }));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const LINUX = existsSync("/proc/self/status");
const NUMBERS = { SIGHUP: 1, SIGUSR1: 10, SIGUSR2: 12, SIGTERM: 15 } as const;

/** caught tells which signals a process handles itself, as the kernel says. */
function caught(pid: number): ReadonlySet<string> {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const mask = BigInt(`0x${/^SigCgt:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
  return new Set(Object.entries(NUMBERS).flatMap(([name, n]) => (mask & (1n << BigInt(n - 1)) ? [name] : [])));
}

let n = 0;
/** hub starts a hub with a data folder of its own, so that nothing is left of the one before. */
function hub(...more: readonly string[]): Running {
  return start(["hub", "--config", "hub.json", "--json", "--set", `data_dir=data-${++n}`, ...more], { cwd: folder });
}
const portsOf = ({ out }: Running): { port: number; ops_port: number } => JSON.parse(out) as { port: number; ops_port: number };

/** knock makes a hub log a line: a connection that is no TLS. */
const knock = (port: number): Promise<void> =>
  new Promise((done) => {
    connect(port, "127.0.0.1", function (this: ReturnType<typeof connect>) {
      this.end("x");
    })
      .on("error", () => undefined)
      .once("close", () => done())
      .resume();
  });

describe("signals", () => {
  test.skipIf(!LINUX)("F-9 a hub handles SIGHUP, SIGUSR1 and SIGUSR2 before it does anything else (needs /proc)", async () => {
    const running = hub();
    const { pid = 0 } = running.child;
    await until("SIGHUP is handled", () => caught(pid).has("SIGHUP"));
    expect([...caught(pid)]).toEqual(Object.keys(NUMBERS));
    expect(existsSync(join(folder, `data-${n}`))).toBe(false);
    for (const signal of ["SIGHUP", "SIGUSR1", "SIGUSR2"] as const) running.child.kill(signal);
    await running.printed("ops_port");
    for (const signal of ["SIGHUP", "SIGUSR1", "SIGUSR2"] as const) running.child.kill(signal);
    // The debugger would say so on stderr before the hub is ready to end.
    await knock(portsOf(running).port);
    running.child.kill("SIGTERM");
    const ended = await running.done;
    expect(ended.code).toBe(0);
    expect(ended.err).not.toContain("ebugger");
  });

  const script = "/usr/bin/script";
  test.skipIf(!existsSync(script))("a hub whose terminal is closed stops as at SIGTERM (needs script)", async () => {
    const words = ["hub", "--config", "hub.json", "--json", "--set", `data_dir=data-${++n}`, "--set", "log.destination=terminal.log"];
    const line = [process.execPath, "--disable-sigusr1", join(import.meta.dirname, "../../cli/main.ts"), ...words].join(" ");
    // `script` holds the other end of a terminal; what it starts leads the session, as a shell would.
    const terminal = spawn(script, ["-qec", `exec ${line}`, "/dev/null"], { cwd: folder, stdio: ["pipe", "pipe", "pipe"] });
    let shown = "";
    terminal.stdout.setEncoding("utf8").on("data", (text: string) => (shown += text));
    await until("the hub being up", () => shown.includes("ops_port"));
    const log = (): string => readFileSync(join(folder, "terminal.log"), "utf8");
    terminal.kill("SIGKILL");
    await until("the hub having stopped", () => log().includes("hub stopped"));
  });

  test("F-9 SIGHUP opens a log again that was rotated away", async () => {
    const running = hub("--set", "log.destination=rotated.log");
    await running.printed("ops_port");
    const file = join(folder, "rotated.log");
    await until("the first lines", () => existsSync(file) && readFileSync(file, "utf8").includes("hub started"));
    renameSync(file, `${file}.1`);
    running.child.kill("SIGHUP");
    await until("a new file", () => existsSync(file));
    running.child.kill("SIGTERM");
    expect((await running.done).code).toBe(0);
    expect(readFileSync(file, "utf8")).toContain("hub stopped");
  });
});

describe("a log that cannot be written", () => {
  test.each([
    ["a folder that cannot be", "/proc/nope/hub.log"],
    ["a folder in its place", "."],
  ])("F-10 ends the start with a sentence: %s", async (_name, destination) => {
    const ended = await hub("--set", `log.destination=${destination}`).done;
    expect(ended.err).toMatch(/cannot (?:open|write) the log .*log\.destination/);
    expect(ended.err).not.toMatch(/"fd"|unexpected/);
    expect(ended.code).not.toBe(0);
    expect(ended.code).not.toBe(13);
  });

  test.skipIf(!existsSync("/dev/full"))("F-10 a full disk is told once, on stderr, and holds neither the hub nor its stop", async () => {
    const running = hub("--set", "log.destination=/dev/full");
    await running.printed("ops_port");
    const { port, ops_port } = portsOf(running);
    for (let i = 0; i < 5; i++) await knock(port);
    expect((await fetch(`http://127.0.0.1:${ops_port}/readyz`)).status).toBe(200);
    expect(await (await fetch(`http://127.0.0.1:${ops_port}/metrics`)).text()).toMatch(/foedus_log_failing 1/);
    running.child.kill("SIGTERM");
    const ended = await running.done;
    expect(ended.code).toBe(0);
    expect(ended.err.match(/the log \/dev\/full cannot be written/g)).toHaveLength(1);
  });

  test.each(["stdout", "stderr"] as const)("F-10 a reader of %s that goes away does not end the hub", async (which) => {
    const running = hub("--set", `log.destination=${which}`, "--set", "log.level=debug");
    await running.printed("ops_port");
    const { port, ops_port } = portsOf({ ...running, out: running.out.split("\n").find((line) => line.includes('"ops_port"')) } as Running);
    running.child[which]?.destroy();
    for (let i = 0; i < 5; i++) await knock(port);
    expect((await fetch(`http://127.0.0.1:${ops_port}/readyz`)).status).toBe(200);
    running.child.kill("SIGTERM");
    expect((await running.done).code).toBe(0);
  });
});
