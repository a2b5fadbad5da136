// One side of `make pairs`: two joined hubs of the checkout that this file lies in, with the parts that use them.
import type { CommandRun, Load } from "./parts.ts";
import { Rig } from "./rig.ts";
import { runRole } from "./worker.ts";

/** Ask is one run: commands if it says how many are in flight, else a push. */
export type Ask = Load | CommandRun;

/** Measured is what a run gave: operations per second, the middle latency (ms), and processor time of both hubs per operation (us). */
export interface Measured {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly cpuUs: number;
}

async function rig(): Promise<(ask: Ask | "stop") => Promise<Measured | undefined>> {
  const joined = await Rig.start("single");
  return async (ask) => {
    if (ask === "stop") {
      await joined.stop();
      return undefined;
    }
    const { perSecond, p50Ms, cpuUs } = await ("inFlight" in ask ? joined.command(ask) : joined.push(ask));
    return { perSecond, p50Ms, cpuUs: (cpuUs["hub A"] ?? Number.NaN) + (cpuUs["hub B"] ?? Number.NaN) };
  };
}

export const PAIRS_RIG_FILE = import.meta.filename;

await runRole({ rig });
