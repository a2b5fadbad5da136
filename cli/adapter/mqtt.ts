import { resolve } from "node:path";
import { whenAborted } from "#channel/abort.ts";
import { systemClock } from "#channel/clock.ts";
import { systemEntropy } from "#channel/entropy.ts";
import type { Failure } from "#kernel/error.ts";
import { MqttAdapter } from "../../adapters/mqtt/adapter.ts";
import { type MqttConfig, mqttConfig } from "../../adapters/mqtt/config.ts";
import { type Line, writeLine } from "../../adapters/shared/lines.ts";
import type { AdapterStatus } from "../../adapters/shared/port.ts";
import { Hub } from "../../clients/typescript/index.ts";
import { CliError, EXIT, type ExitCode } from "../exit.ts";
import type { Io } from "../io.ts";
import type { OutputFlags } from "../verb.ts";
import { fromFile, fromHub, type Given } from "./given.ts";

/** AdapterFlags are the options of `adapter mqtt`. */
export interface AdapterFlags extends OutputFlags {
  readonly config?: string;
  readonly supervised?: boolean;
}

const STATUS_MS = 1_000;

/** run joins an MQTT broker to a hub until it is stopped, or cannot go on. */
export async function run(io: Io, _args: readonly string[], options: AdapterFlags): Promise<ExitCode> {
  const given: Given<MqttConfig> =
    options.supervised === true
      ? await fromHub(io, mqttConfig)
      : fromFile(io, "mqtt", mqttConfig, resolve(io.cwd, options.config ?? "hub.json"));
  const { config, folder, hub: target } = given;
  const file = (path: string): string => resolve(folder, path);
  const lines = options.supervised === true || options.json === true;
  const tell = (line: Line): void => {
    if (lines) void io.out(writeLine(line));
    else if ("message" in line) io.note(`foedus: ${line.message}${line.about === undefined ? "" : ` (${line.about})`}\n`);
  };
  const hub = await Hub.connect({
    hubId: target.hub_id,
    address: target.address,
    ca: file(target.ca),
    cert: file(config.cert),
    key: file(config.key),
    onError: (error) => tell({ level: "warn", message: error instanceof Error ? error.message : String(error) }),
  });
  const over = Promise.withResolvers<Failure>();
  const adapter = new MqttAdapter({
    config,
    hub,
    clock: systemClock,
    seed: systemEntropy.seed(),
    file,
    onRefused: ({ about, why }) => tell({ level: "warn", message: `not taken: ${why}`, about }),
    onChange: (message) => tell({ level: "info", message }),
    onOver: (failure) => over.resolve(failure),
  });
  adapter.start();
  const watching = lines ? watch(() => adapter.status(), tell) : undefined;
  const stopped = new Promise<undefined>((done) => whenAborted(io.stopped, () => done(undefined)));
  const failure = await Promise.race([stopped, given.hubGone, over.promise]);
  watching?.();
  await adapter.stop();
  if (failure !== undefined)
    throw new CliError(EXIT.failed, failure.message, "Correct what it says, and start the adapter again.", { failure });
  return EXIT.ok;
}

/** watch tells how an adapter fares whenever that has changed. */
function watch(status: () => AdapterStatus, tell: (line: Line) => void): () => void {
  let last = "";
  let timer = systemClock.setTimer(0, look);
  function look(): void {
    const now = status();
    const text = JSON.stringify(now);
    if (text !== last) tell({ status: now });
    last = text;
    timer = systemClock.setTimer(STATUS_MS, look);
  }
  return () => timer.cancel();
}
