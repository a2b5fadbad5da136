import type { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import type { Registry } from "prom-client";
import { fail } from "#kernel/error.ts";
import type { Clock } from "#runtime/clock.ts";
import type { Logger } from "#runtime/log/log.ts";
import { sampledGauge } from "#runtime/metrics/declare.ts";
import type { PeerView } from "#runtime/peers.ts";
import type { ClientOf } from "#runtime/rpc/call.ts";
import { createClient } from "#runtime/rpc/client.ts";
import { rpcStats } from "#runtime/rpc/rpc-metrics.ts";
import { type Certificate, type CertificateSource, createCertificateSource } from "#runtime/tls/certificate-source.ts";
import { createPeerCredentials, type PeerChannelCredentials, parseCertificates, splitPem } from "#runtime/tls/credentials.ts";
import { expectedPeerOf, issuedBy } from "#runtime/tls/peer-identity.ts";

/** Target is a server to call: where it is, who it must be, and under which CAs. */
export interface Target {
  readonly host: string;
  readonly port: number;
  readonly expected: { readonly hubId: string; readonly name?: string };
  readonly caPems: readonly string[];
}

/**
 * Credentials are this process's own certificate, followed as its files are renewed, and its hub's CA set. Every client that was
 * made here learns of a renewal; connections that are open live on with the old one until they are dialled again.
 */
export class Credentials {
  readonly #source: CertificateSource;
  readonly #clock: Clock;
  readonly #metrics: Registry;
  readonly #caFile: string;
  #ca: readonly string[];
  #bundle: readonly X509Certificate[];
  readonly #clients = new Set<{ readonly credentials: PeerChannelCredentials; readonly caPems: () => readonly string[] }>();

  private constructor(source: CertificateSource, clock: Clock, metrics: Registry, caFile: string, ca: CaSet) {
    this.#source = source;
    this.#clock = clock;
    this.#metrics = metrics;
    // So that the metrics of calls to others are there before the first call.
    rpcStats(metrics, "client");
    this.#caFile = caFile;
    this.#ca = ca.pems;
    this.#bundle = ca.bundle;
    source.subscribe(() => this.#renewed());
    sampledGauge<never>(metrics, {
      name: "foedus_ca_expiry_seconds",
      help: "Seconds until the last of this hub's CA certificates expires.",
    })({}, () => (Math.max(...this.#bundle.map((certificate) => certificate.validToDate.getTime())) - clock.wall()) / 1_000);
  }

  /** load reads certificate, key and CAs; NOT_CONFIGURED if they cannot be used, or are not those of a service of `hubId`. */
  static async load(options: {
    readonly hubId: string;
    readonly caFile: string;
    readonly certFile: string;
    readonly keyFile: string;
    readonly intervalMs: number;
    readonly clock: Clock;
    readonly log: Logger;
    readonly metrics: Registry;
  }): Promise<Credentials> {
    const { hubId, caFile, certFile, keyFile, intervalMs, clock, log, metrics } = options;
    const ca = readCa(caFile);
    const source = await createCertificateSource({ files: { certFile, keyFile }, clock, log, metrics, intervalMs });
    try {
      checkOwn(source.current(), certFile, hubId, caFile, ca.bundle);
    } catch (error) {
      // It looks at the files again and again, which would keep a process alive that has nothing left to do.
      source.close();
      throw error;
    }
    return new Credentials(source, clock, metrics, caFile, ca);
  }

  /** certificate of this process. */
  get certificate(): Certificate {
    return this.#source.current();
  }

  /** caPems are the CA certificates of this hub. */
  get caPems(): readonly string[] {
    return this.#ca;
  }

  /** bundle is `caPems`, parsed. */
  get bundle(): readonly X509Certificate[] {
    return this.#bundle;
  }

  /** onRenewed is called after each renewal. */
  onRenewed(listener: () => void): void {
    this.#source.subscribe(listener);
  }

  /** client makes a client of one server. */
  client<S extends GenService<GenServiceMethods>>(service: S, target: Target): ClientOf<S> {
    const { cert, key } = this.certificate;
    const credentials = createPeerCredentials(target.expected, { cert, key, ca: target.caPems }, this.#clock);
    const entry = { credentials, caPems: () => target.caPems };
    this.#clients.add(entry);
    const host = target.host.includes(":") ? `[${target.host}]` : target.host;
    const client = createClient(service, { address: `${host}:${target.port}`, credentials, clock: this.#clock, metrics: this.#metrics });
    return {
      ...client,
      close: () => {
        this.#clients.delete(entry);
        client.close();
      },
    };
  }

  /** peerClient makes a client of the counterpart that a view names; NOT_CONFIGURED if it has no endpoint. */
  peerClient<S extends GenService<GenServiceMethods>>(service: S, view: PeerView): ClientOf<S> {
    const { endpoint } = view;
    if (endpoint === undefined) throw fail("NOT_CONFIGURED", `${view.hubId} has no address; it can only dial this hub`);
    const expected = expectedPeerOf(endpoint.spiffeId);
    if (expected?.hubId !== view.hubId)
      throw fail("IDENTITY_MISMATCH", `${view.hubId} advertises an endpoint that is not its own: ${endpoint.spiffeId}`);
    return this.client(service, { ...endpoint, expected, caPems: view.caPems });
  }

  /** reload looks at the files now. */
  async reload(): Promise<boolean> {
    return this.#source.reload();
  }

  close(): void {
    this.#source.close();
  }

  #renewed(): void {
    try {
      const { pems, bundle } = readCa(this.#caFile);
      this.#bundle = bundle;
      this.#ca = pems;
    } catch {
      // The CA file is being replaced as well; the last good set stays, and the next renewal reads it again.
    }
    const { cert, key } = this.certificate;
    for (const { credentials, caPems } of this.#clients) credentials.rotate({ cert, key, ca: caPems() });
  }
}

/** CaSet is a hub's CA certificates, as they stand in the file and parsed. */
interface CaSet {
  readonly pems: readonly string[];
  readonly bundle: readonly X509Certificate[];
}

/** checkOwn makes sure that this hub's callers and peers will take the certificate for what the configuration says. */
function checkOwn({ leaf, id }: Certificate, certFile: string, hubId: string, caFile: string, bundle: readonly X509Certificate[]): void {
  if (id.hubId !== hubId || id.kind !== "service")
    throw fail("NOT_CONFIGURED", `${certFile} is for ${id.uri} and not for a service of ${hubId}; correct tls.cert or hub_id`);
  if (!issuedBy(leaf, bundle))
    throw fail("NOT_CONFIGURED", `${certFile} is not signed by a CA in ${caFile}; correct tls.ca, or issue the certificate with that CA`);
}

function readCa(file: string): CaSet {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (cause) {
    throw fail("NOT_CONFIGURED", `cannot read the CA certificates ${file}; correct tls.ca or make the file readable`, { cause });
  }
  const pems = splitPem(text);
  if (pems.length === 0) throw fail("NOT_CONFIGURED", `${file} holds no certificate; tls.ca must name this hub's CA in PEM`);
  try {
    return { pems, bundle: parseCertificates(pems) };
  } catch (cause) {
    throw fail("NOT_CONFIGURED", `a certificate in ${file} cannot be read; tls.ca must name this hub's CA in PEM`, { cause });
  }
}
