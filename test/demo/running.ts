// Knows which processes `make up` started, and stops those and no others.
import { existsSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { ROOT, until } from "../support/federation.ts";

/** DEMO_DIR holds what `make up` writes: FOEDUS_DEMO_DIR, or `.foedus` of this folder. */
export const DEMO_DIR = resolve(ROOT, process.env["FOEDUS_DEMO_DIR"] ?? ".foedus");

/** DEMO_PKI is the folder with the certificates of the demo's hubs. */
export const DEMO_PKI = process.env["FOEDUS_DEMO_DIR"] === undefined ? join(ROOT, "certs/dev") : join(DEMO_DIR, "certs");

/** DEMO_PORT is the first port of the demo: FOEDUS_DEMO_PORT, or 18800. Each hub has 20 ports of its own from there. */
export const DEMO_PORT = Number(process.env["FOEDUS_DEMO_PORT"] ?? 18_800);

/** PID_FILE names the process of `make up`. */
export const PID_FILE = join(DEMO_DIR, "demo.json");

/** takenPorts lists those of some ports on this machine that somebody listens on. */
export async function takenPorts(ports: readonly number[]): Promise<number[]> {
  const taken = await Promise.all(
    ports.map(
      (port) =>
        new Promise<boolean>((resolve) => {
          const server = createServer();
          server.once("error", () => resolve(true));
          server.listen(port, "127.0.0.1", () => server.close(() => resolve(false)));
        }),
    ),
  );
  return ports.filter((_, i) => taken[i]);
}

/** isDemo tells whether a process is `make up` of this folder: a pid alone may belong to somebody else by now. */
function isDemo(pid: number): boolean {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    return words.some((word) => word.endsWith("test/demo/up.ts")) && readFileSync(`/proc/${pid}/stat`, "utf8").split(" ")[2] !== "Z";
  } catch {
    return false;
  }
}

/** runningDemo is the process of a `make up` that runs here; undefined if none does. */
export function runningDemo(): number | undefined {
  if (!existsSync(PID_FILE)) return undefined;
  const { pid } = JSON.parse(readFileSync(PID_FILE, "utf8")) as { pid: number };
  return isDemo(pid) ? pid : undefined;
}

/** stopDemo asks a running `make up` to stop and waits for it; false if none runs. */
export async function stopDemo(): Promise<boolean> {
  const pid = runningDemo();
  if (pid === undefined) {
    rmSync(PID_FILE, { force: true });
    return false;
  }
  process.kill(pid, "SIGTERM");
  await until("the hubs stopping", () => !isDemo(pid), 30_000);
  return true;
}
