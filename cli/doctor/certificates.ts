import { X509Certificate } from "node:crypto";
import { existsSync, readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { systemClock } from "#channel/clock.ts";
import { checkPair, parseCertificates, splitPem } from "#channel/tls/material.ts";
import { issuedBy, parseSpiffeId, uriSans } from "#channel/tls/peer-identity.ts";
import { readText } from "#runtime/files.ts";
import { judgeMaterial } from "#runtime/tls/judge.ts";
import { renewalDueAt } from "../../certs/issue.ts";
import { type Federation, refusedNow, resolveFrom } from "../../services/hub/index.ts";
import type { OwnHub } from "../own/own-hub.ts";
import { CERTIFICATE_FILE, issueCommand } from "../pki/issue-command.ts";
import { digestIn } from "../pki/pki-revoke.ts";
import { since } from "../print/format.ts";
import { shellWord } from "../reach/near-path.ts";
import type { Finding, Ledger } from "./ledger.ts";

/** Material is what this hub shows to others, if it is fit to be shown. */
export interface Material {
  readonly ca: readonly X509Certificate[];
  readonly leaf: X509Certificate;
  readonly cert: string;
  readonly key: string;
  /** Every certificate that a service of this hub shows, with its file. */
  readonly services: readonly { readonly file: string; readonly cert: string; readonly key: string }[];
}

/** CertificateView is what certificates are judged with. */
export interface CertificateView {
  readonly ledger: Ledger;
  readonly hub: OwnHub;
  /** Unix ms. */
  readonly nowWall: number;
  /** Writes a path as the operator would type it. */
  readonly shown: (path: string) => string;
}

/** lookAtCertificates looks at the hub's CA, its certificates and keys, and all others that lie beside its CA. It gives what the hub can dial with. */
export function lookAtCertificates(view: CertificateView): Material | undefined {
  const { hub } = view;
  const at = (path: string): string => resolveFrom(hub.folder, path);
  const { tls, services } = hub.config;
  const caFile = at(tls.ca);
  const ca = lookAtOwnCa(view, caFile);
  const own = lookAtPair(view, { cert: at(tls.cert), key: at(tls.key), kind: "service", bundle: ca });
  const shownByServices = own === undefined ? [] : [{ file: at(tls.cert), ...own }];
  const seen = new Set([at(tls.cert)]);
  for (const { cert, key } of Object.values(services)) {
    if (cert === "" || key === "" || seen.has(at(cert))) continue;
    seen.add(at(cert));
    const more = lookAtPair(view, { cert: at(cert), key: at(key), kind: "service", bundle: ca });
    if (more !== undefined) shownByServices.push({ file: at(cert), ...more });
  }
  for (const cert of beside(caFile))
    if (!seen.has(cert)) lookAtPair(view, { cert, key: cert.replace(/\.pem$/, ".key"), kind: undefined, bundle: ca });
  const caKey = join(dirname(caFile), "ca.key");
  if (existsSync(caKey)) lookAtMode(view, caKey, newAuthority(view, dirname(caFile)));
  return own === undefined ? undefined : { ...own, ca, services: shownByServices };
}

/** lookAtRevoked compares the certificates of this hub with the list of those that it refuses, and names what is in it. */
export function lookAtRevoked({ ledger, hub, shown }: CertificateView): void {
  const at = (path: string): string => resolveFrom(hub.folder, path);
  const { tls, services } = hub.config;
  const list = at(tls.revoked);
  let revoked: ReadonlyMap<string, { readonly spiffe_id?: string | undefined; readonly reason?: string | undefined }>;
  try {
    revoked = new Map(refusedNow(list, at(hub.config.data_dir)).map((entry) => [entry.sha256, entry]));
    ledger.look(
      revoked.size > 0 &&
        !existsSync(list) && {
          severity: "error",
          check: "revoked",
          subject: shown(list),
          message: "it is missing and was not empty; the hub continues with the copy that it kept",
          fix: 'Restore it, or write {"revoked":[]} to accept all of them again.',
        },
    );
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const fix = "The hub does not start with it, and one that runs goes on with the last good one.";
    ledger.look({ severity: "error", check: "revoked", subject: shown(list), message, fix });
    return;
  }
  const shownToOthers = new Set([tls.cert, ...Object.values(services).map(({ cert }) => cert)].filter((file) => file !== "").map(at));
  for (const file of new Set([...shownToOthers, ...beside(at(tls.ca))])) {
    const sha256 = digestIn(file);
    const entry = sha256 === undefined ? undefined : revoked.get(sha256);
    const why = entry?.reason === undefined ? "" : ` (${entry.reason})`;
    const used = shownToOthers.has(file);
    ledger.look(
      entry !== undefined && {
        severity: used ? "error" : "warning",
        check: "revoked",
        subject: shown(file),
        message: used ? `this hub shows it, and it is revoked${why}` : `it is revoked${why}, and whoever has it is refused`,
        fix: `\`${issueCommand(file, shown(dirname(file)), { force: true })}\` issues another one with a new key${used ? "" : "; or remove the file"}. \`foedus pki list\` shows all that are revoked.`,
      },
    );
  }
  const here = new Set([...shownToOthers, ...beside(at(tls.ca))].map(digestIn));
  for (const [sha256, { spiffe_id: id, reason }] of revoked)
    if (!here.has(sha256))
      ledger.note(`revoked: ${id ?? `the certificate with SHA-256 ${sha256}`}${reason === undefined ? "" : ` (${reason})`}`);
}

/** lookAtTls asks the TLS stack, as the hub does at its start, whether others will take what its services show. */
export async function lookAtTls({ ledger, shown }: CertificateView, own: Material, { peers }: Federation): Promise<void> {
  const ca = [...own.ca.map(String), ...peers.flatMap(({ cas }) => cas.map(({ pem }) => pem))];
  for (const { file, cert, key } of own.services) {
    const failure = await judgeMaterial({ cert, key, ca }, systemClock);
    ledger.look(
      failure !== undefined && {
        severity: "error",
        check: "certificate",
        subject: shown(file),
        message: failure.message,
        fix: "Correct it and run doctor again; the hub makes the same check when it starts.",
      },
    );
  }
}

/** lookAtPeerCas looks at the CA that is pinned for each peer. */
export function lookAtPeerCas({ ledger, nowWall }: CertificateView, { peers }: Federation): void {
  for (const { hubId, cas } of peers)
    for (const { pem } of cas) {
      const certificate = new X509Certificate(pem);
      const other = uriSans(certificate).find((uri) => uri.startsWith("spiffe://") && uri !== `spiffe://${hubId}`);
      const bad = (severity: Finding["severity"], message: string, fix: string): Finding => ({
        severity,
        check: "certificate",
        subject: hubId,
        message,
        fix,
      });
      const again = `\`foedus peer add ${hubId} --ca <its ca.pem> --fingerprint <sha256>\``;
      if (other !== undefined)
        ledger.look(
          bad("error", `the CA that is pinned for it is that of ${other.slice("spiffe://".length)}`, `Pin the right one: ${again}.`),
        );
      else if (nowWall >= certificate.validToDate.getTime())
        ledger.look(
          bad(
            "error",
            `its CA ended ${since(certificate.validToDate.getTime(), nowWall)}`,
            `Ask its operator for the present one: ${again}.`,
          ),
        );
      else
        ledger.look(
          nowWall >= renewalDueAt(certificate).getTime() &&
            bad(
              "warning",
              `its CA ends ${since(certificate.validToDate.getTime(), nowWall)}`,
              `Agree with its operator when to replace it: ${again}.`,
            ),
        );
    }
}

function beside(caFile: string): string[] {
  try {
    const dir = dirname(caFile);
    return readdirSync(dir)
      .filter((name) => CERTIFICATE_FILE.test(name))
      .sort()
      .map((name) => join(dir, name));
  } catch {
    return [];
  }
}

function readLooked({ ledger, shown }: CertificateView, path: string, what: string, fix: string): string | undefined {
  try {
    const text = readText(path);
    ledger.look(undefined);
    return text;
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code === "ENOENT" ? "it does not exist" : "it cannot be read by this user";
    ledger.look({ severity: "error", check: what === "key" ? "key-file" : "certificate", subject: shown(path), message: why, fix });
    return undefined;
  }
}

/** restoreCa says how a CA certificate that is gone comes back: its key makes it again, and what it signed stays good. */
function restoreCa({ hub, shown }: CertificateView, file: string): string {
  const again = `foedus pki init ${hub.config.hub_id} --dir ${shellWord(shown(dirname(file)))}`;
  return existsSync(join(dirname(file), "ca.key"))
    ? `Take it from a backup, or make it again from the ca.key beside it: \`${again}\` keeps the certificates that it signed; or correct tls.ca.`
    : `Take it from a backup, or from a peer that has pinned it; or correct tls.ca. \`${again}\` makes another CA, which every peer has to pin.`;
}

function lookAtOwnCa(view: CertificateView, file: string): readonly X509Certificate[] {
  const { ledger, hub, shown } = view;
  const subject = shown(file);
  const error = (message: string, fix: string): Finding => ({ severity: "error", check: "certificate", subject, message, fix });
  const text = readLooked(view, file, "ca", restoreCa(view, file));
  if (text === undefined) return [];
  let certificates: X509Certificate[];
  try {
    certificates = splitPem(text).map((pem) => new X509Certificate(pem));
  } catch {
    certificates = [];
  }
  if (
    !ledger.look(
      certificates.length === 0 && error("there is no certificate in it that can be read", "Correct tls.ca: it names this hub's ca.pem."),
    )
  )
    return [];
  for (const certificate of certificates) {
    // A CA of another program may name no hub at all: what is pinned counts, not what it says of itself.
    const [name = `spiffe://${hub.config.hub_id}`] = uriSans(certificate);
    if (!certificate.ca)
      ledger.look(error(`it holds a leaf (${name}), not a CA`, "Correct tls.ca: it names the CA that signed the leaf, not the leaf."));
    else if (name !== `spiffe://${hub.config.hub_id}`)
      ledger.look(error(`it is the CA of ${name}, not of spiffe://${hub.config.hub_id}`, "Correct tls.ca or hub_id."));
    else lookAtLife(view, file, certificate, "Plan a new CA with your peers: each of them has to pin it (certs/README.md, rotation).");
  }
  return certificates.filter(({ ca }) => ca);
}

function lookAtLife({ ledger, nowWall, shown }: CertificateView, file: string, certificate: X509Certificate, fix: string): boolean {
  const [from, to] = [certificate.validFromDate.getTime(), certificate.validToDate.getTime()];
  const bad = (severity: Finding["severity"], message: string, how = fix): Finding => ({
    severity,
    check: "certificate",
    subject: shown(file),
    message,
    fix: how,
  });
  if (nowWall < from)
    return ledger.look(
      bad("error", `it is not valid before ${certificate.validFrom}`, "Set the clock of this machine, or wait until then."),
    );
  if (nowWall >= to) return ledger.look(bad("error", `it ended ${since(to, nowWall)}`));
  ledger.look(
    nowWall >= renewalDueAt(certificate).getTime() &&
      bad("warning", `it ends ${since(to, nowWall)}, with less than a third of its life left`),
  );
  return true;
}

/** lookAtPair looks at a leaf and its key: together, signed by the CA, for this hub, in its life, and kept secret. */
function lookAtPair(
  view: CertificateView,
  files: { readonly cert: string; readonly key: string; readonly kind: "service" | undefined; readonly bundle: readonly X509Certificate[] },
): Omit<Material, "ca" | "services"> | undefined {
  const { ledger, hub, shown } = view;
  const subject = shown(files.cert);
  const dir = shown(dirname(files.cert));
  const error = (message: string, fix: string): Finding => ({ severity: "error", check: "certificate", subject, message, fix });
  const again = `\`${issueCommand(files.cert, dir, { force: false })}\``;
  const anew = `\`${issueCommand(files.cert, dir, { force: true })}\``;
  const cert = readLooked(view, files.cert, "certificate", `Correct the path, or issue it: ${again}.`);
  if (cert === undefined) return undefined;
  // A certificate whose key lives elsewhere (a request that was signed here) is in order without it.
  const key =
    files.kind === undefined && !existsSync(files.key)
      ? undefined
      : readLooked(view, files.key, "key", `Correct the path, or issue it with a new key: ${anew}.`);
  if (key !== undefined) lookAtMode(view, files.key, `if others had access, issue it with a new key: ${anew}.`);
  else if (files.kind !== undefined) return undefined;
  let leaf: X509Certificate;
  try {
    leaf = key === undefined ? new X509Certificate(cert) : checkPair({ cert, key });
  } catch (failure) {
    ledger.look(error(failure instanceof Error ? failure.message : String(failure), `Issue it again for the key on disk: ${again}.`));
    return undefined;
  }
  const uris = uriSans(leaf);
  const id = uris.length === 1 ? parseSpiffeId(uris[0] ?? "") : undefined;
  const right = id !== undefined && id.hubId === hub.config.hub_id && (files.kind === undefined || id.kind === files.kind);
  const wanted = `${files.kind === undefined ? "anything" : "a service"} of ${hub.config.hub_id}`;
  if (!ledger.look(!right && error(`it is for ${uris.join(" ") || "no SPIFFE id"} and not for ${wanted}`, "Correct the path or hub_id.")))
    return undefined;
  const signed = files.bundle.length === 0 || issuedBy(leaf, files.bundle, parseCertificates([cert]).slice(1));
  if (
    !ledger.look(
      !signed &&
        error(
          `it is not signed by the CA in ${shown(resolveFrom(hub.folder, hub.config.tls.ca))}`,
          `Issue it with that CA: \`foedus pki renew --dir ${shellWord(dir)}\`.`,
        ),
    )
  )
    return undefined;
  const alive = lookAtLife(view, files.cert, leaf, `\`foedus pki renew --dir ${shellWord(dir)}\`; a running hub loads it automatically.`);
  return alive && key !== undefined ? { leaf, cert, key } : undefined;
}

const OTHERS = 0o077;

/** newAuthority says what a CA's key that was read costs: no certificate of this hub means anything any more. */
function newAuthority({ hub, shown }: CertificateView, dir: string): string {
  const make = `foedus pki init ${hub.config.hub_id} --new-authority --dir ${shellWord(shown(dir))}`;
  return (
    "whoever has read it can issue any certificate of this hub. If others had access, the hub needs a new CA " +
    `(\`${make}\`), and every partner has to pin that one: docs/RUNBOOK.md, "A stolen key".`
  );
}

function lookAtMode({ ledger, shown }: CertificateView, file: string, otherwise: string): void {
  const mode = statSync(file).mode & 0o777;
  ledger.look(
    (mode & OTHERS) !== 0 && {
      severity: "error",
      check: "key-file",
      subject: shown(file),
      message: `others on this machine may read this key (mode ${mode.toString(8).padStart(4, "0")})`,
      fix: `\`chmod 600 ${shellWord(shown(file))}\`; ${otherwise}`,
    },
  );
}
