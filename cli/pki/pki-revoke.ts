import { X509Certificate } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { readText, writeWhole } from "#runtime/files.ts";
import { readIdentity, readSans } from "../../certs/profiles.ts";
import { encodeRevoked, type RevokedEntry, refusedNow, resolveFrom } from "../../services/hub/index.ts";
import { CliError, EXIT, type ExitCode, usage } from "../exit.ts";
import type { Io } from "../io.ts";
import { CONFIG_FILE, type OwnHub, type OwnHubFlags, readOwnHub } from "../own/own-hub.ts";
import { since } from "../print/format.ts";
import { type Cell, table } from "../print/table.ts";
import { nearPath, shellWord } from "../reach/near-path.ts";
import { printJson } from "../verb.ts";
import { CERTIFICATE_FILE } from "./issue-command.ts";

/** RevokeFlags are the options of `pki revoke`. */
export interface RevokeFlags extends OwnHubFlags {
  readonly fingerprint?: readonly string[];
  readonly reason?: string;
  /** Take the entries out of the list again. */
  readonly undo?: boolean;
  /** Also the certificate that the hub itself shows. */
  readonly force?: boolean;
}

const hex = (fingerprint: string): string => fingerprint.replaceAll(":", "").trim().toLowerCase();

function fileOf(hub: OwnHub): string {
  return resolveFrom(hub.folder, hub.config.tls.revoked);
}

/** refusedBy is the list that the hub goes by, also if its file is gone. */
function refusedBy(hub: OwnHub): readonly RevokedEntry[] {
  return refusedNow(fileOf(hub), resolveFrom(hub.folder, hub.config.data_dir));
}

/**
 * reasonsIn tells of files beside a CA which are revoked, and why, as far as the configuration of its hub is at hand: hub.json here, that
 * of FOEDUS_CONFIG, or beside the CA's folder, where `hub init` puts it.
 */
export function reasonsIn(io: Pick<Io, "cwd" | "env" | "note">, dir: string, files: readonly string[]): ReadonlyMap<string, string> {
  const hub = [resolve(io.cwd, io.env["FOEDUS_CONFIG"] || CONFIG_FILE), join(dirname(dir), CONFIG_FILE)]
    .filter((file) => existsSync(file))
    .flatMap((file) => ownHubIn(io, file) ?? [])
    .find(({ folder, config }) => dirname(resolveFrom(folder, config.tls.ca)) === dir);
  const refused = new Map((hub === undefined ? [] : refusedBy(hub)).map(({ sha256, reason = "" }) => [sha256, reason]));
  return new Map(
    files.flatMap((file) => {
      const reason = refused.get(digestIn(file) ?? "");
      return reason === undefined ? [] : [[file, reason] as const];
    }),
  );
}

function ownHubIn(io: Pick<Io, "cwd" | "env" | "note">, file: string): OwnHub | undefined {
  try {
    return readOwnHub(io, { config: file });
  } catch {
    // It may be another hub's, and is not in the way of a certificate; but what was revoked is not known then.
    const where = nearPath(io.cwd, file);
    io.note(`${where} cannot be used, so revoked certificates were not checked; \`foedus doctor --config ${shellWord(where)}\` says why\n`);
    return undefined;
  }
}

/** digestIn is the SHA-256 of the certificate in a file, hex; undefined if there is none. */
export function digestIn(file: string): string | undefined {
  try {
    return hex(new X509Certificate(readText(file)).fingerprint256);
  } catch {
    return undefined;
  }
}

const NAME_ONE = "Give its file, its name in `foedus pki list`, such as node/my-lamp, or its SHA-256 with --fingerprint.";

