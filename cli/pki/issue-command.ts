import { X509Certificate } from "node:crypto";
import { basename } from "node:path";
import { readText } from "#runtime/files.ts";
import { type IssueRequest, LEAF_PROFILES, PROFILES, readIdentity, readSans, SKEW_MS, sansOf } from "../../certs/profiles.ts";
import { shellWord } from "../reach/near-path.ts";

/** sameAgain is what was asked for when a certificate was made. Throws PkiError. */
export function sameAgain(certificate: X509Certificate): IssueRequest {
  const { kind: profile, name, hubId, role, prefixes } = readIdentity(certificate);
  const lifetimeMs = certificate.validToDate.getTime() - certificate.validFromDate.getTime() - SKEW_MS;
  const standard = sansOf(hubId, { profile, name });
  const { dnsNames, ips } = readSans(certificate);
  const beyond = (found: readonly string[], given: readonly string[]): string[] => found.filter((item) => !given.includes(item));
  return {
    profile,
    name,
    lifetimeMs,
    ...(role === undefined ? {} : { role }),
    ...(profile === "gateway" && prefixes.length > 0 ? { prefixes } : {}),
    ...(profile === "service" ? { dnsNames: beyond(dnsNames, standard.dnsNames), ips: beyond(ips, standard.ips) } : {}),
  };
}

/** CERTIFICATE_FILE is how the files of leaves are named: `<kind>-<name>.pem`. */
export const CERTIFICATE_FILE = new RegExp(`^(${LEAF_PROFILES.join("|")})-(.+)\\.pem$`);

/** issueCommand is the command that issues the certificate of a file again, with the rights and names that it has; `dir` is typed as given. */
export function issueCommand(file: string, dir: string, { force }: { readonly force: boolean }): string {
  const request = requestIn(file);
  const [, kind = "<kind>", who = "<name>"] = CERTIFICATE_FILE.exec(basename(file)) ?? [];
  const { profile, name, role, prefixes = [], dnsNames = [], ips = [], lifetimeMs } = request ?? { profile: kind, name: who };
  const shorter = request !== undefined && lifetimeMs !== undefined && lifetimeMs < PROFILES[request.profile].lifetimeMs;
  const options = [
    ...(profile === "operator" ? ["--role", role ?? "<role>"] : []),
    ...prefixes.flatMap((prefix) => ["--prefix", shellWord(prefix)]),
    ...dnsNames.flatMap((dnsName) => ["--dns", dnsName]),
    ...ips.flatMap((ip) => ["--ip", ip]),
    ...(shorter ? ["--life", `${Math.round(lifetimeMs / 1000)}s`] : []),
    ...(force ? ["--force"] : []),
    ...["--dir", shellWord(dir)],
  ];
  return ["foedus pki issue", profile, name, ...options].join(" ");
}

function requestIn(file: string): IssueRequest | undefined {
  try {
    return sameAgain(new X509Certificate(readText(file)));
  } catch {
    // It is gone or damaged: what it was for stands in its file's name.
    return undefined;
  }
}
