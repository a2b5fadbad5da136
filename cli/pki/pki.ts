import { X509Certificate } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { listed, withArticle } from "#kernel/printable.ts";
import { readText } from "#runtime/files.ts";
import { createRequest, loadAuthority, readRequest, signRequest } from "../../certs/authority.ts";
import { fileStem, type PkiEntry, type PkiReport, renewalDueAt, writeCertificate, writeKey, writePki } from "../../certs/issue.ts";
import {
  type IssueRequest,
  isOperatorRole,
  LEAF_PROFILES,
  type LeafProfile,
  MIN_LIFETIME_MS,
  OPERATOR_ROLES,
  PROFILES,
  readIdentity,
  readSans,
} from "../../certs/profiles.ts";
import { SERVICES } from "../../services/hub/services.ts";
import { CliError, EXIT, type ExitCode, usage } from "../exit.ts";
import type { Io } from "../io.ts";
import { parseCount, parseDuration } from "../parse.ts";
import { duration, since } from "../print/format.ts";
import { type Cell, facts, table } from "../print/table.ts";
import { nearPath, shellWord } from "../reach/near-path.ts";
import { type OutputFlags, printJson } from "../verb.ts";
import { CERTIFICATE_FILE, issueCommand, sameAgain } from "./issue-command.ts";

/** PkiFlags are the options of the `pki` verbs; each takes those that its help names. */
export interface PkiFlags extends OutputFlags {
  readonly dir?: string;
  readonly split?: boolean;
  readonly force?: boolean;
  readonly newAuthority?: boolean;
  readonly keyBits?: string;
  readonly role?: string;
  readonly prefix?: readonly string[];
  readonly dns?: readonly string[];
  readonly ip?: readonly string[];
  readonly life?: string;
  readonly hubId?: string;
  readonly out?: string;
  readonly keySha256?: string;
}

/** Folder of certificates, unless --dir says otherwise. */
const DEFAULT_DIR = "pki";

const DAY_MS = 86_400_000;

function folderOf(io: Io, flags: PkiFlags): string {
  return resolve(io.cwd, flags.dir ?? DEFAULT_DIR);
}

/** authorityIn opens the authority of a folder. Where there is none, the folder is not the one that was meant. */
async function authorityIn(dir: string): ReturnType<typeof loadAuthority> {
  try {
    return await loadAuthority(dir);
  } catch (error) {
    const cause = error instanceof Error ? (error.cause as NodeJS.ErrnoException | undefined) : undefined;
    if (cause?.code !== "ENOENT") throw error;
    throw new CliError(
      EXIT.usage,
      (error as Error).message,
      "Give the folder of the hub's CA with --dir, or go to the hub's folder, which has it as pki/; `foedus pki init <hub-id>` makes a new one.",
      { cause: error },
    );
  }
}

function keyBitsOf(flags: PkiFlags): { readonly keyBits?: number } {
  return flags.keyBits === undefined ? {} : { keyBits: parseCount(flags.keyBits) };
}

function nowOf(io: Io): Date {
  return new Date(io.clock.wall());
}

/** requestOf builds the decision about one leaf from what was typed; certs/profiles.ts judges it. Throws CliError (usage). */
function requestOf(kind: string, name: string, flags: PkiFlags): IssueRequest {
  const profile = LEAF_PROFILES.find((candidate) => candidate === kind);
  if (profile === undefined) {
    const example = name === "" ? `Give the kind and then the name, such as \`foedus pki issue node ${shellWord(kind)}\`. ` : "";
    throw usage(`there is no kind of certificate "${kind}"`, `${example}Kinds are ${listed(LEAF_PROFILES)}.`);
  }
  if (name === "") throw usage("the name is missing", `Give a name after the kind, such as \`foedus pki issue ${profile} my-${profile}\`.`);
  const { role, prefix, dns, ip, life } = flags;
  if (role !== undefined && !isOperatorRole(role)) throw usage(`there is no role "${role}"`, `Roles are ${OPERATOR_ROLES.join(", ")}.`);
  return {
    profile,
    name,
    ...(role === undefined ? {} : { role }),
    ...(prefix === undefined ? {} : { prefixes: prefix }),
    ...(dns === undefined ? {} : { dnsNames: dns }),
    ...(ip === undefined ? {} : { ips: ip }),
    ...(life === undefined ? {} : { lifetimeMs: lifeOf(life, profile) }),
  };
}

