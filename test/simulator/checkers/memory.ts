import type { SimHub } from "../hub.ts";
import type { Checker } from "./checker.ts";

/** Streams that one hub may hold per peer and service at rest: one, and one that is being replaced. */
const STREAMS_PER_PEER = 2;

/** Segments that come while a checkpoint is being written, or just do not fill another one. */
const SLACK = 12;

/** Memory: nothing grows without bound. At rest queues are empty: no command is in flight, and nothing waits for credit. */
export const memory: Checker = {
  name: "memory",
  check({ hubs, oracle, options }) {
    for (const hub of hubs) {
      const problems = [...streams(hub, options.hubs), ...logs(hub, options.tailSegments + options.checkpointSegments)];
      for (const problem of problems) oracle.violate("memory", "correctness", `hub-${hub.no}: ${problem}`);
    }
  },
};

function streams(hub: SimHub, hubs: number): string[] {
  const { running } = hub;
  if (running === undefined) return ["is down at rest"];
  const problems: string[] = [];
  for (const { links } of [running.registry, running.commands]) {
    if (links.size > STREAMS_PER_PEER * (hubs - 1)) problems.push(`${links.size} streams at rest`);
    if (links.waitingBytes > 0) problems.push(`${links.waitingBytes} bytes wait for credit at rest`);
  }
  const inFlight = running.commands.core.inFlight();
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
