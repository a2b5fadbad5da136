/**
 * Development certificates: `node certs/dev.ts [outDir] [hub...]`, by default `certs/dev` and the hubs home, factory and
 * lab. One folder per hub; what is good is kept, so it may run before every start. Never use these keys for real hubs.
 */
import { join, relative, resolve } from "node:path";
import { SERVICES } from "../services/hub/services.ts";
import { type PkiReport, writePki } from "./issue.ts";
import { type IssueRequest, PkiError } from "./profiles.ts";

/** DEV_HUBS are the hubs that get development certificates when none are named. */
export const DEV_HUBS: readonly string[] = ["home", "factory", "lab"];

/** DEV_LEAVES are the certificates of a development hub: single mode, one per service, two gateways, both roles, a node. */
export const DEV_LEAVES: readonly IssueRequest[] = [
  ...["hub", ...SERVICES].map((name): IssueRequest => ({ profile: "service", name, ips: ["::1"] })),
  { profile: "gateway", name: "zigbee" },
  { profile: "gateway", name: "agents" },
  { profile: "operator", name: "admin", role: "admin" },
  { profile: "operator", name: "viewer", role: "viewer" },
  { profile: "node", name: "node-1" },
];

/** writeDevPki makes or refreshes the certificates of development hubs under `outDir/<hub>`. Throws PkiError. */
export async function writeDevPki(outDir: string, hubs: readonly string[], now: Date): Promise<readonly PkiReport[]> {
  return Promise.all(hubs.map((hubId) => writePki(join(outDir, hubId), hubId, { now, leaves: DEV_LEAVES })));
}

function summaryOf(report: PkiReport): string {
  const counts = new Map<string, number>();
  for (const { action } of [report.authority, ...report.leaves]) counts.set(action, (counts.get(action) ?? 0) + 1);
  const what = [...counts].map(([action, count]) => `${count} ${action}`).join(", ");
  return `${relative("", report.dir) || "."}: ${what}\n`;
}

async function main(args: readonly string[]): Promise<void> {
  const [outDir = join(import.meta.dirname, "dev"), ...hubs] = args;
  try {
    const reports = await writeDevPki(resolve(outDir), hubs.length > 0 ? hubs : DEV_HUBS, new Date());
    process.stdout.write(reports.map(summaryOf).join(""));
  } catch (error) {
    if (!(error instanceof PkiError)) throw error;
    process.stderr.write(`certs: ${error.message}\n`);
    process.exitCode = 1;
  }
}

if (import.meta.main) await main(process.argv.slice(2));