/** fileNamed finds what was typed: a file, or one beside the hub's CA as `pki list` names it (`node/my-lamp`, `node-my-lamp.pem`). */
function fileNamed(io: Io, hub: OwnHub, text: string): string {
  const typed = resolve(io.cwd, text);
  if (existsSync(typed)) return typed;
  const dir = dirname(resolveFrom(hub.folder, hub.config.tls.ca));
  const [, kind, name] = /^([a-z]+)\/([^/]+)$/.exec(text) ?? [];
  const listed = [text, `${kind}-${name}.pem`].filter((file) => CERTIFICATE_FILE.test(file)).map((file) => join(dir, file));
  return listed.find((file) => existsSync(file)) ?? typed;
}

/** certificateOf reads a leaf of this hub from a file. Throws CliError. */
function certificateOf(io: Io, hub: OwnHub, path: string): X509Certificate {
  const file = fileNamed(io, hub, path);
  let leaf: X509Certificate;
  try {
    leaf = new X509Certificate(readText(file));
  } catch (error) {
    throw new CliError(EXIT.notFound, `${file} cannot be read as a certificate`, NAME_ONE, { cause: error });
  }
  if (leaf.ca)
    throw usage(
      `${file} is a CA`,
      "Only leaf certificates can be revoked. To replace the CA, see the section on rotation in certs/README.md.",
    );
  const [uri = ""] = readSans(leaf).uris;
  const { hub_id: hubId } = hub.config;
  if (!uri.startsWith(`spiffe://${hubId}/`))
    throw usage(
      `${file} is a certificate of ${uri || "no hub"} and not of ${hubId}`,
      "A peer's certificate is revoked with `foedus peer revoke`.",
    );
  return leaf;
}

/** wantedOf lists what was named, by file or by digest, and refuses what this hub shows itself. Throws CliError. */
function wantedOf(io: Io, hub: OwnHub, files: readonly string[], flags: RevokeFlags): RevokedEntry[] {
  const shared = { at: new Date(io.clock.wall()).toISOString(), ...(flags.reason === undefined ? {} : { reason: flags.reason }) };
  const byFile = files.map((path) => {
    const leaf = certificateOf(io, hub, path);
    return { sha256: hex(leaf.fingerprint256), spiffe_id: readSans(leaf).uris[0] ?? "", ...shared };
  });
  const byDigest = (flags.fingerprint ?? []).map((text) => {
    const sha256 = hex(text);
    if (!/^[0-9a-f]{64}$/.test(sha256))
      throw usage(`"${text}" is not a SHA-256 fingerprint`, "Give 64 hex digits, with or without colons (`foedus pki show`).");
    return { sha256, ...shared };
  });
  const wanted = [...byFile, ...byDigest];
  if (wanted.length === 0) throw usage("no certificate was given", NAME_ONE);
  const own = shownBy(hub);
  const self = wanted.find(({ sha256 }) => own.has(sha256));
  if (self !== undefined && flags.undo !== true && flags.force !== true)
    throw new CliError(
      EXIT.refused,
      `this hub uses that certificate itself, so it would refuse its own connections`,
      "Issue another one first (`foedus pki renew --force`), or revoke it anyway with --force.",
    );
  return wanted;
}

/** shownBy are the digests of the certificates that the hub's own processes show. */
function shownBy({ config, folder }: OwnHub): ReadonlySet<string> {
  const files = [config.tls.cert, ...Object.values(config.services).map(({ cert }) => cert)].filter((file) => file !== "");
  return new Set(files.flatMap((file) => digestIn(resolveFrom(folder, file)) ?? []));
}