/** lifeOf reads --life, within what the profile allows. Throws CliError (usage). */
function lifeOf(text: string, profile: LeafProfile): number {
  const [asked, most] = [parseDuration(text), PROFILES[profile].lifetimeMs];
  if (asked < MIN_LIFETIME_MS || asked > most)
    throw usage(
      `${withArticle(profile)} certificate cannot be valid for ${text}`,
      `Give --life from ${duration(MIN_LIFETIME_MS)} to ${most / DAY_MS} d, such as 7d.`,
    );
  return asked;
}

/** init makes the authority of a hub, the certificate of its service(s) and one of an admin. What is good is kept. */
export async function init(io: Io, [hubId = ""]: readonly string[], flags: PkiFlags): Promise<ExitCode | undefined> {
  const names = flags.split ? ["hub", ...SERVICES] : ["hub"];
  const sans = { ...(flags.dns === undefined ? {} : { dnsNames: flags.dns }), ...(flags.ip === undefined ? {} : { ips: flags.ip }) };
  const leaves: IssueRequest[] = [
    ...names.map((name): IssueRequest => ({ profile: "service", name, ...sans })),
    { profile: "operator", name: "admin", role: "admin" },
  ];
  const { force = false, newAuthority = false } = flags;
  const dir = folderOf(io, flags);
  if (!force && !newAuthority) await mustNotBeRevoked(io, dir, leaves);
  const report = await writePki(dir, hubId, { now: nowOf(io), leaves, force, newAuthority, ...keyBitsOf(flags) });
  return show(io, report, flags);
}

/** issue makes or renews one certificate. */
export async function issue(io: Io, [kind = "", name = ""]: readonly string[], flags: PkiFlags): Promise<ExitCode | undefined> {
  return show(io, await issueLeaf(io, folderOf(io, flags), requestOf(kind, name, flags), flags), flags);
}

/** issueLeaf makes or renews one certificate of the hub whose CA a folder has. One that is good is kept. Throws CliError and PkiError. */
export async function issueLeaf(
  io: Io,
  dir: string,
  request: IssueRequest,
  flags: Pick<PkiFlags, "force" | "keyBits"> = {},
): Promise<PkiReport> {
  const { hubId } = await authorityIn(dir);
  if (!flags.force) await mustNotBeRevoked(io, dir, [request]);
  return writePki(dir, hubId, { now: nowOf(io), leaves: [request], force: flags.force ?? false, ...keyBitsOf(flags) });
}

const fileOf = (dir: string, leaf: IssueRequest): string => join(dir, `${fileStem(leaf)}.pem`);

/** anew is the command that issues another certificate with a new key. */
const anew = (io: Io, dir: string, file: string): string => issueCommand(file, nearPath(io.cwd, dir), { force: true });

/** revokedIn tells which files are of revoked certificates, and why. The hub's code is loaded only where one is there already. */
async function revokedIn(io: Io, dir: string, leaves: readonly IssueRequest[]): Promise<ReadonlyMap<string, string>> {
  const files = leaves.map((leaf) => fileOf(dir, leaf)).filter((file) => existsSync(file));
  if (files.length === 0) return new Map();
  const { reasonsIn } = await import("./pki-revoke.ts");
  return reasonsIn(io, dir, files);
}

/** mustNotBeRevoked refuses to go on with the key of a revoked certificate: it may be stolen. Throws CliError (refused). */
async function mustNotBeRevoked(io: Io, dir: string, leaves: readonly IssueRequest[]): Promise<void> {
  for (const [file, reason] of await revokedIn(io, dir, leaves))
    throw new CliError(
      EXIT.refused,
      `${nearPath(io.cwd, file)} is revoked${reason === "" ? "" : ` (${reason})`}, so no other certificate is issued for its key`,
      `Issue another one with a new key: \`${anew(io, dir, file)}\`.`,
    );
}

