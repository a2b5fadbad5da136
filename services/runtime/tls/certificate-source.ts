import type { X509Certificate } from "node:crypto";
import { stat } from "node:fs/promises";
import type { Registry } from "prom-client";
import type { Clock, Timer } from "#channel/clock.ts";
import { checkPair, type KeyMaterial, parseCertificates } from "#channel/tls/material.ts";
import { parseSpiffeId, type SpiffeId, thumbprintOf, uriSans } from "#channel/tls/peer-identity.ts";
import { FoedusError, fail } from "#kernel/error.ts";
import { own } from "#kernel/own.ts";
import { readText } from "#runtime/files.ts";
import type { Logger } from "#runtime/log/log.ts";
import { counter, sampledGauge } from "#runtime/metrics/declare.ts";

/** CertificateFiles are the two files of an identity. */
export interface CertificateFiles {
  /** PEM, leaf first. */
  readonly certFile: string;
  /** Unencrypted PEM, for its owner only. */
  readonly keyFile: string;
}

/** Certificate is an identity of this hub that was read and checked. */
export interface Certificate extends KeyMaterial {
  readonly leaf: X509Certificate;
  /** What follows the leaf in the file. */
  readonly issuers: readonly X509Certificate[];
  readonly thumbprint: string;
  readonly id: SpiffeId;
  /** Wall-clock ms at which it expires. */
  readonly notAfterWall: number;
}

/** CertificateSource holds the last good certificate and tells of new ones. */
export interface CertificateSource {
  current(): Certificate;
  /** subscribe is told of each later certificate; the answer ends it. */
  subscribe(listener: (certificate: Certificate) => void): () => void;
  /** reload reads the files now, as the poll does. True if subscribers were told. */
  reload(): Promise<boolean>;
  close(): void;
}

/** CertificateSourceOptions are what a source is made of. */
export interface CertificateSourceOptions {
  readonly files: CertificateFiles;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Registry;
  /** Time between looks at the files. Default 10 s: short against any life of a certificate, nothing against the disk. */
  readonly intervalMs?: number;
  /**
   * beside is asked at each look, before the certificate itself: true when something that belongs to it (the CA file) changed and was
   * taken. Subscribers are told then too, with the certificate that stays. It does not throw.
   */
  readonly beside?: () => boolean;
}

const DEFAULT_INTERVAL_MS = 10_000;
/** Modes that a key file may have: owner only, or a group that may read (Kubernetes secrets with fsGroup). */
const KEY_MODES: ReadonlySet<number> = new Set([0o600, 0o400, 0o640, 0o440]);

const FIXES: Readonly<Record<string, string>> = {
  ENOENT: "it does not exist; create it with `foedus pki` or correct the path in the configuration",
  EACCES: "this user may not read it; give it to the user that runs the hub (chown) with mode 0600",
  ENOTFILE: "it is a pipe or a device and not a file; correct the path in the configuration",
  ETOOLARGE: "it is too large for a file of certificates or keys; correct the path in the configuration",
  EISDIR: "it is a folder and not a file; correct the path in the configuration",
};

function readPem(what: string, file: string): string {
  try {
    return readText(file);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? "";
    throw fail("NOT_CONFIGURED", `cannot read the ${what} ${file}: ${own(FIXES, code) ?? code}`, { cause, facts: { file } });
  }
}

/** named adds the files to a failure that came from their contents. */
function named(error: unknown, { certFile, keyFile }: CertificateFiles): FoedusError {
  if (!(error instanceof FoedusError)) return fail("NOT_CONFIGURED", `${certFile} and ${keyFile} cannot be used`, { cause: error });
  return fail("NOT_CONFIGURED", `${error.message} (certificate ${certFile}, key ${keyFile})`, { cause: error, facts: { file: certFile } });
}

/** loadCertificate reads a certificate and its key and checks that they fit, are in date and name one SPIFFE id. */
export async function loadCertificate(files: CertificateFiles, nowWall: number): Promise<Certificate> {
  const cert = readPem("certificate", files.certFile);
  const key = readPem("private key", files.keyFile);
  try {
    const leaf = checkPair({ cert, key });
    const uris = uriSans(leaf);
    const id = uris.length === 1 ? parseSpiffeId(uris[0] as string) : undefined;
    if (id === undefined) throw fail("INVALID_FIELD", "the certificate has no single URI of the form spiffe://<hub>/<kind>/<name>");
    if (nowWall >= leaf.validToDate.getTime()) throw fail("CERTIFICATE_EXPIRED", `the certificate expired at ${leaf.validTo}; renew it`);
    if (nowWall < leaf.validFromDate.getTime())
      throw fail("CERTIFICATE_EXPIRED", `the certificate is not valid before ${leaf.validFrom}; check the clock`);
    return {
      cert,
      key,
      leaf,
      issuers: parseCertificates([cert]).slice(1),
      id,
      thumbprint: thumbprintOf(leaf),
      notAfterWall: leaf.validToDate.getTime(),
    };
  } catch (error) {
    throw named(error, files);
  }
}

