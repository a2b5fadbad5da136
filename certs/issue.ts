import { type KeyObject, randomBytes, X509Certificate } from "node:crypto";
import { chmod, open, rename, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { makeFolder, placeNew, readText } from "#runtime/files.ts";
import { type Authority, type Certified, createAuthority, type Issued, issue, openAuthority } from "./authority.ts";
import {
  checkHubId,
  checkRequest,
  type IssueRequest,
  organisationalUnitsOf,
  PkiError,
  readOrganisationalUnits,
  readSans,
  sansOf,
} from "./profiles.ts";
import { generateKey, readPrivateKey } from "./x509.ts";

/** Action says what happened to a certificate: made with a new key, made again for the key on disk, or left alone. */
export type Action = "created" | "renewed" | "kept";

/** PkiEntry reports one certificate and its files. */
export interface PkiEntry {
  readonly certificateFile: string;
  readonly keyFile: string;
  readonly action: Action;
  /** Why it was not kept, for the operator: "missing", "near its end", … Empty if kept. */
  readonly reason: string;
  readonly notAfter: Date;
}

/** PkiReport is the outcome of writePki. */
export interface PkiReport {
  readonly hubId: string;
  readonly dir: string;
  readonly authority: PkiEntry;
  /** In the order of the requests. */
  readonly leaves: readonly PkiEntry[];
}

/** PkiOptions steers writePki. */
export interface PkiOptions {
  readonly now: Date;
  readonly leaves: readonly IssueRequest[];
  /** Replace the keys and certificates of the leaves even if they are good. Never touches the CA. */
  readonly force?: boolean;
  /** Replace the CA's key and certificate: peers that pinned the old CA no longer know this hub. */
  readonly newAuthority?: boolean;
  /** RSA modulus of new keys; default 2048. */
  readonly keyBits?: number;
}

/** A certificate is renewed when no more than this part of its life is left. */
export const RENEW_BELOW_LIFE_LEFT = 1 / 3;

/** renewalDueAt is when a certificate should be renewed: at two thirds of its life. */
export function renewalDueAt(certificate: X509Certificate): Date {
  const start = certificate.validFromDate.getTime();
  const end = certificate.validToDate.getTime();
  return new Date(end - (end - start) * RENEW_BELOW_LIFE_LEFT);
}

/** fileStem names the files of a leaf: `<kind>-<name>`, to which `.pem` and `.key` are added. */
export function fileStem(request: Pick<IssueRequest, "profile" | "name">): string {
  return `${request.profile}-${request.name}`;
}

/**
 * writePki brings a folder to the state asked for: `ca.pem`, `ca.key`, and `<kind>-<name>.pem` (the leaf alone, issued
 * directly by the CA) and `.key` per request. Keys have mode 0600, the folder 0700; every file appears whole or not at
 * all. Idempotent: what is valid, matches its request and has more than a third of its life left is kept; otherwise
 * the certificate is renewed for the key on disk. Keys are replaced only by `force` and `newAuthority`.
 * Throws PkiError when a request is bad, or a file on disk is damaged or belongs to another hub.
 */
export async function writePki(dir: string, hubId: string, options: PkiOptions): Promise<PkiReport> {
  checkHubId(hubId);
  const stems = new Set<string>();
  for (const leaf of options.leaves) {
    checkRequest(leaf);
    if (stems.has(fileStem(leaf))) throw new PkiError(`${fileStem(leaf)} is asked for twice`, { field: "leaves" });
    stems.add(fileStem(leaf));
  }
  makeFolder(dir, 0o700);
  await chmod(dir, 0o700);
  const { authority, entry } = await writeAuthority(dir, hubId, options);
  const leaves = await Promise.all(options.leaves.map((leaf) => writeLeaf(dir, authority, leaf, options)));
  return { hubId, dir, authority: entry, leaves };
}

/** writeIssued writes a leaf with its key under `fileStem`. An existing key is replaced only with `force`. Throws PkiError. */
export async function writeIssued(
  dir: string,
  request: Pick<IssueRequest, "profile" | "name">,
  issued: Issued,
  options: { readonly force?: boolean } = {},
): Promise<void> {
  const stem = join(dir, fileStem(request));
  // Key first: a crash in between leaves a pair that does not match, which the next run sees and repairs.
  await writeKey(`${stem}.key`, issued.keyPem, options.force === true);
  await writeCertificate(`${stem}.pem`, issued);
}

/** writeKey writes a private key with mode 0600. Throws PkiError if there is one already and `force` is false. */
export async function writeKey(file: string, keyPem: string, force = false): Promise<void> {
  await writeWhole(file, keyPem, 0o600, force);
}

/** writeCertificate writes or replaces a certificate: the leaf alone, one newline at the end, mode 0644. */
export async function writeCertificate(file: string, certified: Pick<Certified, "certificatePem">): Promise<void> {
  await writeWhole(file, `${certified.certificatePem.trimEnd()}\n`, 0o644, true);
}

async function writeAuthority(dir: string, hubId: string, options: PkiOptions): Promise<{ authority: Authority; entry: PkiEntry }> {
  const files = { certificateFile: join(dir, "ca.pem"), keyFile: join(dir, "ca.key") };
  const certificatePem = await readOptional(files.certificateFile);
  const keyPem = options.newAuthority === true ? undefined : await readOptional(files.keyFile);
  if (keyPem === undefined && certificatePem !== undefined && options.newAuthority !== true) {
    throw new PkiError(`${files.certificateFile} has no ca.key beside it: restore the key, or create a new CA with --new-authority`);
  }
  if (keyPem !== undefined && certificatePem !== undefined) {
    const authority = inFile(files.certificateFile, () => openAuthority(certificatePem, keyPem));
    if (authority.hubId !== hubId)
      throw new PkiError(`${files.certificateFile} is the authority of hub ${authority.hubId}, not of ${hubId}`, { field: "hubId" });
    return { authority, entry: { ...files, action: "kept", reason: "", notAfter: authority.certificate.validToDate } };
  }
  const authority = await createAuthority({
    hubId,
    now: options.now,
    ...(options.keyBits === undefined ? {} : { keyBits: options.keyBits }),
    ...(keyPem === undefined ? {} : { keyPem }),
  });
  if (keyPem === undefined) await writeKey(files.keyFile, authority.keyPem, options.newAuthority);
  await writeCertificate(files.certificateFile, authority);
  const reason = options.newAuthority === true ? "new authority" : "missing";
  return {
    authority,
    entry: { ...files, action: keyPem === undefined ? "created" : "renewed", reason, notAfter: authority.certificate.validToDate },
  };
}

async function writeLeaf(dir: string, authority: Authority, request: IssueRequest, options: PkiOptions): Promise<PkiEntry> {
  const stem = join(dir, fileStem(request));
  const files = { certificateFile: `${stem}.pem`, keyFile: `${stem}.key` };
  const replace = options.force === true;
  const oldKeyPem = replace ? undefined : await readOptional(files.keyFile);
  const oldPem = replace ? undefined : await readOptional(files.certificateFile);
  const oldKey = oldKeyPem === undefined ? undefined : inFile(files.keyFile, () => readPrivateKey(oldKeyPem));
  const finding = replace ? { reason: "forced" } : inspect(oldPem, oldKey, authority, request, options.now);
  if (finding.keep !== undefined) {
    if (oldKeyPem !== undefined) await chmod(files.keyFile, 0o600);
    return { ...files, action: "kept", reason: "", notAfter: finding.keep.validToDate };
  }
  const keyPem = oldKeyPem ?? (await generateKey(options.keyBits));
  const issued = await issue(authority, request, options.now, { keyPem });
  if (oldKeyPem === undefined) await writeIssued(dir, request, issued, { force: replace });
  else await writeCertificate(files.certificateFile, issued);
  return { ...files, action: oldKeyPem === undefined ? "created" : "renewed", reason: finding.reason, notAfter: issued.notAfter };
}

/** inspect decides whether a leaf on disk still is what is asked for; if not it says why. */
function inspect(
  pem: string | undefined,
  key: KeyObject | undefined,
  authority: Authority,
  request: IssueRequest,
  now: Date,
): { readonly keep?: X509Certificate; readonly reason: string } {
  if (pem === undefined || key === undefined) return { reason: "missing" };
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(pem);
  } catch {
    return { reason: "unreadable" };
  }
  if (!certificate.checkPrivateKey(key)) return { reason: "belongs to another key" };
  if (!certificate.checkIssued(authority.certificate) || !certificate.verify(authority.certificate.publicKey))
    return { reason: "issued by another authority" };
  if (!sameContent(certificate, authority.hubId, request)) return { reason: "names or rights changed" };
  if (now < certificate.validFromDate) return { reason: "not valid yet" };
  if (now >= renewalDueAt(certificate)) return { reason: "near its end" };
  return { keep: certificate, reason: "" };
}