/** renew renews the certificates of a folder that are near their end; --force all of them, with new keys. */
export async function renew(io: Io, _args: readonly string[], flags: PkiFlags): Promise<ExitCode | undefined> {
  const dir = folderOf(io, flags);
  const { hubId } = await authorityIn(dir);
  const all = await leavesOf(dir, hubId);
  const revoked = flags.force ? new Map() : await revokedIn(io, dir, all);
  for (const [file] of revoked)
    io.note(`${nearPath(io.cwd, file)} is revoked and was not renewed; for a certificate with a new key: ${anew(io, dir, file)}\n`);
  const leaves = all.filter((leaf) => !revoked.has(fileOf(dir, leaf)));
  return show(io, await writePki(dir, hubId, { now: nowOf(io), leaves, force: flags.force ?? false, ...keyBitsOf(flags) }), flags);
}

/** leavesOf reads back from the certificates of a folder what was asked for when they were made. */
async function leavesOf(dir: string, hubId: string): Promise<IssueRequest[]> {
  const leaves: IssueRequest[] = [];
  for (const file of (await readdir(dir)).sort()) {
    if (!CERTIFICATE_FILE.test(file)) continue;
    const certificate = readCertificate(readText(join(dir, file)), join(dir, file));
    const identity = readIdentity(certificate);
    if (identity.hubId !== hubId || `${fileStem({ profile: identity.kind, name: identity.name })}.pem` !== file)
      throw new CliError(
        EXIT.failed,
        `${join(dir, file)} is a certificate of ${identity.hubId}/${identity.kind}/${identity.name}`,
        "Move it out of this folder.",
      );
    leaves.push(sameAgain(certificate));
  }
  return leaves;
}

/** csr makes a key and a certificate request, so that the key never leaves this machine. */
export async function csr(io: Io, [kind = "", name = ""]: readonly string[], flags: PkiFlags): Promise<ExitCode | undefined> {
  if (flags.hubId === undefined) throw usage("a certificate request needs the id of a hub", "Give it with --hub-id.");
  const { profile, dnsNames, ips } = requestOf(kind, name, flags);
  const stem = resolve(io.cwd, flags.out ?? fileStem({ profile, name }));
  const wish = {
    hubId: flags.hubId,
    profile,
    name,
    ...(dnsNames === undefined ? {} : { dnsNames }),
    ...(ips === undefined ? {} : { ips }),
    ...keyBitsOf(flags),
  };
  const { csrPem, keyPem } = await createRequest(wish);
  await writeKey(`${stem}.key`, keyPem, flags.force ?? false);
  await writeFile(`${stem}.csr`, csrPem);
  const { keySha256 } = readRequest(csrPem);
  if (flags.json) await printJson(io, { key_file: `${stem}.key`, request_file: `${stem}.csr`, key_sha256: keySha256 });
  else if (flags.quiet) await io.out(`${keySha256}\n`);
  else
    await io.out(
      facts(io, [
        ["key", `${stem}.key (stays here)`],
        ["request", `${stem}.csr (send it to the operator of ${flags.hubId})`],
        ["key sha256", `${keySha256} (tell the operator over another channel)`],
      ]),
    );
  return EXIT.ok;
}

/**
 * sign answers a certificate request. Only the key comes from the request, so the operator has to say, from another channel
 * than the request's, which key that must be: --key-sha256.
 */
export async function sign(io: Io, [file = "", kind = "", name = ""]: readonly string[], flags: PkiFlags): Promise<ExitCode | undefined> {
  const csrPem = readOrFail(resolve(io.cwd, file));
  const { keySha256 } = readRequest(csrPem);
  const request = requestOf(kind, name, flags);
  if (flags.keySha256 === undefined)
    throw usage(
      `the request has the key ${keySha256}`,
      "Compare it with what its sender tells you over another channel, then repeat with --key-sha256 and that value.",
    );
  if (flags.keySha256.toLowerCase().replaceAll(":", "") !== keySha256)
    throw new CliError(
      EXIT.refused,
      `the request has the key ${keySha256}, not the one you expect`,
      "Do not sign it; ask its sender for a new request.",
    );
  const authority = await loadAuthority(folderOf(io, flags));
  const certified = signRequest(authority, csrPem, request, nowOf(io));
  const out = resolve(io.cwd, flags.out ?? join(dirname(file), `${fileStem(request)}.pem`));
  await writeCertificate(out, certified);
  if (flags.json) await printJson(io, { certificate_file: out, hub_id: authority.hubId, not_after: certified.notAfter.toISOString() });
  else if (!flags.quiet)
    await io.out(
      `${out}: signed for ${authority.hubId}/${request.profile}/${request.name}, ends ${since(certified.notAfter.getTime(), io.clock.wall())}\n`,
    );
  return EXIT.ok;
}

