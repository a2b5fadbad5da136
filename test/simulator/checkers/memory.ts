import { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import type { Federation } from "../federation.ts";
import type { SimHub } from "../hub.ts";
import type { Checker } from "./checker.ts";

/** Streams that one hub may hold per peer and service at rest: one, and one that is being replaced. */
const STREAMS_PER_PEER = 2;

/** Segments that come while a checkpoint is being written, or just do not fill another one. */
const SLACK = 12;

/** Memory: nothing grows without bound. At rest queues are empty: no command is in flight, and nothing waits for credit. */
export const memory: Checker = {
  name: "memory",
  check(federation) {
    const { hubs, oracle, options } = federation;
    for (const hub of hubs) {
      const problems = [...streams(federation, hub), ...logs(hub, options.tailSegments + options.checkpointSegments)];
      for (const problem of problems) oracle.violate("memory", "correctness", `hub-${hub.no}: ${problem}`);
    }
  },
};

function streams(federation: Federation, hub: SimHub): string[] {
  const { running } = hub;
  if (running === undefined) return ["is down at rest"];
  const problems: string[] = [];
  for (const service of [RegistrySyncService, CommandForwardingService]) {
    const sessions = federation.network.count(hub.no, (wire) => wire.w === "call" && wire.method === service.method.session);
    if (sessions > STREAMS_PER_PEER * (federation.options.hubs - 1)) problems.push(`${sessions} sessions of ${service.name} at rest`);
  }
  if (running.waits()) problems.push("a session waits for credit at rest");
  const inFlight = running.commandCore?.inFlight() ?? 0;
  if (inFlight > 0) problems.push(`${inFlight} commands in flight at rest`);
  return problems;
}

/** A log holds the tail, what no checkpoint covers yet, and some slack for a checkpoint that is being written. */
function logs(hub: SimHub, tail: number): string[] {
  const { store } = hub.disks.registry;
  const problems: string[] = [];
  for (const log of store.logs()) {
    if (log.startsWith("ckpt/")) continue;
    const length = [...store.read(log, 0)].length;
    if (length > tail + SLACK) problems.push(`${length} segments in ${log}`);
  }
  return problems;
}
