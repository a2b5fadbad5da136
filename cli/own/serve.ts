import { SERVICES } from "../../services/hub/index.ts";
import { type ExitCode, usage } from "../exit.ts";
import type { Io } from "../io.ts";
import { type HubFlags, isService, runProcess } from "./hub.ts";

/** run runs one service of a hub, the way the Helm chart does, until it is stopped. */
export function run(io: Io, [service = ""]: readonly string[], options: HubFlags): Promise<ExitCode | undefined> {
  if (!isService(service)) throw usage(`there is no service "${service}"`, `Services are ${SERVICES.join(", ")}.`);
  return runProcess(io, service, options);
}