/** revoke refuses certificates of this hub: what they have open ends, and nothing more is taken from them. A running hub follows by itself. */
export async function revoke(io: Io, files: readonly string[], flags: RevokeFlags): Promise<ExitCode | undefined> {
  const hub = readOwnHub(io, flags);
  const wanted = wantedOf(io, hub, files, flags);
  const path = fileOf(hub);
  const before = refusedBy(hub);
  const named = new Set(wanted.map(({ sha256 }) => sha256));
  const known = new Set(before.map(({ sha256 }) => sha256));
  const after =
    flags.undo === true
      ? before.filter(({ sha256 }) => !named.has(sha256))
      : [...before, ...wanted.filter(({ sha256 }) => !known.has(sha256))];
  const changed = after.length !== before.length;
  if (before.length > 0 && !existsSync(path)) io.note(`${path} is missing; the hub continues with the copy that it kept\n`);
  if (changed) writeWhole(path, encodeRevoked(after), 0o644);
  if (flags.json) await printJson(io, { file: path, changed, revoked: after });
  else if (!changed)
    io.note(flags.undo === true ? "none of them is in the list; nothing to do\n" : "all of them are revoked already; nothing to do\n");
  else if (flags.undo === true)
    await io.out(`${named.size === 1 ? "it is" : "they are"} taken again; a running hub follows within two seconds\n`);
  else {
    await io.out(
      `${wanted.map(({ sha256, ...entry }) => `revoked  ${"spiffe_id" in entry ? entry.spiffe_id : sha256}\n`).join("")}a running hub follows within two seconds; in split mode on several machines copy ${path} to each\n`,
    );
    if (wanted.some((entry) => entry.spiffe_id?.includes("/service/") === true))
      io.note("peers do not read this list: tell their operators, who say `foedus peer revoke` for a service's certificate\n");
  }
  return EXIT.ok;
}

/** list shows the certificates beside the hub's CA and those that are revoked. */
export async function list(io: Io, _args: readonly string[], flags: OwnHubFlags): Promise<ExitCode | undefined> {
  const hub = readOwnHub(io, flags);
  const dir = dirname(resolveFrom(hub.folder, hub.config.tls.ca));
  const revoked = new Map(refusedBy(hub).map((entry) => [entry.sha256, entry]));
  const now = io.clock.wall();
  const here = existsSync(dir)
    ? readdirSync(dir)
        .filter((name) => CERTIFICATE_FILE.test(name))
        .sort()
    : [];
  const rows = here.flatMap((name) => {
    try {
      const leaf = new X509Certificate(readText(join(dir, name)));
      const { kind, name: who } = readIdentity(leaf);
      const sha256 = hex(leaf.fingerprint256);
      return [{ identity: `${kind}/${who}`, ends: leaf.validToDate.getTime(), file: name, sha256, entry: revoked.get(sha256) }];
    } catch {
      return [];
    }
  });
  const shown = new Set(rows.map(({ sha256 }) => sha256));
  const others = [...revoked.values()]
    .filter(({ sha256 }) => !shown.has(sha256))
    .map((entry) => ({ identity: entry.spiffe_id ?? "-", ends: undefined, file: "-", sha256: entry.sha256, entry }));
  const all = [...rows, ...others];
  if (flags.json) {
    await printJson(io, {
      certificates: all.map(({ identity, ends, file, sha256, entry }) => ({
        identity,
        file,
        sha256,
        ...(ends === undefined ? {} : { not_after: new Date(ends).toISOString() }),
        revoked: entry !== undefined,
        ...(entry?.reason === undefined ? {} : { reason: entry.reason }),
      })),
    });
    return EXIT.ok;
  }
  const columns = [{ title: "CERTIFICATE" }, { title: "STATE" }, { title: "FILE", flexible: true }, { title: "SHA256", flexible: true }];
  const stateOf = (ends: number | undefined, entry: RevokedEntry | undefined): Cell => {
    if (entry !== undefined) return { text: `revoked${entry.reason === undefined ? "" : `: ${entry.reason}`}`, style: "red" };
    if (ends === undefined) return "-";
    return ends <= now ? { text: `ended ${since(ends, now)}`, style: "red" } : { text: `ends ${since(ends, now)}`, style: "green" };
  };
  await io.out(
    table(
      io,
      columns,
      all.map(({ identity, ends, file, sha256, entry }) => [identity, stateOf(ends, entry), file, sha256]),
    ),
  );
  return EXIT.ok;
}
