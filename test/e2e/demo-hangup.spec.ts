// The terminal of `make up` is closed: its hubs must not stay behind.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../support/federation.ts";
import { GivenUp, until } from "../support/until.ts";

test("`make up` stops its hubs when its terminal is closed, and does not fail on writing to what is gone", async () => {
  const dir = mkdtempSync(join(tmpdir(), "foedus-hangup-"));
  // Ports below the ephemeral ones, apart from those of other specs.
  const port = 29_400 + (process.pid % 40) * 64;
  const env = { ...process.env, FOEDUS_DEMO_DIR: dir, FOEDUS_DEMO_PORT: String(port) };
  const up = spawn(process.execPath, ["test/demo/up.ts"], { cwd: ROOT, env, stdio: ["ignore", "pipe", "pipe"] });
  const ended = new Promise((resolve) => up.once("exit", (code, signal) => resolve(signal ?? code)));
  const down = (): string => execFileSync(process.execPath, ["test/demo/down.ts"], { cwd: ROOT, env, encoding: "utf8", timeout: 60_000 });
  try {
    const logs = ["home", "factory", "lab"].map((hub) => join(dir, "demo", hub, "log", "hub.log"));
    const started = (): boolean => {
      if (up.exitCode !== null) throw new GivenUp(`it ended with ${up.exitCode}`);
      return logs.every((log) => existsSync(log));
    };
    await until("three hubs being started", started, 60_000);
    for (const stream of [up.stdout, up.stderr]) stream.destroy();
    // The system tells the programs in front, and a shell tells them again.
    up.kill("SIGHUP");
    up.kill("SIGHUP");
    expect(await ended).toBe(0);
    expect(down()).toBe("no hubs of `make up` are running here\n");
  } finally {
    down();
    rmSync(dir, { recursive: true, force: true });
  }
}, 130_000);
