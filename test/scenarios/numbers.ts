// The targets that are none of a federation's scenario: what messages, synchronisation and moves take, by processes.

import { snapshotNodes, snapshotsTo } from "../bench/hubs.ts";
import { Rig } from "../bench/rig.ts";
import { Street } from "../support/street.ts";
import { below, holds, type Line, type Play, type Scenario } from "./promises.ts";

const MEBIBYTE = 1024 ** 2;

async function processes(play: Play): Promise<Line[]> {
  // Where the rig of the benchmarks finds the hubs.
  const before = process.env["BENCH_ENTRY"];
  process.env["BENCH_ENTRY"] = play.entry.join(" ");
  try {
    return [...(await messages(play)), ...(await synchronisation(play)), ...(await moves(play))];
  } finally {
    if (before === undefined) delete process.env["BENCH_ENTRY"];
    else process.env["BENCH_ENTRY"] = before;
  }
}

/** messages: a change of state from a device at one hub to a reader at another one, and a command there and back. */
async function messages({ scale }: Play): Promise<Line[]> {
  const rig = await Rig.start("single");
  try {
    const seconds = scale === "short" ? 0.5 : 10;
    const rate = 1_000;
    // Uncounted, so that every node has a value, and V8 has compiled what it needs.
    for (let i = 0; i < (scale === "short" ? 1 : 10); i++) await rig.push({ kind: "numeric", seconds: 1, rate: 10_000 });
    const pushed = await rig.push({ kind: "numeric", seconds, rate });
    if (scale === "whole") await rig.command({ seconds: 5, inFlight: 8 });
    const commanded = await rig.command({ seconds, inFlight: 8 });
    const said = (p50: number, count: number): string => `p50 ${p50.toFixed(1)} ms, ${count} of them`;
    return [
      below(
        `S1-36 a change of state, due at one hub to read at another, ${rate}/s, p99`,
        50,
        "ms",
        pushed.p99Ms,
        said(pushed.p50Ms, pushed.count),
      ),
      below(
        "S1-36 a command to a device of another hub and back, 8 in flight, p99",
        50,
        "ms",
        commanded.p99Ms,
        said(commanded.p50Ms, commanded.count),
      ),
    ];
  } finally {
    await rig.stop();
  }
}

/** synchronisation: a hub that has nothing gets the registry of another one. */
async function synchronisation({ scale }: Play): Promise<Line[]> {
  const { nodes, bytes } = snapshotNodes(scale === "short" ? 200 : undefined);
  const times = await snapshotsTo(nodes, scale === "short" ? 1 : 5);
  const each = `${(bytes / 1e6).toFixed(1)} MB, ${nodes.length} nodes; each of ${times.length}: ${times.map((ms) => ms.toFixed(0)).join(", ")} ms`;
  return [below("S1-37 10 MB to a hub that has just started, applied and durable, at most", 1_000, "ms", Math.max(...times), each, 0)];
}

/** moves: an agent moves there and back under commands. The first time there and back is not counted. */
async function moves({ scale, entry, env }: Play): Promise<Line[]> {
  const [rounds, uncounted] = scale === "short" ? [1, 0] : [5, 1];
  const size = scale === "short" ? 100_000 : 10 * MEBIBYTE;
  const street = await Street.start("single", size, { entry, env });
  try {
    const [totals, pauses]: [number[], number[]] = [[], []];
    for (let i = 0; i < 2 * (uncounted + rounds); i++) {
      const { total, pause } = await street.move(i % 2 === 0 ? "factory" : "home");
      if (i < 2 * uncounted) continue;
      totals.push(total);
      pauses.push(pause);
    }
    await street.client.stop();
    const { serials } = street.programs.home;
    const isWhole = serials.length === street.client.sent && serials.every((serial, i) => serial === i + 1);
    const of = (times: readonly number[]): string => `each of ${times.length}: ${times.map((ms) => ms.toFixed(0)).join(", ")} ms`;
    return [
      below(
        `S1-39 an agent of ${(size / MEBIBYTE).toFixed(0)} MiB moves under commands, at most`,
        1_000,
        "ms",
        Math.max(...totals),
        of(totals),
        0,
      ),
      below("S1-39 it is silent meanwhile, at most", 200, "ms", Math.max(...pauses), of(pauses), 0),
      holds("no count is lost or repeated", isWhole, `${street.client.sent} commands, ${serials.length} counted`),
    ];
  } finally {
    await street.stop();
  }
}

/** NUMBERS are the targets that need two or three hubs. */
export const NUMBERS: Scenario = {
  id: "numbers",
  shows: "S1-36, S1-37, S1-39",
  title: "messages, synchronisation, moves",
  ways: { processes },
};