function readOrFail(file: string): string {
  try {
    return readText(file);
  } catch (error) {
    throw new CliError(EXIT.notFound, `${file} cannot be read`, "Check the path.", { cause: error });
  }
}

function readCertificate(pem: string, file: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (error) {
    throw usage(`${file} is not a certificate or a certificate request`, "Give a PEM file.", error);
  }
}

/** showFiles says what certificates and requests are: whose, for what, how long. */
export async function showFiles(io: Io, files: readonly string[], flags: PkiFlags): Promise<ExitCode | undefined> {
  const described: (readonly (readonly [string, Cell])[])[] = [];
  for (const file of files) described.push(describeFile(file, readOrFail(resolve(io.cwd, file)), io.clock.wall()));
  if (flags.json)
    await printJson(io, {
      files: described.map((pairs) =>
        Object.fromEntries(pairs.map(([key, cell]) => [key.replaceAll(" ", "_"), typeof cell === "string" ? cell : cell.text])),
      ),
    });
  else await io.out(described.map((pairs) => facts(io, pairs)).join("\n"));
  return EXIT.ok;
}

function describeFile(file: string, pem: string, nowWall: number): readonly (readonly [string, Cell])[] {
  if (/BEGIN (NEW )?CERTIFICATE REQUEST/.test(pem)) {
    const { commonName, keySha256 } = readRequest(pem);
    return [
      ["file", file],
      ["kind", "request"],
      ["wished name", commonName ?? ""],
      ["key sha256", keySha256],
    ];
  }
  const certificate = readCertificate(pem, file);
  const { uris, dnsNames, ips } = readSans(certificate);
  const end = certificate.validToDate.getTime();
  const shared: (readonly [string, Cell])[] = [
    ["not before", certificate.validFromDate.toISOString()],
    ["not after", certificate.validToDate.toISOString()],
    ["ends", { text: since(end, nowWall), style: end <= nowWall ? "red" : undefined }],
    ["sha256", certificate.fingerprint256.replaceAll(":", "").toLowerCase()],
  ];
  if (certificate.ca) return [["file", file], ["kind", "authority"], ["identity", uris.join(" ")], ...shared];
  const identity = readIdentity(certificate);
  return [
    ["file", file],
    ["kind", identity.kind],
    ["identity", uris.join(" ")],
    ["role", identity.role ?? ""],
    ["prefixes", identity.prefixes.join(" ")],
    ["host names", dnsNames.join(" ")],
    ["addresses", ips.join(" ")],
    ...shared,
    ["renew", since(renewalDueAt(certificate).getTime(), nowWall)],
  ];
}

function entryJson(entry: PkiEntry): object {
  const { certificateFile, keyFile, action, reason, notAfter } = entry;
  return { certificate_file: certificateFile, key_file: keyFile, action, reason, not_after: notAfter.toISOString() };
}

async function show(io: Io, report: PkiReport, flags: PkiFlags): Promise<ExitCode | undefined> {
  if (flags.json)
    await printJson(io, {
      hub_id: report.hubId,
      dir: report.dir,
      authority: entryJson(report.authority),
      leaves: report.leaves.map(entryJson),
    });
  else if (!flags.quiet) {
    const nowWall = io.clock.wall();
    const rows = [report.authority, ...report.leaves].map((entry): Cell[] => [
      entry.certificateFile,
      { text: entry.action, style: entry.action === "kept" ? "dim" : "green" },
      entry.reason,
      since(entry.notAfter.getTime(), nowWall),
    ]);
    await io.out(table(io, [{ title: "CERTIFICATE" }, { title: "WAS" }, { title: "BECAUSE" }, { title: "ENDS" }], rows));
  }
  return EXIT.ok;
}
