// `make bench`: measures Foedus against unary gRPC, NATS, etcd and itself. Exit code 1 when a floor is missed, 2 for wrong arguments.

import { execFileSync } from "node:child_process";
import { parseArgs } from "node:util";
import { systemClock } from "#channel/clock.ts";
import { ROOT } from "../support/federation.ts";
import { events } from "./events.ts";
import { failover } from "./failover.ts";
import { idle, snapshot, start } from "./hubs.ts";
import { lending } from "./lending.ts";
import { log } from "./log.ts";
import type { Row } from "./measure.ts";
import { memory } from "./memory.ts";
import { moves } from "./moves.ts";
import { renderTable, writeResults } from "./report.ts";
import { hubEntry } from "./rig.ts";
import { commands, latency, push, raw, split } from "./streams.ts";

const FAMILIES: Readonly<Record<string, () => Promise<Row[]>>> = {
  commands,
  push,
  latency,
  snapshot,
  split,
  events,
  log,
  lending,
  failover: () => failover(),
  moves: () => moves(),
  idle,
  memory,
  start,
  raw,
};

function chosen(): string[] | undefined {
  const { values } = parseArgs({ options: { only: { type: "string" } } });
  const names = values.only === undefined ? Object.keys(FAMILIES) : values.only.split(",");
  const unknown = names.filter((name) => FAMILIES[name] === undefined);
  if (unknown.length === 0) return names;
  console.error(`bench: there is no family ${unknown.join(", ")}; there are ${Object.keys(FAMILIES).join(", ")}`);
  return undefined;
}

async function main(names: readonly string[]): Promise<number> {
  const began = systemClock.mono();
  if (hubEntry()[0]?.includes("dist/") === true)
    execFileSync(process.execPath, [`${ROOT}/cli/build.ts`], { stdio: ["ignore", "ignore", "inherit"] });
  const rows: Row[] = [];
  for (const name of names) {
    console.error(`bench: ${name}`);
    rows.push(...(await FAMILIES[name]!()));
  }
  const whole = names.length === Object.keys(FAMILIES).length;
  writeResults(rows, whole);
  console.log(renderTable(rows));
  const missed = rows.filter((row) => row.held === "missed").length;
  const unmeasured = rows.filter((row) => row.held === "not measured").length;
  console.log(
    `\n${missed === 0 ? "no floor was missed" : `${missed} missed`}${unmeasured > 0 ? `, ${unmeasured} not measured` : ""}; ${((systemClock.mono() - began) / 1_000).toFixed(0)} s`,
  );
  return missed === 0 ? 0 : 1;
}

const names = chosen();
process.exitCode = names === undefined ? 2 : await main(names);
