// The family "moves" (S1-39): how long an agent with 10 MB takes to move between two hubs, and how long nobody answers for it.
import { loadavg } from "node:os";
import { type Moved, Street } from "../support/street.ts";
import { belowRow, context, cpuDuring, type Row } from "./measure.ts";
import { hubEntry } from "./rig.ts";
import { quantiles } from "./worker.ts";

const FAMILY = "moves";
const BYTES = 10 * 1024 * 1024;
const MOVES = 20;
/** Moves before those that count: what runs is compiled then. */
const WARM = 4;
const TOTAL_MS = 1_000;
const PAUSE_MS = 200;

/** moves has an agent with 10 MB go there and back, again and again, while a client gives it commands. */
export async function moves(count = Number(process.env["MOVES"] ?? MOVES)): Promise<Row[]> {
  const street = await Street.start("single", BYTES, { entry: hubEntry(), logLevel: "warn" });
  try {
    const go = (at: number): Promise<Moved> => street.move(at % 2 === 0 ? "factory" : "home");
    for (let at = 0; at < WARM; at++) await go(at);
    const pids = Object.fromEntries([...street.federation.hubs].map(([id, hub]) => [id, [...hub.pids.values()]]));
    const { result, cpu } = await cpuDuring({ ...pids, programs: [process.pid] }, async () => {
      const moved: Moved[] = [];
      for (let at = 0; at < count; at++) moved.push(await go(at));
      return moved;
    });
    const total = quantiles(result.map((one) => one.total));
    const pause = quantiles(result.map((one) => one.pause));
    const note = `${count} moves between two of three hubs, all on this machine with both programs and a client that gives one command after the other`;
    const spent = Object.entries(cpu).map(([name, seconds]) => `${name} ${Math.round((1_000 * seconds) / count)} ms`);
    const load = `load of the machine at the end ${loadavg()[0]!.toFixed(1)}`;
    return [
      belowRow(FAMILY, "an agent with 10 MB moves, half of the moves", TOTAL_MS, "ms", total.p50, note, 0),
      belowRow(FAMILY, "the longest time between two of its answers, half of the moves", PAUSE_MS, "ms", pause.p50, note, 0),
      context(FAMILY, "the slowest move", `${total.max.toFixed(0)} ms, pause at most ${pause.max.toFixed(0)} ms`, load),
      context(FAMILY, "processor time of a move", spent.join(", "), "between two moves as well, with the commands of the client"),
    ];
  } finally {
    await street.stop();
  }
}