function sameContent(certificate: X509Certificate, hubId: string, request: IssueRequest): boolean {
  const asked = sansOf(hubId, request);
  const found = readSans(certificate);
  return (
    sameSet(asked.uris, found.uris) &&
    sameSet(asked.dnsNames, found.dnsNames) &&
    sameSet(asked.ips, found.ips) &&
    sameSet(organisationalUnitsOf(request), readOrganisationalUnits(certificate))
  );
}

function sameSet(left: readonly string[], right: readonly string[]): boolean {
  return left.length === right.length && new Set([...left, ...right]).size === left.length;
}

function inFile<T>(file: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof PkiError) throw new PkiError(`${file}: ${error.message}`, { cause: error });
    throw error;
  }
}

async function readOptional(file: string): Promise<string | undefined> {
  try {
    return readText(file);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw new PkiError(`${file} cannot be read`, { cause: error });
  }
}

/**
 * A temporary file in the same folder, flushed, then put in place in one step. Without `replace` that step is a hard
 * link, which fails if the name is taken: two runs at once cannot overwrite each other's key.
 */
async function writeWhole(file: string, text: string, mode: number, replace: boolean): Promise<void> {
  const temporary = `${file}.${randomBytes(6).toString("hex")}.tmp`;
  const handle = await open(temporary, "wx", mode);
  try {
    try {
      await handle.chmod(mode);
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    if (replace) await rename(temporary, file);
    else linkNew(temporary, file);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
  await syncFolder(dirname(file));
}

function linkNew(temporary: string, file: string): void {
  try {
    placeNew(temporary, file);
  } catch (error) {
    if (codeOf(error) === "EEXIST") throw new PkiError(`${file} exists already and is not overwritten without force`, { cause: error });
    throw error;
  }
}

async function syncFolder(dir: string): Promise<void> {
  const handle = await open(dir, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
