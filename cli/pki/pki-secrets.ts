import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import * as z from "zod";
import { parseSettings } from "#runtime/config/json.ts";
import { firstProblem, issueWords } from "#runtime/config/words.ts";
import { LISTS_MAX_BYTES, readText } from "#runtime/files.ts";
import { fileStem, type PkiEntry, writePki } from "../../certs/issue.ts";
import { type IssueRequest, LEAF_PROFILES } from "../../certs/profiles.ts";
import { CliError, EXIT, type ExitCode, usage } from "../exit.ts";
import type { Io } from "../io.ts";
import { since } from "../print/format.ts";
import { type Cell, table } from "../print/table.ts";
import { type OutputFlags, printJson } from "../verb.ts";
import { connectCluster, SERVICE_ACCOUNT, type Secret, type Secrets } from "./kubernetes.ts";

/** SecretsFlags are the options of `pki secrets`. */
export interface SecretsFlags extends OutputFlags {
  readonly serviceAccount?: string;
}

const secretName = z.string().regex(/^[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?$/, "is not the name of a Secret");

const planSchema = z.strictObject({
  hub_id: z.string(),
  /** Secret of the CA with its key; only this verb reads it. */
  authority: secretName,
  labels: z.record(z.string(), z.string()).default({}),
  leaves: z
    .array(
      z.strictObject({
        secret: secretName,
        kind: z.enum(LEAF_PROFILES as ["service"]),
        name: z.string(),
        dns_names: z.array(z.string()).optional(),
        ips: z.array(z.string()).optional(),
        role: z.enum(["metrics", "viewer", "admin"]).optional(),
        prefixes: z.array(z.string()).optional(),
      }),
    )
    .min(1),
});

type Plan = z.infer<typeof planSchema>;

interface Row {
  readonly secret: string;
  readonly entry: PkiEntry;
  readonly written: boolean;
}

/**
 * secrets keeps a hub's certificates in Secrets of the cluster that it runs in: the CA with its key in one, each certificate with its
 * key and the CA's certificate in one of its own, so that a pod mounts its own and nothing else. Idempotent, like `pki init`: what is
 * good is kept, what nears its end is renewed, and a run that was cut off is completed by the next. Nothing touches a disk.
 */
export async function secrets(io: Io, [file = ""]: readonly string[], flags: SecretsFlags): Promise<ExitCode | undefined> {
  const plan = await readPlan(resolve(io.cwd, file));
  const cluster = await connectCluster(io.env, flags.serviceAccount ?? SERVICE_ACCOUNT);
  // In the chart's Job this is a volume in memory: keys never reach a disk.
  const dir = await mkdtemp(join(tmpdir(), "foedus-pki-"));
  try {
    await show(io, cluster.namespace, await bring(cluster, plan, dir, new Date(io.clock.wall())), flags);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
  return EXIT.ok;
}

async function readPlan(path: string): Promise<Plan> {
  let text: string;
  try {
    text = readText(path, LISTS_MAX_BYTES);
  } catch (cause) {
    throw new CliError(EXIT.notFound, `${path} cannot be read`, "Give the file that says which certificates are wanted.", { cause });
  }
  let json: unknown;
  try {
    json = parseSettings(text);
  } catch (cause) {
    throw usage(`${path} cannot be used: ${(cause as Error).message}`, "See cli/README.md for what it holds.", cause);
  }
  const { data, error } = planSchema.safeParse(json, { error: issueWords });
  if (error !== undefined) throw usage(`${path}: ${firstProblem(error)}`, "See cli/README.md for what it holds.", error);
  return data;
}

async function bring(cluster: Secrets, plan: Plan, dir: string, now: Date): Promise<readonly Row[]> {
  const authority = await cluster.get(plan.authority);
  const leaves = await Promise.all(plan.leaves.map((leaf) => cluster.get(leaf.secret)));
  const orphan = leaves.find((leaf) => leaf !== undefined);
  // A new CA would cut the hub off from every peer that pinned the old one, and nobody asked for that.
  if (authority === undefined && orphan !== undefined)
    throw new CliError(
      EXIT.failed,
      `the secret ${plan.authority} with the CA is gone, but ${orphan.name} holds a certificate that it issued`,
      "Restore it from a backup. If it is lost, delete the other secrets too: the hub then gets a new CA, which every peer has to pin.",
    );
  if (authority !== undefined) {
    await writeFile(join(dir, "ca.pem"), part(authority, "tls.crt"), { mode: 0o600 });
    await writeFile(join(dir, "ca.key"), part(authority, "tls.key"), { mode: 0o600 });
  }
  const requests = plan.leaves.map(requestOf);
  for (const [i, leaf] of leaves.entries()) {
    if (leaf === undefined) continue;
    const stem = join(dir, fileStem(requests[i]!));
    await writeFile(`${stem}.pem`, part(leaf, "tls.crt"), { mode: 0o600 });
    await writeFile(`${stem}.key`, part(leaf, "tls.key"), { mode: 0o600 });
  }
  const report = await writePki(dir, plan.hub_id, { now, leaves: requests });
  const caPem = readText(report.authority.certificateFile);
  // The authority first: a run that is cut off here leaves nothing that the next one could not go on with.
  const row = async (secret: string, entry: PkiEntry, before: Secret | undefined): Promise<Row> => {
    const data = {
      "ca.crt": caPem,
      "tls.crt": readText(entry.certificateFile),
      "tls.key": readText(entry.keyFile),
    };
    const written = before === undefined || Object.entries(data).some(([key, text]) => before.data[key] !== text);
    if (written)
      await cluster.put({
        name: secret,
        type: "kubernetes.io/tls",
        labels: { ...before?.labels, ...plan.labels },
        data,
        version: before?.version,
      });
    return { secret, entry, written };
  };
  const rows = [await row(plan.authority, report.authority, authority)];
  for (const [i, leaf] of plan.leaves.entries()) rows.push(await row(leaf.secret, report.leaves[i]!, leaves[i]));
  return rows;
}

function part(secret: Secret, key: string): string {
  const text = secret.data[key];
  if (text === undefined)
    throw new CliError(
      EXIT.failed,
      `the secret ${secret.name} has no ${key}`,
      "It does not belong to this hub. Move it out of the way, or choose another name.",
    );
  return text;
}

function requestOf({ kind: profile, name, dns_names, ips, role, prefixes }: Plan["leaves"][number]): IssueRequest {
  return {
    profile,
    name,
    ...(dns_names === undefined ? {} : { dnsNames: dns_names }),
    ...(ips === undefined ? {} : { ips }),
    ...(role === undefined ? {} : { role }),
    ...(prefixes === undefined ? {} : { prefixes }),
  };
}

async function show(io: Io, namespace: string, rows: readonly Row[], flags: SecretsFlags): Promise<void> {
  if (flags.json)
    return printJson(io, {
      namespace,
      secrets: rows.map(({ secret, entry, written }) => ({
        secret,
        action: entry.action,
        reason: entry.reason,
        not_after: entry.notAfter.toISOString(),
        written,
      })),
    });
  if (flags.quiet) return;
  const nowWall = io.clock.wall();
  const cells = rows.map(({ secret, entry }): Cell[] => [
    secret,
    { text: entry.action, style: entry.action === "kept" ? "dim" : "green" },
    entry.reason,
    since(entry.notAfter.getTime(), nowWall),
  ]);
  await io.out(table(io, [{ title: "SECRET" }, { title: "WAS" }, { title: "BECAUSE" }, { title: "ENDS" }], cells));
}
