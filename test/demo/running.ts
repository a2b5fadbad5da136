// Knows which processes `make up` started, and stops those and no others.
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { ROOT, until } from "../support/federation.ts";

/** DEMO_DIR holds what `make up` writes: FOEDUS_DEMO_DIR, or `.foedus` of this folder. */
export const DEMO_DIR = resolve(ROOT, process.env["FOEDUS_DEMO_DIR"] ?? ".foedus");

/** DEMO_PKI is the folder with the certificates of the demo's hubs. */
export const DEMO_PKI = process.env["FOEDUS_DEMO_DIR"] === undefined ? join(ROOT, "certs/dev") : join(DEMO_DIR, "certs");

/** DEMO_PORT is the first port of the demo: FOEDUS_DEMO_PORT, or 18800. Each hub has 20 ports of its own from there. */
export const DEMO_PORT = Number(process.env["FOEDUS_DEMO_PORT"] ?? 18_800);

/** Ports that the three hubs take. */
const DEMO_PORTS = 60;

/** demoPortProblem says what is wrong with FOEDUS_DEMO_PORT and what to write; undefined if it names a port with room after it. */
export function demoPortProblem(text = process.env["FOEDUS_DEMO_PORT"]): string | undefined {
  const [port, last] = [Number(text ?? 18_800), 65_536 - DEMO_PORTS];
  if (Number.isInteger(port) && port >= 1 && port <= last) return undefined;
  return `FOEDUS_DEMO_PORT is "${text}", which is not a port; write the first of ${DEMO_PORTS} free ports, 1 to ${last}, such as 28800`;
}

/** RUN_DIR holds the folders of the demo's hubs. */
export const RUN_DIR = join(DEMO_DIR, "demo");

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

/** wordsOf gives the command line of a process that runs; nothing for one that has ended, or of which nothing may be known. */
function wordsOf(pid: number): readonly string[] {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    // The state follows the name, which is in brackets and may hold anything.
    return /\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8")) ? [] : words;
  } catch {
    return [];
  }
}

/** isDemo tells whether a process is `make up` of this folder: a pid alone may belong to somebody else by now. */
function isDemo(pid: number): boolean {
  return wordsOf(pid).some((word) => word.endsWith("test/demo/up.ts"));
}

/** runningDemo is the process of a `make up` that runs here; undefined if none does. */
export function runningDemo(): number | undefined {
  if (!existsSync(PID_FILE)) return undefined;
  const { pid } = JSON.parse(readFileSync(PID_FILE, "utf8")) as { pid: number };
  return isDemo(pid) ? pid : undefined;
}

/** isHub tells whether a process is a hub with a configuration in one of the demo's folders. */
function isHub(pid: number): boolean {
  return wordsOf(pid).some((word) => word.startsWith(`${RUN_DIR}/`) && word.endsWith("/hub.json"));
}

/** runningHubs lists the hubs of the demo's folder that run, also those whose `make up` was killed and could not stop them. */
export function runningHubs(): number[] {
  if (!existsSync("/proc")) return [];
  return readdirSync("/proc").map(Number).filter(isHub);
}

/** portsInUse says why a demo cannot start; `hubs` are those that an earlier one left behind. */
export function portsInUse(ports: readonly number[], hubs: readonly number[]): string {
  const one = ports.length === 1;
  const head = `port${one ? "" : "s"} ${ports.join(", ")} on this machine ${one ? "is" : "are"} in use`;
  return hubs.length > 0
    ? `${head} by hubs of an earlier \`make up\` (pids ${hubs.join(", ")}); stop them with \`make down\``
    : `${head}; stop what listens there, or choose others: \`FOEDUS_DEMO_PORT=<first port> make up\` takes the sixty from there`;
}

/** stopDemo asks a running `make up` to stop, and hubs that an earlier one left behind, and waits for them; false if none runs. */
export async function stopDemo(): Promise<boolean> {
  const pid = runningDemo();
  if (pid !== undefined) {
    process.kill(pid, "SIGTERM");
    await until("the hubs stopping", () => !isDemo(pid), 30_000);
  }
  const left = runningHubs();
  for (const hub of left) process.kill(hub, "SIGTERM");
  await until("the hubs that were left behind stopping", () => !left.some(isHub), 30_000);
  rmSync(PID_FILE, { force: true });
  return pid !== undefined || left.length > 0;
}
