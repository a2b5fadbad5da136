import type { X509Certificate } from "node:crypto";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import type { Registry } from "prom-client";
import type { ClientOf } from "#channel/call.ts";
import type { Clock } from "#channel/clock.ts";
import { parseCertificates, splitPem } from "#channel/tls/material.ts";
import { createPeerCredentials, type PeerChannelCredentials, type PeerMaterial } from "#channel/tls/peer-credentials.ts";
import { expectedPeerOf, issuedBy } from "#channel/tls/peer-identity.ts";
import { ServerHandshakes } from "#channel/tls/server-handshakes.ts";
import { FoedusError, fail } from "#kernel/error.ts";
import { notFile, readText } from "#runtime/files.ts";
import type { Logger } from "#runtime/log/log.ts";
import { sampledGauge } from "#runtime/metrics/declare.ts";
import type { PeerView } from "#runtime/peers.ts";
import { createClient } from "#runtime/rpc/client/client.ts";
import { rpcStats } from "#runtime/rpc/rpc-metrics.ts";
import type { ConnectOptions } from "#runtime/sessions/peer-links-api.ts";
import { type Certificate, type CertificateSource, createCertificateSource } from "#runtime/tls/certificate-source.ts";
import { judgeMaterial } from "#runtime/tls/judge.ts";

/** Target is a server to call: where it is, who it must be, and under which CAs. */
export interface Target {
  readonly host: string;
  readonly port: number;
  readonly expected: { readonly hubId: string; readonly name?: string };
  readonly caPems: CaPems;
  /** Thumbprints of leaves that the server must not show. */
  readonly revoked?: readonly string[] | (() => readonly string[]);
}

/** CaPems are CA certificates, PEM: those of the moment, or asked for again at each renewal. */
export type CaPems = readonly string[] | (() => readonly string[]);

const pemsOf = (pems: CaPems): readonly string[] => (typeof pems === "function" ? pems() : pems);

/** NO_KEEPALIVE_MS turns the keepalive of a channel off. */
const NO_KEEPALIVE_MS = -1;

/**
 * Credentials are this process's own certificate and its hub's CA set, both followed as their files change, together or alone. Every
 * client that was made here learns of a renewal; connections that are open live on with the old one until they are dialled again.
 */
export class Credentials {
  readonly #source: CertificateSource;
  readonly #clock: Clock;
  readonly #metrics: Registry;
  readonly #log: Logger;
  readonly #hubId: string;
  readonly #caFile: string;
  #caProblem = "";
  #ca: readonly string[];
  #bundle: readonly X509Certificate[];
  readonly #clients = new Set<{ readonly credentials: PeerChannelCredentials; readonly target: Target }>();

  /** How handshakes with the servers of other hubs went. */
  readonly #servers = new Map<string, ServerHandshakes>();

