import type { Output } from "../messages.ts";

/**
 * overtakes tells what may leave while the store refuses what was given to it before: reads, refusals and work for this process. What says
 * that something is durable waits for it, even if its own step changed nothing: an acknowledgement that was held back, one that is
 * repeated, or a segment that a peer has room for only now. A watcher is shown what is stored, which the core then knows.
 */
export function overtakes(output: Output): boolean {
  switch (output.kind) {
    case "send":
    case "acked":
    case "advanced":
    case "synced":
    case "came":
      return false;
    case "watch_send":
      return output.about === "stored";
    case "registered":
      return output.results.every(({ failure }) => failure !== undefined);
    case "deregistered":
      return output.failure !== undefined;
    default:
      return true;
  }
}
