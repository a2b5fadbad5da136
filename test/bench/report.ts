// The table on the screen, the result file and docs/BENCHMARKS.md.

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism, cpus, release, totalmem } from "node:os";
import { join } from "node:path";
import { systemClock } from "#channel/clock.ts";
import { ROOT } from "../support/federation.ts";
import { ETCD_PEER, etcdVersion } from "./etcd.ts";
import type { Row } from "./measure.ts";
import { natsVersion } from "./nats.ts";

/** Circumstances are the machine, the versions and the date of a run. */
export interface Circumstances {
  readonly date: string;
  readonly machine: string;
  readonly versions: Readonly<Record<string, string>>;
}

export function circumstances(): Circumstances {
  const require = createRequire(import.meta.url);
  const grpc = (JSON.parse(readFileSync(join(ROOT, "node_modules/@grpc/grpc-js/package.json"), "utf8")) as { version: string }).version;
  const { DatabaseSync } = require("node:sqlite") as typeof import("node:sqlite");
  const database = new DatabaseSync(":memory:");
  const sqlite = String(database.prepare("SELECT sqlite_version() AS version").get()?.["version"]);
  database.close();
  return {
    date: new Date(systemClock.wall()).toISOString().slice(0, 10),
    machine: `${availableParallelism()} cores (${cpus()[0]?.model.trim() ?? "unknown"}), ${(totalmem() / 2 ** 30).toFixed(1)} GiB of memory, Linux ${release()}, loopback`,
    versions: {
      node: process.versions.node,
      sqlite,
      openssl: process.versions.openssl,
      "grpc-js": grpc,
      "nats-server": natsVersion() ?? "not installed",
      etcd: ETCD_PEER.reason === undefined ? etcdVersion() : "not installed",
    },
  };
}

/** renderTable is what a terminal shows. */
export function renderTable(rows: readonly Row[]): string {
  const cells = [
    ["family", "name", "floor", "measured", ""],
    ...rows.map((row) => [row.family, row.name, row.floor, row.measured, row.held]),
  ];
  const widths = [0, 1, 2, 3].map((column) => Math.max(...cells.map((line) => (line[column] as string).length)));
  return cells
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

const READING = `## How to read this

- \`make bench\` measures this on your machine and writes this page. It fails when a floor is missed.
- Ratios are what counts. Both sides of a ratio run in turn in the same run (A B A B A B), each in processes of its own; the
  ratio is taken per pair, the table shows the median with the smallest and the largest. The processes of both sides stay for
  all rounds. Before them each side runs ten times for a second, uncounted: a process under load gets faster for some ten seconds,
  until V8 has compiled what it needs. Absolute numbers say how fast this machine was that day.
- Hubs run the bundle on plain Node; those of \`idle\` start as the installed command starts itself, which is for small machines.
- Everything is durable: SQLite with synchronous FULL. A hub acknowledges after its own commit and sends a segment only after
  it is durable; a watcher sees an update after the commit of its own hub.
- Push: one SDK call per update, batched by the SDK; the mirror at B counts every update and compares a checksum over the last
  value of each of 5,000 nodes with the sender's, so nothing was lost or conflated.
- Commands: each is journalled by A and, before and after it runs, by B; the executor is a process of its own; each ended as DONE.
- Unary gRPC in the comparison is a caller that journals in the same store and then calls Execute of B, one call per command:
  the same journal and executor at B, and one process fewer.
- NATS: two servers joined by a leaf node over mutual TLS, one message per update or request. It stores and signs nothing.
- Log: three replicas on one disk, each put durable at a majority, mutual TLS 1.3 between replicas and towards clients; both logs are
  loaded by the same client over gRPC, all of them at the leader. etcd keeps its defaults.
- Latency is an open loop: each update is stamped with the time at which it was due, not when it was sent.`;

/** renderDocs is docs/BENCHMARKS.md. */
export function renderDocs(rows: readonly Row[], { date, machine, versions }: Circumstances): string {
  const cell = (text: string): string => text.replaceAll("|", "\\|");
  const line = (row: Row): string =>
    `| ${[row.name, row.floor, row.measured, row.held === "context" ? "" : row.held, row.note ?? ""].map(cell).join(" | ")} |`;
  const families = [...new Set(rows.map((row) => row.family))];
  const tables = families.map(
    (family) =>
      `## ${family}\n\n| what | floor | measured | | details |\n|---|---|---|---|---|\n${rows
        .filter((row) => row.family === family)
        .map(line)
        .join("\n")}`,
  );
  const software = Object.entries(versions)
    .map(([name, version]) => `${name} ${version}`)
    .join(", ");
  return `# Benchmarks\n\nWritten by \`make bench\` on ${date}.\n\nMachine: ${machine}.\n\nVersions: ${software}.\n\n${READING}\n\n${tables.join("\n\n")}\n`;
}

/** commit names the state of the code, where git tells. */
function commit(): string {
  try {
    return execFileSync("git", ["describe", "--always", "--dirty"], {
      cwd: ROOT,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return "unknown";
  }
}

/** writeResults writes the result file, and the page if the run was whole. */
export function writeResults(rows: readonly Row[], whole: boolean): void {
  const about = circumstances();
  const results = join(import.meta.dirname, "results");
  mkdirSync(results, { recursive: true });
  writeFileSync(join(results, "latest.json"), `${JSON.stringify({ ...about, commit: commit(), rows }, undefined, 2)}\n`);
  if (whole) writeFileSync(join(ROOT, "docs/BENCHMARKS.md"), renderDocs(rows, about));
}
