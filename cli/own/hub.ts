import { whenAborted } from "#channel/abort.ts";
import { tuneHeap } from "#runtime/heap.ts";
import { type RunningHub, SERVICES, type ServiceName, Superseded, startHub } from "../../services/hub/index.ts";
import { CliError, EXIT, type ExitCode } from "../exit.ts";
import type { Io } from "../io.ts";
import type { OutputFlags } from "../verb.ts";
import { type ConfigFlags, readConfig } from "./config-file.ts";
import { processConfigOf } from "./own-hub.ts";

/** HubFlags are the options of `hub` and `serve`. */
export type HubFlags = ConfigFlags & OutputFlags;

/** isService tells the services from other words. */
export function isService(name: string): name is ServiceName {
  return (SERVICES as readonly string[]).includes(name);
}

/** run runs all services of a hub until it is stopped. */
export function run(io: Io, _args: readonly string[], options: HubFlags): Promise<ExitCode | undefined> {
  return runProcess(io, "hub", options);
}

/**
 * runProcess runs one process of a hub. It ends with 0 after a signal and a clean stop, and with 1 when it cannot start, when a
 * core failed an assertion (DC6), or when not everything was durable at the end. SIGHUP makes it look at its files again; in a terminal, where it
 * says that the terminal was closed, it stops the hub.
 */
export async function runProcess(io: Io, runs: "hub" | ServiceName, options: HubFlags): Promise<ExitCode> {
  tuneHeap();
  const config = processConfigOf(io, options);
  const loaded = readConfig(io, config === undefined ? options : { ...options, config });
  let hub: RunningHub | undefined;
  io.onHangup(() => void hub?.reload().catch((error: unknown) => io.error(`foedus: reload failed: ${String(error)}\n`)));
  const stopped = new Promise<undefined>((resolve) => whenAborted(io.stopped, () => resolve(undefined)));
  let bug: { readonly error: unknown } | undefined;
  let clean: boolean;
  do {
    hub = await startHub({ ...loaded, runs, command: ownCommand(), stopped: io.stopped });
    if (!io.stopped.aborted) await announce(io, { hub: loaded.config.hub_id, runs }, hub, options);
    bug = await Promise.race([stopped, hub.broken.then((error) => ({ error }))]);
    clean = await hub.stop();
    if (bug?.error instanceof Superseded) io.note(`foedus: ${bug.error.message}\n`);
    // Another installation of the hub acts: this one begins anew, which is to stand by.
  } while (bug?.error instanceof Superseded && !io.stopped.aborted);
  if (bug?.error instanceof Superseded) bug = undefined;
  if (bug !== undefined)
    throw new CliError(
      EXIT.failed,
      `the hub stopped because of a bug: ${String(bug.error)}`,
      "Start it again, and report the error together with its log.",
      {
        cause: bug.error,
      },
    );
  if (!clean)
    throw new CliError(
      EXIT.failed,
      "the hub stopped before everything was written",
      "Check its log. If the disk is slow, raise stop_grace_ms.",
    );
  return EXIT.ok;
}

/** ownCommand is how this program was started, without what it was told to do. */
function ownCommand(): readonly string[] {
  return [process.execPath, ...process.execArgv, process.argv[1] ?? ""];
}

async function announce(
  io: Io,
  { hub, runs }: { readonly hub: string; readonly runs: string },
  { port, opsPort, failed }: RunningHub,
  options: HubFlags,
): Promise<void> {
  if (options.json) await io.out(`${JSON.stringify({ hub_id: hub, runs, port, ops_port: opsPort })}\n`);
  else {
    const what = runs !== "hub" ? ` ${runs}` : failed.length === 0 ? " all services" : "";
    const without = failed.length === 0 ? "" : `, without ${failed.join(", ")}, which failed to start (see the log)`;
    io.note(`foedus: ${hub} serves${what} on port ${port}${without}; health on port ${opsPort}\n`);
  }
}