  private constructor(
    source: CertificateSource,
    { hubId, clock, metrics, log, caFile }: Pick<CredentialsOptions, "hubId" | "clock" | "metrics" | "log" | "caFile">,
    ca: CaSet,
  ) {
    this.#source = source;
    this.#hubId = hubId;
    this.#log = log;
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
  static async load(options: CredentialsOptions): Promise<Credentials> {
    const { hubId, caFile, certFile, keyFile, intervalMs, clock, log, metrics } = options;
    const ca = readCa(caFile);
    let made: Credentials | undefined;
    const beside = (): boolean => made?.adoptCa(made.certificate) ?? false;
    const source = await createCertificateSource({ files: { certFile, keyFile }, clock, log, metrics, intervalMs, beside });
    try {
      checkOwn(source.current(), certFile, hubId, caFile, ca.bundle);
      const { cert, key } = source.current();
      const failure = await judgeMaterial({ cert, key, ca: ca.pems }, clock);
      if (failure !== undefined) throw new FoedusError({ ...failure, message: `${certFile}: ${failure.message}` });
    } catch (error) {
      // It looks at the files again and again, which would keep a process alive that has nothing left to do.
      source.close();
      throw error;
    }
    made = new Credentials(source, options, ca);
    return made;
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

  /** trusted is `bundle` with the intermediates through which this process's own certificate leads to it: they sign for callers too. */
  get trusted(): readonly X509Certificate[] {
    const { issuers } = this.certificate;
    return [...this.#bundle, ...issuers.filter((ca) => !ca.checkIssued(ca) && issuedBy(ca, this.#bundle, issuers))];
  }

  /** onRenewed is called after each renewal of the certificate, and after each change of the CA set. */
  onRenewed(listener: () => void): void {
    this.#source.subscribe(listener);
  }

  /** onLeaf is called after each renewal of the certificate itself. */
  onLeaf(listener: () => void): void {
    let { thumbprint } = this.certificate;
    this.#source.subscribe((next) => {
      if (next.thumbprint === thumbprint) return;
      thumbprint = next.thumbprint;
      listener();
    });
  }

  /** client makes a client of one server. */
  client<S extends GenService<GenServiceMethods>>(
    service: S,
    target: Target,
    options?: ConnectOptions,
  ): ClientOf<S> & { bytesRead(): number; endsAtWall(): number } {
    const credentials = createPeerCredentials(
      target.expected,
      this.#materialFor(target),
      this.#clock,
      this.#handshakesOf(target.expected.hubId),
    );
    const entry = { credentials, target };
    this.#clients.add(entry);
    const host = target.host.includes(":") ? `[${target.host}]` : target.host;
    const client = createClient(service, {
      address: `${host}:${target.port}`,
      credentials,
      clock: this.#clock,
      metrics: this.#metrics,
      namesAddress: target.expected.hubId !== this.#hubId,
      // Sessions have pings of their own, whose answers may wait behind what is under way over a slow link.
      ...(options === undefined
        ? {}
        : { flowControlWindowBytes: options.windowBytes, channelOptions: { "grpc.keepalive_time_ms": NO_KEEPALIVE_MS } }),
    });
    return {
      ...client,
      bytesRead: () => credentials.bytesRead,
      endsAtWall: () => credentials.endsAtWall,
      close: () => {
        this.#clients.delete(entry);
        client.close();
      },
    };
  }

  #handshakesOf(hubId: string): ServerHandshakes | undefined {
    if (hubId === this.#hubId) return undefined;
    let made = this.#servers.get(hubId);
    if (made === undefined) this.#servers.set(hubId, (made = new ServerHandshakes()));
    return made;
  }

  /** peerClient makes a client of the counterpart that a view names; NOT_CONFIGURED if it has no endpoint. */
  peerClient<S extends GenService<GenServiceMethods>>(
    service: S,
    view: PeerView,
    options?: ConnectOptions,
  ): ReturnType<typeof this.client<S>> {
    const { endpoint } = view;
    if (endpoint === undefined) throw fail("NOT_CONFIGURED", `${view.hubId} has no address; it can only dial this hub`);
    const expected = expectedPeerOf(endpoint.spiffeId);
    if (expected?.hubId !== view.hubId)
      throw fail("IDENTITY_MISMATCH", `${view.hubId} advertises an endpoint that is not its own: ${endpoint.spiffeId}`);
    return this.client(service, { ...endpoint, expected, caPems: view.caPems, revoked: view.revoked }, options);
  }

  /** again gives every client what it dials with anew, because what a server must not show changed. */
  again(): void {
    for (const { credentials, target } of this.#clients) credentials.rotate(this.#materialFor(target));
  }

  /** reload looks at the files now. */
  async reload(): Promise<boolean> {
    return this.#source.reload();
  }

  close(): void {
    this.#source.close();
  }

  /**
   * adoptCa reads the CA file and takes what changed in it; true if something did. A set that did not issue the certificate, which
   * this process shows, would make its own services refuse it: like one that cannot be read it is told once, and the last good set stays.
   */
  adoptCa({ leaf, issuers }: Pick<Certificate, "leaf" | "issuers">): boolean {
    try {
      const { pems, bundle } = readCa(this.#caFile);
      const same = pems.join() === this.#ca.join();
      if (same) this.#caProblem = "";
      if (same) return false;
      if (!issuedBy(leaf, bundle, issuers))
        throw fail(
          "FOREIGN_CA",
          `${this.#caFile} no longer has the CA that issued the certificate in use; put both into it until that is renewed`,
        );
      this.#ca = pems;
      this.#bundle = bundle;
      this.#caProblem = "";
      this.#log.info({ file: this.#caFile, certificates: pems.length }, "CA certificates replaced");
      return true;
    } catch (error) {
      const text = (error as Error).message;
      if (text !== this.#caProblem) this.#log.warn({ error }, "CA certificates on disk not usable, last good ones kept");
      this.#caProblem = text;
      return false;
    }
  }

  #materialFor({ caPems, revoked = [] }: Target): PeerMaterial {
    const { cert, key } = this.certificate;
    return { cert, key, ca: pemsOf(caPems), revoked: pemsOf(revoked) };
  }

  #renewed(): void {
    this.adoptCa(this.certificate);
    this.again();
  }
}

/** CredentialsOptions are the files of this process's identity. */
export interface CredentialsOptions {
  readonly hubId: string;
  readonly caFile: string;
  readonly certFile: string;
  readonly keyFile: string;
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Registry;
}

/** CaSet is a hub's CA certificates, as they stand in the file and parsed. */
interface CaSet {
  readonly pems: readonly string[];
  readonly bundle: readonly X509Certificate[];
}

/** checkOwn makes sure that this hub's callers and peers will take the certificate for what the configuration says. */
function checkOwn(
  { leaf, id, issuers }: Certificate,
  certFile: string,
  hubId: string,
  caFile: string,
  bundle: readonly X509Certificate[],
): void {
  if (id.hubId !== hubId || id.kind !== "service")
    throw fail("NOT_CONFIGURED", `${certFile} is for ${id.uri} and not for a service of ${hubId}; correct tls.cert or hub_id`);
  if (!issuedBy(leaf, bundle, issuers))
    throw fail("NOT_CONFIGURED", `${certFile} is not signed by a CA in ${caFile}; correct tls.ca, or issue the certificate with that CA`);
}

function readCa(file: string): CaSet {
  let text: string;
  try {
    text = readText(file);
  } catch (cause) {
    throw fail("NOT_CONFIGURED", `cannot read the CA certificates ${file}${notFile(cause)}; correct tls.ca or make the file readable`, {
      cause,
    });
  }
  const pems = splitPem(text);
  if (pems.length === 0) throw fail("NOT_CONFIGURED", `${file} holds no certificate; tls.ca must name this hub's CA in PEM`);
  try {
    return { pems, bundle: parseCertificates(pems) };
  } catch (cause) {
    throw fail("NOT_CONFIGURED", `a certificate in ${file} cannot be read; tls.ca must name this hub's CA in PEM`, { cause });
  }
}