/** keyModeWarning says what is wrong with the mode of a key file, or undefined. */
export async function keyModeWarning(keyFile: string): Promise<string | undefined> {
  const mode = (await stat(keyFile)).mode & 0o777;
  if (KEY_MODES.has(mode)) return undefined;
  return `the key file has mode 0${mode.toString(8)}; make it 0600 so that only the hub can read it`;
}

class PollingSource implements CertificateSource {
  readonly #options: CertificateSourceOptions;
  readonly #listeners = new Set<(certificate: Certificate) => void>();
  readonly #failures;
  readonly #unsample: () => void;
  #current: Certificate;
  #timer: Timer | undefined;
  #closed = false;
  #lastError = "";

  constructor(options: CertificateSourceOptions, first: Certificate) {
    this.#options = options;
    this.#current = first;
    this.#failures = counter(options.metrics, {
      name: "foedus_cert_reload_failures_total",
      help: "Certificates on disk that could not be used; the last good one is kept.",
    });
    const expiry = sampledGauge(options.metrics, {
      name: "foedus_cert_expiry_seconds",
      help: "Seconds until the certificate in use expires.",
      labels: ["spiffe_id"],
    });
    this.#unsample = expiry({ spiffe_id: first.id.uri }, () => (this.#current.notAfterWall - options.clock.wall()) / 1000);
    this.#arm();
  }

  #arm(): void {
    if (this.#closed) return;
    this.#timer = this.#options.clock.setTimer(this.#options.intervalMs ?? DEFAULT_INTERVAL_MS, () => {
      void this.reload().finally(() => this.#arm());
    });
  }

  current(): Certificate {
    return this.#current;
  }

  subscribe(listener: (certificate: Certificate) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async reload(): Promise<boolean> {
    const beside = !this.#closed && (this.#options.beside?.() ?? false);
    const renewed = await this.#renewed();
    if (beside && renewed === undefined) this.#publish(this.#current);
    return beside || renewed !== undefined;
  }

  /** renewed takes a new certificate from the files and publishes it; undefined if there is none. */
  async #renewed(): Promise<Certificate | undefined> {
    const { files, clock, log } = this.#options;
    try {
      const next = await loadCertificate(files, clock.wall());
      this.#lastError = "";
      if (this.#closed || (next.cert === this.#current.cert && next.key === this.#current.key)) return undefined;
      if (next.id.uri !== this.#current.id.uri)
        throw fail(
          "INVALID_FIELD",
          `the new certificate is for ${next.id.uri} and not for ${this.#current.id.uri}; restart to change the identity`,
        );
      this.#publish(next);
      log.info({ spiffeId: next.id.uri, notAfter: next.leaf.validTo }, "certificate replaced");
      return next;
    } catch (error) {
      this.#failures.inc();
      const text = (error as Error).message;
      // Two files are never swapped at once: one torn read is normal, so the same problem is told once.
      if (text !== this.#lastError) log.warn({ err: error }, "certificate on disk not usable, last good one kept");
      this.#lastError = text;
      return undefined;
    }
  }

  #publish(next: Certificate): void {
    this.#current = next;
    for (const listener of this.#listeners) {
      try {
        listener(next);
      } catch (err) {
        this.#options.log.error({ err }, "certificate listener failed");
      }
    }
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#unsample();
    this.#listeners.clear();
  }
}

/**
 * createCertificateSource reads a certificate and looks for a newer one from time to time. The first read must succeed; after
 * that what is not good in every respect is counted and left alone, and the last good certificate stays (D-13, D-14).
 */
export async function createCertificateSource(options: CertificateSourceOptions): Promise<CertificateSource> {
  const first = await loadCertificate(options.files, options.clock.wall());
  const warning = await keyModeWarning(options.files.keyFile);
  if (warning !== undefined) options.log.warn({ file: options.files.keyFile, problem: warning }, "key file is too open");
  return new PollingSource(options, first);
}
